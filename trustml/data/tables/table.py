"""The rows of a table, kept by column: numbers as float64, categories as codes of their texts."""

import array
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, overload

import numpy as np
from jaxtyping import Float, Int

from trustml.data.errors import DataError
from trustml.data.rows import Record
from trustml.data.tables.schema import Column, NumberColumn, TableSchema


class Texts(NamedTuple):
    """A column of texts: `codes` [row] are indices into `names`; -1 is a missing one."""

    codes: Int[np.ndarray, " row"]
    names: tuple[str, ...]

    def take(self, rows: np.ndarray) -> "Texts":
        """Some rows."""
        return Texts(self.codes[rows], self.names)

    def indices(self, values: Sequence[str], unknown: int) -> Int[np.ndarray, " row"]:
        """Index of each row's text in `values`; `unknown` for others, -1 where it is missing."""
        index_of = {value: index for index, value in enumerate(values)}
        of_name = np.array([index_of.get(name, unknown) for name in self.names] + [-1], np.int32)
        return of_name[self.codes]  # code -1 is the last entry


class Table(Sequence[Record]):
    """Rows of `Record`, kept by column: a million rows of a dozen columns take about 100 MB.

    >>> age = NumberColumn(name="age", low=0, high=100)
    >>> schema = TableSchema(columns=(age,), label="income", labels=("low", "high"))
    >>> table = Table.of([Record((30.0,), "low"), Record((None,), "high")], schema)
    >>> len(table), table[1]
    (2, Record(values=(None,), label='high'))

    Args:
      columns: Numbers float64 [row], NaN where missing, or `Texts`.
      labels: The classes.
    """

    def __init__(self, columns: Sequence[Float[np.ndarray, " row"] | Texts], labels: Texts):
        self.columns, self.labels = tuple(columns), labels

    @classmethod
    def of(cls, records: Iterable[Record], schema: TableSchema) -> "Table":
        """The table of some records, which are read once."""
        if isinstance(records, cls):
            return records
        growing = _GrowingTable(schema)
        for record in records:
            growing.append(record)
        return growing.done()

    def take(self, rows: np.ndarray | Sequence[int]) -> "Table":
        """The table of some rows, by index."""
        chosen = np.asarray(rows, np.int64)
        columns = [
            column.take(chosen) if isinstance(column, Texts) else column[chosen]
            for column in self.columns
        ]
        return Table(columns, self.labels.take(chosen))

    def __len__(self) -> int:
        return len(self.labels.codes)

    @overload
    def __getitem__(self, row: int) -> Record: ...

    @overload
    def __getitem__(self, row: slice) -> "Table": ...

    def __getitem__(self, row):
        if isinstance(row, slice):
            return self.take(np.arange(len(self))[row])
        return Record(
            tuple(_value(column, row) for column in self.columns), _text(self.labels, row)
        )

    def __iter__(self) -> Iterator[Record]:
        for row in range(len(self)):
            yield self[row]

    def label_indices(self, labels: Sequence[str]) -> Int[np.ndarray, " row"]:
        """The index of each row's class in `labels`; -1 for others and for none."""
        return self.labels.indices(labels, -1)

    def unknown_label(self, labels: Sequence[str]) -> int | None:
        """The first row whose class is missing or not one of `labels`; None if there is none."""
        wrong = np.flatnonzero(self.label_indices(labels) < 0)
        return int(wrong[0]) if len(wrong) else None


class _GrowingTable:
    """A table that takes one record at a time."""

    def __init__(self, schema: TableSchema):
        self._columns = [_growing(column) for column in schema.columns]
        self._labels = _GrowingTexts()

    def append(self, record: Record) -> None:
        """Adds a record at the end."""
        for column, value in zip(self._columns, record.values, strict=True):
            column.append(value)
        self._labels.append(record.label)

    def done(self) -> Table:
        """The table of all records so far."""
        return Table([column.done() for column in self._columns], self._labels.done())


