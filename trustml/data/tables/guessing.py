"""The kinds of a table's columns, guessed from their values: ranges and categories stay open."""

import contextlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from trustml.data.errors import DataError
from trustml.data.tables.schema import MISSING, CategoryColumn, NumberColumn, TableSchema
from trustml.data.tables.table import as_number
from trustml.formatting import listed


def guess_schema(
    columns: Sequence[str],
    rows: Iterable[Mapping[str, Any]],
    *,
    label: str,
    without: Collection[str] = (),
) -> TableSchema:
    """A schema of names and kinds alone: numbers where every value in `rows` is one.

    >>> guess_schema(("id", "age", "y"), [{"id": "a", "age": "3", "y": "no"}], label="y",
    ...              without=("id",)).to_dict()["columns"]
    {'age': {'kind': 'number', 'scale': 'linear'}}

    Args:
      columns: Names of the columns of a file.
      rows: Some of its rows; a few hundred tell the kinds.
      label: Column of the class.
      without: Columns that are no features, such as the privacy unit.

    Raises:
      DataError: There is no such label, or no other column.
    """
    if label not in columns:
        raise DataError(f"`--label` must be a column, got {label!r}; there are {listed(columns)}.")
    names = [name for name in columns if name != label and name not in without]
    numbers = dict.fromkeys(names, True)
    for row in rows:
        for name in names:
            numbers[name] = numbers[name] and _is_number(row.get(name))
    return TableSchema(
        columns=tuple(
            NumberColumn(name=name) if numbers[name] else CategoryColumn(name=name)
            for name in names
        ),
        label=label,
    )


def _is_number(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    with contextlib.suppress(TypeError, ValueError):
        as_number(value, MISSING)
        return True
    return False
