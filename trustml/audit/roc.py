"""How well a score separates two samples: the curve, its area, and how sure the area is."""

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from trustml.stats import Estimate, check_confidence, interval_name, wilson_interval


class Roc(NamedTuple):
    """One point per distinct score, from (0, 0) to (1, 1): who has at least `threshold` is named.

    Tied scores share a point, so a rule that the curve shows needs no coin.
    """

    fpr: Float[np.ndarray, " point"]
    tpr: Float[np.ndarray, " point"]
    threshold: Float[np.ndarray, " point"]  # falling; infinity names nobody


def roc_curve(positive: ArrayLike, negative: ArrayLike) -> Roc:
    """The curve of the rule "score at least the threshold".

    >>> roc = roc_curve([2.0, 1.0], [1.0, 0.0])
    >>> roc.fpr.tolist(), roc.tpr.tolist()
    ([0.0, 0.0, 0.5, 1.0], [0.0, 0.5, 1.0, 1.0])

    Raises:
      ValueError: A sample is empty, not a vector, or holds NaN.
    """
    positive, negative = check_sample("positive", positive), check_sample("negative", negative)
    distinct = np.unique(np.concatenate([positive, negative]))[::-1]

    def rate(sample):
        below = np.searchsorted(np.sort(sample), distinct, side="left")
        return np.concatenate([[0.0], (len(sample) - below) / len(sample)])

    return Roc(rate(negative), rate(positive), np.concatenate([[np.inf], distinct]))


def point_within(fpr: Float[np.ndarray, " point"], rate: float) -> int:
    """The last point of a curve whose false positive rate is at most `rate`.

    >>> point_within(roc_curve([2.0, 1.0], [1.0, 0.0]).fpr, 0.4)
    1
    """
    # The tolerance is for the rounding of k / n alone.
    return int(np.searchsorted(fpr, rate * (1 + 1e-12), side="right")) - 1


def area_under_curve(
    positive: ArrayLike, negative: ArrayLike, confidence: float = 0.95
) -> Estimate:
    """Probability that a positive scores above a negative, ties counting half.

    >>> round(area_under_curve([2.0, 3.0, 1.0], [0.0, 1.0, 2.0]).value, 4)
    0.7778

    Args:
      positive: Scores that should be high, a vector.
      negative: Scores that should be low, a vector.
      confidence: Of the interval: DeLong's; where its variance is zero, as with samples that do
        not overlap, Wilson's for min(n, m) trials, an upper bound of the variance.

    Raises:
      ValueError: A sample has fewer than two scores, is not a vector, or holds NaN.

    References:
      DeLong, DeLong and Clarke-Pearson, Comparing the areas under two or more correlated receiver
      operating characteristic curves, 1988. Birnbaum and Klose, Bounds for the variance of the
      Mann-Whitney statistic, 1957.
    """
    check_confidence(confidence)
    positive = check_sample("positive", positive, least=2)
    negative = check_sample("negative", negative, least=2)
    wins = _part_below(positive, negative)
    losses = _part_below(negative, positive)
    area = float(wins.mean())
    variance = wins.var(ddof=1) / len(wins) + losses.var(ddof=1) / len(losses)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    if variance > 0:
        reach = z * math.sqrt(variance)
        name = interval_name("DeLong", confidence)
        return Estimate(area, max(0.0, area - reach), min(1.0, area + reach), name)
    # The variance of the estimate is at most a (1 - a) / min(n, m) when the true area is a; the
    # areas within z standard deviations of that size form Wilson's interval.
    low, high = wilson_interval(area, min(len(wins), len(losses)), z)
    return Estimate(area, low, high, interval_name("Wilson", confidence))


def _part_below(scores, others):
    """For each score the part of `others` below it, ties counting half: the placements."""
    ordered = np.sort(others)
    below = np.searchsorted(ordered, scores, side="left")
    up_to = np.searchsorted(ordered, scores, side="right")
    return (below + up_to) / (2 * len(others))


def check_sample(name: str, scores: ArrayLike, least: int = 1) -> Float[np.ndarray, " score"]:
    """`scores` as a float64 vector; infinities are ordered and allowed, NaN is refused."""
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 1 or scores.size < least:
        raise ValueError(
            f"`{name}` must be a vector of at least {least} numbers, got shape {scores.shape}."
        )
    if np.isnan(scores).any():
        place = int(np.flatnonzero(np.isnan(scores))[0])
        raise ValueError(
            f"`{name}` must not hold NaN, got one at {place}: it has no order. Leave the unit out, "
            "or give it a loss of infinity."
        )
    return scores
