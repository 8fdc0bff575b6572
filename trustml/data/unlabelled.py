"""Rows without labels as `Examples`, for a trained model to read."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from trustml.data.examples import Examples
from trustml.data.rows import (
    Answer,
    Document,
    Labelled,
    Pair,
    Question,
    Rated,
    Record,
    Tagged,
    Text,
    Utterance,
)
from trustml.data.tables import TableSchema


def schema_of(
    task: str,
    *,
    labels: Iterable[str] = (),
    slots: Iterable[str] = (),
    value_range: Sequence[float] | None = None,
    table: TableSchema | None = None,
) -> Examples:
    """The schema of a trained model as `Examples`, whose one row has no meaning.

    >>> schema_of("tag", labels=["city"]).tags
    ('O', 'B-city', 'I-city')

    Args:
      task: Kind of task.
      labels: Every class, entity kind (tag) or intent (nlu), in the order of the model's outputs.
      slots: Every slot, for nlu.
      value_range: Ends of the numbers, for regression.
      table: Columns and classes, for tabular.
    """
    labels = tuple(labels if table is None else table.labels or ())
    ends = None if value_range is None else (value_range[0], value_range[1])
    dummies = _DUMMIES.get(task, ("-",)) if table is None else ((None,) * len(table.columns),)
    return Examples(
        name="new rows",
        split="test",
        task=task,
        rows=(_MAKERS[task](_placeholder(task, labels, ends), *dummies),),
        unit="row",
        labels=labels,
        slots=tuple(slots),
        value_range=ends,
        table=table,
    )


def unlabelled(schema: Examples, inputs: Iterable[Sequence[Any]]) -> Examples:
    """`Examples` whose labels are placeholders, which no prediction reads.

    >>> unlabelled(schema_of("classify", labels=["bad", "good"]), [("fine",)]).rows
    (Text(text='fine', label='bad'),)

    Args:
      schema: Of `schema_of`.
      inputs: What the task reads of each row: most a text; tag and nlu the words; qa a question
        and a context; tabular the values of `Record`.

    Raises:
      DataError: A row is empty.
    """
    make = _MAKERS[schema.task]
    target = _placeholder(schema.task, schema.labels, schema.value_range)
    return dataclasses.replace(schema, rows=tuple(make(target, *each) for each in inputs))


def _placeholder(
    task: str, labels: Sequence[str], value_range: tuple[float, float] | None
) -> tuple[()] | str | float | None:
    if task == "multilabel":
        return ()
    first = labels[0] if labels else None
    return first if value_range is None else value_range[0]


def _outside(tokens: Sequence[str]) -> tuple[str, ...]:
    return ("O",) * len(tokens)


_DUMMIES: dict[str, tuple[Any, ...]] = {"tag": (("-",),), "nlu": (("-",),), "qa": ("-", "-")}
# (placeholder, what the task reads) to a row.
_MAKERS: dict[str, Callable[..., Any]] = {
    "classify": lambda target, text: Text(text, target),
    "multilabel": lambda target, text: Labelled(text, target),
    "regression": lambda target, text: Rated(text, target),
    "tabular": lambda target, values: Record(values, target),
    "tag": lambda target, tokens: Tagged(tuple(tokens), _outside(tokens)),
    "nlu": lambda target, tokens: Utterance(tuple(tokens), _outside(tokens), target),
    "qa": lambda target, asked, context: Question(asked, context, (Answer(context[:1], 0),), ""),
    "lm": lambda target, text: Document(text),
    "seq2seq": lambda target, source: Pair(source, (source,)),
}
