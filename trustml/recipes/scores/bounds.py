"""Lower bounds of epsilon from one attack's scores: one to compare with a claim, and others."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np
from jaxtyping import Float

from trustml.audit import (
    Counts,
    EpsilonBound,
    Split,
    bayesian_epsilon,
    epsilon_from_scores,
    one_run_audit,
)

ANY, GAUSSIAN, PRIOR = "any training", "Gaussian only", "no guarantee"
HOLDS_FOR = {
    GAUSSIAN: "of a mechanism whose trade-off curve is no Gaussian one it may exceed epsilon",
    PRIOR: "an interval of a posterior, without a guarantee over samples: it refutes nothing",
}


class Sample(NamedTuple):
    """Scores of members and of others."""

    member: Float[np.ndarray, " member"]
    nonmember: Float[np.ndarray, " nonmember"]


class Bound(NamedTuple):
    """A lower bound of epsilon."""

    bound: EpsilonBound
    holds_for: str  # ANY, GAUSSIAN or PRIOR
    note: str  # why it shows nothing, where rows are too few
    compared: bool  # with the claim

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it, infinities included."""
        bound = self.bound
        counts = bound.counts and bound.counts._asdict()
        kind = {"holds_for": self.holds_for, "note": self.note, "compared": self.compared}
        return {**bound._asdict(), "counts": counts, **kind}


def main_bound(sample: Sample, *, one_run: bool, delta: float, confidence: float) -> Bound:
    """The bound to compare with the claim: no other is, so none was picked by its value.

    >>> sample = Sample(np.arange(100.0, 200.0), np.arange(100.0))
    >>> bound = main_bound(sample, one_run=False, delta=0.0, confidence=0.95)
    >>> bound.holds_for, bound.bound.epsilon > 2
    ('any training', True)

    Args:
      sample: Scores, higher for members.
      one_run: Whether fair coins chose the members of one training run; else rows are independent.
      delta: Of the promise under audit.
      confidence: With which it holds.
    """
    make = one_run_audit if one_run else epsilon_from_scores
    return _bound(ANY, make, sample, delta, confidence, compared=True)


def other_bounds(
    sample: Sample, *, one_run: bool, delta: float, confidence: float
) -> tuple[Bound, ...]:
    """Bounds by other methods, each with its confidence by itself; see `main_bound`."""
    makes: list[tuple[str, Callable]]
    if one_run:
        makes = [(GAUSSIAN, functools.partial(one_run_audit, promise="gaussian"))]
    else:
        makes = [
            (ANY, functools.partial(epsilon_from_scores, threshold=_split())),
            (GAUSSIAN, functools.partial(epsilon_from_scores, method="gdp")),
            (PRIOR, _posterior),
        ]
    return tuple(
        _bound(holds_for, make, sample, delta, confidence)
        for holds_for, make in makes
        if holds_for != GAUSSIAN or delta > 0  # at 0 a Gaussian mechanism has no finite epsilon
    )


def _split() -> Split:
    # Any split that has not seen the scores will do; a fixed one gives everybody the same figures.
    return Split(np.random.default_rng(0))


def _posterior(member, nonmember, *, delta: float, confidence: float) -> EpsilonBound:
    """A Bayesian interval of the half of the scores that did not choose the threshold."""
    options: dict[str, Any] = {"delta": delta, "confidence": confidence}
    fixed = epsilon_from_scores(member, nonmember, threshold=_split(), **options)
    interval = bayesian_epsilon(cast(Counts, fixed.counts), **options)
    method = f"{interval.method}; threshold chosen on a random half"
    return interval._replace(method=method, threshold=fixed.threshold)


def _bound(
    holds_for: str, make, sample: Sample, delta: float, confidence: float, *, compared: bool = False
) -> Bound:
    try:
        bound = make(*sample, delta=delta, confidence=confidence)
    except ValueError as error:  # scores and numbers are checked: too few rows
        nothing = EpsilonBound(0.0, confidence, "none", sum(map(len, sample)), 0.0)
        return Bound(nothing, holds_for, str(error), compared)
    return Bound(bound, holds_for, "", compared)
