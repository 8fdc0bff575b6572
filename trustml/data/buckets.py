"""Fixed lengths for batches of texts: a batch is cut to the smallest that holds its rows.

Programs are compiled for fixed shapes, and a long row makes a whole batch long. So there are a
few fixed lengths, chosen from a public limit; each drawn batch uses the smallest that holds all of
its rows. Who is sampled does not change: the draw comes first, and only padding is cut away.

The length that a batch uses depends on its rows, and with it the time that a step takes: that is
private, like all timing that depends on data. Give nobody the time of single steps.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Int

from trustml.data.corpus import DataError

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
    steps = [lengths_max / 2**place for place in range(1, count)]
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
    """Cuts columns of a batch to `length` positions.

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
    found = dict(rows)
    for name, axis in axes.items():
        if name not in rows or rows[name].ndim <= axis:
            raise DataError(f"`axes` must name columns with axis {axis}, got {name!r}.")
        found[name] = rows[name][(slice(None),) * axis + (slice(0, length),)]
    return found  # type: ignore[return-value]
