"""Bounded sums: for each unit compute a value, bound it, sum within groups."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from trustml.bookkeeping import Kept
from trustml.clipping import bounds as bounds_
from trustml.clipping.bounding import Bounding
from trustml.clipping.by_length import Cuts
from trustml.clipping.losses import check_arrays, lengths
from trustml.clipping.microbatch import in_microbatches, round_robin


class UnitInfo(NamedTuple):
    """Norm, clip factor and loss of each unit. Private: a release needs its own mechanism."""

    norm: Any  # l2 norm before the bound, float32 [unit]; one such array per bound
    clip_factor: Any  # applied, shaped like `norm`; 0 for padding and what is not finite
    loss: Float[Array, " unit"] | None = None
    aux: Any = None  # auxiliary output of the loss, stacked over units


class PerUnit(NamedTuple):
    """Per-unit values that a strategy has made ready, perhaps without building them."""

    values: Any  # `values.bounded(bounding)` gives a `trustml.bookkeeping.Bounded`
    structure: Any  # tree structure of the sums


def stacked_values(values, loss=None, aux=None) -> PerUnit:
    """The plain way: per-unit values as they stand, leading axis = unit. It is the oracle."""
    leaves, structure = jax.tree.flatten(values)
    wide = [leaf.astype(jnp.float32) for leaf in leaves]
    squares = [jnp.sum(jnp.square(leaf), axis=tuple(range(1, leaf.ndim))) for leaf in wide]

    def contract(weights, finite):
        def one(leaf, weight):
            shape = (-1,) + (1,) * (leaf.ndim - 1)
            # 0 * NaN is NaN: values that are not finite must be gone before the contraction.
            clean = jnp.where(finite.reshape(shape), leaf, 0.0)
            # TF32, the default on some GPUs, would blur the bound.
            return jnp.tensordot(weight, clean, axes=1, precision="highest")

        return [one(leaf, weight) for leaf, weight in zip(wide, weights, strict=True)]

    return PerUnit(Kept(squares, contract, loss, aux), structure)


def _bounded_contraction(per_unit: PerUnit, bounding: Bounding):
    """Turns per-unit squares into factors and factors into sums.

    Returns:
      `(sums, info)`; each leaf of `sums` has a leading group axis.
    """
    found = per_unit.values.bounded(bounding)
    shaped = bounding.bounds.shape_like_prefix
    info = UnitInfo(shaped(found.norms), shaped(found.factors), found.loss, found.aux)
    return jax.tree.unflatten(per_unit.structure, found.sums), info


class BoundedSum:
    """A function from units to grouped sums that knows its own sensitivity.

    Calling it with `(params, units, group=None, key=None)` gives `(sums, info)`. `units` is a
    pytree whose leaves share a leading unit axis; `group` is an integer vector, -1 drops the unit;
    with a JAX `key`, the function gets a third argument, a key folded from the unit's position in
    the logical batch. With `shards`, units lie as `trustml.clipping.microbatch.round_robin` deals
    them. With `cuts`, a micro-batch is cut to what its units hold.
    """

    def __init__(
        self,
        per_unit: Callable,
        *,
        clip_norm,
        num_groups: int,
        physical_batch_size,
        clipping: str,
        shards: int = 1,
        cuts: Cuts | None = None,
    ):
        bounds_.check_clip_norm(clip_norm)
        if clipping not in bounds_.CLIPPINGS:
            raise ValueError(f"`clipping` must be one of {bounds_.CLIPPINGS}, got {clipping!r}.")
        for name, value in (
            ("num_groups", num_groups),
            ("physical_batch_size", physical_batch_size or 1),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"`{name}` must be a positive integer, got {value!r}.")
        self._per_unit = per_unit
        self.clip_norm = clip_norm
        self.num_groups = num_groups
        self.physical_batch_size = physical_batch_size
        self.clipping = clipping
        self._shards, self._cuts = shards, cuts
        self._compiled = jax.jit(self._call)

    @property
    def sensitivity(self) -> float:
        """Add-or-remove-one l2 sensitivity of the sums, all groups and leaves together.

        Guarantee:
          A unit enters exactly one group, chosen by the unit alone, so adding or removing one unit
          moves the sums by at most this (replacing one: twice this), in exact arithmetic.
        """
        values = [float(value) for value in jax.tree.leaves(self.clip_norm)]
        return bounds_.Bounds(tuple(values), (), None).sensitivity

    def __call__(self, params, units, group=None, key=None, clip_norm=None):
        """Sums the bounded values of `units` within groups; see the class.

        `clip_norm`, shaped like that of the function, takes its place in this call: bounds that
        adapt. What `sensitivity` says is then of no use; noise must follow these.
        """
        size = check_units(units)
        group = check_group(group, size, self.num_groups)
        return self._compiled(params, units, group, key, clip_norm)

    def lower(self, params, units, group, key):
        """The program of a call, lowered for these arrays or shapes."""
        return self._compiled.lower(params, units, group, key)

    def _call(self, params, units, group, key, clip_norm=None):
        size = group.shape[0]
        keys = None
        if key is not None:
            keys = keys_of_units(key, size, self._shards)
        bound = self.clip_norm if clip_norm is None else clip_norm
        core = functools.partial(self._sum, params, bound)
        sums, info = in_microbatches(
            core, (units, keys), group, self.physical_batch_size, self._shards, self._cuts
        )
        if self.num_groups == 1:
            sums = jax.tree.map(lambda leaf: leaf[0], sums)
        return sums, info

    def _sum(self, params, clip_norm, units_and_keys, group):
        per_unit = self._per_unit(params, *units_and_keys)
        like = jax.tree.unflatten(per_unit.structure, range(per_unit.structure.num_leaves))
        bounds = bounds_.bounds_for(clip_norm, like)
        bounding = Bounding(bounds, self.clipping, group, self.num_groups)
        return _bounded_contraction(per_unit, bounding)


def bounded_sum(
    f: Callable,
    *,
    clip_norm,
    num_groups: int = 1,
    physical_batch_size: int | None = None,
    has_aux: bool = False,
    clipping: str = "flat",
) -> BoundedSum:
    """Sums `f(params, unit)` over units, each bounded, within groups.

    >>> total = bounded_sum(lambda shift, x: x - shift, clip_norm=1.0)
    >>> sums, info = total(jnp.array(0.0), jnp.array([0.5, 8.0]))
    >>> float(sums.round(4))
    1.5

    Args:
      f: `f(params, unit)`, or `f(params, unit, key)` when called with a key, to a pytree of arrays.
      clip_norm: L2 bound of one unit's value: a float, or a pytree prefix of `f`'s result for one
        bound per subtree. Infinity only drops values that are not finite.
      num_groups: With more than one, every leaf of the sums has a leading group axis.
      physical_batch_size: Units computed at a time; the result does not depend on it beyond
        rounding. With 1 a unit is computed without a batch axis: its loops run as long as it needs.
      has_aux: `f` returns `(value, aux)`; `info.aux` holds the second, stacked over units.
      clipping: `flat` for min(1, C / norm), `automatic` for C / (norm + 0.01).

    Returns:
      A `BoundedSum`: `sums` in float32 and `info` (`UnitInfo`, private).

    Guarantee:
      `sensitivity` bounds what one unit adds to `sums` in l2 norm, in exact arithmetic, for any
      `f` that sees one unit at a time, whatever the unit holds. Statistics taken across units
      inside `f` would void it; `f` gets no other unit to take them from.

    References:
      Abadi et al., Deep Learning with Differential Privacy, 2016, algorithm 1.
    """

    def per_unit(params, units, keys):
        rest = () if keys is None else (keys,)
        values = _each(functools.partial(f, params), (units, *rest))
        values, aux = values if has_aux else (values, None)
        return stacked_values(values, aux=aux)

    return BoundedSum(
        per_unit,
        clip_norm=clip_norm,
        num_groups=num_groups,
        physical_batch_size=physical_batch_size,
        clipping=clipping,
    )


def _each(f, units):
    """`f` of every unit, stacked; of a single one without `vmap`, which makes its loops wait."""
    if jax.tree.leaves(units)[0].shape[0] > 1:
        return jax.vmap(f)(*units)
    found = f(*jax.tree.map(lambda leaf: leaf[0], units))
    return jax.tree.map(lambda leaf: leaf[None], found)


def keys_of_units(key, size: int, shards: int = 1):
    """Keys folded from each unit's position in the logical batch, [unit]; see `round_robin`."""
    rows = jnp.arange(size)
    positions = rows if shards == 1 else round_robin(rows, shards)
    return jax.vmap(functools.partial(jax.random.fold_in, key))(positions)


