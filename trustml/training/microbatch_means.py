"""Micro-batches as units: the mean over the rows of each is what eDP-SGD bounds."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array as JaxArray
from jaxtyping import Bool, Int, PyTree


def as_units(
    rows: PyTree, group: Int[JaxArray, " row"], number: int
) -> tuple[tuple[PyTree, Bool[JaxArray, "unit slot"]], Int[JaxArray, " unit"]]:
    """The rows of a draw as `number` units: `((rows [unit, slot, ...], present), group of a unit)`.

    Padding repeats the first row of its own micro-batch: a row whose gradient is not finite must
    reach no other.
    """
    present = group.reshape(number, -1) >= 0

    def one(leaf):
        apart = leaf.reshape(number, -1, *leaf.shape[1:])
        mask = present.reshape(present.shape + (1,) * (apart.ndim - 2))
        return jnp.where(mask, apart, apart[:, :1])

    return (jax.tree.map(one, rows), present), jnp.where(present.any(1), 0, -1)


def mean_loss(loss_fn: Callable, *, has_aux: bool) -> Callable:
    """`loss(params, unit, *key)` to `(mean over the rows that are there, (losses, aux) of each)`.

    Guarantee:
      Its gradient depends on the rows of one micro-batch alone, so bounded sums move by at most
      twice the bound when a row comes or goes: once it is bounded, the mean may lie anywhere in
      the ball, before and after.
    """

    def loss(params: PyTree, unit: Any, *key):
        rows, present = unit
        keys = tuple(jax.random.split(each, present.shape[0]) for each in key)
        found = jax.vmap(lambda *row: loss_fn(params, *row))(rows, *keys)
        losses, aux = found if has_aux else (found, None)
        total = jnp.sum(jnp.where(present, losses, jnp.zeros_like(losses)))
        count = jnp.maximum(present.sum(), 1).astype(losses.dtype)
        return total / count, (losses, aux)

    return loss
