"""Factors: per-unit gradients of dot products, lookups and convolutions as sums of outer products.

The gradient of one unit is, per kept index k, sum over t of outer(rows[k, t], cols[k, t]). Axes
carry labels as in `einsum`; sums, norms and contractions are then einsums over the natural arrays.
"""

import dataclasses
import functools
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp

from trustml.bookkeeping.values import Data, Hoisted, Site, is_real, wide

UNIT = "unit"


@dataclasses.dataclass(frozen=True, eq=False)
class Shape:
    """What a factor looks like before there are arrays; labels are integers, strings or loops."""

    site: Site
    place: int  # which input of the site is the parameter's value
    row_labels: tuple
    col_labels: tuple
    keep: tuple
    shared: tuple
    row: tuple
    col: tuple
    out_labels: tuple
    out_shape: tuple[int, ...]  # of the value's array, loop axes included
    sizes: dict
    lookup: bool = False  # rows are indices into the single row label
    prepare: Any = None  # (captured, cotangent) -> (rows, cols)
    tie_axes: tuple | None = None  # (keep, row, col) as axes of the value's array

    def count(self, labels) -> int:
        """Number of entries over `labels`."""
        return math.prod(self.sizes[label] for label in labels)


def factor_shape(site: Site, place: int) -> Shape | None:
    """The factor of one parameter input of a site, or None if no rule covers it."""
    if site.eqn is None or site.params != (place,):
        return None
    if not all(is_real(value.aval) for value in (site.inputs[place], site.outputs[0])):
        return None
    maker = {"dot_general": _dot, "gather": _gather, "conv_general_dilated": _conv}.get(site.name)
    return maker(site, place) if maker else None


def _loops(site: Site, value: Hoisted):
    keep = tuple(loop for loop in site.loops if loop in value.stack)
    shared = tuple(loop for loop in site.loops if loop not in value.stack)
    return keep, shared, {loop: loop.length for loop in site.loops}


def _dot(site: Site, place: int) -> Shape | None:
    value, other = site.inputs[place], site.inputs[1 - place]
    if not isinstance(other, Data):
        return None
    contract, batch = site.eqn.params["dimension_numbers"]
    (value_contract, other_contract) = (contract[place], contract[1 - place])
    (value_batch, other_batch) = (batch[place], batch[1 - place])
    keep_loops, shared_loops, sizes = _loops(site, value)
    value_labels: list = [f"free{axis}" for axis in range(value.aval.ndim)]
    other_labels: list = [f"time{axis}" for axis in range(other.aval.ndim)]
    for kind, ours, theirs in (
        ("contract", value_contract, other_contract),
        ("batch", value_batch, other_batch),
    ):
        for number, (mine, yours) in enumerate(zip(ours, theirs, strict=True)):
            value_labels[mine] = other_labels[yours] = f"{kind}{number}"
    sizes |= dict(zip(value_labels, value.aval.shape, strict=True))
    sizes |= dict(zip(other_labels, other.aval.shape, strict=True))
    batches = [label for label in value_labels if label.startswith("batch")]
    batches.sort(key=lambda label: int(label[5:]))
    free = [label for label in value_labels if label.startswith("free")]
    time = [label for label in other_labels if label.startswith("time")]
    out = (free, time) if place == 0 else (time, free)
    row = tuple(label for label in value_labels if label.startswith("contract"))
    depth = len(value.stack)
    axis_of = {label: depth + axis for axis, label in enumerate(value_labels)}
    axis_of |= {loop: axis for axis, loop in enumerate(value.stack)}
    keep = (*keep_loops, *batches)
    return Shape(
        site,
        place,
        row_labels=(*site.loops, UNIT, *other_labels),
        col_labels=(*site.loops, UNIT, *batches, *out[0], *out[1]),
        keep=keep,
        shared=(*shared_loops, *time),
        row=row,
        col=tuple(free),
        out_labels=(*value.stack, *value_labels),
        out_shape=(*(loop.length for loop in value.stack), *value.aval.shape),
        sizes=sizes,
        tie_axes=tuple(
            tuple(axis_of[label] for label in labels) for labels in (keep, row, tuple(free))
        ),
    )


