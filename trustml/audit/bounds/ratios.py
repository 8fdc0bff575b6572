"""Asymptotic lower bounds of a ratio of two rates, as TensorFlow Privacy lists them."""

import math
from statistics import NormalDist
from typing import Literal

from trustml.audit.bounds.result import Counts, check_counts, check_delta
from trustml.stats.intervals import check_confidence

Ratio = Literal["katz-log", "adjusted-log", "bailey", "inverse-sinh"]


def rate_ratio_bound(
    counts: Counts, *, method: Ratio, delta: float = 0.0, confidence: float = 0.95
) -> float:
    """A lower bound of (TPR - delta) / FPR; its logarithm is one of epsilon.

    >>> round(rate_ratio_bound(Counts(1000, 10, 10, 10_000), method="katz-log"), 3)
    589.273

    Args:
      counts: Of one attack with one rule that was fixed before these counts were seen.
      method: All four take the ratio to be normal after a transformation.
      delta: Taken from the true positive rate. With more than 0 the variance is that of the delta
        method, which is ours; with 0 the formulas are the published ones.
      confidence: Nominal: see below.

    Returns:
      At least 0; exactly 0 where the rates show nothing.

    Guarantee:
      None for a given number of counts: the confidence is reached as all four grow.
      `epsilon_from_counts` has an exact method.

    Raises:
      ValueError: A count, delta or the confidence is out of range, or the method is unknown.

    References:
      Katz, Baptista, Azen and Pike, Obtaining confidence intervals for the risk ratio in cohort
      studies, 1978. Walter, The distribution of Levin's measure of attributable risk, 1975. Bailey,
      Confidence limits to the risk ratio, 1987. Newman, Biostatistical methods in epidemiology,
      2001. Aho and Bowyer, Confidence intervals for ratios of proportions, 2015, compares them.
    """
    check_counts(counts)
    check_delta(delta)
    check_confidence(confidence)
    if method not in _BOUNDS:
        raise ValueError(f"`method` must be any of {', '.join(_BOUNDS)}, got {method!r}.")
    return _BOUNDS[method](counts, delta, NormalDist().inv_cdf(1 - confidence))


def _katz(counts, delta, z):
    if counts.tp == 0:
        return 0.0
    tp, fp = _less_than_all(counts)
    found, ours, others = _moments(tp, counts.members, fp or 0.5, counts.nonmembers, delta)
    return found * math.exp(z * math.sqrt(ours + others))


def _adjusted(counts, delta, z):
    tp, fp = _less_than_all(counts)
    if tp == fp == 0:
        return 0.0
    members, nonmembers = counts.members + 0.5, counts.nonmembers + 0.5
    found, ours, others = _moments(tp + 0.5, members, fp + 0.5, nonmembers, delta)
    return found * math.exp(z * math.sqrt(ours + others))


def _bailey(counts, delta, z):
    if counts.tp == 0:
        return 0.0
    tp = min(counts.tp, counts.members - 0.5)
    fp = min(counts.fp, counts.nonmembers - 0.5) or 0.5
    found, ours, others = _moments(tp, counts.members, fp, counts.nonmembers, delta)
    # Bailey's quotient with its common factor taken out: both of its sides may pass 0 together.
    left, right = 1 - z**2 * ours / 9, 1 - z**2 * others / 9
    if left <= 0:
        return 0.0
    return found * (left / (1 + math.sqrt(1 - left * right))) ** 3


def _inverse_sinh(counts, delta, z):
    if counts.tp == 0:
        return 0.0
    tp, fp = _less_than_all(counts)
    found, ours, others = _moments(tp, counts.members, fp or z**2, counts.nonmembers, delta)
    return found * math.exp(2 * math.asinh(z / 2 * math.sqrt(max(ours + others, 0.0))))


_BOUNDS = {
    "katz-log": _katz,
    "adjusted-log": _adjusted,
    "bailey": _bailey,
    "inverse-sinh": _inverse_sinh,
}


def _less_than_all(counts):
    """Both counts, half less where everybody was called a member: variances would be 0."""
    half = 0.5 if counts.fn == counts.tn == 0 else 0.0
    return counts.tp - half, counts.fp - half


def _moments(tp, members, fp, nonmembers, delta):
    """The ratio, and the relative variances of its two sides."""
    tpr, fpr = tp / members, fp / nonmembers
    if tpr <= delta:
        return 0.0, 0.0, 0.0
    ours = tpr * (1 - tpr) / (members * (tpr - delta) ** 2)
    return (tpr - delta) / fpr, ours, (1 - fpr) / fp
