"""One verdict over several models under attack that share their units."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from trustml.audit.membership import MembershipResult, TprAtFpr, check_rates, too_few
from trustml.audit.roc import point_within, roc_curve
from trustml.stats import Estimate, check_confidence, interval_name, pigeonhole_counts


class _Pairs(NamedTuple):
    """Every pair of a target and a unit, from the highest score to the lowest."""

    target: Int[np.ndarray, " pair"]
    unit: Int[np.ndarray, " pair"]
    member: Float[np.ndarray, " pair"]  # 1 or 0
    last: Int[np.ndarray, " point"]  # of each run of tied scores


def pooled_result(
    scores: ArrayLike,
    membership: ArrayLike,
    *,
    rng: np.random.Generator,
    rates: Sequence[float] = (0.01, 0.001),
    confidence: float = 0.95,
    resamples: int = 500,
) -> MembershipResult:
    """Judges an attack on several targets by one curve over all pairs of target and unit.

    Pairs are many, so low false positive rates have a threshold; they are not independent, so
    the intervals of `attack_result` would be too narrow. Here units and targets are drawn anew,
    with replacement and apart from each other, and the curve is weighted by how often each came
    (percentiles; for the advantage, whose largest value lies too high in every draw, the
    reflected ones). Intervals hold for many targets and units; that each target is a shadow of
    the others is not allowed for. With few targets, or a rate r so low that r times the units is
    about one, read them as a lower bound of the doubt: the units that decide may not be among
    those at hand.

    >>> membership = np.array([[True, False], [False, True], [True, False]])
    >>> found = pooled_result(
    ...     np.where(membership, 1.0, 0.0), membership, rng=np.random.default_rng(0), rates=(0.5,)
    ... )
    >>> found.auc.value, found.members
    (1.0, 3)

    Args:
      scores: Of every unit under every target, [target, unit]; higher is more like a member.
      membership: Who trained which target, truth values [target, unit].
      rng: Of the draws.
      rates: False positive rates, over all pairs; a rate r needs 1 / r pairs that are no members.
      confidence: Of each interval by itself.
      resamples: Draws.

    Returns:
      A `MembershipResult`, whose counts are of pairs. The interval of a true positive rate is over
      draws that each keep the false positive rate; that of the false positive rate is for the
      threshold of the curve. Private.

    Raises:
      ValueError: Shapes that do not go together, NaN, fewer than two targets, pairs all of one
        kind, or a number out of range.

    References:
      Owen, The pigeonhole bootstrap, 2007.
    """
    check_rates(rates)
    check_confidence(confidence)
    values, members = _checked(scores, membership, resamples)
    roc = roc_curve(values[members], values[~members])
    pairs = _ordered(values, members)
    places = [point_within(roc.fpr, rate) for rate in rates]
    draws = np.array([_draw(pairs, values.shape, rates, places, rng) for _ in range(resamples)])
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    bounds = np.nanquantile(draws, tails, axis=0).T
    name = interval_name("bootstrap of targets and units", confidence)
    advantage = _reflected(float((roc.tpr - roc.fpr).max()), bounds[1], name)
    others = int((~members).sum())
    at_rates = []
    for number, (rate, place) in enumerate(zip(rates, places, strict=True)):
        of_rate = zip((roc.tpr, roc.fpr), bounds[2 + 2 * number :], strict=False)
        tpr, fpr = (_holding(float(curve[place]), bound, name) for curve, bound in of_rate)
        note = too_few(rate, others)
        at_rates.append(TprAtFpr(rate, None if note else tpr, None if note else fpr, note))
    return MembershipResult(
        auc=_holding(float(np.trapezoid(roc.tpr, roc.fpr)), bounds[0], name),
        tpr_at_fpr=tuple(at_rates),
        advantage=advantage,
        balanced_accuracy=advantage.map(lambda value: (1 + value) / 2),
        roc=roc,
        members=int(members.sum()),
        nonmembers=others,
        confidence=confidence,
    )


def _checked(scores, membership, resamples):
    scores, membership = np.asarray(scores, np.float64), np.asarray(membership)
    if scores.ndim != 2 or len(scores) < 2:
        raise ValueError(
            f"`scores` must be [target, unit] of two targets or more, got shape {scores.shape}."
        )
    if membership.dtype != bool or membership.shape != scores.shape:
        raise ValueError(
            f"`membership` must hold a truth value for each score, {scores.shape}, got "
            f"{membership.dtype} of shape {membership.shape}."
        )
    if membership.all() or not membership.any():
        raise ValueError("`membership` must hold members and others, got one kind alone.")
    if isinstance(resamples, bool) or not isinstance(resamples, int) or resamples < 2:
        raise ValueError(f"`resamples` must be an integer of at least 2, got {resamples!r}.")
    return scores, membership


def _ordered(scores, membership) -> _Pairs:
    flat = scores.ravel()
    order = np.argsort(-flat, kind="stable")
    falling = flat[order]
    last = np.append(np.flatnonzero(falling[1:] != falling[:-1]), len(falling) - 1)
    target, unit = np.divmod(order, scores.shape[1])
    return _Pairs(target, unit, membership.ravel()[order].astype(np.float64), last)


def _draw(pairs: _Pairs, shape, rates, places, rng) -> list[float]:
    """Area, advantage and the two rates at each of `rates`, of one draw."""
    counts = pigeonhole_counts(shape, rng)
    weight = counts[pairs.target, pairs.unit].astype(np.float64)
    found = [_running(weight * side, pairs.last) for side in (1 - pairs.member, pairs.member)]
    # A draw may hold one kind alone where there are few targets: it tells nothing.
    with np.errstate(invalid="ignore"):
        fpr, tpr = (side / side[-1] for side in found)
    if not (np.isfinite(fpr).all() and np.isfinite(tpr).all()):
        return [np.nan] * (2 + 2 * len(rates))
    values = [float(np.trapezoid(tpr, fpr)), float((tpr - fpr).max())]
    for rate, place in zip(rates, places, strict=True):
        values += [float(tpr[point_within(fpr, rate)]), float(fpr[place])]
    return values


def _running(weight, last):
    """Sums up to each point of the curve, the first of which names nobody."""
    return np.append(0.0, np.cumsum(weight)[last])


def _holding(value: float, bounds: Sequence[float], name: str) -> Estimate:
    """The value and its bounds, which never leave it out."""
    low, high = bounds
    return Estimate(value, float(min(value, low)), float(max(value, high)), name)


def _reflected(value: float, bounds: Sequence[float], name: str) -> Estimate:
    """The bounds mirrored at the value: draws lie above it as it lies above the truth."""
    low, high = bounds
    found = _holding(value, (2 * value - high, 2 * value - low), name)
    return Estimate(value, max(0.0, found.low), min(1.0, found.high), name)
