"""A partition and what it was made by."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int64

from trustml.federated.validation import short_number


@dataclass(frozen=True)
class PartitionMethod:
    """How rows become clients; `parse_partition` makes it from a word.

    >>> str(PartitionMethod("label", {"alpha": 0.1}))
    'label:alpha=0.1'

    Args:
      name: One of `METHODS`.
      settings: Its numbers by name.
    """

    name: str
    settings: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        """The word of the command: what `parse_partition` reads."""
        settings = ",".join(
            f"{name}={short_number(value)}" for name, value in self.settings.items()
        )
        return f"{self.name}:{settings}" if settings else self.name


@dataclass(frozen=True, eq=False)
class Partition:
    """Who holds which row of a data set.

    Args:
      client_of_row: The number of the client that holds each row; -1 for a row of nobody.
      method: How it was drawn.
      seed: What it was drawn from.
      data: `data_fingerprint` of the rows that it belongs to.
    """

    client_of_row: Int64[np.ndarray, " row"]
    method: PartitionMethod
    seed: int
    data: str

    @property
    def clients(self) -> Int64[np.ndarray, " client"]:
        """The numbers of the clients that hold a row, ascending."""
        found = np.unique(self.client_of_row)
        return found[found >= 0]

    @property
    def sizes(self) -> Int64[np.ndarray, " client"]:
        """Rows of each of `clients`."""
        return np.unique(self.client_of_row[self.client_of_row >= 0], return_counts=True)[1]

    def counts(self, labels: Any) -> Int64[np.ndarray, "client label"]:
        """Rows of each of `clients` by label; labels in their order.

        >>> drawn = Partition(np.array([4, 4, -1, 2]), PartitionMethod("natural"), 0, "")
        >>> drawn.counts(["no", "yes", "yes", "no"]).tolist()
        [[1, 0], [1, 1]]

        Args:
          labels: Numbers or names, one per row.
        """
        names, label = np.unique(labels, return_inverse=True)
        owned = self.client_of_row >= 0
        client = np.searchsorted(self.clients, self.client_of_row[owned])
        found = np.bincount(
            client * len(names) + label[owned], minlength=len(self.clients) * len(names)
        )
        return found.reshape(-1, len(names))


def data_fingerprint(arrays: Iterable[Any]) -> str:
    """SHA-256 of arrays, their shapes and the order of their rows.

    Who guesses all rows can confirm the guess.

    >>> data_fingerprint([np.arange(3)]) == data_fingerprint([np.array([0, 2, 1])])
    False

    Args:
      arrays: Numbers or text, such as the labels; of numbers the width does not matter.
    """
    made = hashlib.sha256(b"trustml rows, version 1\x00")
    for array in map(np.asarray, arrays):
        wide = {"b": np.int64, "i": np.int64, "u": np.uint64, "f": np.float64}
        text = array.dtype.kind not in wide
        values = array.astype(np.str_ if text else wide[array.dtype.kind])
        made.update(f"{values.dtype.kind} {values.shape}".encode())
        made.update("\x00".join(values.ravel()).encode() if text else values.tobytes())
    return made.hexdigest()


def client_of_row(rows: int, held: Iterable[Any]) -> Int64[np.ndarray, " row"]:
    """The client of each row, from the rows that each client holds.

    >>> client_of_row(4, [[3, 0], [1]]).tolist()
    [0, 1, -1, 0]
    """
    found = np.full(rows, -1, np.int64)
    for client, places in enumerate(held):
        found[np.asarray(places, np.int64)] = client
    return found
