"""Epsilon of the Gaussian mechanism, the curve that white-box audits test."""

import functools

import numpy as np

from trustml.audit.bounds.result import check_delta


def gaussian_epsilon(mu: float, delta: float) -> float:
    """The least epsilon at `delta` of a mechanism that is exactly mu-Gaussian private.

    >>> round(gaussian_epsilon(1.0, 1e-5), 3)
    4.377

    Args:
      mu: Sensitivity over standard deviation of the noise; at 0 or below nothing leaks.
      delta: In (0, 1).

    Raises:
      ValueError: `delta` is out of range, or `mu` is NaN.

    References:
      Balle and Wang, Improving the Gaussian mechanism for differential privacy, 2018.
    """
    check_delta(delta, positive=True)
    if mu != mu:
        raise ValueError("`mu` must be a number, got nan.")
    return _epsilon(float(mu), float(delta)) if mu > 0 else 0.0


@functools.lru_cache(maxsize=4096)  # audits of many models meet the same values
def _epsilon(mu: float, delta: float) -> float:
    from dp_accounting import get_epsilon_gaussian

    with np.errstate(divide="ignore"):  # a delta of 0 on the way, whose logarithm is as it should
        return float(get_epsilon_gaussian(1 / mu, delta))
