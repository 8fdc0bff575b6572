"""Factors: per-unit gradients of dot products, lookups and convolutions as sums of outer products.

The gradient of one unit is, per kept index k, sum over t of outer(rows[k, t], cols[k, t]). Axes
carry labels as in `einsum`; sums, norms and contractions are then einsums over the natural arrays.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from trustml.bookkeeping.values import Hoisted, Site, to_float32

UNIT = "unit"


@dataclasses.dataclass(frozen=True, eq=False)
class Shape:
    """The form of a factor before there are arrays; labels are integers, strings or loops."""

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
    # Quicker ways than by rows and cols, where there are: (captured, cotangent) ->
    per_unit: Any = None  # gradients [unit, ...], in an order that `settled` turns to out_shape
    total: Any = None  # their sum [*out_shape]
    settled: Any = None  # one such gradient -> [*out_shape]
    tie_axes: tuple | None = None  # (keep, row, col) as axes of the value's array

    def count(self, labels) -> int:
        """Number of entries over `labels`."""
        return math.prod(self.sizes[label] for label in labels)


def loops_of(site: Site, value: Hoisted):
    """Loops that the value follows, those that it does not, and the lengths of all."""
    keep = tuple(loop for loop in site.loops if loop in value.stack)
    shared = tuple(loop for loop in site.loops if loop not in value.stack)
    return keep, shared, {loop: loop.length for loop in site.loops}


class Factor:
    """A factor with its arrays, in float32."""

    def __init__(self, shape: Shape, captured, cotangent):
        self.shape, self._captured, self._cotangent = shape, captured, cotangent

    @functools.cached_property
    def _operands(self):
        rows, cols = self._captured[0], self._cotangent
        if self.shape.prepare is not None:
            rows, cols = self.shape.prepare(self._captured, cols)
        return rows if self.shape.lookup else to_float32(rows), to_float32(cols)

    @property
    def rows(self):
        """Labelled `shape.row_labels`; of a lookup, indices."""
        return self._operands[0]

    @property
    def cols(self):
        """Labelled `shape.col_labels`."""
        return self._operands[1]

    @property
    def _scales_rows(self) -> bool:
        """Scaling is a pass over memory: over the smaller operand."""
        return not self.shape.lookup and self.rows.size <= self.cols.size

    def unscaled(self):
        """`(array, unit axis)` of the operand that the weighted sum reads as it is."""
        if self.shape.lookup:
            return None
        if self.shape.total is not None:
            return self._captured[0], 0
        if self._scales_rows:
            return self.cols, self.shape.col_labels.index(UNIT)
        return self.rows, self.shape.row_labels.index(UNIT)

    def kept(self):
        """Per-unit gradients [unit, ...], and what makes of one of them a gradient of the value.

        Their entries may stand in another order than those of the value, at less cost.
        """
        if self.shape.per_unit is not None:
            return self.shape.per_unit(self._captured, self._cotangent), self.shape.settled
        if self.shape.lookup:
            return jax.vmap(self._scatter)(*self._flat()), same
        out = (UNIT, *self.shape.out_labels)
        found = einsum(self.rows, self.shape.row_labels, self.cols, self.shape.col_labels, out)
        return found.reshape(found.shape[0], *self.shape.out_shape), same

    def materialised(self):
        """Per-unit gradients of the value, [unit, ...]."""
        gradients, settled = self.kept()
        return jax.vmap(settled)(gradients)

    def weighted_sum(self, weight, unscaled=None):
        """Sum over units of weight [unit] times the unit's gradient.

        Args:
          weight: One number per unit; a unit of weight zero may hold anything in the operand that
            is scaled. None: the plain sum.
          unscaled: Replaces the other operand, where it must be finite.
        """
        shape = self.shape
        if shape.lookup:
            rows, cols = self._flat()
            cols = cols if weight is None else _scaled(cols, weight[:, None, None])
            return self._scatter(rows.reshape(-1), cols.reshape(-1, cols.shape[-1]))
        if shape.total is not None:
            cotangent = self._cotangent
            if weight is not None:
                cotangent = _scaled(cotangent, along(weight, (UNIT, *cotangent.shape[1:])))
            held = self._captured if unscaled is None else [unscaled]
            return shape.total(held, cotangent)
        rows, cols = self.rows, self.cols
        if weight is None:
            pass
        elif self._scales_rows:
            rows = _scaled(rows, along(weight, shape.row_labels))
            cols = cols if unscaled is None else unscaled
        else:
            cols = _scaled(cols, along(weight, shape.col_labels))
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
        entries = shape.sizes["entry"]
        rows = jnp.where(rows < 0, entries, rows)  # dropped; -1 would be the last entry
        table = jnp.zeros((entries, cols.shape[-1]), jnp.float32).at[rows].add(cols, mode="drop")
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


def same(array):
    """The array."""
    return array


def _scaled(array, weight):
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
    one, one_labels, two, two_labels = _merged(one, one_labels, two, two_labels, out_labels)
    numbers: dict = {}
    for label in (*one_labels, *two_labels):
        numbers.setdefault(label, len(numbers))
    labels = (one_labels, two_labels, out_labels)
    return _einsum(one, two, tuple(tuple(numbers[label] for label in each) for each in labels))


def _merged(one, one_labels, two, two_labels, out_labels):
    """The same operands, what is summed over as one axis where both hold it in one run.

    XLA's CPU code turns an operand around, in memory, to sum over two axes, but not over one.
    """
    summed = [label for label in one_labels if label in two_labels and label not in out_labels]

    def joined(array, labels):
        at = labels.index(summed[0])
        if list(labels[at : at + len(summed)]) != summed:
            return None
        after = at + len(summed)
        shape = (*array.shape[:at], math.prod(array.shape[at:after]), *array.shape[after:])
        return array.reshape(shape), (*labels[: at + 1], *labels[after:])

    if len(summed) < 2:
        return one, one_labels, two, two_labels
    found = joined(one, one_labels), joined(two, two_labels)
    return (one, one_labels, two, two_labels) if None in found else (*found[0], *found[1])


@functools.partial(jax.jit, static_argnums=2)  # products of one shape are traced once
def _einsum(one, two, labels):
    return jnp.einsum(
        one,
        labels[0],
        two,
        labels[1],
        labels[2],
        # TF32, the default on some GPUs, would blur the bound.
        precision="highest",
        preferred_element_type=jnp.float32,
    )
