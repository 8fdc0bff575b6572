"""Zeros for units that are not finite: 0 * NaN is NaN, so they must be gone before any sum."""

import jax
import jax.numpy as jnp


def cleared(operands, finite):
    """Arrays with zeros for the units that are not finite.

    A loop over those units alone, in place: a batch without any pays nothing.

    Args:
      operands: List of `(array, unit axis)`.
      finite: Which units are finite, [unit].
    """
    distinct = {id(array): (array, axis) for array, axis in operands}
    axes = [axis for _, axis in distinct.values()]
    bad_first = jnp.argsort(finite)

    def clear(turn, arrays):
        return [
            jax.lax.dynamic_update_index_in_dim(
                array,
                jnp.zeros((*array.shape[:axis], *array.shape[axis + 1 :]), array.dtype),
                bad_first[turn],
                axis,
            )
            for array, axis in zip(arrays, axes, strict=True)
        ]

    arrays = [array for array, _ in distinct.values()]
    arrays = jax.lax.fori_loop(0, jnp.sum(~finite), clear, arrays)
    by_id = dict(zip(distinct, arrays, strict=True))
    return [by_id[id(array)] for array, _ in operands]
