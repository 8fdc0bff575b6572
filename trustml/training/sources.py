"""Units that are read when they are drawn: any source with a length and rows by number."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jaxtyping import Int, PyTree

from trustml.clipping.losses import check_arrays
from trustml.clipping.trainable import path_name

_AT_A_TIME = 1024  # rows, where all of them are read


def _same(record):
    return record


@dataclasses.dataclass(frozen=True, eq=False)
class RowSource:
    """Data for `fit` and `step.update` that need not fit in memory.

    Only the rows of a draw are read, each once and in order, in a thread that is ahead of the
    step. Who is drawn, and what the ledger says, is as with arrays. An `np.memmap` is an array: it
    needs no source.

    >>> class Squares:
    ...     def __len__(self):
    ...         return 5
    ...
    ...     def __getitem__(self, row):
    ...         return {"x": np.float32(row**2), "row": row}
    >>> source = RowSource(Squares(), lambda record: record["x"])
    >>> source.take(np.array([4, 2, 4])).tolist()
    [16.0, 4.0, 16.0]

    Args:
      rows: Anything with `len(rows)` and `rows[number]`: a Hugging Face data set, a data source of
        Grain, a reader of ArrayRecord files, a data set of PyTorch. Where it has
        `__getitems__(numbers)`, that is called once for a draw.
      decode: From a record to a unit: a pytree of numbers and arrays of fixed shapes, without a
        leading axis. By default the record is one.
      batched: `rows[numbers]` takes an array of numbers, and `decode` maps its result to arrays
        [row, ...]: `RowSource(dataset.with_format("numpy"), batched=True)` is the quick way to
        read a Hugging Face data set.
      fingerprint: Of the data, for a run in a folder. By default all rows are read once, and it is
        that of the same data as arrays.

    Guarantee:
      The rows of a draw are those of `rows` at its numbers, whatever is read ahead.
    """

    rows: Any
    decode: Callable[[Any], PyTree] = _same
    batched: bool = False
    fingerprint: str | None = None

    def __len__(self) -> int:
        """Units."""
        return len(self.rows)

    @functools.cached_property
    def shapes(self) -> PyTree:
        """Shapes of the whole data, leading axis = unit, from its first row."""
        if not len(self):
            raise ValueError("`units` must hold a row, got a source of none.")
        first = self._read(np.zeros(1, int))
        check_arrays(first)
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((len(self), *leaf.shape[1:]), leaf.dtype), first
        )

    def take(self, indices: Int[np.ndarray, " row"]) -> PyTree:
        """The rows at `indices`, NumPy arrays [row, ...].

        Raises:
          ValueError: Their shapes or types are not those of the first row.
        """
        # A padded draw repeats a row; a disk likes an order.
        wanted, place = np.unique(indices, return_inverse=True)
        found = self._read(wanted)
        self._check(found, wanted)
        return jax.tree.map(lambda leaf: leaf[place], found)

    def chunks(self) -> Iterator[PyTree]:
        """All rows in order, some at a time."""
        for start in range(0, len(self), _AT_A_TIME):
            yield self.take(np.arange(start, min(start + _AT_A_TIME, len(self))))

    def _read(self, wanted: np.ndarray) -> PyTree:
        if self.batched:
            return jax.tree.map(np.asarray, self.decode(self.rows[wanted]))
        numbers = wanted.tolist()
        if hasattr(self.rows, "__getitems__"):
            records = self.rows.__getitems__(numbers)
        else:
            records = [self._one(lambda row: self.rows[row], row, row) for row in numbers]
        units = [
            self._one(self.decode, record, row)
            for record, row in zip(records, numbers, strict=True)
        ]
        try:
            return jax.tree.map(lambda *leaves: np.stack(leaves), *units)
        except ValueError as error:
            raise ValueError(
                f"`units` must have rows of one shape, got others among rows {numbers[0]} to "
                f"{numbers[-1]}: {error}. Pad or cut them in `decode`."
            ) from None

    def _one(self, function: Callable, argument: Any, row: int) -> Any:
        try:
            return function(argument)
        except Exception as error:
            error.add_note(f"while row {row} of `units` was read")
            raise

    def _check(self, found: PyTree, wanted: np.ndarray) -> None:
        expected, got = _shapes(self.shapes, len(wanted)), _shapes(found)
        if expected != got:
            raise ValueError(
                f"`units` must have rows like row 0, {expected}, got {got} for {len(wanted)} rows "
                f"from {wanted[0]} to {wanted[-1]}. Make them alike in `decode`."
            )


def _shapes(tree: PyTree, number: int | None = None) -> dict[str, str]:
    """Type and shape of each leaf by its name, of `number` rows."""
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        shape = leaf.shape if number is None else (number, *leaf.shape[1:])
        found[path_name(path)] = f"{leaf.dtype}{list(shape)}"
    return found
