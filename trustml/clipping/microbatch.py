"""Micro-batches: a large logical batch in slices, stopping early on padding."""

import jax
import jax.numpy as jnp


def dealt(rows, shards: int):
    """Position in the logical draw of each row, where units are dealt to `shards` like cards.

    >>> dealt(jnp.arange(6), 2).tolist()
    [0, 2, 4, 1, 3, 5]

    Args:
      rows: All row numbers in order, a multiple of `shards` of them; NumPy or JAX integers. Every
        shard holds one run of rows.
      shards: Devices that share the rows.
    """
    each = rows.shape[0] // shards
    return rows % each * shards + rows // each


def in_microbatches(core, units, group, microbatch, shards: int = 1):
    """Applies `core(units, group) -> (sums, info)` slice by slice and adds the sums.

    Slices after the last unit with a group are skipped: a padded Poisson batch costs what it
    holds. The sums of a slice are added in float32, in order.

    Args:
      core: Function of one slice; `info` is a pytree whose leaves have a leading unit axis.
      units: Pytree whose leaves share a leading unit axis.
      group: Group of each unit, [unit]; -1 is padding.
      microbatch: Units per slice; None for one slice.
      shards: Devices that share the unit axis evenly, each a run of rows. A slice takes as many
        of every run, so that no row moves. It divides `microbatch` and the number of units.

    Returns:
      `(sums, info)` as of one call on all units; `info` of skipped units is zero.
    """
    size = group.shape[0]
    if microbatch is None or microbatch >= size:
        return core(units, group)
    each, share = size // shards, microbatch // shards
    slices = -(-each // share)
    spare = slices * share - each
    runs = _Runs(shards)

    def pad(leaf):
        # Repeating a real unit keeps padding finite; its group drops it.
        first = leaf[:1] if shards == 1 else leaf[:, :1]
        shape = (*leaf.shape[: runs.axis], spare, *leaf.shape[runs.axis + 1 :])
        tail = jnp.broadcast_to(first, shape)
        return jnp.concatenate([leaf, tail], runs.axis) if spare else leaf

    units = jax.tree.map(lambda leaf: pad(runs.split(leaf)), units)
    group = runs.split(group)
    none = jnp.full((*group.shape[: runs.axis], spare), -1, group.dtype)
    group = jnp.concatenate([group, none], runs.axis)

    def take(tree, index):
        return jax.tree.map(
            lambda leaf: runs.merge(
                jax.lax.dynamic_slice_in_dim(leaf, index * share, share, runs.axis)
            ),
            tree,
        )

    def body(index, carry):
        sums, info = carry
        more, found = core(take(units, index), take(group, index))
        sums = jax.tree.map(jnp.add, sums, more)
        info = jax.tree.map(
            lambda whole, part: jax.lax.dynamic_update_slice_in_dim(
                whole, runs.split(part), index * share, runs.axis
            ),
            info,
            found,
        )
        return sums, info

    shapes = jax.eval_shape(core, take(units, 0), take(group, 0))
    sums = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes[0])
    info = jax.tree.map(
        lambda leaf: runs.split(jnp.zeros((shards * slices * share, *leaf.shape[1:]), leaf.dtype)),
        shapes[1],
    )
    drawn = group >= 0
    place = jnp.arange(group.shape[runs.axis]) + 1
    present = jnp.max(jnp.where(drawn, place if shards == 1 else place[None], 0))
    needed = -(-present // share)
    sums, info = jax.lax.fori_loop(0, needed, body, (sums, info))
    return sums, jax.tree.map(
        lambda leaf: leaf[:size] if shards == 1 else runs.merge(leaf[:, :each]), info
    )


class _Runs:
    """The unit axis as [shard, unit of the shard], where there is more than one shard."""

    def __init__(self, shards: int):
        self.shards = shards
        self.axis = 0 if shards == 1 else 1  # of a shard's own units

    def split(self, leaf):
        return leaf if self.axis == 0 else leaf.reshape(self.shards, -1, *leaf.shape[1:])

    def merge(self, leaf):
        return leaf if self.axis == 0 else leaf.reshape(-1, *leaf.shape[2:])
