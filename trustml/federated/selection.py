"""Who takes part in a round: clients drawn by their activity."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from trustml.federated.streams import stream
from trustml.federated.validation import check_activity, check_mask, check_whole, short_number


def _top(activity, number):
    if number > len(activity):
        raise ValueError(
            f"`number` of the selection top must be at most the {len(activity)} clients, "
            f"got {number}."
        )
    weights = np.zeros(len(activity))
    weights[np.argsort(-activity, kind="stable")[:number]] = 1.0
    return weights


# The weight of each client by activity, and by the parameter where a selection has one.
_WEIGHTS: dict[str, Callable] = {
    "uniform": lambda activity, _: np.ones(len(activity)),
    "proportional": lambda activity, _: activity,
    "log": lambda activity, _: np.log1p(activity),
    "power": lambda activity, exponent: activity**exponent,
    "top": _top,
}
_PARAMETERS = {"power": "exponent", "top": "number"}


@dataclasses.dataclass(frozen=True)
class Selection:
    """How likely each client is drawn, by its activity: such as how many rows it holds.

    Made by `uniform()`, `proportional()`, `log()`, `power(exponent)`, `top(number)` or
    `parse_selection`.

    >>> log().weights(np.array([0, 1, 3])).round(2).tolist()
    [0.0, 0.69, 1.39]
    >>> str(power(0.5))
    'power:0.5'

    Args:
      name: "uniform", "proportional", "log", "power" or "top".
      parameter: The exponent of "power", the number of "top".
      replacement: Whether a client may be drawn more than once in a round.
      unbiased: Whether updates are weighted so that their mean is, on average, that of all clients
        by activity.

    Raises:
      ValueError: A parameter out of range, or an unbiased selection whose inclusion probabilities
        are not known.

    References:
      Dupuy et al., Learnings from Federated Learning in the Real World, 2022, for selection by
      activity; the family of weights is ours. Li et al., On the Convergence of FedAvg on Non-IID
      Data, 2020, for the unbiased scheme.
    """

    name: str
    parameter: float | None = None
    _: dataclasses.KW_ONLY
    replacement: bool = False
    unbiased: bool = False

    def __post_init__(self):
        if self.name not in _WEIGHTS:
            raise ValueError(
                f"`selection` must be one of uniform, proportional, log, power:EXPONENT and "
                f"top:NUMBER, got {self.name!r}."
            )
        _check_parameter(self.name, self.parameter)
        known = self.replacement or str(self) in ("uniform", "power:0")
        if self.unbiased and (self.name == "top" or not known):
            raise ValueError(_no_weights(self))

    def __str__(self) -> str:
        """The word of the command: what `parse_selection` reads."""
        if self.parameter is None:
            return self.name
        return f"{self.name}:{short_number(self.parameter)}"

    def weights(self, activity: Any) -> Float64[np.ndarray, " client"]:
        """The weight of each client; 0 for one that is never drawn.

        Args:
          activity: One finite number per client, at least 0.

        Raises:
          ValueError: `activity` is no such vector, or no client has a weight.
        """
        activity = check_activity(activity)
        weights = np.asarray(_WEIGHTS[self.name](activity, self.parameter), np.float64)
        if not (np.isfinite(weights.sum()) and weights.any()):
            raise ValueError(
                f"`activity` must give some client a weight under {self}, and all of them finite "
                f"ones, got a largest activity of {activity.max():g}."
            )
        return weights


def uniform(*, replacement: bool = False, unbiased: bool = False) -> Selection:
    """Every client is as likely, one without rows too.

    >>> uniform().weights([5, 0]).tolist()
    [1.0, 1.0]
    """
    return Selection("uniform", replacement=replacement, unbiased=unbiased)


def proportional(*, replacement: bool = False, unbiased: bool = False) -> Selection:
    """A client is as likely as it is active.

    >>> proportional().weights([5, 0]).tolist()
    [5.0, 0.0]
    """
    return Selection("proportional", replacement=replacement, unbiased=unbiased)


def log(*, replacement: bool = False, unbiased: bool = False) -> Selection:
    """A client counts as the logarithm of 1 + its activity: cheaper in privacy than by activity.

    >>> log().weights([0, math.e - 1]).tolist()
    [0.0, 1.0]
    """
    return Selection("log", replacement=replacement, unbiased=unbiased)


def power(exponent: float, *, replacement: bool = False, unbiased: bool = False) -> Selection:
    """By activity to a power: 0 is uniform, 1 proportional.

    >>> power(0.5).weights([9, 0]).tolist()
    [3.0, 0.0]
    """
    return Selection("power", exponent, replacement=replacement, unbiased=unbiased)


def top(number: int, *, replacement: bool = False) -> Selection:
    """One of the `number` most active clients, each as likely; of equal ones the first count.

    >>> top(2).weights([5, 7, 5]).tolist()
    [1.0, 1.0, 0.0]
    """
    return Selection("top", number, replacement=replacement)


def parse_selection(text: str, *, replacement: bool = False, unbiased: bool = False) -> Selection:
    """The selection that a word of the command names.

    >>> parse_selection("power:0.5") == power(0.5), parse_selection("log", replacement=True)
    (True, Selection(name='log', parameter=None, replacement=True, unbiased=False))

    Args:
      text: "uniform", "proportional", "log", "power:0.5" or "top:20".
      replacement: As in `Selection`.
      unbiased: As in `Selection`.

    Raises:
      ValueError: The word names no selection, or not the number that it needs.
    """
    name, colon, value = text.partition(":")
    parameter = _number(name, value) if colon else None
    return Selection(name, parameter, replacement=replacement, unbiased=unbiased)


class Chosen(NamedTuple):
    """The clients of a round; their mean update is `sum(scale * update) / draws`."""

    places: Int64[np.ndarray, " chosen"]  # distinct, ascending
    scale: Float64[np.ndarray, " chosen"]  # how often it counts; 1 without replacement or weights
    draws: int  # 0 where no client is there


def choose(
    selection: Selection,
    activity: Any,
    number: int,
    *,
    seed: int | bytes,
    round: int,
    available: Bool[np.ndarray, " client"] | None = None,
) -> Chosen:
    """The clients that take part in a round: the same for the same seed and round.

    Without replacement by the largest of log(weight) plus Gumbel noise, which is drawing one client
    after the other by its weight among those that are left. A client's noise depends on the seed,
    the round and its place alone.

    >>> chosen = choose(proportional(), np.array([0, 3, 0, 9]), 2, seed=0, round=0)
    >>> chosen.places.tolist(), chosen.scale.tolist(), chosen.draws
    ([1, 3], [1.0, 1.0], 2)

    Args:
      selection: How likely a client is.
      activity: One number per client, at least 0.
      number: Clients to draw. Where fewer are available, all of those are taken.
      seed: Of the run.
      round: The round, from 0.
      available: Who can be reached in this round; everyone by default.

    Returns:
      `Chosen`. A client drawn several times is there once and counts as often. With
      `selection.unbiased` a client counts activity / (mean activity of a draw): then it must not be
      weighted by its rows again, and the mean over draws is that of all available clients by rows.

    Raises:
      ValueError: More clients are asked for than have a weight, or a vector does not fit.
    """
    activity = np.asarray(activity)
    weights = selection.weights(activity)
    number = check_whole("number", number, least=1)
    most = int(np.count_nonzero(weights))
    if number > most and not selection.replacement:
        raise ValueError(
            f"`number` must be at most the {most} clients that {selection} can draw, got {number}: "
            f"ask for fewer a round, or draw with replacement."
        )
    if available is not None:
        available = check_mask("available", available, len(weights), "client")
        weights = np.where(available, weights, 0.0)
    if not weights.any():
        return Chosen(np.zeros(0, np.int64), np.zeros(0), 0)
    noise = stream(seed, round, "selection")
    draw = _draw_again if selection.replacement else _draw_once
    places, counts = draw(weights, number, noise)
    scale = counts * _weighting(activity, weights, places) if selection.unbiased else counts
    return Chosen(places, scale.astype(np.float64), int(counts.sum()))


def _draw_once(weights, number, noise):
    """Distinct places, each counted once."""
    drawn = np.flatnonzero(weights)
    number = min(number, len(drawn))
    # The first to arrive where client k waits for an exponential time of rate weight k. Minus its
    # logarithm is log(weight) plus Gumbel noise.
    arrival = -np.log1p(-noise.random(len(weights)))[drawn] / weights[drawn]
    places = np.sort(drawn[np.argpartition(arrival, number - 1)[:number]])
    return places.astype(np.int64), np.ones(number)


def _draw_again(weights, number, noise):
    """Distinct places of draws with replacement, and how often each was drawn."""
    ends = np.cumsum(weights)
    found = np.searchsorted(ends, noise.random(number) * ends[-1], side="right")
    found = np.minimum(found, np.flatnonzero(weights)[-1])  # a product may round up to the end
    places, counts = np.unique(found, return_counts=True)
    return places.astype(np.int64), counts.astype(np.float64)


def _weighting(activity, weights, places):
    """Share of the activity over the chance of a draw: Horvitz and Thompson's, times the draws."""
    there = weights > 0
    share = activity[places] / activity[there].sum()
    return share / (weights[places] / weights.sum())


def _number(name, value):
    try:
        return int(value) if name == "top" else float(value)
    except ValueError:
        raise ValueError(
            f"`selection` must name a number after {name}:, such as {name}:2, got {value!r}."
        ) from None


def _check_parameter(name, parameter):
    wanted = _PARAMETERS.get(name)
    if wanted is None:
        if parameter is not None:
            raise ValueError(f"`selection` {name} takes no number, got {parameter!r}: use {name}.")
        return
    if parameter is None:
        raise ValueError(f"`selection` must name its {wanted}, such as {name}:2, got {name!r}.")
    if name == "top":
        check_whole("number", parameter, least=1)
    elif not (parameter >= 0 and math.isfinite(parameter)):
        raise ValueError(f"`exponent` must be finite and not negative, got {parameter!r}.")


def _no_weights(selection):
    if selection.name == "top":
        return (
            f"`unbiased` must be False for {selection}, which never draws the other clients, "
            "got True. Use another selection."
        )
    return (
        f"`unbiased` must be False for {selection} without replacement, whose inclusion "
        "probabilities are not known, got True. Use `replacement=True`, or uniform."
    )
