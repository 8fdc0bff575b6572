"""Clients and the rows they hold: one after another, never padded to the largest."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from trustml.clipping.losses import check_arrays, lengths


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Clients:
    """The rows of all clients: those of one stand together.

    >>> clients = Clients.from_arrays({"x": np.array([1, 2, 3])}, np.array([7, 5, 7]))
    >>> clients.ids.tolist(), clients.counts.tolist(), clients.of(1)["x"].tolist()
    ([5, 7], [1, 2], [1, 3])

    Args:
      rows: Pytree of NumPy arrays [row, ...].
      offsets: Client k holds the rows from `offsets[k]` to `offsets[k + 1]`; int64 [client + 1].
      ids: What the caller calls each client, ascending; integers [client].
    """

    rows: Any
    offsets: Int[np.ndarray, " bound"]
    ids: Int[np.ndarray, " client"]

    @classmethod
    def from_arrays(cls, rows: Any, client_of_row: Int[np.ndarray, " row"]) -> "Clients":
        """Groups rows by client; within one they keep their order.

        Args:
          rows: Pytree of arrays with a leading row axis.
          client_of_row: Whose each row is, integers from 0.

        Raises:
          ValueError: A row is nobody's, a field has another length, or there is no row.
        """
        owner = np.asarray(client_of_row)
        rows = jax.tree.map(np.asarray, rows)
        _check_rows(rows, owner)
        order = np.argsort(owner, kind="stable")
        ids, counts = np.unique(owner, return_counts=True)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return cls(jax.tree.map(lambda leaf: leaf[order], rows), offsets, ids)

    def __len__(self) -> int:
        return len(self.ids)

    @functools.cached_property
    def counts(self) -> Int[np.ndarray, " client"]:
        """Rows of each client."""
        return np.diff(self.offsets)

    def of(self, place: int) -> Any:
        """The rows of the client at `place`, without a copy."""
        start, stop = self.offsets[place], self.offsets[place + 1]
        return jax.tree.map(lambda leaf: leaf[start:stop], self.rows)

    def take(self, places: Int[np.ndarray, " chosen"]) -> "Clients":
        """The clients at `places`, in that order."""
        counts = self.counts[places]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        wanted = np.repeat(self.offsets[places] - offsets[:-1], counts) + np.arange(offsets[-1])
        return Clients(
            jax.tree.map(lambda leaf: leaf[wanted], self.rows), offsets, self.ids[places]
        )


def _check_rows(rows: Any, owner: np.ndarray) -> None:
    if owner.ndim != 1 or owner.dtype.kind not in "iu" or not owner.size:
        raise ValueError(
            f"`client_of_row` must be a vector of integers, one per row, got {owner.dtype} of "
            f"shape {owner.shape}."
        )
    check_arrays(rows)
    wrong = {name: length for name, length in lengths(rows).items() if length != str(owner.size)}
    if wrong or not jax.tree.leaves(rows):
        said = ", ".join(f"{length} at {name}" for name, length in wrong.items()) or "no leaf"
        raise ValueError(f"`rows` must have {owner.size} rows like `client_of_row`, got {said}.")
    if (owner < 0).any():
        place = int(np.flatnonzero(owner < 0)[0])
        raise ValueError(
            f"`client_of_row` must name a client for every row, got {owner[place]} in row {place}: "
            "drop the row, or use data that say whose it is."
        )
