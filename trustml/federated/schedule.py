"""Who takes part in which round where no plan says so: the place of a plan in a run."""

import dataclasses
import hashlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from trustml.federated.availability import Availability
from trustml.federated.selection import Selection, choose
from trustml.sampling import Draw, new_secret, secret_from_seed

_EVERYONE = Selection("uniform")


class RoundDraw(Draw):
    """The clients of a round, padded, with what else is known of them."""

    # Attributes, as the tuple is that of every draw.
    versions: Int[np.ndarray, " capacity"]  # rounds by which their parameters are old
    scale: Float[np.ndarray, " capacity"]  # how often each counts
    draws: int  # what the scales are a mean over
    seconds: float  # of virtual time that the round took
    lost: int  # clients that were chosen and did not answer


@dataclasses.dataclass(frozen=True, eq=False)
class Schedule:
    """Rounds in which clients are chosen by their activity, without a promise.

    >>> schedule = Schedule(steps=2, clients_per_round=2, activity=np.array([3, 1, 5]))
    >>> [draw.indices.tolist() for draw in schedule.batches(seed=0)]
    [[0, 1], [0, 1]]

    Args:
      steps: Rounds.
      clients_per_round: Answers that a round waits for.
      activity: One number per client, such as its rows.
      selection: How likely a client is drawn.
      availability: Who is there and answers; everybody at once by default.
      local_steps: Local steps of each client, for the time that they take.

    Raises:
      ValueError: A number is out of range, or more clients are asked for than there are.
    """

    _: dataclasses.KW_ONLY
    steps: int
    clients_per_round: int
    activity: Int[np.ndarray, " client"]
    selection: Selection = _EVERYONE
    availability: Availability | None = None
    local_steps: Int[np.ndarray, " client"] | None = None

    def __post_init__(self):
        for name in ("steps", "clients_per_round"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"`{name}` must be a positive integer, got {value!r}.")
        if self.clients_per_round > self.num_units and not self.selection.replacement:
            raise ValueError(
                f"`clients_per_round` must be at most the {self.num_units} clients, got "
                f"{self.clients_per_round}."
            )
        if self.unbiased and self.availability is not None:
            raise ValueError(
                "`selection` must not be unbiased where `availability` decides who answers: those "
                "who do are no sample with known probabilities."
            )
        self.sampler(0).draw(0)  # says at once what cannot be chosen

    @property
    def most_late(self) -> int:
        """Rounds by which the parameters may be old that an answer starts from."""
        return 0

    @property
    def num_units(self) -> int:
        """Clients in all."""
        return len(self.activity)

    @property
    def capacity(self) -> int:
        """Length of every draw."""
        return min(self._asked, self.num_units)

    @property
    def _asked(self) -> int:
        """Clients that a round draws; with replacement some may be one."""
        wanted = self.clients_per_round
        if self.availability is not None:
            wanted = math.ceil(wanted * self.availability.over_select)
        return wanted if self.selection.replacement else min(wanted, self.num_units)

    @property
    def unbiased(self) -> bool:
        """Whether the scales of a draw make its mean that of all clients by rows."""
        return self.selection.unbiased

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that name the schedule."""
        told = repr(sorted(self.to_dict().items()))
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """The schedule as the ledger's first line holds it."""
        told = [np.asarray(self.activity, float)]
        if self.local_steps is not None:
            told.append(np.asarray(self.local_steps, float))
        return {
            "schedule": type(self).__name__,
            "steps": self.steps,
            "clients_per_round": self.clients_per_round,
            "num_units": self.num_units,
            "selection": str(self.selection),
            "replacement": self.selection.replacement,
            "unbiased": self.unbiased,
            "availability": None if self.availability is None else str(self.availability),
            "activity": hashlib.sha256(np.stack(told).tobytes()).hexdigest()[:16],
        }

    def sampler(self, seed: int | bytes | None = None) -> "_Sampler":
        """Draws of any round, in any order."""
        return _Sampler(self, _secret(seed))

    def batches(self, start: int = 0, seed: int | bytes | None = None) -> Iterator[RoundDraw]:
        """The draws of rounds `start` to `steps - 1`."""
        sampler = self.sampler(seed)
        return (sampler.draw(round) for round in range(start, self.steps))

    def drawn(self, secret: bytes, round: int) -> RoundDraw:
        """The clients of a round."""
        available = None
        if self.availability is not None:
            available = self.availability.available(secret, round, self.num_units)
        chosen = choose(
            self.selection,
            self.activity,
            self._asked,
            seed=secret,
            round=round,
            available=available,
        )
        answered, seconds = np.ones(len(chosen.places), bool), math.nan
        if self.availability is not None and len(chosen.places):
            steps = self.local_steps if self.local_steps is not None else self.activity
            found = self.availability.answers(
                secret,
                round,
                chosen.places,
                steps[chosen.places],
                self.clients_per_round,
                median_steps=float(np.median(steps)),
            )
            answered, seconds = found.answered, found.seconds
        return self.packed(
            round,
            chosen.places[answered],
            chosen.scale[answered],
            chosen.draws,
            seconds,
            int((~answered).sum()),
        )

    def packed(self, round, places, scale, draws, seconds, lost, versions=None) -> RoundDraw:
        """A padded draw."""
        spare = self.capacity - len(places)
        indices = np.concatenate([places, np.full(spare, -1)]).astype(np.int32)
        draw = RoundDraw(round, indices, np.where(indices < 0, -1, 0).astype(np.int32))
        draw.plan = self.fingerprint
        draw.scale = np.concatenate([scale, np.zeros(spare)])
        late = np.zeros(len(places)) if versions is None else versions
        draw.versions = np.concatenate([late, np.zeros(spare)]).astype(np.int32)
        draw.draws, draw.seconds, draw.lost = draws, seconds, lost
        return draw


class _Sampler:
    def __init__(self, schedule: Schedule, secret: bytes):
        self._schedule, self._secret = schedule, secret

    def draw(self, step: int) -> RoundDraw:
        return self._schedule.drawn(self._secret, step)


def _secret(seed: int | bytes | None) -> bytes:
    if seed is None:
        return new_secret()
    return seed if isinstance(seed, bytes) else secret_from_seed(seed)
