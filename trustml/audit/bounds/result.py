"""The result of every bound, the counts it rests on, and the bounds' checks."""

import math
from typing import NamedTuple

import numpy as np


class Counts(NamedTuple):
    """How often an attack was right and wrong about members and about non-members."""

    tp: int  # members that it called members
    fn: int  # members that it missed
    fp: int  # non-members that it called members
    tn: int  # non-members that it let pass

    @property
    def members(self) -> int:
        """All members, called so or not."""
        return self.tp + self.fn

    @property
    def nonmembers(self) -> int:
        """All non-members, called so or not."""
        return self.fp + self.tn


class EpsilonBound(NamedTuple):
    """A lower bound of epsilon, with its evidence. Private: measured on members."""

    epsilon: float  # the training is not (epsilon, delta)-private, with `confidence`
    confidence: float  # of the whole, however many thresholds or numbers of guesses were tried
    method: str
    canaries: int  # members and non-members
    ceiling: float  # what so many canaries would show if no guess were wrong
    guesses: int | None = None  # one run: the number of guesses that won
    correct: int | None = None
    threshold: float | None = None  # from scores: whoever has at least this is called a member
    counts: Counts | None = None  # that the bound was computed from
    upper: float = math.inf  # a Bayesian interval ends here; nothing else bounds from above


def check_counts(counts: Counts) -> None:
    """Refuses counts that are no counts, or that leave one class empty."""
    for name, value in counts._asdict().items():
        _check_integer(f"counts.{name}", value)
        if not (value >= 0):
            raise ValueError(f"`counts.{name}` must be at least 0, got {value!r}.")
    for name, parts in (("members", "`tp` + `fn`"), ("nonmembers", "`fp` + `tn`")):
        if getattr(counts, name) == 0:
            raise ValueError(f"`counts` must hold both classes, got {parts} = 0: no {name}.")


def check_delta(delta: float, *, positive: bool = False) -> None:
    """Refuses a delta outside [0, 1), and with `positive` a delta of 0 too."""
    if not (0 <= delta < 1):
        raise ValueError(f"`delta` must be in [0, 1), got {delta!r}.")
    if positive and delta == 0:
        raise ValueError(
            f"`delta` must be in (0, 1), got {delta!r}: a Gaussian mechanism has no finite epsilon."
        )


def _check_integer(name: str, value: int) -> None:
    """Refuses what is no integer, a truth value too."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"`{name}` must be an integer, got {value!r}.")


def check_guesses(guesses: int, correct: int, canaries: int) -> None:
    """Refuses numbers of guesses that do not fit each other."""
    _check_integer("canaries", canaries)
    if not (canaries >= 1):
        raise ValueError(f"`canaries` must be at least 1, got {canaries!r}.")
    most = (
        ("guesses", guesses, 1, "canaries", canaries),
        ("correct", correct, 0, "guesses", guesses),
    )
    for name, value, least, limit, largest in most:
        _check_integer(name, value)
        if not (least <= value <= largest):
            raise ValueError(
                f"`{name}` must be from {least} to `{limit}` ({largest}), got {value!r}."
            )
