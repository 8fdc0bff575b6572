"""The least noise with which a condition holds."""

import functools
from collections.abc import Callable

MAX_NOISE_MULTIPLIER = 1e5


def least_noise(excess: Callable[[float], float], *, start: float, ratio: float) -> float | None:
    """The least x, within 6e-4 of itself upward, with `excess(x) <= 0`; None if there is none.

    Args:
      excess: Falls with x.
      start: Where to look first.
      ratio: How far from there to look next, as a factor below 1; it is squared with every try.
    """
    from scipy.optimize import brentq

    excess = functools.cache(excess)
    high = start
    while excess(high) > 0:
        if high >= MAX_NOISE_MULTIPLIER:
            return None
        high = min(high / ratio, MAX_NOISE_MULTIPLIER)
        ratio *= ratio
    low = high * ratio
    while excess(low) <= 0:
        ratio *= ratio
        low, high = low * ratio, low
        if high < 1e-2:  # below, epsilon is in the thousands and PLD grids become huge
            return high
    if low > 0.9994 * high:
        return high
    found = 1.0001 * brentq(excess, low, high, rtol=1e-4)
    while excess(found) > 0:
        found *= 1.0001
    return found
