"""Intervals of rates and means, in float64."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy import special, stats

from trustml.stats.estimate import Estimate, interval_name

# Six decimals, not scipy's sixteen: figures of a seed stay those of reports that exist.
NORMAL_95 = 1.959964


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> Estimate:
    """The rate of successes, with the exact two-sided interval.

    >>> rate = clopper_pearson(0, 10)
    >>> round(rate.low, 4), round(rate.high, 4)
    (0.0, 0.3085)

    Args:
      successes: Trials that succeeded.
      trials: All trials.
      confidence: Least probability, over samples, that the interval covers the true rate.

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
    name = interval_name("Clopper-Pearson", confidence)
    return Estimate(successes / trials, float(low), float(high), name)


def rate_at_least(
    successes: int | Int[np.ndarray, "..."], trials: int, level: float
) -> Float[np.ndarray, "..."]:
    """The exact lower bound of a rate: above the true one with probability at most `level`.

    >>> round(float(rate_at_least(10, 10, 0.05)), 4)
    0.7411

    Args:
      successes: One count or many.
      trials: Trials behind each count.
      level: Probability of error of each bound alone.
    """
    successes = np.asarray(successes, np.float64)
    bound = special.betaincinv(np.maximum(successes, 1), trials - successes + 1, level)
    return np.where(successes > 0, bound, 0.0)


def rate_at_most(
    successes: int | Int[np.ndarray, "..."], trials: int, level: float
) -> Float[np.ndarray, "..."]:
    """The exact upper bound of a rate: below the true one with probability at most `level`.

    >>> round(float(rate_at_most(0, 10, 0.05)), 4)
    0.2589

    Args:
      successes: One count or many.
      trials: Trials behind each count.
      level: Probability of error of each bound alone.
    """
    successes = np.asarray(successes, np.float64)
    failures = trials - successes
    bound = special.betainccinv(successes + 1, np.maximum(failures, 1), level)
    return np.where(failures > 0, bound, 1.0)


def wilson_interval(rate: float, trials: int, z: float = NORMAL_95) -> tuple[float, float]:
    """Wilson's interval of a rate: low and high, which keep their width at 0 and at 1.

    scipy's takes whole successes; an area under a curve is a rate without any.

    >>> [round(end, 3) for end in wilson_interval(0.9, 10)]
    [0.596, 0.982]

    Args:
      rate: Share of successes, in [0, 1].
      trials: Number of trials, at least 1.
      z: Normal point of the confidence, by default that of 95 %.

    Raises:
      ValueError: `rate` or `trials` is out of range.

    References:
      Wilson, Probable inference, the law of succession, and statistical inference, 1927.
    """
    if not (trials >= 1):
        raise ValueError(f"`trials` must be at least 1, got {trials!r}.")
    if not (0 <= rate <= 1):
        raise ValueError(f"`rate` must be in [0, 1], got {rate!r}.")
    spread = z * z / trials
    centre = rate + spread / 2
    half = z * math.sqrt(rate * (1 - rate) / trials + spread / (4 * trials))
    return max(0.0, (centre - half) / (1 + spread)), min(1.0, (centre + half) / (1 + spread))


def mean_estimate(values: Sequence[float]) -> Estimate:
    """The mean of repeated runs, with Student's interval of 95 %.

    >>> round(mean_estimate([0.9, 0.92, 0.94]).value, 4)
    0.92

    Raises:
      ValueError: There are fewer than two values.
    """
    if len(values) < 2:
        raise ValueError(f"`values` must hold at least two runs, got {len(values)}.")
    mean = float(np.mean(values))
    point = float(stats.t.ppf(0.975, len(values) - 1))
    half = point * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return Estimate(mean, mean - half, mean + half, f"Student's t over {len(values)} runs")


def check_confidence(confidence: float) -> None:
    """Refuses a confidence that is no probability strictly between 0 and 1.

    >>> check_confidence(95)
    Traceback (most recent call last):
    ValueError: `confidence` must be in (0, 1), such as 0.95, got 95.
    """
    if not (0 < confidence < 1):
        raise ValueError(f"`confidence` must be in (0, 1), such as 0.95, got {confidence!r}.")
