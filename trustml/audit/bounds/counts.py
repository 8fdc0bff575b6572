"""A lower bound on epsilon from how often an attack was right and wrong."""

import math
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from trustml.audit.bounds.gaussian import gaussian_epsilon
from trustml.audit.bounds.ratios import Ratio, rate_ratio_bound
from trustml.audit.bounds.result import Counts, EpsilonBound, check_counts, check_delta
from trustml.formatting import round_down, round_up
from trustml.stats.intervals import check_confidence, rate_at_least, rate_at_most

Exact = Literal["clopper-pearson", "gdp"]


def epsilon_from_counts(
    counts: Counts,
    *,
    delta: float = 0.0,
    confidence: float = 0.95,
    method: Exact | Ratio = "clopper-pearson",
) -> EpsilonBound:
    """The largest epsilon that one attack with one rule, fixed beforehand, refutes.

    It reads the rates both ways, (TPR - delta) / FPR and (TNR - delta) / FNR, and takes the larger
    logarithm. A weak attack shows little: that finds no privacy.

    >>> found = epsilon_from_counts(Counts(tp=500, fn=0, fp=0, tn=500), confidence=0.99)
    >>> round(found.epsilon, 2)
    4.54

    Args:
      counts: Members called so, members missed, non-members called members, non-members let pass.
      delta: The delta of the promise under audit; "gdp" needs more than 0.
      confidence: Probability, over samples, that the bound holds.
      method: "clopper-pearson" and "gdp" are exact; "katz-log", "adjusted-log", "bailey" and
        "inverse-sinh" are asymptotic, each of the two directions at half the error probability.

    Guarantee:
      If every counted attack was made on its own (say on a training run of its own), with the same
      chance as the others of its class, and the training is (e, delta)-private under adding or
      removing the unit, then "clopper-pearson" exceeds e with probability at most 1 - confidence.
      It bounds TPR from below and FPR from above, with half of the error probability each; both
      directions follow from these two bounds, so that trying both costs nothing. "gdp" refutes
      that the training is mu-Gaussian private, and gives the epsilon at delta of the largest mu
      that is refuted: a bound of the training's own epsilon only where its trade-off curve is a
      Gaussian one, such as that of full-batch DP-SGD that gives away every step's noisy gradient.
      Of other mechanisms it may exceed epsilon by far. The asymptotic methods guarantee nothing
      for a given number of counts.

    Raises:
      ValueError: A count is out of range, a class is empty, or so few counts can show nothing.
      TypeError: A count is no integer.

    References:
      Jagielski, Ullman and Oprea, Auditing differentially private machine learning: how private is
      private SGD?, 2020. Nasr et al., Tight auditing of differentially private machine learning,
      2023, for "gdp".
    """
    check_counts(counts)
    check_confidence(confidence)
    check_method(method, (*get_args(Exact), *get_args(Ratio)), delta)
    level = 1 - confidence
    ceiling = _epsilon(Counts(counts.members, 0, 0, counts.nonmembers), method, delta, level)
    if method in get_args(Exact):
        check_ceiling(ceiling, counts.members, counts.nonmembers, level)
    epsilon = _epsilon(counts, method, delta, level)
    canaries = counts.members + counts.nonmembers
    return EpsilonBound(epsilon, confidence, method, canaries, ceiling, counts=counts)


def _epsilon(counts, method, delta, level) -> float:
    if method in get_args(Exact):
        tp, fp = np.array([counts.tp]), np.array([counts.fp])
        sizes = (counts.members, counts.nonmembers)
        return strongest(tp, fp, sizes, method=method, delta=delta, level=level)[0]
    # Two ratios, two tests.
    options: dict[str, Any] = {"method": method, "delta": delta, "confidence": 1 - level / 2}
    turned = Counts(tp=counts.tn, fn=counts.fp, fp=counts.fn, tn=counts.tp)
    ratio = max(rate_ratio_bound(each, **options) for each in (counts, turned))
    return max(0.0, math.log(ratio)) if ratio > 0 else 0.0


def strongest(
    tp: Int[np.ndarray, " rule"],
    fp: Int[np.ndarray, " rule"],
    sizes: tuple[int, int],
    *,
    method: Exact,
    delta: float,
    level: float,
) -> tuple[float, int]:
    """The rule that shows most, each tested at `level`: its epsilon, and its place.

    Args:
      tp: Members that each rule calls members.
      fp: Non-members that it calls members.
      sizes: All members, all non-members.
      method: Which exact bound.
      delta: Of the promise under audit.
      level: Probability of error, of each rule alone.
    """
    members, nonmembers = sizes
    tpr, fpr = rate_at_least(tp, members, level / 2), rate_at_most(fp, nonmembers, level / 2)
    shown = _mu(tpr, fpr) if method == "gdp" else _exact(tpr, fpr, delta)
    best = int(np.argmax(shown))
    # A mu below 0 shows nothing: of the opposite direction these bounds know nothing either.
    found = float(shown[best])
    return (gaussian_epsilon(found, delta) if method == "gdp" else max(0.0, found)), best


def _exact(tpr, fpr, delta) -> Float[np.ndarray, " rule"]:
    def logarithm(right, wrong):
        # Nothing is shown where the rate does not exceed delta.
        return np.log(np.maximum(right - delta, 1e-300)) - np.log(wrong)

    return np.maximum(logarithm(tpr, fpr), logarithm(1 - fpr, 1 - tpr))


def _mu(tpr, fpr) -> Float[np.ndarray, " rule"]:
    from scipy.special import ndtri

    return ndtri(tpr) - ndtri(fpr)


def check_method(method: str, known: tuple[str, ...], delta: float) -> None:
    """Refuses an unknown method, and a delta that it cannot take."""
    if method not in known:
        raise ValueError(f"`method` must be any of {', '.join(known)}, got {method!r}.")
    check_delta(delta, positive=method == "gdp")


def check_ceiling(ceiling: float, members: int, nonmembers: int, level: float) -> None:
    """Refuses samples of which the best attack could show nothing, at `level` per test."""
    if not (ceiling > 0):
        low = float(rate_at_least(members, members, level / 2))
        high = float(rate_at_most(0, nonmembers, level / 2))
        raise ValueError(
            f"Too few canaries: {members} members and {nonmembers} non-members, without one error, "
            f"show a TPR of {round_down(low, 2)} at least and an FPR of {round_up(high, 2)} at "
            "most, so an epsilon of 0. Take more canaries, try fewer thresholds, or ask for less "
            "confidence."
        )
