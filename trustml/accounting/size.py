"""How much work a distribution of privacy losses is, known before it is made."""

import math
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp
from scipy.stats import norm

from trustml.accounting.steps import SampledGaussian, truncation

_TAILS = 10.0  # standard deviations of noise that dp_accounting keeps: all but e^-50
_LOG_REST = math.log(2e15)  # it leaves out 1e-15 of a composition, half on either side
_ORDERS = np.concatenate([np.arange(-20, 0), np.arange(1, 21)])  # its Chernoff bound's
_CELLS = 600  # points of the integrals below


class Width(NamedTuple):
    """Privacy losses that are kept, from the least to the largest; points are these over a grid."""

    step: float  # of one step, both directions of neighbours together: the slow ones to make
    run: float  # twice the wider composition of the two: memory goes by that


def width(run: tuple[tuple[SampledGaussian, int], ...], adjacency: str, grid: float) -> Width:
    """How wide the distributions of a run are.

    Args:
      run: Steps with their counts.
      adjacency: "add-or-remove-one" or "replace-one".
      grid: Spacing of privacy losses. Losses far below it spread when they are put on it.
    """
    parts = [_width(step, count, adjacency, grid) for step, count in run]
    return Width(sum(part.step for part in parts), sum(part.run for part in parts))


def _width(step, count, adjacency, grid):
    noise, rate = step.noise_multiplier, step.sample_rate
    if step.sampling == "poisson" and rate == 1:  # many are one, of less noise
        (losses, _), *_ = _laws(noise / math.sqrt(count), 1.0, adjacency)
        return Width(np.ptp(losses), np.ptp(losses))
    laws = _laws(noise, rate, adjacency)
    made = sum(np.ptp(losses) for losses, _ in laws)
    if step.sampling == "truncated_poisson":
        cut, given = truncation(step, adjacency)
        ((moved, weight),) = _laws(noise / 2, given, "replace-one")
        made += np.ptp(moved)
        laws = [
            (np.append(losses, moved), np.append((1 - cut) * chance, cut * weight))
            for losses, chance in laws
        ]
    placed = [_on_grid(losses, chance, grid) for losses, chance in laws]
    return Width(made, 2 * max(_composed(losses, chance, count) for losses, chance in placed))


def _laws(noise, rate, adjacency):
    """Privacy losses of one step at points of the noise, and their probabilities, by direction."""
    points = np.linspace(-_TAILS * noise, _TAILS * noise + 1, _CELLS)

    def log_mixture(shift):
        with np.errstate(divide="ignore"):  # of a rate of 1
            without = np.log1p(-rate) + norm.logpdf(points, 0, noise)
        return np.logaddexp(without, math.log(rate) + norm.logpdf(points, shift, noise))

    upper = log_mixture(1)
    if adjacency == "replace-one":
        return [(upper - log_mixture(-1), np.exp(upper - logsumexp(upper)))]
    lower = norm.logpdf(points, 0, noise)
    losses = upper - lower
    laws = [(losses, upper), (-losses, lower)]
    return [(each, np.exp(density - logsumexp(density))) for each, density in laws]


def _on_grid(losses, chance, grid):
    """Each loss moved to the two points around it, as often to each as keeps the mean."""
    below = np.floor(losses / grid)
    part = losses / grid - below
    both = np.append(below, below + 1) * grid
    return both, np.append((1 - part) * chance, part * chance)


def _composed(losses, chance, count):
    """Width of the sum of `count` losses that dp_accounting keeps: its own bound, in losses."""
    least, span = losses.min(), np.ptp(losses)
    orders = _ORDERS / span
    with np.errstate(divide="ignore"):  # some points have no probability that a float holds
        log_moments = logsumexp(np.outer(orders, losses - least) + np.log(chance), axis=1)
    bounds = (count * log_moments + _LOG_REST) / orders
    top = min(count * span, bounds[orders > 0].min())
    return top - max(0.0, bounds[orders < 0].max())
