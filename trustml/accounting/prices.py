"""Epsilon and delta of one composed run by given methods: pure, so each is computed once a process.

A calibration asks for some thirty prices of up to a second each, and a study, a report or a test
calibrates the same plan again and again. The cache keeps one number for each price.
"""

import functools
import math

from trustml.accounting.curves import Method, Steps, curve

_KEPT = 1024


@functools.lru_cache(maxsize=_KEPT)
def lowest_epsilon(
    steps: Steps, adjacency: str, tried: tuple[Method, ...], delta: float, distance: float
) -> tuple[float, Method]:
    """The lowest epsilon that holds at `delta`, and the method that gave it.

    Args:
      steps: At least one kind of step, with its count.
      adjacency: "add-or-remove-one" or "replace-one".
      tried: Of `methods`, in their order: the first that is as asked for ends the search.
      delta: At which epsilon is asked for.
      distance: Total variation distance that `delta` pays for too.
    """
    found = []
    for method in tried:
        priced = curve(steps, adjacency, method)
        value = _with_overhead(priced.get_epsilon, delta, distance)
        found.append((max(value, 0.0), method))
        if math.isfinite(value) and method.as_asked:
            break
    return min(found, key=lambda each: each[0])


@functools.lru_cache(maxsize=_KEPT)
def lowest_delta(steps: Steps, adjacency: str, tried: tuple[Method, ...], epsilon: float) -> float:
    """The lowest delta that holds at `epsilon`; the arguments are those of `lowest_epsilon`."""
    found = []
    for method in tried:
        found.append(curve(steps, adjacency, method).get_delta(epsilon))
        if method.as_asked:
            break
    return min(found, default=0.0)


def overhead(epsilon: float, distance: float) -> float:
    """Cost of a total variation distance in delta at `epsilon`."""
    return 0.0 if distance == 0 else (1 + math.exp(min(epsilon, 700.0))) * distance


def _with_overhead(epsilon_at, delta, distance):
    """Epsilon where delta also pays for `distance`."""
    value = epsilon_at(delta)
    if distance == 0 or not math.isfinite(value):
        return value
    # From below: more epsilon costs more overhead, which asks for more epsilon.
    for tries in range(40):
        left = delta - overhead(value, distance)
        if left <= 0:
            return math.inf
        needed = epsilon_at(left)
        if needed <= value:
            return value
        # Where epsilon hangs on the last digits of delta it creeps: then in ever longer steps.
        value = needed + 1e-7 * 2 ** max(0, tries - 3) * max(needed, 1e-3)
    return math.inf
