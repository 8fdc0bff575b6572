"""Several rows as one unit: all that one person wrote, all questions on one paragraph.

A unit's loss is the mean over its examples, so every unit has the same weight, whatever its size.
Examples beyond a fixed number are left out.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from trustml.models.tasks.task import Encoded

PRESENT = "present"


def group_examples(
    encoded: Encoded, units: Sequence[Sequence[int]], most: int
) -> dict[str, np.ndarray]:
    """Arrays [unit, most, ...] of the first examples of each unit, and `present` [unit, most].

    The choice of examples depends on the unit alone. Absent examples are zeros, with a mask of
    False throughout; the loss of such an example must be finite.

    >>> encoded = Encoded({"ids": np.array([[1], [2], [3]])}, np.array([0, 0, 1]))
    >>> group_examples(encoded, [(0, 1)], 2)["ids"].tolist()
    [[[1], [2]]]

    Args:
      encoded: Rows of the data.
      units: The rows of each unit.
      most: Largest number of examples of a unit. With 1, arrays are [unit, ...] without `present`.

    Raises:
      ValueError: `most` is not positive, or a unit has no rows.
    """
    if not most >= 1:
        raise ValueError(f"`most` must be at least 1, got {most!r}.")
    chosen, present = _first_examples(encoded.row_of, units, most)
    if most == 1:
        every = np.array_equal(chosen[:, 0], np.arange(len(encoded.row_of)))
        return encoded.arrays if every else encoded.take(chosen[:, 0])
    arrays = {}
    for name, leaf in encoded.arrays.items():
        arrays[name] = leaf[chosen]
        arrays[name][~present] = 0  # index 0 is a row of another unit: nothing of it may stay
    return arrays | {PRESENT: present}


def _first_examples(row_of, units, most):
    """Indices of each unit's first examples and which of them exist, both [unit, most]."""
    order = np.argsort(row_of, kind="stable")
    rows = 1 + max((row for unit in units for row in unit), default=0)
    starts = np.searchsorted(row_of[order], np.arange(rows + 1))
    chosen, present = (np.zeros((len(units), most), kind) for kind in (np.int64, bool))
    for index, rows in enumerate(units):
        examples = [one for row in rows for one in order[starts[row] : starts[row + 1]]][:most]
        if not examples:
            raise ValueError(f"`units` must each have a row, got unit {index} without one.")
        chosen[index, : len(examples)] = examples
        present[index, : len(examples)] = True
    return chosen, present


def unit_loss(loss: Callable) -> Callable:
    """The loss of a unit of `group_examples`: the mean of `loss` over the examples present.

    >>> loss = unit_loss(lambda weight, example: weight * example["x"])
    >>> unit = {"x": jnp.array([1.0, 3.0, 0.0]), PRESENT: jnp.array([True, True, False])}
    >>> float(loss(2.0, unit))
    4.0
    """

    def mean(params, unit, *key) -> Float[Array, ""]:
        examples = {name: leaf for name, leaf in unit.items() if name != PRESENT}
        present = unit[PRESENT].astype(jnp.float32)
        keys = [jax.random.split(one, present.shape[0]) for one in key]
        losses = jax.vmap(lambda example, *own: loss(params, example, *own))(examples, *keys)
        # `where`, not a product: its gradient at an absent example is 0 even if that loss is inf.
        losses = jnp.where(present > 0, losses, 0.0)
        return losses.sum() / jnp.maximum(present.sum(), 1.0)

    return mean
