"""Positions in a counter stream: tiles of the leaves of a tree, on one device or on many."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Integer, PyTree, UInt32

# A draw gives eight values. Sixteen draws, side by side, are a tile of consecutive values:
# shards of arrays then begin where tiles do.
_LANES = 16
VALUES = 8
_TILE = VALUES * _LANES
_TILE_MULTIPLE = 4  # arrays of odd length cost XLA's CPU code five times the time
_P = jax.sharding.PartitionSpec


def in_tiles(
    draw: Callable,
    tree: PyTree,
    key: UInt32[Array, "8"],
    step: Integer[Array, ""],
    *,
    at_a_time: int,
    shardings: PyTree | None = None,
) -> PyTree:
    """Values of `draw` in the shapes of `tree`'s leaves.

    Value `j` of leaf `l` is drawn from counters that depend on `(step, l, j)` alone, counted in
    row-major order.

    Args:
      draw: `draw(key, counter, place)` gives `[..., VALUES, 16]` for the counter words 12 to 14;
        `place` is to be called on every array of words that is made of them, which it gives the
        shape [..., 16]. Hashable, and the same object for the same law: programs are kept
        by it.
      tree: Arrays or `jax.ShapeDtypeStruct`; only shapes are read.
      key: 256 secret bits.
      step: Modulo 2**32.
      at_a_time: Tiles that are drawn at once, at most, where there are no shardings.
      shardings: Like `tree`, a `NamedSharding` for each leaf: every device then draws the values
        that it holds. Where tiles of 128 values do not divide among the devices of an axis, all of
        them draw the values along it.
    """
    leaves, treedef = jax.tree.flatten(tree)
    step = step.astype(jnp.uint32)
    if shardings is None:
        found = _together(draw, leaves, key, step, at_a_time)
    else:
        found = _in_place(draw, leaves, jax.tree.leaves(shardings), key, step)
    return jax.tree.unflatten(treedef, found)


def _together(draw, leaves, key, step, at_a_time):
    """One call for all leaves: XLA compiles the draw once, not once a leaf."""
    tiles = tuple(-(-leaf.size // _TILE) for leaf in leaves)
    if not leaves:
        return []
    values = _of_tiles(draw, key, step, tiles, at_a_time)
    ends = np.cumsum(tiles)
    return [
        values[end - count : end].reshape(-1)[: leaf.size].reshape(leaf.shape)
        for leaf, end, count in zip(leaves, ends, tiles, strict=True)
    ]


@functools.partial(jax.jit, static_argnums=(0, 3, 4))
def _of_tiles(draw, key, step, tiles, at_a_time):
    """Values [tile, 128]; leaf `l` owns the `tiles[l]` rows after those of the leaves before."""
    # The words take more memory than the values: those of all weights at once are too many.
    total = max(sum(tiles), 1)
    parts = -(-total // at_a_time)
    each = -(-total // (parts * _TILE_MULTIPLE)) * _TILE_MULTIPLE
    counts = [count * _LANES for count in (*tiles, parts * each - sum(tiles))]
    block = jnp.concatenate([jax.lax.iota(jnp.uint32, count) for count in counts])
    leaf = jnp.concatenate([jnp.full(count, i, jnp.uint32) for i, count in enumerate(counts)])

    def some(counters):
        # Words of counters in a row: in rows of sixteen, XLA's CPU code took 1.8 times as long.
        return draw(key, (*counters, step), lambda array: array.reshape(-1, _LANES))

    if parts == 1:
        return some((block, leaf)).reshape(-1, _TILE)
    shape = (parts, each * _LANES)
    return jax.lax.map(some, (block.reshape(shape), leaf.reshape(shape))).reshape(-1, _TILE)


def _in_place(draw, leaves, shardings, key, step):
    """Each leaf by itself, drawn where it lies; leaves that are alike in one call."""
    alike: dict = {}
    for place, (leaf, sharding) in enumerate(zip(leaves, shardings, strict=True)):
        alike.setdefault((leaf.shape, sharding), []).append(place)
    found: list = [None] * len(leaves)
    for (shape, sharding), places in alike.items():
        numbers = jnp.asarray(places, jnp.uint32)
        values = _placed(draw, numbers, shape, sharding, key, step)
        for row, place in enumerate(places):
            found[place] = values[row]
    return found


def _placed(draw, numbers, shape, sharding, key, step):
    """Values [leaf, *shape] for leaves `numbers` of one shape and sharding."""
    size = math.prod(shape)
    whole = bool(shape) and shape[-1] % _TILE == 0
    grid = (*shape[:-1], shape[-1] // _TILE) if whole else (-(-size // _TILE),)
    spec = _spec_of_grid(sharding, shape, grid, whole)
    place = functools.partial(_constrained, sharding, spec)
    tile = jnp.arange(math.prod(grid), dtype=jnp.uint32).reshape(1, *grid, 1)
    lane = jnp.arange(_LANES, dtype=jnp.uint32)
    block = place(tile * jnp.uint32(_LANES) + jnp.expand_dims(lane, tuple(range(tile.ndim - 1))))
    number = numbers.reshape(-1, *(1 for _ in grid), 1)
    block, number = jnp.broadcast_arrays(block, number)
    values = draw(key, (place(block), place(number), step), place)
    values = values.reshape(len(numbers), math.prod(grid) * _TILE)[:, :size]
    values = values.reshape(len(numbers), *shape)
    target = jax.sharding.NamedSharding(sharding.mesh, _P(None, *sharding.spec))
    return jax.lax.with_sharding_constraint(values, target)


def _spec_of_grid(sharding, shape, grid, whole):
    """How the tiles of a leaf lie on the mesh: as the leaf itself, where they divide."""
    spec = (*sharding.spec, *(None for _ in range(len(shape) - len(sharding.spec))))
    if not whole:
        # Tiles cross the leaf's rows: only its first axis can be followed.
        spec = (spec[0] if spec and not any(spec[1:]) else None,)

    def ways(names):
        names = names if isinstance(names, tuple) else (names,)
        return math.prod(sharding.mesh.shape[name] for name in names)

    divides = [
        names if names is not None and count % ways(names) == 0 else None
        for names, count in zip(spec, grid, strict=True)
    ]
    return _P(None, *divides, None)


def _constrained(sharding, spec, array):
    return jax.lax.with_sharding_constraint(array, jax.sharding.NamedSharding(sharding.mesh, spec))
