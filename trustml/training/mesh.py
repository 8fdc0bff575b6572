"""Training on a mesh of devices: where rows, weights and optimizer state lie.

The mesh has an axis "data": the rows of a step are spread over it, and each device bounds and sums
its own. How the weights lie is the user's choice, made before `step.init`:

    mesh = jax.make_mesh((4, 2), ("data", "model"))
    step = trustml.private_step(loss_fn, optax.adamw(1e-3), plan, mesh=mesh)
    state = step.init(params)                       # data parallel: weights on every device
    state = step.init(fully_sharded(params, mesh))  # weights and optimizer state split over "data"
    specs = {"up": P(None, "model"), "down": P("model", None)}
    state = step.init(jax.device_put(params, {name: NamedSharding(mesh, spec) ...}))  # by layers

Axes other than "data" split the computation of a layer. Weights split over "data" are so at rest,
with all that the optimizer does; they are gathered for the sums of a step and released after them:
left to the compiler, it gathers rows instead.

Rows are dealt to the devices like cards, so padding, which ends a draw, falls on all alike, and a
micro-batch holds the units that it holds on one device. Results equal those of one device up to
rounding.

Several processes share a mesh after `jax.distributed.initialize`: each runs the same lines with the
whole data, from which it reads the rows of its devices. The noise key is the first one's; the draws
must be alike, so all are given one sampler seed or secret. `fit` keeps no folder for them.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from trustml.clipping.microbatch import round_robin
from trustml.clipping.trainable import path_name

_DATA = "data"
_MAKE = 'jax.make_mesh((8,), ("data",))'


class OnMesh:
    """Places the arrays of a step on a mesh.

    Attributes:
      mesh: The mesh, with axes of type Auto.
      shards: Size of its axis "data".
      rows: How arrays lie whose leading axis is the unit.
      whole: How arrays lie that every device holds.

    Raises:
      TypeError: It is no mesh.
      ValueError: It has no axis "data".
    """

    def __init__(self, mesh: Mesh):
        self.mesh = mesh = _automatic(mesh)
        self.shards = mesh.shape[_DATA]
        self.rows = NamedSharding(mesh, PartitionSpec(_DATA))
        self.whole = NamedSharding(mesh, PartitionSpec())
        self._take_spread = jax.jit(take_rows, out_shardings=self.rows)
        self._compared = -1  # the step whose draw the processes compared, or one after it

    def check_physical_batch_size(self, physical_batch_size: int | str | None) -> None:
        """Refuses micro-batches that the devices cannot share evenly.

        Raises:
          ValueError: It is a number that the size of the axis "data" does not divide.
        """
        if isinstance(physical_batch_size, int) and physical_batch_size % self.shards:
            near = max(1, round(physical_batch_size / self.shards)) * self.shards
            raise ValueError(
                f"`physical_batch_size` must be a multiple of {self.shards}, the size of the "
                f'mesh\'s axis "{_DATA}", got {physical_batch_size}. Use {near}.'
            )

    def padded(self, capacity: int) -> int:
        """Rows of a draw of `capacity`: as many on every device."""
        return -(-capacity // self.shards) * self.shards

    def positions(self, capacity: int) -> np.ndarray:
        """Position in the padded draw of each row, in the order in which rows lie."""
        return round_robin(np.arange(self.padded(capacity)), self.shards)

    def take(self, leaf, indices: np.ndarray) -> jax.Array:
        """Rows `indices` of `leaf`, spread over the mesh; a process reads those of its devices.

        Raises:
          ValueError: `leaf` lies on devices of another backend.
        """
        shape = (len(indices), *leaf.shape[1:])
        if not isinstance(leaf, jax.Array):
            kind = jax.dtypes.canonicalize_dtype(leaf.dtype)

            def part_of(index):
                return np.take(leaf, indices[index[0]], axis=0).astype(kind, copy=False)

            return jax.make_array_from_callback(shape, self.rows, part_of)
        self._check_backend(leaf)
        if not leaf.is_fully_addressable:
            return self._take_spread(leaf, indices)
        found = take_rows(leaf, indices)
        if self.rows.is_fully_addressable:
            return jax.device_put(found, self.rows)
        return jax.make_array_from_callback(shape, self.rows, lambda part: found[part])

    def _check_backend(self, leaf: jax.Array) -> None:
        mine = {device.platform for device in self.mesh.devices.flat}
        theirs = {device.platform for device in leaf.devices()}
        if theirs != mine:
            raise ValueError(
                f"`units` must be NumPy arrays or lie on the mesh's backend ({', '.join(mine)}), "
                f"got an array on {', '.join(sorted(theirs))}. Pass it through `np.asarray`."
            )

    def shardings(self, params: PyTree) -> PyTree:
        """How each leaf is to lie: as it does, if that is on this mesh, or else on every device.

        Raises:
          ValueError: A leaf was put on other devices or on another mesh.
        """
        return jax.tree_util.tree_map_with_path(self._sharding, params)

    def _sharding(self, path, leaf) -> NamedSharding:
        found = getattr(leaf, "sharding", None)
        if isinstance(found, NamedSharding) and _alike(found.mesh, self.mesh):
            return NamedSharding(self.mesh, found.spec)
        if found is None or not getattr(leaf, "committed", True):
            return self.whole
        if len(found.device_set) == 1 and found.device_set <= set(self.mesh.devices.flat):
            return self.whole
        names = ", ".join(sorted(str(device) for device in found.device_set)[:3])
        more = ", ..." if len(found.device_set) > 3 else ""
        raise ValueError(
            f"`params` must lie on `mesh` or on no chosen device, got `{path_name(path)}` on "
            f"another mesh or other devices ({names}{more}). Put it there by "
            "`jax.device_put(params, NamedSharding(mesh, P()))`, or use `fully_sharded`."
        )

    def place(self, tree: PyTree) -> PyTree:
        """`tree` with every leaf on the mesh; see `shardings`."""
        return jax.device_put(tree, self.shardings(tree))

    def settled(self, state: Any) -> Any:
        """A training state on the mesh: that of a resumed run brings its key from the host."""
        found = (state.key.sharding, state.step.sharding)
        if all(isinstance(each, NamedSharding) and each.mesh == self.mesh for each in found):
            return state
        return self.place(state)

    def laid_out(self, state: Any, params: PyTree) -> Any:
        """Shapes of a training state with their shardings; `params` as given to `shardings`."""
        lies = self.shardings(params)
        apart = state._replace(
            params=lies,
            opt_state=self.follow(state.opt_state, state.params, lies),
            key=self.whole,
            step=self.whole,
        )
        return jax.tree.map(
            lambda leaf, lies: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=lies),
            state,
            apart,
        )

    def follow(self, tree: PyTree, params: PyTree, shardings: PyTree) -> PyTree:
        """Shardings for `tree`: what is shaped like a parameter, under its name, lies like it.

        Args:
          tree: Shapes, such as those of an optimizer's state, whose names end in those of
            parameters.
          params: Shapes of the parameters.
          shardings: How they lie.
        """
        lies = jax.tree.leaves(shardings)
        known = {
            (*map(str, path), leaf.shape): sharding
            for (path, leaf), sharding in zip(jax.tree.leaves_with_path(params), lies, strict=True)
        }

        def sharding(path, leaf):
            names = (*map(str, path), leaf.shape)
            ends = (names[start:] for start in range(len(names)))
            return next((known[end] for end in ends if end in known), self.whole)

        return jax.tree_util.tree_map_with_path(sharding, tree)

    def gathered(self, tree: PyTree, shardings: PyTree) -> PyTree:
        """Within a program: `tree` without its split over "data"; other axes stay."""

        def gather(leaf, sharding):
            parts = [_without_data(part) for part in sharding.spec]
            spec = NamedSharding(self.mesh, PartitionSpec(*parts))
            return jax.lax.with_sharding_constraint(leaf, spec)

        return jax.tree.map(gather, tree, shardings)

    def in_order(self, leaf: jax.Array, size: int) -> jax.Array:
        """Within a program: rows as the draw has them, `size` of them, without the spare ones."""
        apart = leaf.reshape(self.shards, -1, *leaf.shape[1:])
        return apart.swapaxes(0, 1).reshape(leaf.shape)[:size]

    def shared(self, key: jax.Array) -> Any:
        """On several processes, the key of the first."""
        if self.mesh.is_multi_process:
            return np.asarray(multihost_utils.broadcast_one_to_all(np.asarray(key)))
        return key

    def check_draws(self, draw) -> None:
        """Refuses the first draw of a run in which several processes do not draw the same.

        Raises:
          ValueError: The sampler's secrets differ.
        """
        goes_on = draw.step == self._compared + 1
        self._compared = draw.step
        if (goes_on and draw.step) or not self.mesh.is_multi_process:
            return
        found = multihost_utils.process_allgather(np.asarray(draw.indices))
        if (np.asarray(found) != np.asarray(draw.indices)).any():
            raise ValueError(
                "`draw` must be the same on every process, got different ones. Give all of them "
                "one `seed`, or the 32 bytes of one secret, made by the first and sent to the rest."
            )


def fully_sharded(params: PyTree, mesh: Mesh) -> PyTree:
    """`params` with each leaf split over the mesh's axis "data", and the optimizer state with it.

    A leaf is split on its largest axis that the mesh divides, on the last only where no other is;
    one without such lies on every device.

    >>> mesh = jax.make_mesh((1,), ("data",))
    >>> fully_sharded({"w": jnp.zeros((3, 8))}, mesh)["w"].sharding.spec[0]
    'data'

    Args:
      params: Pytree of arrays, or of `jax.ShapeDtypeStruct` to compile ahead of time.
      mesh: With an axis "data".
    """
    mesh = _automatic(mesh)

    def place(leaf):
        shape = np.shape(leaf) if not hasattr(leaf, "shape") else leaf.shape
        axes = [axis for axis, size in enumerate(shape) if size and size % mesh.shape[_DATA] == 0]
        spec: list[Any] = [None] * len(shape)
        if axes:
            # Noise is drawn where it is needed in tiles along the last axis.
            spec[max(axes, key=lambda axis: (axis < len(shape) - 1, shape[axis]))] = _DATA
        sharding = NamedSharding(mesh, PartitionSpec(*spec))
        if isinstance(leaf, jax.ShapeDtypeStruct):
            return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=sharding)
        return jax.device_put(leaf, sharding)

    return jax.tree.map(place, params)


def _automatic(mesh: Mesh) -> Mesh:
    """The mesh with axes of type Auto, whatever theirs.

    The compiler then finds how what lies between rows and weights is split.

    Raises:
      TypeError: It is no mesh.
      ValueError: It has no axis "data".
    """
    if not isinstance(mesh, Mesh):
        raise TypeError(f"`mesh` must be a jax.sharding.Mesh, got {type(mesh).__name__}.")
    if _DATA not in mesh.axis_names:
        raise ValueError(
            f'`mesh` must have an axis "{_DATA}", over which the units are spread, got '
            f"{mesh.axis_names}. Make it by `{_MAKE}`."
        )
    return Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names))


def _alike(one: Any, two: Mesh) -> bool:
    return one.axis_names == two.axis_names and np.array_equal(one.devices, two.devices)


@jax.jit
def take_rows(leaf: jax.Array, indices: np.ndarray | jax.Array) -> jax.Array:
    """Rows of an array on its own device; numbers beyond its ends give the nearest."""
    return jnp.take(leaf, indices, axis=0, mode="clip")


def _without_data(part):
    if isinstance(part, tuple):
        rest = tuple(name for name in part if name != _DATA)
        return rest or None
    return None if part == _DATA else part
