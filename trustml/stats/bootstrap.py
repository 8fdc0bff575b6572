"""The bootstrap: a statistic of samples that are drawn with replacement from a sample."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from trustml.stats.estimate import Estimate, interval_name
from trustml.stats.intervals import check_confidence


def resample(
    rows: Shaped[np.ndarray, "row ..."],
    statistic: Callable[[np.ndarray], Any],
    *,
    resamples: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, "resample ..."]:
    """The statistic of each of `resamples` samples of the rows.

    >>> rows = np.array([0.0, 1.0] * 50)
    >>> means = resample(rows, np.mean, resamples=200, rng=np.random.default_rng(0))
    >>> means.shape, round(float(means.std()), 2)
    ((200,), 0.05)

    Args:
      rows: A value, or a row of counts, for each unit.
      statistic: Maps as many rows to a number or a vector, such as a ratio of sums of counts.
      resamples: Number of samples.
      rng: Draws the samples.

    Raises:
      ValueError: There are no rows, or `resamples` is below 1.
    """
    if not (len(rows) and resamples >= 1):
        raise ValueError(
            f"`rows` must not be empty and `resamples` must be at least 1, got {len(rows)} rows "
            f"and {resamples!r}."
        )
    size = len(rows)
    return np.array([statistic(rows[rng.integers(size, size=size)]) for _ in range(resamples)])


def percentile_estimate(
    value: float,
    resampled: Float[np.ndarray, " resample"],
    confidence: float = 0.95,
    *,
    method: str = "bootstrap",
) -> Estimate:
    """The value with the percentile interval of its resamples.

    >>> percentile_estimate(0.5, np.linspace(0, 1, 5), 0.5)
    Estimate(value=0.5, low=0.25, high=0.75, interval='bootstrap, 50 %')

    Args:
      value: Of the sample itself.
      resampled: From `resample`.
      confidence: Share of the resamples that the interval holds.
      method: Name of the bootstrap in a report.

    Raises:
      ValueError: `confidence` is not in (0, 1).

    References:
      Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    check_confidence(confidence)
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(value, float(low), float(high), interval_name(method, confidence))


def pigeonhole_counts(
    shape: tuple[int, int], rng: np.random.Generator
) -> Int[np.ndarray, "row column"]:
    """How often each cell of a table occurs in one sample of its rows and of its columns.

    Rows and columns are drawn apart from each other, so cells that share one stay together.

    >>> counts = pigeonhole_counts((2, 3), np.random.default_rng(0))
    >>> counts.shape, int(counts.sum())
    ((2, 3), 6)

    References:
      Owen, The pigeonhole bootstrap, 2007.
    """
    rows, columns = (rng.multinomial(size, np.full(size, 1 / size)) for size in shape)
    return np.outer(rows, columns)