def check_units(units) -> int:
    """Number of units: the leading axis that every leaf shares.

    Raises:
      ValueError: Leaves differ in length, or there is none.
      TypeError: They hold something else than numbers.
    """
    check_arrays(units)
    found = lengths(units)
    if len(set(found.values())) != 1 or "a scalar" in found.values():
        said = ", ".join(f"{length} at {place}" for place, length in found.items()) or "no leaf"
        raise ValueError(
            f"`units` must be a pytree whose leaves share one leading unit axis, got {said}."
        )
    size = int(next(iter(found.values())))
    if size == 0:
        raise ValueError("`units` must hold at least one unit, got 0; pad with group -1 instead.")
    return size


def check_group(group, size: int, num_groups: int) -> Int[Array, " unit"]:
    """Group of each unit as int32; by default all in group 0."""
    if group is None:
        return jnp.zeros(size, jnp.int32)
    if not isinstance(group, jax.core.Tracer):
        # By NumPy: under jit a concrete vector would turn into a tracer here.
        group = np.asarray(group)
    if group.shape != (size,) or not jnp.issubdtype(group.dtype, jnp.integer):
        raise ValueError(
            f"`group` must be an integer vector of {size} entries (one per unit, -1 drops it), "
            f"got {group.dtype} of shape {group.shape}."
        )
    if isinstance(group, np.ndarray) and group.max() >= num_groups:
        raise ValueError(f"`group` must stay below `num_groups` = {num_groups}, got {group.max()}.")
    return jnp.asarray(group, jnp.int32)
