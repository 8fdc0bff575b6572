"""The law of a random number of trials, and what the best of them costs by one trial's curve."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Trials(NamedTuple):
    """The law of the number of trials.

    Args:
      mean: Trials on average, at least 1. Compute grows with it, and privacy slowly.
      shape: Of a negative binomial law without zero: 1 is the geometric one, 0 the logarithmic one,
        which costs least and varies most. Infinity is a Poisson law, which varies least, costs most
        and may come to no trial at all.
    """

    mean: float = 10.0
    shape: float = 1.0


TEN = Trials()  # trials on average, geometric


def draw_trials(trials: Trials, rng: np.random.Generator) -> int:
    """How many trials to carry out: secret."""
    check_trials(trials)
    if trials.mean == 1 and trials.shape < math.inf:
        return 1
    if trials.shape == math.inf:
        return int(rng.poisson(trials.mean))
    stop = stopping(trials)
    if trials.shape == 0:
        return int(rng.logseries(1 - stop))
    if -math.expm1(trials.shape * math.log(stop)) < 1e-3:
        return _one_by_one(trials.shape, stop, rng.random())
    while True:
        found = int(rng.negative_binomial(trials.shape, stop))
        if found:
            return found


def stopping(trials: Trials) -> float:
    """The parameter gamma of a negative binomial law, never above the one of its mean."""
    if trials.mean == 1:
        return 1.0
    low, high = 1e-300, 1.0
    while high > low * (1 + 1e-12):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if _mean(middle, trials.shape) > trials.mean else (low, middle)
    return low


def selected_epsilon(
    epsilon_of: Callable[[float], float],
    delta_of: Callable[[float], float],
    *,
    delta: float,
    trials: Trials,
) -> float:
    """Epsilon of the best of random trials by the curve of one trial; see `search_cost`.

    Args:
      epsilon_of: Epsilon of one trial at a delta, in both directions of neighbours.
      delta_of: The same curve by epsilon.
      delta: Of the search.
      trials: The law of the number of trials.

    Guarantee:
      An upper bound where the curve is one.
    """
    one = epsilon_of(min(delta / trials.mean, 1.0 - 1e-16))
    if not math.isfinite(one):
        return math.inf
    if trials.shape == math.inf:
        return one + trials.mean * min(1.0, delta_of(0.0))
    stop = stopping(trials)
    # Of events of probability p under one data set, the largest probability under the other.
    points = np.linspace(0.0, min(1.5 * one + 1e-3, 600.0), 96)
    deltas = np.array([min(1.0, delta_of(float(point))) for point in points])
    p = np.concatenate([[0.0], np.geomspace(1e-9 * stop, 1.0, 8_000)])
    growth = np.exp(points)[:, None]
    most = np.minimum(
        growth * p[None] + deltas[:, None], 1 - (1 - p[None] - deltas[:, None]) / growth
    )
    most = np.minimum(most.min(axis=0), 1.0)
    # Both grow with p: between two points, the numerator's right end bounds the quotient.
    ratio = (stop + (1 - stop) * most[1:]) / (stop + (1 - stop) * p[:-1])
    return one + (1 + trials.shape) * math.log(max(1.0, float(ratio.max())))


def check_trials(trials: Trials) -> None:
    """Refuses numbers that make no law of trials."""
    if not (1 <= trials.mean <= 1e6):
        raise ValueError(f"`trials` must have a mean from 1 to 1e6, got {trials.mean!r}.")
    if not (trials.shape >= 0):
        raise ValueError(f"`trials` must have a shape of at least 0, got {trials.shape!r}.")


def _one_by_one(shape: float, stop: float, level: float) -> int:
    """The number at which the distribution function passes `level`, where 1 is likely."""
    number, p = 1, shape * (1 - stop) / math.expm1(-shape * math.log(stop))
    while level >= p > 0:
        level -= p
        p *= (1 - stop) * (number + shape) / (number + 1)
        number += 1
    return number


def _mean(stop: float, shape: float) -> float:
    """Of a negative binomial law without zero."""
    if shape == 0:
        return (1 - stop) / stop / -math.log(stop)
    return shape * (1 - stop) / (stop * -math.expm1(shape * math.log(stop)))
