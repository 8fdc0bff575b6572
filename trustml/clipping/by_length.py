"""Micro-batches of rows of about one length: a row costs about what it holds."""

from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int


@runtime_checkable
class Cuts(Protocol):
    """Cuts padding off units. A unit is whole at its level and at those above it.

    Attributes:
      levels: How many there are; the last cuts nothing.
    """

    levels: int

    def level(self, units: Any) -> Int[Array, " unit"]:
        """The lowest level at which each unit is whole."""

    def cut(self, units: Any, level: int) -> Any:
        """The units at a level."""


def by_length(core, cuts: Cuts, units, group, physical_batch_size: int):
    """Applies `core(units, group) -> (sums, info)` to slices of rows of about one length.

    The longest rows come first, and a slice of shorter ones takes as many more as it holds at the
    cost of a slice of whole rows. Which rows are summed does not change, only the order; padding
    is skipped. How many slices there are depends on the rows, and so does the time: it is private.

    Args:
      core: Function of one slice; `info` is a pytree whose leaves have a leading unit axis.
      cuts: Cuts the first of `units`.
      units: Tuple of pytrees whose leaves share a leading unit axis.
      group: Group of each unit, [unit]; -1 is padding.
      physical_batch_size: Whole units per slice.

    Returns:
      `(sums, info)` as of one call on all units, up to rounding; `info` of padding is zero or as
      `core` has it.

    Raises:
      ValueError: `info` changes its form with the length.
    """
    rows = group.shape[0]
    sizes = [_units_at(cuts, units[0], level, physical_batch_size) for level in range(cuts.levels)]
    level = jnp.where(group >= 0, cuts.level(units[0]), -1)
    order = jnp.argsort(-level)
    # Room for the last slice: no row.
    order = jnp.concatenate([order, jnp.full(max(sizes), rows, order.dtype)])
    levels = jnp.where(order < rows, level[jnp.minimum(order, rows - 1)], -1)

    def slice_at(level):
        def body(carry):
            start, sums, info = carry
            places = jax.lax.dynamic_slice_in_dim(order, start, sizes[level])
            # What stands for no row is a real unit, so that it stays finite; its group drops it.
            real = jnp.minimum(places, rows - 1)
            first, *rest = jax.tree.map(lambda leaf: leaf[real], units)
            mine = jnp.where(places < rows, group[real], -1)
            more, found = core((cuts.cut(first, level), *rest), mine)
            put = lambda whole, part: whole.at[places].set(part, mode="drop")  # noqa: E731
            sums, info = jax.tree.map(jnp.add, sums, more), jax.tree.map(put, info, found)
            return start + sizes[level], sums, info

        return body

    carry = (jnp.zeros((), jnp.int32), *_zeros(core, cuts, units, group))
    for at in reversed(range(cuts.levels)):
        more = lambda carry, at=at: levels[carry[0]] >= at  # noqa: E731
        carry = jax.lax.while_loop(more, slice_at(at), carry)
    return carry[1:]


def _units_at(cuts: Cuts, units, level: int, physical_batch_size: int) -> int:
    """How many units of a level cost about as much as `physical_batch_size` whole ones."""
    whole, left = (_entries(cuts, units, one) for one in (cuts.levels - 1, level))
    return physical_batch_size * max(1, round(whole / left))


def _entries(cuts: Cuts, units, level: int) -> int:
    shapes = jax.eval_shape(lambda units: cuts.cut(units, level), units)
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def _zeros(core, cuts: Cuts, units, group):
    """Sums and info of no unit."""

    def shapes(level):
        return jax.eval_shape(
            lambda first, *rest: core((cuts.cut(first, level), *rest), group), *units
        )

    found = shapes(cuts.levels - 1)
    others = [shapes(level) for level in range(cuts.levels - 1)]
    if any(other != found for other in others):
        raise ValueError(
            "`shorten` must leave the form of what the loss returns alone, got an aux that "
            "changes with the length. Return what has no time axis."
        )
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), found)
