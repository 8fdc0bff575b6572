"""The least noise with which a condition holds."""

import functools
from collections.abc import Callable

MAX_NOISE_MULTIPLIER = 1e5


def least_noise(
    excess: Callable[[float], float], *, start: float, ratio: float, tries: int = 100
) -> float | None:
    """The least x, within 6e-4 of itself upward, with `excess(x) <= 0`; None if there is none.

    Args:
      excess: Falls with x.
      start: Where to look first.
      ratio: How far from there to look next, as a factor below 1; it is squared with every try.
      tries: Within a bracket. Where `excess` is flat at 0 they end before the least is found, and
        the least that was tried comes back.
    """
    fits: list[float] = []

    @functools.cache
    def tried(x):
        found = excess(x)
        if found <= 0:
            fits.append(x)
        return found

    high = start
    while tried(high) > 0:
        if high >= MAX_NOISE_MULTIPLIER:
            return None
        high = min(high / ratio, MAX_NOISE_MULTIPLIER)
        ratio *= ratio
    low = high * ratio
    while tried(low) <= 0:
        ratio *= ratio
        low, high = low * ratio, low
        if high < 1e-2:  # below, epsilon is in the thousands and PLD grids become huge
            return high
    if low > 0.9994 * high:
        return high
    found = _root(tried, low, high, tries)
    return min(fits) if found is None else found


def _root(excess, low, high, tries):
    """Just above where `excess` is 0; None if that takes more than `tries`."""
    from scipy.optimize import brentq

    root, state = brentq(excess, low, high, rtol=1e-4, maxiter=tries, full_output=True, disp=False)
    for _ in range(tries if state.converged else 0):
        root *= 1.0001
        if excess(root) <= 0:
            return root
    return None
