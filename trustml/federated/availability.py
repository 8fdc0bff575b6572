"""Devices that are offline at times, drop out, or answer late: in virtual time, by a seed."""

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from trustml.federated.streams import stream
from trustml.federated.validation import check_number, check_whole


class Answers(NamedTuple):
    """What came of the clients that a round asked."""

    answered: Bool[np.ndarray, " chosen"]  # in time, among the first that the round waits for
    took: Float64[np.ndarray, " chosen"]  # virtual seconds; of a device that dropped out too
    seconds: float  # until the server goes on


@dataclasses.dataclass(frozen=True, kw_only=True)
class Availability:
    """When devices can be reached, and how fast and how surely they answer.

    A virtual second is what the median device takes for one local step. Everything follows from the
    seed, the round and the device alone.

    >>> away = Availability(offline=0.5, day=4)
    >>> [int(away.available(0, round, clients=1000).sum()) for round in (0, 2)]
    [517, 483]

    Args:
      offline: Part of each day that a device cannot be reached: one stretch, at a time of its own.
      day: Rounds in a day.
      dropout: Probability that a device that was asked answers nothing.
      speed: Standard deviation of the logarithm of a device's time for a local step; it is
        lognormal, and the device's own in all rounds.
      deadline: When a round ends, in times of the median device with a median client's steps; None
        waits.
      over_select: Clients asked over answers waited for. What comes later is lost.

    Guarantee:
      Whether a device answers depends on that device alone, if
      `over_select` is 1 and nothing private sets its local steps. Of more devices than a round
      waits for the first are taken: then one device's steps decide about another's answer, and a
      plan's statement does not cover that.

    Raises:
      ValueError: A number is out of range.

    References:
      Bonawitz et al., Towards Federated Learning at Scale: System Design, 2019, for over-selection
      and deadlines.
    """

    offline: float = 0.0
    day: int = 24
    dropout: float = 0.0
    speed: float = 0.0
    deadline: float | None = None
    over_select: float = 1.0

    def __post_init__(self):
        for name in ("offline", "dropout"):
            value = check_number(name, getattr(self, name), least=0)
            if not value < 1:
                raise ValueError(f"`{name}` must be at least 0 and below 1, got {value!r}.")
        check_whole("day", self.day, least=1)
        check_number("speed", self.speed, least=0)
        check_number("over_select", self.over_select, least=1)
        if self.deadline is not None:
            check_number("deadline", self.deadline, least=0, above=True)

    def available(self, seed: int | bytes, round: int, clients: int) -> Bool[np.ndarray, " client"]:
        """Who can be reached in a round.

        Args:
          seed: Of the run.
          round: From 0.
          clients: How many there are.
        """
        check_whole("round", round, least=0)
        begins = stream(seed, 0, "day").random(clients) * self.day
        return (round + begins) % self.day >= self.offline * self.day

    def durations(
        self, seed: int | bytes, places: Any, steps: Any
    ) -> Float64[np.ndarray, " chosen"]:
        """Virtual seconds that devices take for local steps.

        >>> Availability(speed=0.0).durations(0, [4, 0], [10, 3]).tolist()
        [10.0, 3.0]

        Args:
          seed: Of the run.
          places: The devices.
          steps: Local steps of each.
        """
        places, steps = _checked_places(places, steps)
        if not len(places):
            return np.zeros(0)
        pace = stream(seed, 0, "pace").standard_normal(int(places.max()) + 1)
        return np.exp(self.speed * pace[places]) * steps

    def answers(
        self,
        seed: int | bytes,
        round: int,
        places: Any,
        steps: Any,
        wanted: int,
        *,
        median_steps: float | None = None,
    ) -> Answers:
        """Who answers in a round, and how long the server waits.

        It goes on at the answer number `wanted`, or at the deadline; without a deadline, and with
        fewer answers, when the last device answered or is known to have dropped out.

        >>> late = Availability(deadline=1.0).answers(0, 0, [0, 1, 2], [1, 2, 3], wanted=3)
        >>> late.answered.tolist(), late.seconds
        ([True, True, False], 2.0)

        Args:
          seed: Of the run.
          round: From 0.
          places: The devices that were asked.
          steps: Local steps of each.
          wanted: Answers that the round waits for.
          median_steps: Of all clients; by default of those that were asked.

        Returns:
          `Answers`. Nobody may answer: then the round changes nothing.
        """
        took = self.durations(seed, places, steps)
        wanted = check_whole("wanted", wanted, least=1)
        if not len(took):
            return Answers(np.zeros(0, bool), took, 0.0)
        places = np.asarray(places)
        drops = stream(seed, round, "dropout").random(int(places.max()) + 1)[places] < self.dropout
        ends = math.inf
        if self.deadline is not None:
            ends = self.deadline * float(np.median(steps) if median_steps is None else median_steps)
        arrives = np.where(drops | (took > ends), math.inf, took)
        first = np.argsort(arrives, kind="stable")[:wanted]
        answered = np.zeros(len(took), bool)
        answered[first] = np.isfinite(arrives[first])
        if answered.sum() == wanted or not math.isfinite(ends):
            seconds = took[answered].max() if answered.sum() == wanted else took.max()
        else:
            seconds = ends
        return Answers(answered, took, float(seconds))


def _checked_places(places, steps) -> tuple[Int64[np.ndarray, " chosen"], np.ndarray]:
    places, steps = np.asarray(places), np.asarray(steps, np.float64)
    if places.size == 0:
        places = places.astype(np.int64)
    if places.ndim != 1 or places.dtype.kind not in "iu" or (places < 0).any():
        raise ValueError(
            f"`places` must be a vector of devices, got {places.dtype} of shape {places.shape}."
        )
    if steps.shape != places.shape or not (np.isfinite(steps) & (steps >= 0)).all():
        raise ValueError(
            f"`steps` must be {len(places)} finite numbers, at least 0, got shape {steps.shape}."
        )
    return places.astype(np.int64), steps
