"""Sites with a factor: dot products and lookups; `convolution.py` has the convolutions."""

import functools

import jax.numpy as jnp

from trustml.bookkeeping.convolution import conv_shape
from trustml.bookkeeping.factors import UNIT, Shape, loops_of
from trustml.bookkeeping.values import Data, Site, is_real


def factor_shape(site: Site, place: int) -> Shape | None:
    """The factor of one parameter input of a site, or None if no rule covers it."""
    if site.eqn is None or site.params != (place,):
        return None
    if not all(is_real(value.aval) for value in (site.inputs[place], site.outputs[0])):
        return None
    maker = {"dot_general": _dot, "gather": _gather, "conv_general_dilated": conv_shape}.get(
        site.name
    )
    return maker(site, place) if maker else None


def _dot(site: Site, place: int) -> Shape | None:
    value, other = site.inputs[place], site.inputs[1 - place]
    if not isinstance(other, Data):
        return None
    contract, batch = site.eqn.params["dimension_numbers"]
    (value_contract, other_contract) = (contract[place], contract[1 - place])
    (value_batch, other_batch) = (batch[place], batch[1 - place])
    keep_loops, shared_loops, sizes = loops_of(site, value)
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
    _, shared_loops, sizes = loops_of(site, value)
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
        prepare=functools.partial(_indices, str(params["mode"]), value.aval.shape[axis]),
        tie_axes=((), (axis,), tuple(place for place in range(value.aval.ndim) if place != axis)),
    )


def _indices(mode: str, entries: int, captured, cotangent):
    """Row indices as the lookup reads them: outside, the nearest entry, or -1 for none.

    The cotangent stays as it is: tables whose vectors are added then share one Gram matrix.
    """
    indices = captured[0][..., 0]
    if "FILL" in mode:
        inside = (indices >= 0) & (indices < entries)
        return jnp.where(inside, indices, -1), cotangent
    return jnp.clip(indices, 0, entries - 1), cotangent
