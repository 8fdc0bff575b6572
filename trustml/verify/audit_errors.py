"""Rules for lower bounds that were published or released and are wrong: planted, to be caught."""

import math

import numpy as np

from trustml.audit import gaussian_epsilon, one_run_epsilon
from trustml.audit.bounds.counts import strongest
from trustml.stats.intervals import rate_at_most

_LEVEL = 0.05


def privacy_meter(member: np.ndarray, nonmember: np.ndarray) -> float:
    """The largest one-run bound over all pairs of cuts, each tested as if it were the only one.

    So does `compute_abstain_attack_results` of Privacy Meter 2 (e384af8).
    """
    scores = np.concatenate([member, nonmember])
    truth = (np.arange(scores.size) < member.size)[np.argsort(scores)]
    size, step = scores.size, int(math.sqrt(scores.size))
    pairs = [(low, high) for high in range(0, size, step) for low in range(0, high, step)]
    return max(
        one_run_epsilon(
            low + size - high,
            int((~truth[:low]).sum() + truth[high:].sum()),
            canaries=size,
            delta=0.0,
        )
        for low, high in pairs
    )


def jax_privacy_2_0_0(member: np.ndarray, nonmember: np.ndarray, delta: float = 1e-5) -> float:
    """The Gaussian bound from the largest |mu| over all thresholds, corrected for their number.

    Both rates are bounded from above. Where these bounds say nothing mu is negative, and its
    absolute value was taken for evidence of the opposite direction (`epsilon_from_gdp`; reported
    in pull request 270). There only thresholds on the convex hull were tried.
    """
    from scipy.special import ndtri

    fn, fp = _errors_at_all(member, nonmember)
    level = _LEVEL / (2 * fn.size)
    fnr, fpr = rate_at_most(fn, member.size, level), rate_at_most(fp, nonmember.size, level)
    usable = np.maximum(fnr, fpr) < 1 - delta
    mu = np.abs(-ndtri(fpr[usable]) - ndtri(fnr[usable]))
    return gaussian_epsilon(float(mu.max(initial=0.0)), delta)


def best_threshold(member: np.ndarray, nonmember: np.ndarray) -> float:
    """The best of several hundred thresholds by Clopper-Pearson, each tested as if alone.

    They lie evenly in the logarithm of the rank from either end: neighbours that agree add little.
    """
    fn, fp = _errors_at_all(member, nonmember)
    ranks = np.unique(np.geomspace(1, fn.size // 2, 300).astype(int))
    chosen = np.concatenate([ranks, fn.size - ranks])
    sizes, tp = (member.size, nonmember.size), member.size - fn[chosen]
    return strongest(tp, fp[chosen], sizes, method="clopper-pearson", delta=0.0, level=_LEVEL)[0]


def _errors_at_all(member, nonmember):
    """Members missed and non-members accused, at every threshold that tells scores apart."""
    thresholds = np.append(np.unique(np.concatenate([member, nonmember])), np.inf)
    missed = np.searchsorted(np.sort(member), thresholds, side="left")
    spared = np.searchsorted(np.sort(nonmember), thresholds, side="left")
    return missed, nonmember.size - spared
