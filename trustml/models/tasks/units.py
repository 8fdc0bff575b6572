"""Several rows as one unit: all that one person wrote, all questions on one paragraph.

A unit's loss is the mean over the pieces that are there, so one unit counts as one, however much it
holds; what it holds beyond a fixed number is left out.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from trustml.models.tasks.task import Encoded

PRESENT = "present"


def group_pieces(
    encoded: Encoded, units: Sequence[Sequence[int]], most: int
) -> dict[str, np.ndarray]:
    """Arrays [unit, most, ...] of the first pieces of each unit, and `present` [unit, most].

    Which pieces are kept follows from the unit alone.

    A place without a piece holds zeros: nothing is masked in true, and a loss there must be finite.

    Args:
      encoded: Rows of the data.
      units: The rows of each unit.
      most: Pieces kept of a unit. With 1, arrays are [unit, ...] and nothing marks presence.

    Raises:
      ValueError: `most` is not positive, or a unit has no rows.
    """
    if not most >= 1:
        raise ValueError(f"`most` must be at least 1, got {most!r}.")
    places, present = _places(encoded.row_of, units, most)
    if most == 1:
        return encoded.take(places[:, 0])
    arrays = {}
    for name, leaf in encoded.arrays.items():
        arrays[name] = leaf[places]
        arrays[name][~present] = 0  # no row of another unit, not even unread
    return arrays | {PRESENT: present}


def _places(row_of, units, most):
    order = np.argsort(row_of, kind="stable")
    rows = 1 + max((row for unit in units for row in unit), default=0)
    starts = np.searchsorted(row_of[order], np.arange(rows + 1))
    places, present = (np.zeros((len(units), most), kind) for kind in (np.int64, bool))
    for place, rows in enumerate(units):
        pieces = [piece for row in rows for piece in order[starts[row] : starts[row + 1]]][:most]
        if not pieces:
            raise ValueError(f"`units` must each have a row, got unit {place} without one.")
        places[place, : len(pieces)] = pieces
        present[place, : len(pieces)] = True
    return places, present


def unit_loss(loss: Callable) -> Callable:
    """The loss of a unit of `group_pieces`: the mean of `loss` over the pieces that are there."""

    def mean(params, unit, *key) -> Float[Array, ""]:
        pieces = {name: leaf for name, leaf in unit.items() if name != PRESENT}
        there = unit[PRESENT].astype(jnp.float32)
        keys = [jax.random.split(one, there.shape[0]) for one in key]
        losses = jax.vmap(lambda piece, *own: loss(params, piece, *own))(pieces, *keys)
        losses = jnp.where(there > 0, losses, 0.0)
        return losses.sum() / jnp.maximum(there.sum(), 1.0)

    return mean
