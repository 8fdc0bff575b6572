"""Rows of each task, their public schema, and the check of one against the other."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

_UNKNOWN = -1
_LISTED = 10  # names that a message lists


class Schema(NamedTuple):
    """What rows may carry, which is public: see `Examples` on each field."""

    labels: tuple[str, ...] = ()
    slots: tuple[str, ...] = ()
    groups: tuple[str, ...] = ("everyone",)


class Text(NamedTuple):
    """One text and its class."""

    text: str
    label: str


class Labelled(NamedTuple):
    """One text and all of its classes: none, one or several."""

    text: str
    labels: tuple[str, ...]


class Rated(NamedTuple):
    """One text and a number."""

    text: str
    value: float


class Record(NamedTuple):
    """One row of a table: a value for each column of its schema, and its class.

    A value is a number, or the text of a category; None where it is missing. `label` is None where
    the class is missing.
    """

    values: tuple[float | str | None, ...]
    label: str | None


class Tagged(NamedTuple):
    """One sentence in words, with a BIO tag for each."""

    tokens: tuple[str, ...]
    tags: tuple[str, ...]


class Utterance(NamedTuple):
    """One request to an assistant: its words, their BIO tags, and its intent."""

    tokens: tuple[str, ...]
    tags: tuple[str, ...]
    intent: str
    user: int = _UNKNOWN
    timestamp: int = _UNKNOWN  # seconds since the start of the collection
    group: int = 0  # index into `Examples.groups`


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
    """One text and what to turn it into; several targets where all are right."""

    source: str
    targets: tuple[str, ...]


def bio_tags(slots: tuple[str, ...]) -> tuple[str, ...]:
    """The BIO tags of `slots`: "O", then `B-` and `I-` of each.

    >>> bio_tags(("city",))
    ('O', 'B-city', 'I-city')
    """
    return ("O", *(f"{mark}-{slot}" for slot in slots for mark in "BI"))


def find_problem(task: str, row: Any, schema: Schema) -> str | None:
    """Why a row of `task` cannot be used under `schema`; None if it can.

    >>> find_problem("classify", Text("hello", "greeting"), Schema(("goodbye",)))
    "unknown label 'greeting'; known are goodbye."
    """
    kind, find = _CHECKS[task]
    if not isinstance(row, kind):
        return f"must be a {kind.__name__}, got {type(row).__name__}."
    return find(row, schema)


def _text_problem(row: Text, schema: Schema) -> str | None:
    return _empty_problem(row) or _label_problem(row.label, schema)


def _labelled_problem(row: Labelled, schema: Schema) -> str | None:
    problems = (_label_problem(label, schema) for label in row.labels)
    return _empty_problem(row) or next(filter(None, problems), None)


def _rated_problem(row: Rated, schema: Schema) -> str | None:
    del schema
    if not math.isfinite(row.value):
        return f"the number must be finite, got {row.value!r}; drop the row."
    return _empty_problem(row)


def _record_problem(row: Record, schema: Schema) -> str | None:
    if row.label is None:
        return "the class is missing; drop the row."
    return _label_problem(row.label, schema)


def _empty_problem(row: Text | Labelled | Rated | Document) -> str | None:
    return None if row.text.strip() else "the text is empty; drop the row."


def _label_problem(label: str, schema: Schema) -> str | None:
    if label in schema.labels:
        return None
    more = f" and {len(schema.labels) - _LISTED} more" if len(schema.labels) > _LISTED else ""
    listed = ", ".join(schema.labels[:_LISTED]) or "none"
    return f"unknown label {label!r}; known are {listed}{more}."


def _tagged_problem(row: Tagged, schema: Schema) -> str | None:
    return _length_problem(row) or _tag_problem(row, schema.labels)


def _utterance_problem(row: Utterance, schema: Schema) -> str | None:
    problem = _length_problem(row)
    if problem is None and row.intent not in schema.labels:
        problem = f"unknown intent {row.intent!r}; known are {', '.join(schema.labels)}."
    problem = problem or _tag_problem(row, schema.slots)
    if problem is None and not 0 <= row.group < len(schema.groups):
        problem = f"group {row.group} must be from 0 to {len(schema.groups) - 1}."
    return problem


def _length_problem(row: Tagged | Utterance) -> str | None:
    if not row.tokens:
        return "no tokens; drop the row."
    if len(row.tokens) != len(row.tags):
        return f"{len(row.tokens)} tokens but {len(row.tags)} tags; give one each."
    return None


def _tag_problem(row: Tagged | Utterance, slots: tuple[str, ...]) -> str | None:
    known = bio_tags(slots)
    unknown = next((tag for tag in row.tags if tag not in known), None)
    if unknown is None:
        return None
    more = f" and {len(slots) - 6} more" if len(slots) > 6 else ""
    listed = ", ".join(slots[:6]) + more
    return f"unknown slot tag {unknown!r}; known are O and B- or I- of {listed}."


def _question_problem(row: Question, schema: Schema) -> str | None:
    del schema
    if not (row.question.strip() and row.context.strip()):
        return "question or context is empty; drop the row."
    if not row.answers:
        return "no answers; drop the row, unanswerable questions are not supported."
    for text, start in row.answers:
        actual = row.context[start : start + len(text)] if start >= 0 else ""
        if not text or actual != text:
            return f"the answer {text!r} must stand at character {start}, where {actual!r} is."
    return None


def _document_problem(row: Document, schema: Schema) -> str | None:
    del schema
    return _empty_problem(row)


def _pair_problem(row: Pair, schema: Schema) -> str | None:
    del schema
    if not row.source.strip():
        return "the source is empty; drop the row."
    if not row.targets or not all(target.strip() for target in row.targets):
        return "a target is missing or empty; drop it."
    return None


# The type of a task's rows, and what keeps one from being used.
_CHECKS: dict[str, tuple[type, Callable[[Any, Schema], str | None]]] = {
    "classify": (Text, _text_problem),
    "multilabel": (Labelled, _labelled_problem),
    "regression": (Rated, _rated_problem),
    "tabular": (Record, _record_problem),
    "tag": (Tagged, _tagged_problem),
    "nlu": (Utterance, _utterance_problem),
    "qa": (Question, _question_problem),
    "lm": (Document, _document_problem),
    "seq2seq": (Pair, _pair_problem),
}
TASKS = tuple(_CHECKS)
