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
_CELLS = 2_000  # points of the integrals below


class Width(NamedTuple):
    """Privacy losses that are kept, from the least to the largest; points are these over a grid."""

    step: float  # of one step, both directions of neighbours together: the slow ones to make
    run: float  # of the composition


def width(run: tuple[tuple[SampledGaussian, int], ...], adjacency: str) -> Width:
    """How wide the distributions of a run are.

    Args:
      run: Steps with their counts.
      adjacency: "add-or-remove-one" or "replace-one".
    """
    parts = [_width(step, count, adjacency) for step, count in run]
    return Width(sum(part.step for part in parts), sum(part.run for part in parts))


def _width(step, count, adjacency):
    noise, rate = step.noise_multiplier, step.sample_rate
    if step.sampling == "poisson" and rate == 1:  # many are one, of less noise
        shift = 2 if adjacency == "replace-one" else 1
        both = 2 * _TAILS * math.sqrt(count) * shift / noise
        return Width(both, both)
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
    return Width(made, sum(_composed(losses, chance, count) for losses, chance in laws))


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


def _composed(losses, chance, count):
    """What dp_accounting keeps of the sum of `count` losses: its own bound, in losses."""
    least, span = losses.min(), np.ptp(losses)
    orders = _ORDERS / span
    log_moments = logsumexp(np.outer(orders, losses - least), b=chance, axis=1)
    bounds = (count * log_moments + _LOG_REST) / orders
    top = min(count * span, bounds[orders > 0].min())
    return top - max(0.0, bounds[orders < 0].max())
