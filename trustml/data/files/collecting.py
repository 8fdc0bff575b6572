"""Rows of a source as a task has them, read once, with what decides their part, unit and group."""

import array
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from trustml.data.errors import DataError
from trustml.data.files.columns import ColumnChoice
from trustml.data.files.options import FileOptions
from trustml.data.files.sources import Source
from trustml.data.own_rows import make_row
from trustml.data.readers.block import part_draw
from trustml.data.rows import Record, Schema, find_problem
from trustml.data.tables import Table, TableSchema
from trustml.data.tables.table import is_missing, record_of

UNKNOWN = "unknown"  # the group of a row that names none
ONE_LABEL = ("classify", "nlu")  # tasks with one label a row
_WORDS = ("tokens", "tags")
SHOWN = 3  # bad rows whose reasons are kept


class Known(NamedTuple):
    """The labels and slots that rows may have; empty where any may occur."""

    labels: tuple[str, ...] = ()
    slots: tuple[str, ...] = ()


@dataclasses.dataclass
class Collected:
    """The rows of one split of a source.

    Args:
      rows: As the task has them.
      draws: Of the unit of each row, uniform from 0 to 1, which decides its part.
      owners: The number of each row's unit; empty where a row is one.
      owner_numbers: The number behind each value of the unit's column.
      groups: The group of each row; empty without groups.
      skipped: Number of rows left out.
      reasons: Why the first of them were.
    """

    rows: Sequence[Any] = ()
    draws: Any = dataclasses.field(default_factory=lambda: array.array("d"))
    owners: Any = dataclasses.field(default_factory=lambda: array.array("q"))
    owner_numbers: dict[Any, int] = dataclasses.field(default_factory=dict)
    groups: list[str] = dataclasses.field(default_factory=list)
    skipped: int = 0
    reasons: list[str] = dataclasses.field(default_factory=list)

    def skip(self, reason: str) -> None:
        """Counts a row that is left out."""
        self.skipped += 1
        if len(self.reasons) < SHOWN:
            self.reasons.append(reason)

    def strata(self, task: str) -> Int[np.ndarray, " row"]:
        """The number of each row's label."""
        numbers: dict[str, int] = {}
        labels = (row.intent if task == "nlu" else row.label for row in self.rows)
        return np.array([numbers.setdefault(label, len(numbers)) for label in labels], np.int64)

    def units(self) -> "Units":
        """The units in order of their first row."""
        draws = np.frombuffer(self.draws, np.float64)
        if not self.owners:
            every = np.arange(len(draws))
            return Units(draws, every, every)
        # Numbers rise by first row, so that they are sorted as the units are.
        of_row = np.frombuffer(self.owners, np.int64)
        first = np.unique(of_row, return_index=True)[1]
        return Units(draws[first], first, of_row)


class Units(NamedTuple):
    """The draw of each unit, its first row, and the unit of each row."""

    draws: Float[np.ndarray, " unit"]
    first: Int[np.ndarray, " unit"]
    of_row: Int[np.ndarray, " row"]


def collect(
    source: Source,
    split: str | None,
    chosen: ColumnChoice,
    options: FileOptions,
    known: Known,
) -> Collected:
    """The rows of a source, or of one of its splits.

    Args:
      source: Read once, row by row.
      split: One of its splits, or None for all rows.
      chosen: Task and columns.
      options: How to read them.
      known: What labels and slots a row may have.

    Raises:
      DataError: A row cannot be used, and bad rows are not to be skipped; or none can.
    """
    made = Collected()
    kept = _kept(source, split, _Reader(chosen, options, known), made, options.skip_bad_rows)
    made.rows = list(kept) if options.table is None else Table.of(kept, options.table)
    if not len(made.rows):
        why = f"; the first: {made.reasons[0]}" if made.reasons else ""
        raise DataError(f"{source.title} must hold rows that can be used, got none{why}")
    return made


def _kept(
    source: Source, split: str | None, reader: "_Reader", made: Collected, skip: bool
) -> Iterator[Any]:
    """The rows that can be used; what goes with them is added to `made`."""
    on_bad_row = made.skip if skip else _refuse
    for location, row in source.rows(split, on_bad_row):
        try:
            kept, owner, group, draw = reader.read(location, row)
        except DataError as error:
            on_bad_row(str(error))
            continue
        made.draws.append(draw)
        if owner is not None:
            made.owners.append(made.owner_numbers.setdefault(owner, len(made.owner_numbers)))
        if group is not None:
            made.groups.append(group)
        yield kept


