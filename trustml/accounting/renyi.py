"""Rényi divergences of one step, at any sampling: the bound that is always cheap.

dp_accounting's values, where it has one and floats resolve it; the rest follows from them.
"""

import functools
import math
from typing import Any, NamedTuple

import numpy as np
from scipy.special import gammaln, logsumexp

from trustml.accounting.quiet import quietly
from trustml.accounting.steps import SampledGaussian, dp_event, relation, truncation

_RESOLVED = 1e-9  # dp_accounting adds logarithms near zero, which leaves about 1e-15 of error


class RenyiCurve(NamedTuple):
    """Epsilon and delta of a run as functions of each other, by Rényi divergences."""

    orders: np.ndarray
    divergences: np.ndarray

    def get_epsilon(self, delta: float) -> float:
        """Epsilon that holds at `delta`."""
        from dp_accounting.rdp import rdp_privacy_accountant as rdp

        return float(quietly(rdp.compute_epsilon, self.orders, self.divergences, delta)[0])

    def get_delta(self, epsilon: float) -> float:
        """Delta that holds at `epsilon`."""
        from dp_accounting.rdp import rdp_privacy_accountant as rdp

        # It takes the logarithm of 1 - e^-divergence, which floats may make 0.
        divergences = np.maximum(self.divergences, np.finfo(float).eps)
        return float(quietly(rdp.compute_delta, self.orders, divergences, epsilon)[0])


def renyi_curve(run: tuple[tuple[SampledGaussian, int], ...], adjacency: str) -> RenyiCurve:
    """The composition of a run.

    Args:
      run: Steps with their counts.
      adjacency: "add-or-remove-one" or "replace-one".

    Guarantee:
      An upper bound for every sampling under every adjacency: where dp_accounting has no Rényi
      divergence, by the triangle inequality through the data without the unit.
    """
    orders = new_accountant(adjacency).orders
    total = np.zeros_like(orders)
    for step, count in run:
        total += count * divergences(step, adjacency)
    return RenyiCurve(orders, total)


def new_accountant(adjacency: str) -> Any:
    """dp_accounting's accountant by Rényi divergences, at its own orders."""
    from dp_accounting import rdp

    return rdp.RdpAccountant(neighboring_relation=relation(adjacency))


@functools.lru_cache(maxsize=64)
def divergences(step: SampledGaussian, adjacency: str) -> np.ndarray:
    """Upper bounds of the Rényi divergences of one step at the orders of `new_accountant`."""
    orders = new_accountant(adjacency).orders
    if step.sampling == "fixed":
        accountant = new_accountant(adjacency)
        quietly(accountant.compose, dp_event(step, adjacency))
        return accountant.rdp
    noise, rate = step.noise_multiplier, step.sample_rate
    if step.sampling == "truncated_poisson":
        return _truncated(step, adjacency, orders)
    return _sampled(noise, rate, adjacency, orders)


def _sampled(noise, rate, adjacency, orders):
    if adjacency == "add-or-remove-one":
        return _poisson(noise, rate, orders)
    if rate == 1:
        return orders / (2 * (noise / 2) ** 2)
    # From one data set to that without the unit, from there to the other (Mironov 2017,
    # proposition 11, with p = q = 2). Poisson's values bound both directions of a removal.
    there, back = _poisson(noise, rate, 2 * orders), _poisson(noise, rate, 2 * orders - 1)
    return (orders - 0.5) / (orders - 1) * there + back


def _truncated(step, adjacency, orders):
    """The mixture that dp_accounting's distribution of truncated Poisson sampling is."""
    cut, given = truncation(step, adjacency)
    plain = _sampled(step.noise_multiplier, step.sample_rate, adjacency, orders)
    if cut == 0:
        return plain
    moved = _sampled(step.noise_multiplier / 2, given, "replace-one", orders)
    if cut == 1:
        return moved
    parts = [math.log(cut) + (orders - 1) * moved, math.log1p(-cut) + (orders - 1) * plain]
    return np.logaddexp(*parts) / (orders - 1)


def _poisson(noise, rate, orders):
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, rdp

    if rate == 1:
        return orders / (2 * noise**2)
    accountant = rdp.RdpAccountant(orders)
    quietly(accountant.compose, PoissonSampledDpEvent(rate, GaussianDpEvent(noise)))
    found = accountant.rdp
    small = ~((orders - 1) * found >= _RESOLVED)
    found[small] = _small(noise, rate, orders[small])
    return found


def _small(noise, rate, orders):
    """The same where it is next to nothing: a sum of positive terms, no difference of near ones.

    (order - 1) times the divergence is convex in the order and 0 at 1: between whole orders the
    chord is above it.
    """
    low = np.floor(orders)
    log_moment = np.vectorize(functools.partial(_log_moment, noise, rate), otypes=[float])
    part = orders - low
    moments = (1 - part) * log_moment(low) + part * log_moment(low + 1)
    return moments / (orders - 1)


def _log_moment(noise, rate, order):
    k = np.arange(2, int(order) + 1)
    if not len(k):
        return 0.0
    exponent = k * (k - 1) / (2 * noise**2)
    ways = gammaln(order + 1) - gammaln(k + 1) - gammaln(order - k + 1)
    terms = ways + k * math.log(rate) + (order - k) * math.log1p(-rate)
    # The logarithm of e^exponent - 1, without overflow or cancellation.
    with np.errstate(over="ignore"):
        return np.logaddexp(0.0, logsumexp(terms + exponent + np.log(-np.expm1(-exponent))))
