"""Learns the open parts of a table's schema within the budget: ranges, categories and classes.

A range: a noisy histogram over fixed bins, signs and powers of two, finds the order of magnitude,
and one over equal parts of what it found narrows it. Neither assumes a range. Categories and
classes: a noisy histogram of the values that occur, cut at a threshold (`HistogramPlan`).
"""

import dataclasses
import math
from typing import Any

import jax
import numpy as np

from trustml.data.tables import CategoryColumn, NumberColumn, Table, TableSchema
from trustml.data.tables.table import Texts
from trustml.plan import Charge, HistogramPlan

_DELTA_PARTS = 10  # of the delta of the run, of which the schema gets one
_LEAST, _MOST = -32, 64  # powers of two; beyond them numbers count in the last bins
_PARTS = 64  # equal parts of a range that is to be narrowed
_PER_NUMBER = 2  # histograms of one column
_HOW = (
    "noisy histograms of {parts}, of {rows}: {histograms} with discrete "
    "Gaussian noise of standard deviation {stddev:.4g}, values shown from {threshold} on"
)


def schema_plan(
    table: TableSchema,
    *,
    epsilon: float,
    delta: float,
    num_units: int,
    rows_per_unit: int,
    adjacency: str,
) -> HistogramPlan:
    """The plan of the histograms that the open parts of `table` need.

    Args:
      table: With open parts.
      epsilon: Budget for them.
      delta: Of the whole run, of which they get a tenth.
      num_units: Units of the training, public.
      rows_per_unit: Largest number of rows of one unit.
      adjacency: Of the run.

    Raises:
      ValueError: The budget is out of range, or too small for so few units.
    """
    numbers = sum(isinstance(column, NumberColumn) for column in _open_columns(table))
    texts = len(table.open_parts) - numbers
    plan = HistogramPlan.calibrate(
        epsilon=epsilon,
        delta=delta / _DELTA_PARTS,
        num_histograms=_PER_NUMBER * numbers + texts,
        num_open=texts,
        rows_per_unit=rows_per_unit,
        adjacency=adjacency,
    )
    least = max(plan.threshold, plan.visible)
    if 2 * least > num_units * rows_per_unit:
        raise ValueError(
            f"`--learn-schema` must be larger for {num_units} units, got {epsilon}: a value "
            f"shows from {math.ceil(least)} rows on. Give more of the schema by `--schema`, whose "
            "public parts cost nothing."
        )
    return plan


def charge_of(plan: HistogramPlan, table: TableSchema, *, epsilon: float, unit: str) -> Charge:
    """What the release costs, in the terms of a ledger and a statement."""
    rows = plan.rows_per_unit
    how = _HOW.format(
        parts=", ".join(table.open_parts),
        rows=f"at most {rows} rows of each {unit}" if rows > 1 else f"one row of each {unit}",
        histograms=plan.num_histograms,
        stddev=plan.stddev,
        threshold=plan.threshold,
    )
    return Charge("schema", epsilon, plan.delta, how)


def learn_schema(
    rows: Table, table: TableSchema, plan: HistogramPlan, key: jax.Array
) -> TableSchema:
    """The schema with its open parts learned from `rows`.

    Args:
      rows: At most `plan.rows_per_unit` of each unit: the choice must depend on the unit alone.
      table: With open parts.
      plan: From `schema_plan`.
      key: 256 secret bits that serve nothing else.

    Guarantee:
      `plan` promises what the schema shows of one unit. All else in it is computed from the noisy
      histograms and the parts that were known.

    Raises:
      ValueError: Fewer than two classes show. The budget is spent.
    """
    learner = _Learner(plan, key)
    columns = tuple(
        learner.column(column, values) if column.is_open else column
        for column, values in zip(table.columns, rows.columns, strict=True)
    )
    labels = table.labels
    if labels is None:
        labels = learner.values(rows.labels)
        if len(labels) < 2:
            raise ValueError(
                f"`--learn-schema` found fewer than two classes in column {table.label!r}, each "
                f"of which must have about {plan.threshold} rows. Its budget is spent, as the "
                "ledger says. List `labels` in a schema, and start a new run with it."
            )
    return dataclasses.replace(table, columns=columns, labels=labels, learned=True)


def placeholder(table: TableSchema) -> TableSchema:
    """A schema of the same columns with nothing open: to check settings before a release.

    >>> opened = TableSchema(columns=(NumberColumn(name="age"),), label="income")
    >>> opened.is_open, placeholder(opened).is_open
    (True, False)
    """
    columns = tuple(
        column
        if not column.is_open
        else _with(column, low=-1.0, high=1.0)
        if isinstance(column, NumberColumn)
        else _with(column, values=())
        for column in table.columns
    )
    labels = ("0", "1") if table.labels is None else table.labels
    return dataclasses.replace(table, columns=columns, labels=labels, learned=True)


class _Learner:
    """Releases histograms one by one, each with noise of its own."""

    def __init__(self, plan: HistogramPlan, key: jax.Array):
        self._plan, self._key, self._number = plan, key, 0

    def column(self, column: NumberColumn | CategoryColumn, values: Any):
        if isinstance(column, CategoryColumn):
            return _with(column, values=self.values(values))
        low, high = self._range(values[~np.isnan(values)])
        return _with(column, low=low, high=high)

    def values(self, texts: Texts) -> tuple[str, ...]:
        counts = np.bincount(texts.codes[texts.codes >= 0], minlength=len(texts.names))
        named = dict(zip(texts.names, counts.tolist(), strict=True))
        return self._plan.released_values(named, self._key, self._next())

    def _range(self, values: np.ndarray) -> tuple[float, float]:
        """A range that leaves out what the noise hides."""
        edges = _powers()
        low, high = self._visible(values, edges)
        return self._visible(np.clip(values, low, high), np.linspace(low, high, _PARTS + 1))

    def _visible(self, values: np.ndarray, edges: np.ndarray) -> tuple[float, float]:
        """The outer edges of the bins whose noisy counts stand out."""
        bins = np.clip(np.searchsorted(edges, values, "right") - 1, 0, len(edges) - 2)
        counts = np.bincount(bins, minlength=len(edges) - 1)
        noisy = self._plan.noisy_counts(counts, self._key, self._next())
        ends = self._first(noisy), len(noisy) - 1 - self._first(noisy[::-1])
        return float(edges[min(ends)]), float(edges[max(ends) + 1])

    def _first(self, noisy: np.ndarray) -> int:
        """The first bin that stands out from the noise, by itself or with those before it."""
        size = np.arange(1, len(noisy) + 1)
        sums = np.cumsum(noisy) / np.sqrt(size)  # the noise of a sum grows with the root
        seen = np.maximum(noisy, sums) >= self._plan.visible
        return int(seen.argmax() if seen.any() else noisy.argmax())

    def _next(self) -> int:
        self._number += 1
        return self._number - 1


def _powers() -> np.ndarray:
    """Edges of the bins: negative and positive powers of two, and 0 between."""
    positive = 2.0 ** np.arange(_LEAST, _MOST + 1)
    return np.concatenate([-positive[::-1], [0.0], positive])


def _open_columns(table: TableSchema) -> list[NumberColumn | CategoryColumn]:
    return [column for column in table.columns if column.is_open]


def _with(column, **changes: Any):
    return dataclasses.replace(column, **changes)
