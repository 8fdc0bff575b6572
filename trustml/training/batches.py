"""From a draw to its rows: on the host for NumPy data and sources, on the device for JAX arrays."""

import collections
import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from trustml.clipping.losses import check_arrays, lengths
from trustml.sampling import Draw
from trustml.training.mesh import OnMesh, take_rows
from trustml.training.sources import RowSource

_AHEAD = 2  # batches that wait, at most


class Batch(NamedTuple):
    """The rows of one draw, padding included. Private.

    On a mesh they lie as units are dealt to its devices, see `trustml.training.mesh`.
    """

    draw: Draw
    rows: Any  # pytree, leading axis = capacity; padding repeats a drawn unit, if there is one
    group: Any = None  # of each row, on a mesh; elsewhere that of the draw
    shards: int = 1  # devices that share the rows


def gather(draw: Draw, units: Any, num_units: int, mesh: OnMesh | None = None) -> Batch:
    """The rows of `draw` from the whole data `units`, spread over `mesh` if there is one.

    Raises:
      ValueError: `units` does not hold `num_units` units: the amplification was accounted for
        that many. Or they lie on another backend than the mesh.
    """
    check_whole(units, num_units)
    if mesh is not None:
        return _dealt(draw, units, mesh)
    indices = _padded(draw.indices)
    if isinstance(units, RowSource):
        return Batch(draw, jax.tree.map(jnp.asarray, units.take(indices)))
    return Batch(draw, jax.tree.map(lambda leaf: _rows(leaf, indices), units))


def _dealt(draw, units, mesh: OnMesh) -> Batch:
    positions = mesh.positions(len(draw.indices))
    spare = np.full(len(positions) - len(draw.indices), -1, np.int32)
    indices, group = (np.concatenate([part, spare])[positions] for part in draw[1:])
    indices = _padded(indices)
    if isinstance(units, RowSource):  # every process reads all rows of the draw
        units, indices = units.take(indices), np.arange(len(indices))
    rows = jax.tree.map(lambda leaf: mesh.take(leaf, indices), units)
    return Batch(draw, rows, mesh.take(group, np.arange(len(group))), mesh.shards)


def _padded(indices: np.ndarray) -> np.ndarray:
    """Padding, -1, as a unit that was drawn: 0 * NaN is NaN, so no other's data may stand there."""
    drawn = indices[indices >= 0]
    return np.where(indices < 0, drawn[0] if len(drawn) else 0, indices)


def check_whole(units: Any, num_units: int) -> None:
    """Refuses data that are not `num_units` units of numbers; see `gather`."""
    if isinstance(units, RowSource):
        units = units.shapes
    for leaf in jax.tree.leaves(units):
        if hasattr(leaf, "__getitem__") and not hasattr(leaf, "dtype"):
            raise TypeError(
                f"`units` must hold arrays, got {type(leaf).__name__}. Wrap what has rows by "
                "number: `trustml.training.RowSource(rows, decode)`."
            )
    check_arrays(units)
    found = lengths(units)
    if set(found.values()) != {str(num_units)}:
        said = ", ".join(f"{length} at {place}" for place, length in found.items()) or "no leaf"
        raise ValueError(
            f"`units` must hold the whole data, {num_units} units as the plan says, on the leading "
            f"axis of every leaf; got {said}."
        )


def batch_shapes(units: Any, capacity: int, mesh: OnMesh | None = None) -> tuple[Any, Any]:
    """Shapes of rows and group of any draw from `units`, which may be shapes themselves."""
    units = units.shapes if isinstance(units, RowSource) else units
    size = capacity if mesh is None else mesh.padded(capacity)
    spread = None if mesh is None else mesh.rows

    def shape(leaf):
        kind = leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
        kind = kind if isinstance(leaf, jax.Array) else jax.dtypes.canonicalize_dtype(kind)
        return jax.ShapeDtypeStruct((size, *leaf.shape[1:]), kind, sharding=spread)

    group = jax.ShapeDtypeStruct((size,), jnp.int32, sharding=spread)
    return jax.tree.map(shape, units), group


def _rows(leaf, indices):
    if isinstance(leaf, jax.Array):
        return take_rows(leaf, indices)
    return jnp.asarray(np.take(leaf, indices, axis=0))


class Prefetcher:
    """Gathers the next batches in a thread while the device works on the last.

    At most two wait. What the thread raises is raised where the batch is taken.
    """

    def __init__(self, draw, rows):
        self._draw, self._rows = draw, rows
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="trustml-prefetch")

    def batches(self, start: int, stop: int):
        """The batches of steps `start` to `stop - 1`, in order."""
        coming = iter(range(start, stop))
        ahead = collections.deque(self._submit(step) for step in itertools.islice(coming, _AHEAD))
        while ahead:
            ready = ahead.popleft().result()
            ahead.extend(self._submit(step) for step in itertools.islice(coming, 1))
            yield ready

    def _submit(self, step):
        return self._pool.submit(lambda: self._rows(self._draw(step)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._pool.shutdown(cancel_futures=True)
