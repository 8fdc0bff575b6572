"""The factor of a convolution's kernel, and quicker ways to its per-unit gradients and sum."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp

from trustml.bookkeeping import cost
from trustml.bookkeeping.factors import UNIT, Shape, arranged, loops_of
from trustml.bookkeeping.layout import channels_last
from trustml.bookkeeping.values import Data, Site, to_float32


def conv_shape(site: Site, place: int) -> Shape | None:
    """The factor of a kernel: rows are windows of the image; None where the kernel is not one."""
    value, image = site.inputs[1], site.inputs[0]
    params = site.eqn.params
    if place != 1 or not isinstance(image, Data) or params["batch_group_count"] != 1:
        return None
    numbers = params["dimension_numbers"]
    groups = params["feature_group_count"]
    keep_loops, shared_loops, sizes = loops_of(site, value)
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
    plain = not site.loops and all(
        array.aval.dtype == jnp.float32 for array in (image, value, site.outputs[0])
    )
    windows = _Windows(site, groups, tuple(window))
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
        prepare=windows.rows_and_cols,
        per_unit=None if site.loops else functools.partial(_per_unit, windows),
        settled=functools.partial(_settled, windows, value_labels),
        total=functools.partial(_total, site) if plain else None,
    )


class _Windows:
    """The windows of an image that a convolution reads, channels last."""

    def __init__(self, site: Site, groups: int, window: tuple[int, ...]):
        self.params, self.groups, self.window = site.eqn.params, groups, window
        self.kernel = site.inputs[1].aval.shape
        spec = self.params["dimension_numbers"]
        self._image_channels = site.inputs[0].aval.shape[spec.lhs_spec[1]]
        self._channels = site.outputs[0].aval.shape[spec.out_spec[1]]
        self._lead = len(site.loops) + 1  # axes before the convolution's own

    def arrays(self, captured, cotangent, lead: int):
        """Padded image and cotangent, [*lead, example, *space, channels]."""
        numbers = self.params["dimension_numbers"]

        def channels_last(array, spec):
            order = (spec[0], *spec[2:], spec[1])
            return jnp.transpose(array, (*range(lead), *(lead + axis for axis in order)))

        image = channels_last(captured[0], numbers.lhs_spec)
        padding = [(0, 0, 0)] * (lead + 1)
        for (low, high), dilation in zip(
            self.params["padding"], self.params["lhs_dilation"], strict=True
        ):
            padding.append((low, high, dilation - 1))
        padding.append((0, 0, 0))
        image = jax.lax.pad(image, jnp.zeros((), image.dtype), padding)
        return image, channels_last(cotangent, numbers.out_spec)

    def seen(self, image, number: int, tap: int, size: int, axis: int):
        """Positions under a tap of the `number`-th axis of space, for `size` of the output."""
        start = tap * self.params["rhs_dilation"][number]
        stride = self.params["window_strides"][number]
        return jax.lax.slice_in_dim(image, start, start + (size - 1) * stride + 1, stride, axis)

    def strip_bytes(self, cotangent) -> int:
        """Bytes of one unit's windows along the last axis of space, [unit, ...] in float32."""
        places = math.prod(cotangent.shape[1:]) // self._channels
        return 4 * places * self.window[-1] * self._image_channels

    def split(self, array):
        """The last axis as groups and channels of a group, where there are groups."""
        if self.groups == 1:
            return array
        return array.reshape(*array.shape[:-1], self.groups, array.shape[-1] // self.groups)

    def rows_and_cols(self, captured, cotangent):
        """The operands of the factor, in the order of its labels."""
        lead = self._lead
        image, cols = self.arrays(captured, cotangent, lead)
        space = cols.shape[lead + 1 : -1]
        pieces = []
        for taps in itertools.product(*map(range, self.window)):
            piece = image
            for number, (tap, size) in enumerate(zip(taps, space, strict=True)):
                piece = self.seen(piece, number, tap, size, lead + 1 + number)
            pieces.append(piece)
        rows = jnp.concatenate(pieces, axis=-1) if len(pieces) > 1 else pieces[0]
        rows = rows.reshape(*rows.shape[:-1], *self.window, image.shape[-1])
        return self.split(rows), self.split(cols)


def _per_unit(windows: _Windows, captured, cotangent):
    """Per-unit gradients, few units at a time: their windows stay in the cache.

    Windows are joined along the last axis of space; along the others they are terms of a sum. A
    kernel of 3x3 then copies its image three times, not nine.

    Returns:
      [unit, *other taps, (group,) out, last tap, in]: `_settled` puts the sum in order, since all
      units' gradients take a copy of them.
    """
    last = len(windows.window) - 1
    numbers = windows.params["dimension_numbers"]
    shapes = captured[0].shape[1:], cotangent.shape[1:]

    def of_unit(arrays):
        arrays = [array.reshape(shape) for array, shape in zip(arrays, shapes, strict=True)]
        image, cols = windows.arrays(arrays[:1], arrays[1], 0)
        space, cols = cols.shape[1:-1], to_float32(windows.split(cols))
        taps = range(windows.window[last])
        strip = [windows.seen(image, last, tap, space[last], 1 + last) for tap in taps]
        strip = to_float32(jnp.concatenate(strip, axis=-1))
        found = []
        for others in itertools.product(*map(range, windows.window[:last])):
            piece = strip
            for number, tap in enumerate(others):
                piece = windows.seen(piece, number, tap, space[number], 1 + number)
            rows = windows.split(piece.reshape(*piece.shape[:-1], windows.window[last], -1))
            found.append(_outer_products(cols, rows, 2 + last))
        return jnp.stack(found)

    few = cost.units_in_cache(len(cotangent), windows.strip_bytes(cotangent))
    # An axis of one example would have XLA's CPU code copy all images into the loop.
    image = _without(captured[0], 1 + numbers.lhs_spec[0])
    found = _few_at_a_time(of_unit, (image, _without(cotangent, 1 + numbers.out_spec[0])), few)
    return found.reshape(len(cotangent), *windows.window[:last], *found.shape[2:])


def _without(array, axis: int):
    return jnp.squeeze(array, axis) if array.shape[axis] == 1 else array


def _settled(windows: _Windows, value_labels, gradient):
    """A gradient that `_per_unit` ordered, as the kernel has it."""
    last = len(windows.window) - 1
    group = ("group",) if windows.groups > 1 else ()
    taps = [f"tap{number}" for number in range(last + 1)]
    labels = (*taps[:last], *group, "out", taps[last], "in")
    return arranged(gradient, labels, tuple(value_labels)).reshape(windows.kernel)


def _outer_products(cols, rows, places: int):
    """Sums over places: [..., (group,) out] and [..., tap, (group,) in] to [(group,) out, tap, in].

    The larger operand comes second: XLA would copy it to turn it were it the first.
    """
    cols = cols.reshape(-1, *cols.shape[places:])
    rows = rows.reshape(-1, *rows.shape[places:])
    form = "to,tki->oki" if cols.ndim == 2 else "tgo,tkgi->goki"
    return jnp.einsum(form, cols, rows, precision="highest")


def _few_at_a_time(function, arrays, few: int):
    """`function` of each unit, `few` at a time; all at once where that is the whole batch."""
    if few >= len(arrays[0]):
        return jax.vmap(function)(arrays)
    return jax.lax.map(function, arrays, batch_size=few)


def _total(site: Site, captured, cotangent):
    """The gradient summed over units: the convolution's own, at full precision."""
    highest = (jax.lax.Precision.HIGHEST,) * 2

    def batch(kernel):
        params = {**site.eqn.params, "precision": highest}
        return jax.vmap(lambda image: site.eqn.primitive.bind(image, kernel, **params))(captured[0])

    kernel = site.inputs[1].aval
    like = jax.ShapeDtypeStruct(kernel.shape, kernel.dtype)
    transpose = jax.linear_transpose(batch, like)
    return channels_last(lambda total: transpose(total)[0], cotangent)
