"""The Gaussian mechanism alone, by its exact privacy curve."""

import math

from scipy.optimize import brentq
from scipy.special import log_ndtr

_MOST = 1e6  # multiplier beyond which there is nothing left to learn


def gaussian_delta(multiplier: float, epsilon: float) -> float:
    """The smallest delta of one Gaussian release: the analytic curve.

    >>> round(gaussian_delta(1.0, 1.0), 6)
    0.126937

    Args:
      multiplier: Standard deviation over l2 sensitivity.
      epsilon: At least 0.

    References:
      Balle, Wang, Improving the Gaussian Mechanism for Differential Privacy, 2018, theorem 5.
    """
    half = 1 / (2 * multiplier)
    first = math.exp(log_ndtr(half - epsilon * multiplier))
    return max(0.0, first - math.exp(epsilon + log_ndtr(-half - epsilon * multiplier)))


def gaussian_multiplier(epsilon: float, delta: float, releases: int = 1) -> float:
    """The smallest multiplier with which so many Gaussian releases are (epsilon, delta)-private.

    Releases of one multiplier compose to a single one whose multiplier is smaller by the square
    root of their number, exactly.

    >>> round(gaussian_multiplier(1.0, 1e-5), 3), round(gaussian_multiplier(1.0, 1e-5, 100), 3)
    (3.731, 37.306)

    Args:
      epsilon: Of all releases together.
      delta: Of all together.
      releases: How many.

    Raises:
      ValueError: A number is out of range.
    """
    for name, value, fits in (
        ("epsilon", epsilon, epsilon > 0 and math.isfinite(epsilon)),
        ("delta", delta, 0 < delta < 1),
        ("releases", releases, releases >= 1),
    ):
        if not fits:
            raise ValueError(f"`{name}` must be positive, and `delta` below 1, got {value!r}.")
    found = brentq(
        lambda log: gaussian_delta(math.exp(log), epsilon) - delta,
        -20.0,
        math.log(_MOST),
        xtol=1e-9,
    )
    return math.exp(found + 1e-8) * math.sqrt(releases)  # never below the root