def _gather(site: Site, place: int) -> Shape | None:
    value, indices = site.inputs[place], site.inputs[1]
    numbers, params = site.eqn.params["dimension_numbers"], site.eqn.params
    if place != 0 or value.stack or not isinstance(indices, Data):
        return None
    if len(numbers.start_index_map) != 1 or numbers.operand_batching_dims:
        return None
    (axis,) = numbers.start_index_map
    whole = [1 if place == axis else n for place, n in enumerate(value.aval.shape)]
    if numbers.collapsed_slice_dims != (axis,) or list(params["slice_sizes"]) != whole:
        return None
    _, shared_loops, sizes = _loops(site, value)
    value_labels: list = [f"free{place}" for place in range(value.aval.ndim)]
    value_labels[axis] = "entry"
    free = [label for label in value_labels if label != "entry"]
    time = [f"time{place}" for place in range(indices.aval.ndim - 1)]
    out: list = [None] * site.outputs[0].aval.ndim
    for label, position in zip(free, numbers.offset_dims, strict=True):
        out[position] = label
    rest = iter(time)
    out = [label if label is not None else next(rest) for label in out]
    sizes |= dict(zip(value_labels, value.aval.shape, strict=True))
    sizes |= dict(zip(time, indices.aval.shape, strict=False))
    return Shape(
        site,
        place,
        row_labels=(*site.loops, UNIT, *time),
        col_labels=(*site.loops, UNIT, *out),
        keep=(),
        shared=(*shared_loops, *time),
        row=("entry",),
        col=tuple(free),
        out_labels=tuple(value_labels),
        out_shape=value.aval.shape,
        sizes=sizes,
        lookup=True,
        prepare=functools.partial(
            _indices,
            str(params["mode"]),
            value.aval.shape[axis],
            tuple(len(site.loops) + 1 + axis for axis, label in enumerate(out) if label in free),
        ),
        tie_axes=((), (axis,), tuple(place for place in range(value.aval.ndim) if place != axis)),
    )


def _indices(mode: str, entries: int, offset_axes, captured, cotangent):
    """Row indices as the lookup reads them; entries outside give no gradient or the nearest."""
    indices = captured[0][..., 0]
    if "FILL" in mode:
        inside = (indices >= 0) & (indices < entries)
        cotangent = jnp.where(jnp.expand_dims(inside, offset_axes), cotangent, 0)
    return jnp.clip(indices, 0, entries - 1), cotangent


