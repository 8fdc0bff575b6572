"""Are the lower bounds on epsilon those that others published, and below the truth as promised?"""

import functools
import math
from collections.abc import Callable, Iterator
from statistics import NormalDist
from typing import NamedTuple, get_args

import numpy as np

from trustml.audit import (
    Bonferroni,
    Counts,
    EpsilonBound,
    Explicit,
    Split,
    bayesian_epsilon,
    epsilon_from_counts,
    epsilon_from_scores,
    gaussian_epsilon,
    one_run_audit,
)
from trustml.audit.bounds.counts import Exact
from trustml.audit.bounds.one_run import Promise
from trustml.audit.bounds.ratios import Ratio
from trustml.verify.audit_errors import best_threshold, jax_privacy_2_0_0, privacy_meter
from trustml.verify.audit_values import DELTA, AuditCheck, published_bounds

_AUDITS = 1000  # simulated, of every mechanism
_CANARIES = 300  # in each, every one a member by a fair coin
_LEAK = 1.0  # epsilon of the randomised response, mu of the Gaussian mechanism


def audit_checks(seed: int = 0, audits: int = _AUDITS) -> Iterator[AuditCheck]:
    """Yields every check; about twenty seconds.

    Args:
      seed: Of the simulated audits. With another seed a sound bound fails a row of simulated
        audits with probability 0.001 at most.
      audits: Simulated for each row.
    """
    yield from published_bounds()
    rng = np.random.default_rng(seed)
    for mechanism in MECHANISMS:
        yield from _calibrated(mechanism, rng, audits)
    yield from _asymptotic()
    yield from _errors(rng, audits)
    yield from _within_reach(rng)


def _nothing(rng, member):
    return rng.normal(size=member.size)


def _randomised_response(rng, member):
    truthful = rng.random(member.size) < 1 / (1 + math.exp(-_LEAK))
    # The bit that is reported, and no ties.
    return np.where(truthful, member, ~member) + rng.uniform(0.0, 0.5, size=member.size)


def _gaussian(rng, member):
    return _LEAK * member + rng.normal(size=member.size)


class _Mechanism(NamedTuple):
    """A mechanism: scores of canaries, and its true privacy."""

    name: str
    scores: Callable
    split: float  # a threshold fixed beforehand
    epsilon: float  # least at delta 0; infinite where there is none
    mu: float  # least for which its trade-off curve is above the Gaussian one


def _mechanisms():
    right = 1 / (1 + math.exp(-_LEAK))
    return (
        _Mechanism("no leak", _nothing, 0.0, 0.0, 0.0),
        _Mechanism(
            f"randomised response, epsilon {_LEAK:g}",
            _randomised_response,
            0.75,
            _LEAK,
            2 * NormalDist().inv_cdf(right),
        ),
        _Mechanism(f"Gaussian, mu {_LEAK:g}", _gaussian, 0.5, math.inf, _LEAK),
    )


MECHANISMS = _mechanisms()
_GRID = [-2.0, -1.0, 0.0, 0.25, 0.5, 0.75, 1.0, 2.0, 3.0]


def _bounds(mechanism, rng) -> Iterator[tuple[str, Callable, float]]:
    """Every bound that the mechanism may be put to: its name, itself, and the truth."""
    exact: dict[str, Explicit | Bonferroni | Split] = {
        "one threshold": Explicit(mechanism.split),
        "best of a grid": Bonferroni(_GRID),
        "best of several ranks": Bonferroni(),
        "split": Split(rng),
    }
    families: list[tuple[Exact, Promise, float, float]] = [
        ("gdp", "gaussian", DELTA, gaussian_epsilon(mechanism.mu, DELTA))
    ]
    if mechanism.epsilon < math.inf:
        families.append(("clopper-pearson", "epsilon-delta", 0.0, mechanism.epsilon))
    for method, promise, delta, truth in families:
        for how, rule in exact.items():
            bound = functools.partial(
                epsilon_from_scores, delta=delta, method=method, threshold=rule
            )
            yield f"{method}, {how}", bound, truth
        for sides in ("both", "members"):
            bound = functools.partial(one_run_audit, delta=delta, promise=promise, sides=sides)
            yield f"one run, {promise}, {sides}", bound, truth