def record_of(row: Mapping[str, Any], schema: TableSchema, where: str) -> Record:
    """The record of one row of a file; numbers may be texts, and other columns are left out.

    >>> age = NumberColumn(name="age", low=0, high=100)
    >>> schema = TableSchema(columns=(age,), label="income", labels=("low", "high"))
    >>> record_of({"age": " 30", "income": "low", "note": "x"}, schema, "row 1")
    Record(values=(30.0,), label='low')

    Args:
      row: Values by column.
      schema: Names and kinds of the columns.
      where: The row's place, for messages.

    Raises:
      DataError: All columns are missing, or a number cannot be read.
    """
    if not any(name in row for name in schema.names):
        raise DataError(
            f"{where}: none of the schema's columns; it has {', '.join(map(str, row))}."
        )
    # JSON leaves out what is missing.
    values = tuple(_read(column, row.get(column.name), schema, where) for column in schema.columns)
    return Record(values, as_text(row.get(schema.label), schema.missing))


def is_missing(value: Any) -> bool:
    """Whether a value is None or NaN, of whatever library.

    >>> is_missing(float("nan")), is_missing("")
    (True, False)
    """
    if value is None:
        return True
    if isinstance(value, str | list | tuple | dict):
        return False
    try:
        return bool(value != value)
    except (TypeError, ValueError):  # pandas.NA is neither equal nor unequal; an array is a value
        return type(value).__name__ == "NAType"


def as_text(value: Any, missing: Sequence[str]) -> str | None:
    """A category or class as text; None where it is missing.

    >>> as_text(3.0, ("?",)), as_text(" yes ", ("?",)), as_text("?", ("?",))
    ('3', 'yes', None)
    """
    if is_missing(value):
        return None
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)  # a column of integers with gaps arrives as floats
    text = str(value).strip()
    return None if text in missing else text


def as_number(value: Any, missing: Sequence[str]) -> float | None:
    """A number; None where it is missing.

    >>> as_number("1e3", ("?",)), as_number("?", ("?",))
    (1000.0, None)

    Raises:
      ValueError: It is no number.
    """
    if is_missing(value) or (isinstance(value, str) and value.strip() in missing):
        return None
    try:
        number = float(value)
    except OverflowError:  # a whole number of hundreds of digits
        number = math.inf if value > 0 else -math.inf
    return None if number != number else number


def _read(column: Column, value: Any, schema: TableSchema, where: str) -> float | str | None:
    if not isinstance(column, NumberColumn):
        return as_text(value, schema.missing)
    try:
        return as_number(value, schema.missing)
    except (TypeError, ValueError):
        raise DataError(
            f"{where}: {column.name!r} must be a number, got {value!r:.60}. Correct it, or list "
            "the text under `missing` in the schema."
        ) from None


def _growing(column: Column) -> "_GrowingNumbers | _GrowingTexts":
    return _GrowingNumbers() if isinstance(column, NumberColumn) else _GrowingTexts()


class _GrowingNumbers:
    def __init__(self):
        self._values = array.array("d")

    def append(self, value) -> None:
        self._values.append(np.nan if value is None else value)

    def done(self) -> np.ndarray:
        return np.frombuffer(self._values, np.float64) if self._values else np.zeros(0)


class _GrowingTexts:
    def __init__(self):
        self._codes, self._code_of = array.array("i"), {}

    def append(self, value) -> None:
        code_of = self._code_of
        self._codes.append(-1 if value is None else code_of.setdefault(value, len(code_of)))

    def done(self) -> Texts:
        codes = np.frombuffer(self._codes, np.int32) if self._codes else np.zeros(0, np.int32)
        return Texts(codes, tuple(self._code_of))


def _value(column, row: int) -> float | str | None:
    if isinstance(column, Texts):
        return _text(column, row)
    number = float(column[row])
    return None if number != number else number


def _text(column: Texts, row: int) -> str | None:
    code = column.codes[row]
    return None if code < 0 else column.names[code]