def _conv(site: Site, place: int) -> Shape | None:
    value, image = site.inputs[1], site.inputs[0]
    params = site.eqn.params
    if place != 1 or not isinstance(image, Data) or params["batch_group_count"] != 1:
        return None
    numbers = params["dimension_numbers"]
    groups = params["feature_group_count"]
    keep_loops, shared_loops, sizes = _loops(site, value)
    kernel = [value.aval.shape[axis] for axis in numbers.rhs_spec]
    window = kernel[2:]
    out_shape = [site.outputs[0].aval.shape[axis] for axis in numbers.out_spec]
    space = [f"time{number}" for number in range(len(window))]
    taps = [f"tap{number}" for number in range(len(window))]
    sizes |= {"example": out_shape[0], "group": groups}
    sizes |= dict(zip(space, out_shape[2:], strict=True))
    sizes |= dict(zip(taps, window, strict=True))
    sizes |= {"in": kernel[1], "out": kernel[0] // groups}
    group = ("group",) if groups > 1 else ()
    by_axis: dict = {numbers.rhs_spec[0]: (*group, "out"), numbers.rhs_spec[1]: ("in",)}
    by_axis |= {axis: (label,) for axis, label in zip(numbers.rhs_spec[2:], taps, strict=True)}
    value_labels = [label for axis in range(value.aval.ndim) for label in by_axis[axis]]
    return Shape(
        site,
        place,
        row_labels=(*site.loops, UNIT, "example", *space, *taps, *group, "in"),
        col_labels=(*site.loops, UNIT, "example", *space, *group, "out"),
        keep=(*keep_loops, *group),
        shared=(*shared_loops, "example", *space),
        row=(*taps, "in"),
        col=("out",),
        out_labels=(*value.stack, *value_labels),
        out_shape=(*(loop.length for loop in value.stack), *value.aval.shape),
        sizes=sizes,
        prepare=functools.partial(_patches, site, tuple(window), groups),
    )


def _patches(site: Site, window, groups: int, captured, cotangent):
    """Windows of the image, channels last: slices, joined on the channel axis."""
    params, lead = site.eqn.params, len(site.loops) + 1
    numbers = params["dimension_numbers"]

    def channels_last(array, spec):
        order = (spec[0], *spec[2:], spec[1])
        return jnp.transpose(array, (*range(lead), *(lead + axis for axis in order)))

    image = channels_last(captured[0], numbers.lhs_spec)
    cols = channels_last(cotangent, numbers.out_spec)
    padding = [(0, 0, 0)] * (lead + 1)
    for (low, high), dilation in zip(params["padding"], params["lhs_dilation"], strict=True):
        padding.append((low, high, dilation - 1))
    padding.append((0, 0, 0))
    image = jax.lax.pad(image, jnp.zeros((), image.dtype), padding)
    out_space = cols.shape[lead + 1 : -1]
    pieces = []
    for offset in itertools.product(*map(range, window)):
        starts, stops, strides = [0] * image.ndim, list(image.shape), [1] * image.ndim
        for axis, (place, size) in enumerate(zip(offset, out_space, strict=True)):
            start = place * params["rhs_dilation"][axis]
            stride = params["window_strides"][axis]
            starts[lead + 1 + axis] = start
            stops[lead + 1 + axis] = start + (size - 1) * stride + 1
            strides[lead + 1 + axis] = stride
        pieces.append(jax.lax.slice(image, starts, stops, strides))
    rows = jnp.concatenate(pieces, axis=-1) if len(pieces) > 1 else pieces[0]
    channels = image.shape[-1]
    split = (groups, channels // groups) if groups > 1 else (channels,)
    rows = rows.reshape(*rows.shape[:-1], *window, *split)
    if groups > 1:
        cols = cols.reshape(*cols.shape[:-1], groups, cols.shape[-1] // groups)
    return rows, cols


class Factor:
    """A factor with its arrays, in float32."""

    def __init__(self, shape: Shape, captured, cotangent):
        self.shape = shape
        rows, cols = captured[0], cotangent
        if shape.prepare is not None:
            rows, cols = shape.prepare(captured, cotangent)
        self.rows = rows if shape.lookup else wide(rows)
        self.cols = wide(cols)

    @property
    def _scales_rows(self) -> bool:
        """Scaling is a pass over memory: over the smaller operand."""
        return not self.shape.lookup and self.rows.size <= self.cols.size

    def unscaled(self):
        """`(array, unit axis)` of the operand that the weighted sum reads as it is."""
        if self.shape.lookup or not self._scales_rows:
            rows = self.shape.row_labels.index(UNIT)
            return None if self.shape.lookup else (self.rows, rows)
        return self.cols, self.shape.col_labels.index(UNIT)

    def materialised(self):
        """Per-unit gradients of the value, [unit, ...]."""
        if self.shape.lookup:
            return jax.vmap(self._scatter)(*self._flat())
        out = (UNIT, *self.shape.out_labels)
        found = einsum(self.rows, self.shape.row_labels, self.cols, self.shape.col_labels, out)
        return found.reshape(found.shape[0], *self.shape.out_shape)

    def weighted_sum(self, weight, unscaled=None):
        """Sum over units of weight [unit] times the unit's gradient.

        Args:
          weight: One number per unit; a unit of weight zero may hold anything in the operand that
            is scaled. None: the plain sum.
          unscaled: Replaces the other operand, where it must be finite.
        """
        shape, rows, cols = self.shape, self.rows, self.cols
        if shape.lookup:
            rows, cols = self._flat()
            cols = cols if weight is None else scaled(cols, weight[:, None, None])
            return self._scatter(rows.reshape(-1), cols.reshape(-1, cols.shape[-1]))
        if weight is None:
            pass
        elif self._scales_rows:
            rows = scaled(rows, along(weight, shape.row_labels))
            cols = cols if unscaled is None else unscaled
        else:
            cols = scaled(cols, along(weight, shape.col_labels))
            rows = rows if unscaled is None else unscaled
        found = einsum(rows, shape.row_labels, cols, shape.col_labels, shape.out_labels)
        return found.reshape(shape.out_shape)

    def _flat(self):
        """Lookup: indices [unit, time] and cotangents [unit, time, entries of a row]."""
        shape = self.shape
        rows = arranged(self.rows, shape.row_labels, (UNIT, *shape.shared))
        cols = arranged(self.cols, shape.col_labels, (UNIT, *shape.shared, *shape.col))
        times = shape.count(shape.shared)
        return rows.reshape(-1, times), cols.reshape(rows.shape[0], times, -1)

    def _scatter(self, rows, cols):
        shape = self.shape
        table = jnp.zeros((shape.sizes["entry"], cols.shape[-1]), jnp.float32).at[rows].add(cols)
        labels = ("entry", *shape.col)
        table = table.reshape([shape.sizes[label] for label in labels])
        return arranged(table, labels, shape.out_labels)

    def normal(self, row, col):
        """`(rows [unit, keep, time, row], cols [unit, keep, time, col])` in the label order given.

        Rows of a lookup stay indices, [unit, keep, time].
        """
        shape = self.shape
        lead = (UNIT, *shape.keep, *shape.shared)
        batch = self.cols.shape[shape.col_labels.index(UNIT)]
        sizes = (batch, shape.count(shape.keep), shape.count(shape.shared))
        cols = arranged(self.cols, shape.col_labels, (*lead, *col)).reshape(*sizes, -1)
        if shape.lookup:
            return arranged(self.rows, shape.row_labels, lead).reshape(sizes), cols
        return arranged(self.rows, shape.row_labels, (*lead, *row)).reshape(*sizes, -1), cols


def scaled(array, weight):
    """The product, and zero where the weight is: 0 * NaN is NaN."""
    return jnp.where(weight == 0, 0.0, array * weight)


def along(vector, labels):
    """A vector over units, shaped to multiply an array with these labels."""
    return jnp.expand_dims(
        vector, tuple(place for place, label in enumerate(labels) if label != UNIT)
    )


def arranged(array, labels, order):
    """`array` with its axes in another order."""
    return jnp.transpose(array, [labels.index(label) for label in order])


def einsum(one, one_labels, two, two_labels, out_labels):
    """Einsum over labels of any kind, accumulated in float32."""
    numbers: dict = {}
    for label in (*one_labels, *two_labels):
        numbers.setdefault(label, len(numbers))
    return jnp.einsum(
        one,
        [numbers[label] for label in one_labels],
        two,
        [numbers[label] for label in two_labels],
        [numbers[label] for label in out_labels],
        # TF32, the default on some GPUs, would blur the bound.
        precision="highest",
        preferred_element_type=jnp.float32,
    )