def _refuse(reason: str) -> None:
    raise DataError(f"{reason.rstrip('.')}. `--skip-bad-rows` leaves such rows out.") from None


class _Reader:
    """Makes rows of one task and checks them."""

    def __init__(self, chosen: ColumnChoice, options: FileOptions, known: Known):
        self.task, self.names = chosen.task, chosen.names
        self.owner, self.group = options.owner, options.group
        self.known, self.table = known, options.table
        self.words = [self.names[each] for each in _WORDS if each in self.names]
        self.single = self.names["label"] if self.task in ONE_LABEL else None
        self.needed = [column for name, column in self.names.items() if name != "id"]
        self.key = 1 if self.task == "qa" else 0  # questions on one context share a part

    def read(self, location: str, row: dict[str, Any]) -> tuple[Any, Any, str | None, float]:
        """The row, its unit, its group, and the draw that decides its part."""
        if self.table is not None:
            made, schema = _record(self.table, row, location)
        else:
            made = make_row(self.task, self._plain(location, row), self.names, (), (), location)
            labels, slots = public_names(self.task, made)
            schema = Schema(self.known.labels or labels, self.known.slots or slots)
        if problem := find_problem(self.task, made, schema):
            raise DataError(f"{location}: {problem}")
        owner = None if self.owner is None else self._owner(location, row, self.owner)
        group = None if self.group is None else self._group(row, self.group)
        key = made[self.key] if owner is None else owner
        return made, owner, group, part_draw(key if isinstance(key, str) else repr(key))

    def _plain(self, location: str, row: dict[str, Any]) -> dict[str, Any]:
        """The row with labels as texts and words as lists; equal texts are one object."""
        row = dict(row)
        if (name := self.single) is not None:
            row[name] = _label(location, name, row.get(name))
        elif self.task == "multilabel" and isinstance(row.get(self.names["label"]), list | tuple):
            row[self.names["label"]] = [_text_of(each) for each in row[self.names["label"]]]
        for name in self.words:
            value = row.get(name)
            if is_missing(value):
                raise DataError(f"{location}: column {name!r} is empty; drop the row.")
            words: Any = value.split() if isinstance(value, str) else value
            row[name] = [sys.intern(each) if type(each) is str else each for each in words]
        for name in self.needed:
            if is_missing(row.get(name)):
                raise DataError(f"{location}: column {name!r} is empty; drop the row.")
        return row

    def _owner(self, location: str, row: dict[str, Any], column: str) -> str:
        value = row.get(column)
        if is_missing(value) or (isinstance(value, str) and not value.strip()):
            raise DataError(f"{location}: the unit in column {column!r} is missing.")
        return _text_of(value)

    def _group(self, row: dict[str, Any], column: str) -> str:
        value = row.get(column)
        text = UNKNOWN if is_missing(value) else _text_of(value).strip()
        return sys.intern(text or UNKNOWN)


def _record(table: TableSchema, row: dict[str, Any], location: str) -> tuple[Record, Schema]:
    """The record of a row, and the classes it may have: any, until they are learned."""
    made = record_of(row, table, location)
    own = () if made.label is None else (made.label,)
    return made, Schema(own if table.labels is None or table.learned else table.labels)


def public_names(task: str, row: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The labels and the slots that one row holds."""
    if task == "classify":
        return (row.label,), ()
    if task == "multilabel":
        return row.labels, ()
    if task in ("tag", "nlu"):
        kinds = tuple({tag[2:]: None for tag in row.tags if tag[:2] in ("B-", "I-")})
        return (kinds, ()) if task == "tag" else ((row.intent,), kinds)
    return (), ()


def _label(location: str, name: str, value: Any) -> str:
    if is_missing(value) or (isinstance(value, str) and value.strip().lower() in ("", "nan")):
        raise DataError(f"{location}: the label in column {name!r} is missing.")
    if not isinstance(value, str | int | float) and not hasattr(value, "item"):
        raise DataError(f"{location}: the label in column {name!r} must be one, got {value!r:.40}.")
    return sys.intern(_text_of(value))


def _text_of(value: Any) -> str:
    """A value as text; a whole number is one, even where a column of floats holds it."""
    if type(value) is str:
        return value
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
