"""Means per group and gaps between groups, each with an interval; float64."""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike
from scipy.special import ndtri

from trustml.stats import check_confidence, resample, wilson_interval


class GroupMean(NamedTuple):
    """The mean over the units of one group."""

    name: str
    units: int
    value: float
    low: float
    high: float


class Gap(NamedTuple):
    """How much larger the mean of `first` is than that of `second`; zero within means no proof."""

    first: str
    second: str
    value: float
    low: float
    high: float


class GroupComparison(NamedTuple):
    """Every group, and every pair once. Private: computed from units, without noise."""

    groups: tuple[GroupMean, ...]
    gaps: tuple[Gap, ...]
    confidence: float  # of all gaps together, and of each group's interval by itself
    left_out: int  # units of group -1

    @property
    def largest(self) -> Gap:
        """The gap of largest size; its interval allows for the choice among all pairs."""
        return max(self.gaps, key=lambda gap: abs(gap.value))


def compare_means(
    values: ArrayLike,
    group: ArrayLike,
    *,
    names: Sequence[str],
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> GroupComparison:
    """Means of `values` per group, and their gaps, with bootstrap intervals.

    >>> comparison = compare_means([1.0, 3.0, 5.0, 5.0], [0, 0, 1, 1], names=("a", "b"))
    >>> [mean.value for mean in comparison.groups], comparison.largest.value
    ([2.0, 5.0], -3.0)

    Args:
      values: One finite number per unit.
      group: Index into `names`; -1 leaves the unit out.
      names: Of the groups, at least two, each once; each needs two units.
      confidence: Of the gaps together, by the distribution of the worst pair's deviation in
        standard errors: many groups need no more samples than two.
      resamples: Bootstrap samples, drawn within each group; intervals are approximate, and too
        short in groups of few units.
      seed: Of the resampling; it protects nothing.

    Raises:
      ValueError: A group has fewer than two units, or an argument is out of range.

    References:
      Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13; Romano and Wolf,
      Stepwise multiple testing as formalized data snooping, 2005, for the worst of all pairs.
    """
    numbers, member = _checked("values", values, group, names, confidence)
    error = 1 - confidence
    _check_resamples(resamples, math.ceil(20 / error - 1e-6))
    generator = np.random.default_rng(seed)
    # A power of two: exact, and squares of the largest numbers stay finite.
    scale = 2.0 ** (math.frexp(np.abs(numbers[member >= 0]).max())[1] - 1)
    parts = [numbers[member == index] / scale for index in range(len(names))]
    means = np.array([part.mean() for part in parts])
    resampled = np.stack(
        [resample(part, np.mean, resamples=resamples, rng=generator) for part in parts]
    )
    ends = scale * np.quantile(resampled, [error / 2, 1 - error / 2], axis=1).T
    groups = tuple(
        GroupMean(name, len(part), scale * float(mean), *map(float, end))
        for name, part, mean, end in zip(names, parts, means, ends, strict=True)
    )
    pairs = np.array(list(itertools.combinations(range(len(names)), 2)))
    differences = means[pairs[:, 0]] - means[pairs[:, 1]]
    half_widths = _joint_half_widths(resampled - means[:, None], pairs, confidence)
    gaps = tuple(
        Gap(
            names[i], names[j], *(scale * float(end) for end in (value, value - half, value + half))
        )
        for (i, j), value, half in zip(pairs, differences, half_widths, strict=True)
    )
    return GroupComparison(groups, gaps, confidence, int((member < 0).sum()))


def _joint_half_widths(errors, pairs, confidence: float):
    """Half the width of each gap's interval, so that all hold together.

    Args:
      errors: Bootstrap means less the mean, [group, sample].
      pairs: Of groups, [pair, 2].
      confidence: Of all.
    """
    differences = errors[pairs[:, 0]] - errors[pairs[:, 1]]
    deviation = differences.std(axis=1)
    safe = np.where(deviation > 0, deviation, 1.0)[:, None]  # 0/0 where a group never varies
    worst = np.max(np.abs(differences) / safe, axis=0)
    return np.quantile(worst, confidence, method="higher") * deviation


def accuracy_by_group(
    predicted: ArrayLike,
    actual: ArrayLike,
    group: ArrayLike,
    *,
    names: Sequence[str],
    confidence: float = 0.95,
) -> GroupComparison:
    """The part of each group that is predicted rightly, and the gaps between groups.

    >>> found = accuracy_by_group([1, 1, 0, 1], [1, 1, 1, 1], [0, 0, 1, 1], names=("a", "b"))
    >>> [mean.value for mean in found.groups], found.largest.value
    ([1.0, 0.5], 0.5)

    Args:
      predicted: One label per unit.
      actual: The right ones.
      group: As in `compare_means`.
      names: As in `compare_means`.
      confidence: Of the gaps together. Intervals are Wilson's for a rate and Newcombe's for a
        difference: unlike the bootstrap they keep their width where all units are right.

    Raises:
      ValueError: As in `compare_means`, or the labels do not pair up.
      TypeError: One side holds words and the other numbers.

    References:
      Newcombe, Interval estimation for the difference between independent proportions, 1998,
      method 10.
    """
    guess, truth = np.asarray(predicted), np.asarray(actual)
    if guess.shape != truth.shape:
        raise ValueError(
            f"`predicted` must have the shape of `actual`, {truth.shape}, got {guess.shape}."
        )
    _check_kinds(guess, truth)
    right, member = _checked("predicted", guess == truth, group, names, confidence)
    counts = [int((member == index).sum()) for index in range(len(names))]
    hits = [int(right[member == index].sum()) for index in range(len(names))]
    pairs = list(itertools.combinations(range(len(names)), 2))
    share = (1 - confidence) / len(pairs)
    groups = tuple(
        GroupMean(name, count, hit / count, *_wilson(hit, count, 1 - confidence))
        for name, count, hit in zip(names, counts, hits, strict=True)
    )
    gaps = tuple(
        Gap(names[i], names[j], *_newcombe((hits[i], counts[i]), (hits[j], counts[j]), share))
        for i, j in pairs
    )
    return GroupComparison(groups, gaps, confidence, int((member < 0).sum()))


def _check_kinds(guess, truth) -> None:
    """Words never equal numbers: all would count as wrong."""
    kinds = [_kind(labels) for labels in (guess, truth)]
    if set(kinds) == {"words", "numbers"}:
        raise TypeError(
            f"`predicted` must hold labels of the kind of `actual`, {kinds[1]}, got {kinds[0]}: "
            "none would ever be equal. Turn the numbers into words, or the words into numbers."
        )


def _kind(labels: np.ndarray) -> str:
    if labels.dtype.kind == "O":
        kinds = {"words" if isinstance(label, str) else "numbers" for label in labels.flat}
        return kinds.pop() if len(kinds) == 1 else "both"
    return "words" if labels.dtype.kind in "US" else "numbers"


def _check_resamples(resamples, least):
    if isinstance(resamples, bool) or not resamples >= least:
        raise ValueError(
            f"`resamples` must be at least {least}, for twenty draws beyond the intervals, got "
            f"{resamples!r}."
        )


def _wilson(hits, count, error):
    return wilson_interval(hits / count, count, float(ndtri(1 - error / 2)))


def _newcombe(one, other, error):
    """Difference of two rates and its interval, from Wilson's for each."""
    (low1, high1), (low2, high2) = (_wilson(hits, n, error) for hits, n in (one, other))
    rate1, rate2 = one[0] / one[1], other[0] / other[1]
    value = rate1 - rate2
    low = value - math.hypot(rate1 - low1, high2 - rate2)
    return value, low, value + math.hypot(high1 - rate1, rate2 - low2)


def _checked(name, values, group, names, confidence):
    values, group = np.asarray(values, np.float64), check_groups(group, names)
    if values.shape != group.shape:
        raise ValueError(
            f"`{name}` must hold one entry for each of `group`, {group.shape}, "
            f"got shape {values.shape}."
        )
    check_confidence(confidence)
    if not np.isfinite(values[group >= 0]).all():
        raise ValueError(f"`{name}` must be finite; give units without a value the group -1.")
    return values, group


def check_groups(group: ArrayLike, names: Sequence[str]) -> Int[np.ndarray, " unit"]:
    """`group` as an array, if it indexes `names` and each group can be compared.

    Raises:
      ValueError: It is no integer vector, names are too few, or a group has fewer than two units.
    """
    member = np.asarray(group)
    if member.ndim != 1 or member.dtype.kind not in "iu":
        raise ValueError(
            f"`group` must be an integer vector, got {member.dtype} of shape {member.shape}."
        )
    if len(names) < 2:
        raise ValueError(f"`names` must name at least two groups, got {list(names)}.")
    if twice := [name for name in dict.fromkeys(names) if list(names).count(name) > 1]:
        raise ValueError(f"`names` must name each group once, got {twice[0]!r} more than once.")
    if member.size and int(member.max()) >= len(names):
        raise ValueError(f"`group` must stay below {len(names)} (`names`), got {member.max()}.")
    for index, label in enumerate(names):
        if (found := int((member == index).sum())) < 2:
            raise ValueError(
                f"`group` must hold at least two units of {label!r} ({index}), got {found}: "
                "leave the group out of `names`, or collect more."
            )
    return member
