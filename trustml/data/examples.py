"""Rows of any language task, with the public facts a network and a privacy statement need."""

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

from trustml.data.corpus import DataError, Schema, Utterance, bio_tags, find_problem

PARTS = ("train", "valid", "test")


class RowSchema(NamedTuple):
    """What rows of any task may carry: see `Examples` on each."""

    labels: tuple[str, ...] = ()
    slots: tuple[str, ...] = ()
    groups: tuple[str, ...] = ("everyone",)


class Text(NamedTuple):
    """One text and its class."""

    text: str
    label: str


class Tagged(NamedTuple):
    """One sentence in words, with a BIO tag for each."""

    tokens: tuple[str, ...]
    tags: tuple[str, ...]


class Answer(NamedTuple):
    """One answer to a question: its words, and where in the context they begin."""

    text: str
    start: int  # characters from the start of the context


class Question(NamedTuple):
    """One question on a context that holds each of its answers word for word."""

    question: str
    context: str
    answers: tuple[Answer, ...]
    identifier: str


class Document(NamedTuple):
    """One text to model."""

    text: str


class Pair(NamedTuple):
    """One text and what it is to be turned into; more than one target where all are right."""

    source: str
    targets: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Examples:
    """One part of a data set: rows, which are private, and their schema, which is public.

    >>> rows = (Document("to be"), Document("or not"), Document("exeunt"))
    >>> part = Examples(name="demo", part="train", task="lm", rows=rows, unit="speech",
    ...                 owner_kind="role", owners=(4, 4, 9))
    >>> part.levels, part.units("role")
    (('speech', 'role'), [(0, 1), (2,)])

    Args:
      name: Name of the data set, as `load_examples` knows it.
      part: "train", "valid" or "test".
      task: "classify" (rows of `Text`), "tag" (`Tagged`), "nlu" (`Utterance`), "qa"
        (`Question`), "lm" (`Document`) or "seq2seq" (`Pair`).
      rows: The rows.
      labels: Every class, entity kind (tag) or intent (nlu) that may occur: the public schema.
      slots: Every slot that may occur; for nlu alone.
      unit: What one row is, as the privacy statement prints it.
      owner_kind: What several rows may share, a coarser privacy unit; None where nothing.
      owners: A number for each row; rows with the same one share an owner.
      groups: Names of the groups that `group_of` indexes.
      group_of: The group of each row; None puts all in the first.
      synthetic: Whether the rows are nobody's.
      source: Where the rows come from and whether a checksum was verified, in one line.
      licence: Terms of the publisher.

    Raises:
      DataError: No rows, an unknown name, or a row that does not keep to task or schema.
    """

    name: str
    part: str
    task: str
    rows: tuple[Any, ...]
    unit: str
    labels: tuple[str, ...] = ()
    slots: tuple[str, ...] = ()
    owner_kind: str | None = None
    owners: tuple[int, ...] | None = None
    groups: tuple[str, ...] = ("everyone",)
    group_of: tuple[int, ...] | None = None
    synthetic: bool = False
    source: str = "given by the caller"
    licence: str = "not stated"

    def __post_init__(self):
        for name, allowed in (("part", PARTS), ("task", TASKS)):
            value = getattr(self, name)
            if value not in allowed:
                raise DataError(f"`{name}` must be one of {', '.join(allowed)}, got {value!r}.")
        if not self.rows:
            raise DataError(f"`rows` must not be empty, got 0 rows for {self.name} {self.part}.")
        _check_columns(self)
        find = TASKS[self.task]
        schema = RowSchema(self.labels, self.slots, self.groups)
        for place, row in enumerate(self.rows):
            problem = find(row, schema)
            if problem:
                raise DataError(f"{self.name} {self.part} row {place}: {problem}")

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all rows, whatever their order; as `Corpus.fingerprint` for utterances."""
        rows = sorted(hashlib.sha256(repr(row).encode()).digest() for row in self.rows)
        return hashlib.sha256(b"trustml corpus, version 1\x00" + b"".join(rows)).hexdigest()

    @property
    def tags(self) -> tuple[str, ...]:
        """Every BIO tag of a tag or nlu task, "O" first: public, like the kinds."""
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
            return [(place,) for place in range(len(self.rows))]
        if level != self.owner_kind or self.owners is None:
            raise DataError(f"`level` must be one of {', '.join(self.levels)}, got {level!r}.")
        places: dict[int, list[int]] = {}
        for place, owner in enumerate(self.owners):
            places.setdefault(owner, []).append(place)
        return [tuple(each) for each in places.values()]


def with_all_targets(examples: Examples) -> Examples:
    """Pairs with one source as one row that has all of their targets, as a judge needs them.

    >>> rows = (Pair("a", ("x",)), Pair("b", ("y",)), Pair("a", ("z",)))
    >>> part = Examples(name="demo", part="test", task="seq2seq", rows=rows, unit="reference")
    >>> with_all_targets(part).rows[0]
    Pair(source='a', targets=('x', 'z'))
    """
    targets: dict[str, list[str]] = {}
    for row in examples.rows:
        targets.setdefault(row.source, []).extend(row.targets)
    rows = tuple(Pair(source, tuple(dict.fromkeys(each))) for source, each in targets.items())
    return dataclasses.replace(
        examples, rows=rows, owner_kind=None, owners=None, groups=("everyone",), group_of=None
    )


class Parts(NamedTuple):
    """The three parts of a data set."""

    train: Examples
    valid: Examples
    test: Examples


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
    strange = [group for group in examples.group_of or () if not 0 <= group < len(examples.groups)]
    if strange:
        raise DataError(
            f"`group_of` must be from 0 to {len(examples.groups) - 1}, got {strange[0]}."
        )


def _text_problem(row: Text, schema: RowSchema) -> str | None:
    if not isinstance(row, Text):
        return _wrong_kind(row, "Text")
    if not row.text.strip():
        return "the text is empty; drop the row."
    if row.label not in schema.labels:
        return f"unknown label {row.label!r}; known are {', '.join(schema.labels) or 'none'}."
    return None


def _tagged_problem(row: Tagged, schema: RowSchema) -> str | None:
    if not isinstance(row, Tagged):
        return _wrong_kind(row, "Tagged")
    return find_problem(Utterance(row.tokens, row.tags, ""), Schema(("",), schema.labels))


def _utterance_problem(row: Utterance, schema: RowSchema) -> str | None:
    if not isinstance(row, Utterance):
        return _wrong_kind(row, "Utterance")
    return find_problem(row, Schema(*schema))


def _question_problem(row: Question, schema: RowSchema) -> str | None:
    del schema
    if not isinstance(row, Question):
        return _wrong_kind(row, "Question")
    if not (row.question.strip() and row.context.strip()):
        return "question or context is empty; drop the row."
    if not row.answers:
        return "no answers; drop the row, unanswerable questions are not supported."
    for text, start in row.answers:
        found = row.context[start : start + len(text)] if start >= 0 else ""
        if not text or found != text:
            return f"the answer {text!r} must stand at character {start}, where {found!r} is."
    return None


def _document_problem(row: Document, schema: RowSchema) -> str | None:
    del schema
    if not isinstance(row, Document):
        return _wrong_kind(row, "Document")
    return None if row.text.strip() else "the text is empty; drop the row."


def _pair_problem(row: Pair, schema: RowSchema) -> str | None:
    del schema
    if not isinstance(row, Pair):
        return _wrong_kind(row, "Pair")
    if not row.source.strip():
        return "the source is empty; drop the row."
    if not row.targets or not all(target.strip() for target in row.targets):
        return "a target is missing or empty; drop it."
    return None


def _wrong_kind(row, kind: str) -> str:
    return f"must be a {kind}, got {type(row).__name__}."


# What keeps a row from being used, by task.
TASKS: dict[str, Callable[[Any, RowSchema], str | None]] = {
    "classify": _text_problem,
    "tag": _tagged_problem,
    "nlu": _utterance_problem,
    "qa": _question_problem,
    "lm": _document_problem,
    "seq2seq": _pair_problem,
}
