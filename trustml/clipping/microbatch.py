"""Micro-batches: a large logical batch in slices, stopping early on padding."""

import jax
import jax.numpy as jnp

from trustml.clipping.by_length import Cuts, by_length


def round_robin(rows, shards: int):
    """Position in the logical draw of each row, where units are dealt to `shards` like cards.

    >>> round_robin(jnp.arange(6), 2).tolist()
    [0, 2, 4, 1, 3, 5]

    Args:
      rows: All row numbers in order, a multiple of `shards` of them; NumPy or JAX integers. Every
        shard holds one run of rows.
      shards: Devices that share the rows.
    """
    each = rows.shape[0] // shards
    return rows % each * shards + rows // each


def in_microbatches(
    core, units, group, physical_batch_size, shards: int = 1, cuts: Cuts | None = None
):
    """Applies `core(units, group) -> (sums, info)` slice by slice and adds the sums.

    Slices after the last unit with a group are skipped: a padded Poisson batch costs what it
    holds. The sums of a slice are added in float32, in order.

    Args:
      core: Function of one slice; `info` is a pytree whose leaves have a leading unit axis.
      units: Pytree whose leaves share a leading unit axis.
      group: Group of each unit, [unit]; -1 is padding.
      physical_batch_size: Units per slice; None for one slice.
      shards: Devices that share the unit axis evenly, each a run of rows. A slice takes as many
        of every run, so that no row moves. It divides `physical_batch_size` and the number of
        units.
      cuts: On one device: slices hold rows of about one length, see `by_length`.

    Returns:
      `(sums, info)` as of one call on all units; `info` of skipped units is zero.
    """
    size = group.shape[0]
    if physical_batch_size is None or physical_batch_size >= size:
        return core(units, group)
    if cuts is not None:
        return by_length(core, cuts, units, group, physical_batch_size)
    each, share = size // shards, physical_batch_size // shards
    slices = -(-each // share)
    runs = _Runs(shards, share)
    # What is repeated is a real unit, so that padding stays finite; its group drops it.
    units = jax.tree.map(lambda leaf: runs.padded(runs.split(leaf), slices), units)
    group = runs.padded(runs.split(group), slices, fill=-1)

    def body(index, carry):
        sums, info = carry
        more, found = core(runs.take(units, index), runs.take(group, index))
        return jax.tree.map(jnp.add, sums, more), runs.put(info, found, index)

    shapes = jax.eval_shape(core, runs.take(units, 0), runs.take(group, 0))
    sums = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes[0])
    info = jax.tree.map(
        lambda leaf: runs.split(jnp.zeros((shards * slices * share, *leaf.shape[1:]), leaf.dtype)),
        shapes[1],
    )
    place = jnp.arange(slices * share) + 1
    present = jnp.max(jnp.where(group >= 0, place if shards == 1 else place[None], 0))
    sums, info = jax.lax.fori_loop(0, -(-present // share), body, (sums, info))
    return sums, jax.tree.map(
        lambda leaf: leaf[:size] if shards == 1 else runs.merge(leaf[:, :each]), info
    )


class _Runs:
    """The unit axis as [shard, unit of the shard], where there is more than one shard.

    A slice takes `share` units of every shard.
    """

    def __init__(self, shards: int, share: int):
        self.shards, self.share = shards, share
        self.axis = 0 if shards == 1 else 1  # of a shard's own units

    def split(self, leaf):
        return leaf if self.axis == 0 else leaf.reshape(self.shards, -1, *leaf.shape[1:])

    def merge(self, leaf):
        return leaf if self.axis == 0 else leaf.reshape(-1, *leaf.shape[2:])

    def padded(self, leaf, slices: int, fill=None):
        """`leaf` with room for whole slices: the first unit again, or `fill`."""
        spare = slices * self.share - leaf.shape[self.axis]
        if not spare:
            return leaf
        shape = (*leaf.shape[: self.axis], spare, *leaf.shape[self.axis + 1 :])
        first = leaf[:1] if self.axis == 0 else leaf[:, :1]
        tail = jnp.broadcast_to(first, shape) if fill is None else jnp.full(shape, fill, leaf.dtype)
        return jnp.concatenate([leaf, tail], self.axis)

    def take(self, tree, index):
        """Slice `index` of every leaf, with one unit axis."""
        start = index * self.share
        return jax.tree.map(
            lambda leaf: self.merge(
                jax.lax.dynamic_slice_in_dim(leaf, start, self.share, self.axis)
            ),
            tree,
        )

    def put(self, tree, parts, index):
        """`tree` with `parts` as its slice `index`."""
        start = index * self.share
        return jax.tree.map(
            lambda whole, part: jax.lax.dynamic_update_slice_in_dim(
                whole, self.split(part), start, self.axis
            ),
            tree,
            parts,
        )
