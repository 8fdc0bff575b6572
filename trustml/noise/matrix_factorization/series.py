"""Power series as float64 arrays: coefficient k of the array stands at x^k."""

import numpy as np
from jaxtyping import Float64


def reciprocal(series: Float64[np.ndarray, " m"], length: int) -> Float64[np.ndarray, " n"]:
    """The first `length` coefficients of 1 / series.

    >>> reciprocal(np.array([1.0, -1.0]), 4)
    array([1., 1., 1., 1.])
    """
    return divided(first(length), series)


def divided(
    numerator: Float64[np.ndarray, " n"], denominator: Float64[np.ndarray, " m"]
) -> Float64[np.ndarray, " n"]:
    """The coefficients of numerator / denominator, as many as the numerator has."""
    from scipy.signal import lfilter

    return lfilter([1.0], denominator, numerator)


def first(length: int) -> Float64[np.ndarray, " n"]:
    """The series 1."""
    series = np.zeros(length)
    series[0] = 1.0
    return series


def repeated(
    series: Float64[np.ndarray, " n"], times: int, apart: int
) -> Float64[np.ndarray, " n"]:
    """The sum of the series delayed by 0, apart, ..., (times - 1) apart, cut at its length.

    >>> repeated(np.array([3.0, 2.0, 1.0, 1.0]), 2, 2)
    array([3., 2., 4., 3.])
    """
    rows = np.pad(series, (0, -len(series) % apart)).reshape(-1, apart)
    rows = np.cumsum(rows, axis=0)
    rows[times:] = rows[times:] - rows[:-times]
    return rows.reshape(-1)[: len(series)]