def _calibrated(mechanism, rng, count):
    """Each bound exceeds the truth in 5 % of the audits at most."""
    audits = [_audit(mechanism, rng, _CANARIES) for _ in range(count)]
    for name, bound, truth in _bounds(mechanism, rng):
        yield _exceeding(f"{mechanism.name}: {name}", audits, bound, truth)


def _exceeding(name, audits, bound, truth, *, planted=False):
    share, count = _above(audits, bound, truth), len(audits)
    basis = f"5 % of {count} audits, 99.9 % one-sided"
    return AuditCheck(name, share, 0.0, _most(count), planted, basis)


def _audit(mechanism, rng, canaries):
    member = rng.random(canaries) < 0.5
    scores = mechanism.scores(rng, member)
    return scores[member], scores[~member]


def _above(audits, bound, truth) -> float:
    found = (bound(*audit) for audit in audits)
    values = (each.epsilon if isinstance(each, EpsilonBound) else each for each in found)
    # The last digits of a root found numerically.
    return sum(value > truth + 1e-9 for value in values) / len(audits)


@functools.cache
def _most(audits: int) -> float:
    """The largest share that a rate of 5 % shows with probability 0.999."""
    from scipy.stats import binom

    return float(binom.ppf(0.999, audits, 0.05)) / audits


def _asymptotic():
    """How often the asymptotic bounds exceed the truth: summed over all counts, nothing drawn."""
    rates = [(tpr, fpr) for fpr in _RATES for tpr in _RATES if tpr >= fpr]
    basis = f"5 %, summed over all counts of {_SIZE} and {_SIZE}"
    for method in get_args(Ratio):
        exceeds = _table(method)
        worst = max(_chance(exceeds, tpr, fpr) for tpr, fpr in rates)
        name = f"{method}, the worst of {len(rates)} pairs of rates"
        yield AuditCheck(name, worst, 0.0, 0.05, False, basis)


_RATES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.95)
_SIZE = 40


def _table(method):
    counts = range(_SIZE + 1)
    return np.array(
        [
            [
                epsilon_from_counts(Counts(tp, _SIZE - tp, fp, _SIZE - fp), method=method).epsilon
                for fp in counts
            ]
            for tp in counts
        ]
    )


def _chance(found, tpr, fpr) -> float:
    from scipy.stats import binom

    truth = max(math.log(tpr / fpr), math.log((1 - fpr) / (1 - tpr)))
    tp, fp = (binom.pmf(np.arange(_SIZE + 1), _SIZE, rate) for rate in (tpr, fpr))
    return float(tp @ (found > truth) @ fp)


def _errors(rng, count):
    """Rules that are known to be wrong exceed the truth too often, and are caught."""
    nothing, response, _ = MECHANISMS
    for name, rule, canaries, share in (
        ("one run, best of all pairs, uncorrected (Privacy Meter)", privacy_meter, 100, 1),
        ("gdp, |mu| of the best threshold (jax_privacy 2.0.0)", jax_privacy_2_0_0, 100, 1),
        ("clopper-pearson, best of many thresholds, uncorrected", best_threshold, 20_000, 1),
        ("posterior's lower end, taken for a bound", _posterior_end, 100, 20),
    ):
        audits = [_audit(nothing, rng, canaries) for _ in range(count // share)]
        yield _exceeding(f"no leak: {name}", audits, rule, 0.0, planted=True)
    audits = [_audit(response, rng, _CANARIES) for _ in range(count)]
    rule = functools.partial(epsilon_from_scores, delta=DELTA, method="gdp")
    name = f"{response.name}: gdp, taken for a bound of epsilon"
    yield _exceeding(name, audits, rule, response.epsilon, planted=True)


def _posterior_end(member, nonmember):
    tp, fp = int((member >= 0).sum()), int((nonmember >= 0).sum())
    counts = Counts(tp, member.size - tp, fp, nonmember.size - fp)
    return bayesian_epsilon(counts, delta=0.0, confidence=0.9)


def _within_reach(rng):
    """A bound of 0 is always valid: with 20,000 canaries they come near the truth."""
    for mechanism in MECHANISMS[1:]:
        audit = _audit(mechanism, rng, 20_000)
        for name, bound, truth in _bounds(mechanism, rng):
            if mechanism.epsilon < math.inf and ("gdp" in name or "gaussian" in name):
                continue  # of another curve they cannot come near
            share = bound(*audit).epsilon / truth
            what = f"{mechanism.name}: {name}, over the truth"
            yield AuditCheck(what, share, 0.33, 1.05, False, "20,000 canaries")
