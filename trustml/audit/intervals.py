"""Intervals for rates: exact where the sample is small, in float64, with NumPy alone."""

import math
from typing import NamedTuple

import numpy as np

_HALVINGS = 60  # of an interval of length 1: below the spacing of floats near 1


class Estimate(NamedTuple):
    """A measured value and the interval that covers the true one with the stated confidence."""

    value: float
    low: float
    high: float


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> Estimate:
    """The rate of successes, with the exact two-sided interval.

    >>> found = clopper_pearson(0, 10)
    >>> round(found.low, 4), round(found.high, 4)
    (0.0, 0.3085)

    Args:
      successes: How often it happened.
      trials: How often it could have happened.
      confidence: Probability, over samples, that the interval covers the true rate: at least this.

    Raises:
      ValueError: A count or the confidence is out of range.

    References:
      Clopper and Pearson, The use of confidence or fiducial limits, 1934.
    """
    check_confidence(confidence)
    if not (trials >= 1):
        raise ValueError(f"`trials` must be at least 1, got {trials!r}.")
    if not (0 <= successes <= trials):
        raise ValueError(f"`successes` must be from 0 to `trials` ({trials}), got {successes!r}.")
    tail = (1 - confidence) / 2
    low, high = 0.0, 1.0
    if successes > 0:
        low = crossing(lambda rate: upper_tail(successes, trials, rate) - tail)
    if successes < trials:
        failures = trials - successes
        high = 1 - crossing(lambda rate: upper_tail(failures, trials, rate) - tail)
    return Estimate(successes / trials, low, high)


def upper_tail(successes: int, trials: int, rate: float) -> float:
    """Probability of at least `successes` in `trials` draws that each succeed with `rate`.

    >>> upper_tail(2, 2, 0.5)
    0.25
    """
    if successes <= 0 or rate >= 1:
        return 1.0
    if rate <= 0:
        return 0.0
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, trials + 1)))])
    counts = np.arange(successes, trials + 1)
    ways = logs[trials] - logs[counts] - logs[trials - counts]
    terms = ways + counts * math.log(rate) + (trials - counts) * math.log1p(-rate)
    return min(1.0, float(np.exp(terms).sum()))


def crossing(rising) -> float:
    """Where `rising`, an increasing function on [0, 1], passes through zero."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if rising(middle) > 0 else (middle, high)
    return (low + high) / 2


def check_confidence(confidence: float) -> None:
    """Refuses a confidence that is no probability strictly between 0 and 1."""
    if not (0 < confidence < 1):
        raise ValueError(f"`confidence` must be in (0, 1), such as 0.95, got {confidence!r}.")
