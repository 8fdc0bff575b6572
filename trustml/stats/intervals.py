"""Intervals for rates: exact where the sample is small, in float64."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


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
    low, high = rate_at_least(successes, trials, tail), rate_at_most(successes, trials, tail)
    return Estimate(successes / trials, float(low), float(high))


def rate_at_least(
    successes: int | Int[np.ndarray, "..."], trials: int, level: float
) -> Float[np.ndarray, "..."]:
    """The exact lower bound of a rate: above the true one with probability at most `level`.

    >>> round(float(rate_at_least(10, 10, 0.05)), 4)
    0.7411

    Args:
      successes: A count, or many.
      trials: How many each is out of.
      level: Probability of error, of each bound alone.
    """
    from scipy.special import betaincinv

    successes = np.asarray(successes, np.float64)
    found = betaincinv(np.maximum(successes, 1), trials - successes + 1, level)
    return np.where(successes > 0, found, 0.0)


def rate_at_most(
    successes: int | Int[np.ndarray, "..."], trials: int, level: float
) -> Float[np.ndarray, "..."]:
    """The exact upper bound of a rate: below the true one with probability at most `level`.

    >>> round(float(rate_at_most(0, 10, 0.05)), 4)
    0.2589
    """
    from scipy.special import betainccinv

    successes = np.asarray(successes, np.float64)
    failures = trials - successes
    found = betainccinv(successes + 1, np.maximum(failures, 1), level)
    return np.where(failures > 0, found, 1.0)


def check_confidence(confidence: float) -> None:
    """Refuses a confidence that is no probability strictly between 0 and 1."""
    if not (0 < confidence < 1):
        raise ValueError(f"`confidence` must be in (0, 1), such as 0.95, got {confidence!r}.")
