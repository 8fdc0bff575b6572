"""Fixed lengths for batches of texts: a batch is cut to the smallest that holds its rows.

Programs are compiled for fixed shapes, and a long row makes a whole batch long. So there are a
few fixed lengths, chosen from a public limit; each drawn batch, or each part of it that is computed
at a time, uses the smallest that holds all of its rows. Who is sampled does not change: the draw
comes first, and only padding is cut away.

The length that a batch uses depends on its rows, and with it the time that a step takes: that is
private, like all timing that depends on data. Give nobody the time of single steps.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from trustml.data.errors import DataError

Columns = TypeVar("Columns", bound=dict)


def bucket_lengths(lengths_max: int, count: int) -> tuple[int, ...]:
    """At most `count` lengths up to `lengths_max`, each about the same factor above the last.

    They depend on public numbers alone, and all but the last are multiples of eight.

    >>> bucket_lengths(128, 4)
    (16, 32, 64, 128)

    Args:
      lengths_max: The public limit to which texts are cut: the longest bucket.
      count: How many shapes may be compiled.
    """
    for name, value in (("lengths_max", lengths_max), ("count", count)):
        if not (isinstance(value, int) and value > 0):
            raise DataError(f"`{name}` must be a positive integer, got {value!r}.")
    steps = [lengths_max / 2**halvings for halvings in range(1, count)]
    rounded = {8 * int(-(-step // 8)) for step in steps}
    return (*sorted(length for length in rounded if length < lengths_max), lengths_max)


def shortest(lengths: Int[np.ndarray, " row"] | Sequence[int], buckets: Sequence[int]) -> int:
    """The smallest of `buckets` that holds every row; private, see the module's notes.

    >>> shortest([9, 17, 0], (16, 32, 64))
    32

    Args:
      lengths: Length of each row of a drawn batch; rows of padding count as 0.
      buckets: From `bucket_lengths`.

    Raises:
      DataError: A row is longer than every bucket.
    """
    longest = max((int(length) for length in lengths), default=0)
    fitting = [bucket for bucket in buckets if bucket >= longest]
    if not fitting:
        raise DataError(f"`buckets` must hold the longest row ({longest}), got {tuple(buckets)}.")
    return min(fitting)


def cut(rows: Columns, length: int, *, axes: dict[str, int] | None = None) -> Columns:
    """The columns of a batch, cut to `length` positions.

    >>> cut({"ids": np.array([[3, 5, 0, 0]]), "label": np.array([1])}, 2)["ids"].tolist()
    [[3, 5]]

    Args:
      rows: Arrays with rows in front; those with a time axis are padded at the end.
      length: From `shortest`.
      axes: The time axis of a column by its name; by default axis 1 of every column that has one.
        Columns with an axis 1 that is no time need it.

    Returns:
      The same columns; one that is no longer than `length` is not touched.

    Raises:
      DataError: A column that `axes` names is missing, or has no such axis.
    """
    if not (isinstance(length, int) and length > 0):
        raise DataError(f"`length` must be a positive integer, got {length!r}.")
    if axes is None:
        axes = {name: 1 for name, column in rows.items() if column.ndim > 1}
    shorter = dict(rows)
    for name, axis in axes.items():
        if name not in rows or rows[name].ndim <= axis:
            raise DataError(f"`axes` must name columns with axis {axis}, got {name!r}.")
        shorter[name] = rows[name][(slice(None),) * axis + (slice(0, length),)]
    return shorter  # type: ignore[return-value]


# Lengths to which rows are padded where each row is read once and none is drawn.
_LENGTHS = (*range(8, 32, 4), *range(32, 64, 8), *range(64, 128, 16), *range(128, 1025, 32))
_BATCH_TOKENS = 4096
# A new shape compiles for as long as this many tokens take to compute: about a second on one core,
# for six layers of 384 as for twelve of 768.
_SHAPE_TOKENS = 4096


class LengthBatch(NamedTuple):
    """Rows that are computed together.

    Attributes:
      rows: Their numbers; at most `size`.
      size: Rows of the array, with padding.
      length: Positions of the array.
    """

    rows: Int[np.ndarray, " row"]
    size: int
    length: int


def length_batches(
    lengths: Int[np.ndarray, " row"], longest: int, shapes: Sequence[int] | None = None
) -> list[LengthBatch]:
    """All rows, longest first, in batches of few shapes and of about as many tokens each.

    >>> [(batch.rows.tolist(), batch.length) for batch in length_batches(np.array([3, 40, 9]), 64)]
    [([1, 2, 0], 40)]

    Rows of similar lengths share a batch, so a row costs about what it holds.

    Args:
      lengths: Length of each row, at most `longest`.
      longest: Public limit to which rows are cut.
      shapes: The lengths of arrays, ascending up to `longest`, each with one number of rows: for
        few compilations over several calls. By default those that cost least for these rows.
    """
    known = _shapes(lengths, longest) if shapes is None else np.array(shapes)
    order = np.argsort(-lengths, kind="stable")
    own = known[np.searchsorted(known, lengths[order])] if len(order) else order
    batches: list[LengthBatch] = []
    start = 0
    while start < len(order):
        length = int(own[start])
        size = max(1, _BATCH_TOKENS // length)
        rows = order[start : start + size]
        start += size
        alone = shapes is None and not (batches and batches[-1].length == length)
        if len(rows) < size and alone:
            size = 1 << (len(rows) - 1).bit_length()  # few rows in all: a small shape of their own
        batches.append(LengthBatch(rows, size, length))
    return batches


def _shapes(lengths: Int[np.ndarray, " row"], longest: int) -> Int[np.ndarray, " shape"]:
    """The lengths, ascending, that cost least: padded tokens, and the compilation of each shape."""
    buckets = np.array([*(length for length in _LENGTHS if length < longest), longest])
    places, counts = np.unique(np.searchsorted(buckets, lengths), return_counts=True)
    kept, rows = buckets[places], np.concatenate([[0], np.cumsum(counts)])
    # cheapest[k]: rows of the k shortest buckets, with the k-th as their longest shape.
    cheapest, before = [0], [0]
    for end in range(1, len(kept) + 1):
        padded = (rows[end] - rows[:end]) * kept[end - 1] + np.array(cheapest)
        before.append(int(padded.argmin()))
        cheapest.append(int(padded.min()) + _SHAPE_TOKENS)
    chosen, end = [], len(kept)
    while end:
        chosen.append(kept[end - 1])
        end = before[end]
    return np.array(chosen[::-1], int)


# The mask that says how long a row is, and the columns of one length with it.
_MASKED = {
    "mask": (
        *("mask", "ids", "types", "tokens", "chars", "tags", "tag_mask", "context_mask"),
        *("labels", "label_mask", "loss_mask", "features"),
    ),
    "target_mask": ("target_mask", "target_ids"),
}


def masked_lengths(rows: Columns) -> Int[np.ndarray, " row"]:
    """The length that each row holds, by all of its masks.

    >>> masked_lengths({"mask": np.array([[True, True, False], [False] * 3])}).tolist()
    [2, 0]
    """
    masks = [np.asarray(rows[name]) for name in _MASKED if name in rows]
    return np.max([((np.arange(mask.shape[-1]) + 1) * mask).max(-1) for mask in masks], 0)


def cut_masked(rows: Columns, length: int) -> Columns:
    """The columns of rows that hold no more than `length` positions, cut to it.

    >>> cut_masked({"mask": np.ones((1, 3), bool), "label": np.zeros((1, 3))}, 2)["mask"].shape
    (1, 2)
    """
    for name in _MASKED:
        rows = _cut_masked(rows, name, length) if name in rows else rows
    return rows


@dataclasses.dataclass(frozen=True)
class Shortener:
    """Cuts padding off encoded rows, all of a batch alike or level by level; see `shortener`.

    Attributes:
      lengths: Ascending lengths of each mask, the full one last.
    """

    lengths: dict[str, tuple[int, ...]]

    def __call__(self, rows: Columns, taken: Bool[np.ndarray, " row"]) -> Columns:
        """The rows of a drawn batch, cut to the shortest length that holds those `taken`."""
        shorter = rows
        for name, lengths in self.lengths.items():
            mask = np.asarray(rows[name]) & taken.reshape(-1, *(1,) * (rows[name].ndim - 1))
            used = mask.any(tuple(range(mask.ndim - 1)))
            longest = int(np.flatnonzero(used).max(initial=-1)) + 1
            shorter = _cut_masked(shorter, name, shortest([longest], lengths))
        return shorter

    @property
    def levels(self) -> int:
        """Levels of `cut`; the last cuts nothing."""
        return max((len(lengths) for lengths in self.lengths.values()), default=1)

    def level(self, rows: dict[str, Array]) -> Int[Array, " row"]:
        """The lowest level at which each row is whole, for a compiled program."""
        highest = jnp.zeros(len(next(iter(rows.values()))), jnp.int32)
        for name in self.lengths:
            mask = rows[name].reshape(len(rows[name]), -1, rows[name].shape[-1]).any(1)
            longest = jnp.max(jnp.where(mask, jnp.arange(1, mask.shape[1] + 1)[None], 0), axis=1)
            # Lengths ascend with the level: the row is as high as levels are too short for it.
            short = [longest > self._length(name, level) for level in range(self.levels - 1)]
            highest = jnp.maximum(highest, sum((one.astype(jnp.int32) for one in short), 0))
        return highest

    def cut(self, rows: Columns, level: int) -> Columns:
        """The rows, cut to the lengths of a level."""
        for name in self.lengths:
            rows = _cut_masked(rows, name, self._length(name, level))
        return rows

    def _length(self, name: str, level: int) -> int:
        lengths = self.lengths[name]
        return lengths[max(0, level - self.levels + len(lengths))]


def _cut_masked(rows: Columns, name: str, length: int) -> Columns:
    """The columns of a mask, cut to a length."""
    columns = {column: rows[name].ndim - 1 for column in _MASKED[name] if column in rows}
    return cut(rows, length, axes=columns)


def shortener(units: dict[str, np.ndarray], count: int = 3) -> Shortener:
    """What cuts drawn batches of encoded rows, or parts of them, to the shortest of few lengths.

    >>> units = {"mask": np.zeros((9, 64), bool), "ids": np.zeros((9, 64), int)}
    >>> drawn = {"mask": np.eye(2, 64, dtype=bool), "ids": np.ones((2, 64), int)}
    >>> shortener(units)(drawn, np.array([True, True]))["ids"].shape
    (2, 16)
    >>> shortener(units).level({"mask": jnp.eye(9, 64, k=15) > 0}).tolist()
    [0, 1, 1, 1, 1, 1, 1, 1, 1]

    For `private_step(..., shorten=...)`. A loss that reads masked positions as nothing, as all of
    `trustml.models` do, gives the same result.

    Args:
      units: The whole data, as a task encodes them; shapes are read alone.
      count: Lengths of each of `mask` and `target_mask`, the full one among them.
    """
    known = {
        name: bucket_lengths(units[name].shape[-1], count) for name in _MASKED if name in units
    }
    return Shortener(known)
