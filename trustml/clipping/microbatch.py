"""Micro-batches: a large logical batch in slices, stopping early on padding."""

import jax
import jax.numpy as jnp


def in_microbatches(core, units, group, microbatch):
    """Applies `core(units, group) -> (sums, info)` slice by slice and adds the sums.

    Slices after the last unit with a group are skipped: a padded Poisson batch costs what it
    holds. The sums of a slice are added in float32, in order.

    Args:
      core: Function of one slice; `info` is a pytree whose leaves have a leading unit axis.
      units: Pytree whose leaves share a leading unit axis.
      group: Group of each unit, [unit]; -1 is padding.
      microbatch: Units per slice; None for one slice.

    Returns:
      `(sums, info)` as of one call on all units; `info` of skipped units is zero.
    """
    size = group.shape[0]
    if microbatch is None or microbatch >= size:
        return core(units, group)
    slices = -(-size // microbatch)
    spare = slices * microbatch - size

    def pad(leaf, value=0):
        # Repeating a real unit keeps padding finite; its group drops it.
        tail = jnp.broadcast_to(leaf[:1], (spare, *leaf.shape[1:]))
        return jnp.concatenate([leaf, tail]) if spare else leaf

    units = jax.tree.map(pad, units)
    group = jnp.concatenate([group, jnp.full(spare, -1, group.dtype)])

    def take(tree, index):
        return jax.tree.map(
            lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, index * microbatch, microbatch), tree
        )

    def body(index, carry):
        sums, info = carry
        more, found = core(take(units, index), take(group, index))
        sums = jax.tree.map(jnp.add, sums, more)
        info = jax.tree.map(
            lambda whole, part: jax.lax.dynamic_update_slice_in_dim(
                whole, part, index * microbatch, 0
            ),
            info,
            found,
        )
        return sums, info

    shapes = jax.eval_shape(core, take(units, 0), take(group, 0))
    sums = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes[0])
    info = jax.tree.map(
        lambda leaf: jnp.zeros((slices * microbatch, *leaf.shape[1:]), leaf.dtype), shapes[1]
    )
    present = jnp.max(jnp.where(group >= 0, jnp.arange(group.shape[0]) + 1, 0))
    needed = -(-present // microbatch)
    sums, info = jax.lax.fori_loop(0, needed, body, (sums, info))
    return sums, jax.tree.map(lambda leaf: leaf[:size], info)
