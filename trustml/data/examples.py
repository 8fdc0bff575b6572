"""One split of a data set: rows, with the public facts a network and a statement need."""

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from trustml.data.errors import DataError
from trustml.data.rows import TASKS, Pair, Schema, Tagged, Text, bio_tags, find_problem
from trustml.data.tables import Table, TableSchema

SPLITS = ("train", "valid", "test")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Examples:
    """One split of a data set: rows, which are private, and their schema, which is public.

    >>> from trustml.data.rows import Document
    >>> rows = (Document("to be"), Document("or not"), Document("exeunt"))
    >>> train = Examples(name="demo", split="train", task="lm", rows=rows, unit="speech",
    ...                  owner_kind="role", owners=(4, 4, 9))
    >>> train.levels, train.units("role")
    (('speech', 'role'), [(0, 1), (2,)])

    Args:
      name: Name of the data set, as `load` knows it.
      split: "train", "valid" or "test".
      task: "classify" (rows of `Text`), "multilabel" (`Labelled`), "regression" (`Rated`),
        "tabular" (`Record`), "tag" (`Tagged`), "nlu" (`Utterance`), "qa" (`Question`), "lm"
        (`Document`) or "seq2seq" (`Pair`).
      rows: The rows; those of a table become a `Table`.
      labels: Every class, entity kind (tag) or intent (nlu) that may occur: the public schema,
        never read off the rows. Of a table they are those of `table`.
      slots: Every slot that may occur; for nlu alone.
      value_range: Public ends of the numbers of "regression".
      table: Columns and classes of "tabular".
      unit: What one row is, as the privacy statement prints it.
      owner_kind: What several rows may share, a coarser privacy unit; None where nothing.
      owners: A number for each row; rows with the same one share an owner.
      groups: Names of the groups that `group_of` indexes.
      group_of: The group of each row; None puts all in the first.
      synthetic: Whether the package generated the rows itself; they belong to nobody.
      source: Where the rows come from and whether a checksum was verified, in one line.
      licence: Terms of the publisher.

    Raises:
      DataError: No rows, an unknown name, or a row that does not keep to task or schema.
    """

    name: str
    split: str
    task: str
    rows: Sequence[Any]
    unit: str
    labels: tuple[str, ...] = ()
    slots: tuple[str, ...] = ()
    value_range: tuple[float, float] | None = None
    table: TableSchema | None = None
    owner_kind: str | None = None
    owners: tuple[int, ...] | None = None
    groups: tuple[str, ...] = ("everyone",)
    group_of: tuple[int, ...] | None = None
    synthetic: bool = False
    source: str = "given by the caller"
    licence: str = "not stated"

    def __post_init__(self):
        for name, allowed in (("split", SPLITS), ("task", TASKS)):
            value = getattr(self, name)
            if value not in allowed:
                raise DataError(f"`{name}` must be one of {', '.join(allowed)}, got {value!r}.")
        _check_schema(self)
        if self.table is not None:
            object.__setattr__(self, "rows", Table.of(self.rows, self.table))
            object.__setattr__(self, "labels", self.table.labels or ())
        if not len(self.rows):
            raise DataError(f"`rows` must not be empty, got 0 rows for {self.name} {self.split}.")
        _check_columns(self)
        schema = Schema(self.labels, self.slots, self.groups)
        for number in _to_check(self):
            if problem := find_problem(self.task, self.rows[number], schema):
                raise DataError(f"{self.name} {self.split} row {number}: {problem}")

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all rows, whatever their order. Who guesses all rows can confirm the guess."""
        rows = sorted(hashlib.sha256(repr(row).encode()).digest() for row in self.rows)
        return hashlib.sha256(b"trustml corpus, version 1\x00" + b"".join(rows)).hexdigest()

    @property
    def tags(self) -> tuple[str, ...]:
        """Every BIO tag of a tag or nlu task, "O" first: public, like the schema."""
        if self.task not in ("tag", "nlu"):
            raise DataError(f"`tags` are those of a tag or nlu task, not of {self.task!r}.")
        return bio_tags(self.labels if self.task == "tag" else self.slots)

    @property
    def levels(self) -> tuple[str, ...]:
        """The levels that a privacy unit may be at, the finest first."""
        return (self.unit,) if self.owner_kind is None else (self.unit, self.owner_kind)

    def units(self, level: str | None = None) -> list[tuple[int, ...]]:
        """The rows of each privacy unit at `level`, in order of its first row.

        Args:
          level: One of `levels`; by default a row for itself.
        """
        if level in (None, self.unit):
            return [(number,) for number in range(len(self.rows))]
        if level != self.owner_kind or self.owners is None:
            raise DataError(f"`level` must be one of {', '.join(self.levels)}, got {level!r}.")
        rows_of: dict[int, list[int]] = {}
        for number, owner in enumerate(self.owners):
            rows_of.setdefault(owner, []).append(number)
        return [tuple(rows) for rows in rows_of.values()]


class Splits(NamedTuple):
    """The three splits of a data set."""

    train: Examples
    valid: Examples
    test: Examples


def slots_only(examples: Examples) -> Examples:
    """Utterances of an nlu task as rows of a tag task: the same words, without intents.

    >>> from trustml.data import synthetic
    >>> slots_only(synthetic.generate(train=3, valid=1, test=1).train).task
    'tag'
    """
    rows = tuple(Tagged(row.tokens, row.tags) for row in examples.rows)
    return dataclasses.replace(examples, task="tag", rows=rows, labels=examples.slots, slots=())


def intents_only(examples: Examples) -> Examples:
    """Utterances of an nlu task as texts of a classify task: their words and intents.

    >>> from trustml.data import synthetic
    >>> intents_only(synthetic.generate(train=3, valid=1, test=1).train).task
    'classify'
    """
    rows = tuple(Text(" ".join(row.tokens), row.intent) for row in examples.rows)
    return dataclasses.replace(examples, task="classify", rows=rows, slots=())


def with_all_targets(examples: Examples) -> Examples:
    """Pairs that share a source as one row with all of their targets, as evaluation needs them.

    >>> rows = (Pair("a", ("x",)), Pair("b", ("y",)), Pair("a", ("z",)))
    >>> test = Examples(name="demo", split="test", task="seq2seq", rows=rows, unit="reference")
    >>> with_all_targets(test).rows[0]
    Pair(source='a', targets=('x', 'z'))
    """
    targets: dict[str, list[str]] = {}
    for row in examples.rows:
        targets.setdefault(row.source, []).extend(row.targets)
    rows = tuple(Pair(source, tuple(dict.fromkeys(each))) for source, each in targets.items())
    return dataclasses.replace(
        examples, rows=rows, owner_kind=None, owners=None, groups=("everyone",), group_of=None
    )


def _check_schema(examples: Examples) -> None:
    """Refuses a task without its public range or columns, and those of another task."""
    if (examples.task == "tabular") != (examples.table is not None):
        raise DataError("`table` must be given for the task 'tabular', and for no other.")
    if (examples.task == "regression") != (examples.value_range is not None):
        raise DataError("`value_range` must be given for the task 'regression', and for no other.")
    if examples.value_range is not None:
        low, high = examples.value_range
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise DataError(f"`value_range` must be two numbers that rise, got {low!r}, {high!r}.")


def _to_check(examples: Examples) -> Sequence[int]:
    """The rows that may be wrong; of a table, which is checked by column, the first that is."""
    table = examples.table
    if table is None:
        return range(len(examples.rows))
    assert isinstance(examples.rows, Table)
    lax = table.learned or table.labels is None
    wrong = None if lax else examples.rows.unknown_label(examples.labels)
    return () if wrong is None else (wrong,)


def _check_columns(examples: Examples) -> None:
    if (examples.owner_kind is None) != (examples.owners is None):
        raise DataError("`owner_kind` and `owners` must be given together or not at all.")
    if examples.owner_kind == examples.unit:
        raise DataError(f"`owner_kind` must differ from `unit`, got {examples.unit!r} for both.")
    for name in ("owners", "group_of"):
        column = getattr(examples, name)
        if column is not None and len(column) != len(examples.rows):
            raise DataError(
                f"`{name}` must have a number for each of the {len(examples.rows)} rows, "
                f"got {len(column)}."
            )
    unknown = [group for group in examples.group_of or () if not 0 <= group < len(examples.groups)]
    if unknown:
        raise DataError(
            f"`group_of` must be from 0 to {len(examples.groups) - 1}, got {unknown[0]}."
        )
