"""Arrays of a table for a network: each value by its own row and the public schema alone."""

import numpy as np

from trustml.data.tables.schema import CategoryColumn, NumberColumn, TableSchema
from trustml.data.tables.table import Table


def encode_table(table: Table, schema: TableSchema) -> dict[str, np.ndarray]:
    """Arrays of a fixed shape, each row from its own values alone.

    Nothing is standardised by the rows: their mean and spread would leak.

    >>> from trustml.data.rows import Record
    >>> age = NumberColumn(name="age", low=0, high=100)
    >>> job = CategoryColumn(name="job", values=("smith", "baker"))
    >>> schema = TableSchema(columns=(age, job), label="income", labels=("low", "high"))
    >>> table = Table.of([Record((75.0, "king"), "high"), Record((None, None), "low")], schema)
    >>> arrays = encode_table(table, schema)
    >>> arrays["numbers"].tolist(), arrays["categories"].tolist(), arrays["label"].tolist()
    ([[0.5], [0.0]], [[2], [3]], [1, 0])

    Args:
      table: The rows.
      schema: Without open parts.

    Returns:
      `numbers` float32 [row, number], clipped to the public range and scaled to [-1, 1], 0 where
      missing; `missing` bool [row, number]; `categories` int32 [row, category], an index into
      `values`, then one for other texts and one for missing ones; `label` int32 [row], -1 for a
      class that the schema does not list, whose loss is 0.
    """
    assert not schema.is_open
    numbers, categories = [], []
    for column, values in zip(schema.columns, table.columns, strict=True):
        if isinstance(column, NumberColumn):
            numbers.append(_scaled(values, column))
        else:
            categories.append(_coded(values, column))
    stacked = _stacked(numbers, len(table), np.float32)
    return {
        "numbers": np.nan_to_num(stacked, nan=0.0),
        "missing": np.isnan(stacked),
        "categories": _stacked(categories, len(table), np.int32),
        "label": table.label_indices(schema.labels or ()),
    }


def category_sizes(schema: TableSchema) -> tuple[int, ...]:
    """Number of values of each column of `categories`: those listed, others, and missing.

    >>> job = CategoryColumn(name="job", values=("smith", "baker"))
    >>> category_sizes(TableSchema(columns=(job,), label="income"))
    (4,)
    """
    columns = (column for column in schema.columns if isinstance(column, CategoryColumn))
    return tuple(len(column.values or ()) + 2 for column in columns)


def _scaled(values, column: NumberColumn) -> np.ndarray:
    low, high = column.low, column.high
    assert low is not None  # no part is open
    assert high is not None
    values = np.clip(values, low, high)  # NaN stays NaN
    if column.scale == "log":
        values, low, high = (_log(part) for part in (values, low, high))
    return 2 * (values - low) / (high - low) - 1


def _log(values):
    return np.sign(values) * np.log1p(np.abs(values))


def _coded(values, column: CategoryColumn) -> np.ndarray:
    other = len(column.values or ())
    indices = values.indices(column.values or (), other)
    return np.where(indices < 0, other + 1, indices)


def _stacked(columns, rows: int, kind) -> np.ndarray:
    found = np.empty((rows, len(columns)), kind)
    for number, column in enumerate(columns):
        found[:, number] = column
    return found
