"""Membership attacks by class or protected group, and the group that they find most of."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from trustml.audit.membership import MembershipResult, attack_result
from trustml.stats.intervals import check_confidence


class SlicedResult(NamedTuple):
    """The attack on each slice. Private: it was measured on the members."""

    slices: dict[str, MembershipResult]  # each with its own confidence
    worst: str  # the slice with the largest area
    worst_result: MembershipResult  # its intervals allow for the choice among all slices
    left_out: dict[str, str]  # slices too small for an attack, and why


def by_slice(
    scores: ArrayLike,
    membership: ArrayLike,
    slices: ArrayLike,
    *,
    names: Sequence[str] | None = None,
    rates: Sequence[float] = (0.01, 0.001),
    confidence: float = 0.95,
) -> SlicedResult:
    """The attack on each class, or each protected group, by itself.

    >>> members = np.tile([True, True, False, False], 2)
    >>> found = by_slice([3, 2, 1, 0, 1, 0, 1, 0], members, np.repeat([0, 1], 4), names=["a", "b"])
    >>> found.worst, found.slices["b"].auc.value, round(found.worst_result.confidence, 3)
    ('a', 0.5, 0.975)

    Args:
      scores: Of every unit, [unit]; higher is more like a member.
      membership: Who was trained on, truth values [unit].
      slices: The slice of each unit, integers [unit]; -1 is left out.
      names: Of slice 0, 1, ...; by default the numbers.
      rates: As for `attack_result`.
      confidence: Of each interval of a slice by itself. Those of `worst_result` hold for all slices
        at once with this confidence (Bonferroni), so also for the one that the data chose: some
        slice has an area of at least its lower bound.

    Returns:
      A `SlicedResult`. Slices with fewer than two members or two others are in `left_out`.

    Raises:
      ValueError: Arrays of different lengths or kinds, a slice without a name, or no slice that
        is large enough.
    """
    check_confidence(confidence)
    scores, membership, slices = np.asarray(scores), np.asarray(membership), np.asarray(slices)
    _check(scores, membership, slices)
    number = int(slices.max()) + 1 if slices.size else 0
    names = [str(place) for place in range(number)] if names is None else list(names)
    if len(names) < number or len(set(names)) < len(names):
        raise ValueError(f"`names` must name each of {number} slices apart, got {names}.")
    parts, left_out = {}, {}
    for place, name in enumerate(names):
        here = slices == place
        sides = (scores[here & membership], scores[here & ~membership])
        if min(map(len, sides)) < 2:
            left_out[name] = f"too few: {len(sides[0])} members and {len(sides[1])} others"
        else:
            parts[name] = sides
    if not parts:
        raise ValueError(
            "`slices` must hold one with two members and two others, got none that does."
        )
    found = {name: _result(sides, rates, confidence) for name, sides in parts.items()}
    worst = max(found, key=lambda name: found[name].auc.value)
    together = _result(parts[worst], rates, 1 - (1 - confidence) / len(parts))
    return SlicedResult(found, worst, together, left_out)


def _result(sides, rates, confidence) -> MembershipResult:
    return attack_result(*sides, rates=rates, confidence=confidence)


def _check(scores, membership, slices):
    if membership.dtype != bool or not np.issubdtype(slices.dtype, np.integer):
        raise ValueError(
            "`membership` must hold truth values and `slices` integers, got "
            f"{membership.dtype} and {slices.dtype}."
        )
    if not (scores.ndim == 1 and scores.shape == membership.shape == slices.shape):
        raise ValueError(
            "`scores`, `membership` and `slices` must be vectors of one length, got "
            f"{scores.shape}, {membership.shape} and {slices.shape}."
        )
    if slices.size and not (slices.min() >= -1):
        raise ValueError(f"`slices` must be -1 (left out) or more, got {slices.min()}.")
