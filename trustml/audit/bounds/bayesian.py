"""A credible interval of epsilon by an attack's counts and a prior: no guarantee."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from trustml.audit.bounds.result import Counts, EpsilonBound, check_counts, check_delta
from trustml.stats.intervals import check_confidence

_POINTS = 2001  # of the quadrature; 32 times as many move the ends by 2e-6 at most
# Even in the normal quantile; leaves out 5e-17 of the posterior at either end.
_NODES = np.linspace(-8.3, 8.3, _POINTS)
_WEIGHTS = np.exp(-(_NODES**2) / 2) / np.exp(-(_NODES**2) / 2).sum()
_LARGEST = 100.0  # a posterior has less than 1e-16 beyond


def bayesian_epsilon(counts: Counts, *, delta: float, confidence: float = 0.95) -> EpsilonBound:
    """The interval of epsilon that holds `confidence` of its posterior, with equal tails.

    The epsilon of the posterior is the least at which a pair of rates (FNR, FPR) is allowed. Both
    rates have Jeffreys' prior Beta(1/2, 1/2), independently.

    >>> found = bayesian_epsilon(Counts(tp=487, fn=0, fp=512, tn=1), delta=1e-5, confidence=0.9)
    >>> round(found.epsilon, 2), round(found.upper, 2)
    (0.14, 6.42)

    Args:
      counts: Of one attack with one rule that was fixed before these counts were seen.
      delta: The delta of the promise under audit.
      confidence: Posterior probability of the interval [`epsilon`, `upper`].

    Guarantee:
      None over repeated samples. The two rates of a perfectly private mechanism are equal, which
      has posterior probability 0 at delta 0: the lower end is above 0 for every mechanism, and
      refutes nothing by itself. `epsilon_from_counts` refutes. Nor does `upper` bound the epsilon
      of the training: only that of this attack.

    Raises:
      ValueError: A count is out of range, a class is empty, or a number is out of range.
      TypeError: A count is no integer.

    References:
      Zanella-Beguelin et al., Bayesian estimation of differential privacy, 2023.
    """
    check_counts(counts)
    check_delta(delta)
    check_confidence(confidence)
    tail = (1 - confidence) / 2
    low, high = (_quantile(part, counts, delta) for part in (tail, 1 - tail))
    ceiling = _quantile(tail, Counts(counts.members, 0, 0, counts.nonmembers), delta)
    method = "posterior of both rates, Jeffreys priors, equal tails"
    canaries = counts.members + counts.nonmembers
    return EpsilonBound(low, confidence, method, canaries, ceiling, counts=counts, upper=high)


def _quantile(part: float, counts: Counts, delta: float) -> float:
    """The epsilon below which `part` of the posterior lies."""
    from scipy.optimize import brentq

    tp, fn, fp, tn = counts
    # An attack that errs too often is one turned round that errs too seldom.
    pairs = [(_rate(fn, tp), _rate(fp, tn)), (_rate(tp, fn), _rate(tn, fp))]

    def missing(epsilon):
        return 1 - part - sum(_refuting(*pair, epsilon, delta) for pair in pairs)

    if missing(0.0) >= 0:
        return 0.0
    if missing(_LARGEST) <= 0:  # a confidence that float64 cannot tell from 1
        return math.inf
    return float(brentq(missing, 0.0, _LARGEST))


class _Rate(NamedTuple):
    """The posterior of a rate: its two parameters, and nodes of what it leaves to 1."""

    shape: tuple[float, float]
    rest: Float[np.ndarray, " node"]


def _rate(events: int, others: int) -> _Rate:
    from scipy.special import betainccinv, betaincinv, ndtr

    shape = (events + 0.5, others + 0.5)
    # Each half of the quantiles from its own tail, where they are exact.
    half = ndtr(_NODES[: _POINTS // 2 + 1])
    rest = [betaincinv(*shape[::-1], half), betainccinv(*shape[::-1], half[-2::-1])]
    return _Rate(shape, np.concatenate(rest))


def _refuting(first: _Rate, second: _Rate, epsilon: float, delta: float) -> float:
    """Posterior probability that two error rates are smaller than (epsilon, delta) allows.

    They are where the smaller one is below (1 - delta - larger) exp(-epsilon); the two curves that
    this says meet at the corner, below which everything is refuted.
    """
    from scipy.special import betainc

    corner = (1 - delta) / (1 + math.exp(epsilon))

    def part(larger, smaller):
        reach = np.clip((larger.rest - delta) * math.exp(-epsilon), 0.0, corner)
        return float(_WEIGHTS @ betainc(*smaller.shape, reach))

    twice = float(betainc(*first.shape, corner) * betainc(*second.shape, corner))
    return part(first, second) + part(second, first) - twice
