"""From a draw to its rows: on the host for NumPy data, on the device for JAX arrays."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from trustml.sampling import Draw


class Batch(NamedTuple):
    """The rows of one draw, padding included. Private."""

    draw: Draw
    rows: Any  # pytree, leading axis = capacity; padding repeats unit 0, and group -1 drops it


def gather(draw: Draw, units: Any, num_units: int) -> Batch:
    """The rows of `draw` from the whole data `units`.

    Raises:
      ValueError: `units` does not hold `num_units` units: the amplification was accounted for
        that many.
    """
    check_whole(units, num_units)
    indices = np.maximum(draw.indices, 0)
    return Batch(draw, jax.tree.map(lambda leaf: _rows(leaf, indices), units))


def check_whole(units: Any, num_units: int) -> None:
    """Refuses data that are not `num_units` units long; see `gather`."""
    sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(units)}
    if sizes != {(num_units,)}:
        found = sorted(str(size[0]) if size else "a scalar" for size in sizes) or "no leaf"
        raise ValueError(
            f"`units` must hold the whole data, {num_units} units as the plan says, on the leading "
            f"axis of every leaf; got {found}."
        )


def batch_shape(units: Any, capacity: int) -> Any:
    """Shapes and types of the rows of any draw from `units`."""

    def shape(leaf):
        kind = leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
        kind = kind if isinstance(leaf, jax.Array) else jax.dtypes.canonicalize_dtype(kind)
        return jax.ShapeDtypeStruct((capacity, *leaf.shape[1:]), kind)

    return jax.tree.map(shape, units)


def _rows(leaf, indices):
    if isinstance(leaf, jax.Array):
        return _device_rows(leaf, indices)
    return jnp.asarray(np.take(leaf, indices, axis=0))


@jax.jit
def _device_rows(leaf, indices):
    return jnp.take(leaf, indices, axis=0, mode="clip")


class Prefetcher:
    """Gathers the next batch in a thread while the device works on the last."""

    def __init__(self, draw, rows):
        self._draw, self._rows = draw, rows
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="trustml-prefetch")

    def batches(self, start: int, stop: int):
        """The batches of steps `start` to `stop - 1`, in order."""
        ahead = [self._submit(step) for step in range(start, min(start + 1, stop))]
        for step in range(start + 1, stop + 1):
            ready = ahead.pop().result()
            if step < stop:
                ahead.append(self._submit(step))
            yield ready

    def _submit(self, step):
        return self._pool.submit(lambda: self._rows(self._draw(step)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._pool.shutdown(cancel_futures=True)
