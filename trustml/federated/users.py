"""From rows to clients: one padded unit per user, and rounds in which some do not answer."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Int

from trustml.sampling import Draw


class Clients(NamedTuple):
    """The rows of each client, padded to one shape. Every leaf has a leading client axis."""

    rows: Any  # pytree, [client, row, ...]; what padding holds is never read
    mask: Bool[np.ndarray, "client row"]
    user: Int[np.ndarray, " client"]  # whose rows they are


def split_by_user(
    arrays: Mapping[str, np.ndarray], *, max_rows: int | None = None, key: str = "user"
) -> Clients:
    """Groups rows by user: each user becomes one unit, in the order of user numbers.

    >>> clients = split_by_user({"x": np.array([1, 2, 3]), "user": np.array([7, 5, 7])})
    >>> clients.user.tolist(), clients.mask.sum(1).tolist(), clients.rows["x"].tolist()
    ([5, 7], [1, 2], [[2, 2], [1, 3]])

    Args:
      arrays: Fields with a leading row axis, as `trustml.data.encode` makes them.
      max_rows: Rows kept of a user, the first ones; by default as many as the most active user
        has, which is a fact about the data: give a public number where shapes are seen.
      key: The field that says who a row is of; it is not among the rows of the result.

    Returns:
      `Clients`, NumPy, with all of a user's rows in one unit: what the plan protects is a user.

    Raises:
      ValueError: A row without a user, a field of another length, or nothing to split.
    """
    if key not in arrays:
        raise ValueError(f"`key` must be one of {', '.join(map(str, arrays))}, got {key!r}.")
    owner = np.asarray(arrays[key])
    fields = {name: np.asarray(value) for name, value in arrays.items() if name != key}
    _check_fields(owner, fields, key)
    users, which, counts = np.unique(owner, return_inverse=True, return_counts=True)
    length = int(counts.max()) if max_rows is None else _checked_rows(max_rows)
    kept = np.minimum(counts, length)
    mask = np.arange(length)[None, :] < kept[:, None]
    starts = np.cumsum(counts) - counts
    # Padding repeats the user's first row, so that it is as finite as the data.
    places = starts[:, None] + np.where(mask, np.arange(length)[None, :], 0)
    chosen = np.argsort(which, kind="stable")[places]
    return Clients({name: field[chosen] for name, field in fields.items()}, mask, users)


def drop_out(draw: Draw, lost: Bool[np.ndarray, " capacity"]) -> Draw:
    """The same draw where the clients marked in `lost` do not answer: group -1.

    >>> draw = Draw(0, np.array([4, 7, -1], np.int32), np.array([0, 0, -1], np.int32))
    >>> drop_out(draw, np.array([True, False, False])).group.tolist()
    [-1, 0, -1]

    Args:
      draw: Of `plan.batches()`.
      lost: One boolean per place of the draw.

    Guarantee:
      That of the plan, if whether a client answers depends on that client alone, or on nothing
      private: then a client that is lost is one whose value is zero.

    Raises:
      ValueError: `lost` does not fit the draw.
    """
    lost = np.asarray(lost)
    if lost.dtype != bool or lost.shape != draw.group.shape:
        raise ValueError(
            f"`lost` must be a boolean vector of {draw.group.size} entries, one per place of "
            f"the draw, got {lost.dtype} of shape {lost.shape}."
        )
    found = Draw(draw.step, draw.indices, np.where(lost, -1, draw.group).astype(np.int32))
    found.plan = draw.plan
    return found


def _check_fields(owner, fields, key):
    if owner.ndim != 1 or owner.dtype.kind not in "iu" or not owner.size:
        raise ValueError(
            f"`arrays[{key!r}]` must be a vector of integers, one per row, got {owner.dtype} of "
            f"shape {owner.shape}."
        )
    if not fields:
        raise ValueError(f"`arrays` must hold a field besides {key!r}, got none.")
    for name, field in fields.items():
        if field.shape[:1] != owner.shape:
            raise ValueError(
                f"`arrays[{name!r}]` must have {owner.size} rows like {key!r}, "
                f"got shape {field.shape}."
            )
    if (owner < 0).any():
        place = int(np.flatnonzero(owner < 0)[0])
        raise ValueError(
            f"`arrays[{key!r}]` must name a user for every row, got {owner[place]} in row {place}: "
            "use data that says who spoke, or drop the row."
        )


def _checked_rows(max_rows):
    if isinstance(max_rows, bool) or not isinstance(max_rows, int) or max_rows < 1:
        raise ValueError(f"`max_rows` must be a positive integer, got {max_rows!r}.")
    return max_rows


def check_clients(clients: Any) -> None:
    """Refuses what is not `Clients` with rows and mask of one shape."""
    if not isinstance(clients, Clients):
        raise TypeError(
            f"`clients` must be `Clients`, such as `split_by_user` makes, "
            f"got {type(clients).__name__}."
        )
    shape = np.shape(clients.mask)
    for leaf in jax.tree.leaves(clients.rows):
        if len(shape) != 2 or np.shape(leaf)[:2] != shape:
            raise ValueError(
                f"`clients.rows` must have the leading axes [client, row] of `clients.mask`, "
                f"{shape}, got {np.shape(leaf)}."
            )
