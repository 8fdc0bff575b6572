"""Rows without labels as `Examples`, for a trained model to read."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from trustml.data.examples import Examples
from trustml.data.rows import Answer, Document, Pair, Question, Tagged, Text, Utterance

_NAME = "new rows"


def schema_of(task: str, *, labels: Iterable[str] = (), slots: Iterable[str] = ()) -> Examples:
    """The schema of a trained model as `Examples`, whose one row has no meaning.

    >>> schema_of("tag", labels=["city"]).tags
    ('O', 'B-city', 'I-city')

    Args:
      task: Kind of task.
      labels: Every class, entity kind (tag) or intent (nlu), in the order of the model's outputs.
      slots: Every slot, for nlu.
    """
    labels = tuple(labels)
    row = _PLACED[task](labels, *_DUMMIES.get(task, ("-",)))
    return Examples(
        name=_NAME,
        split="test",
        task=task,
        rows=(row,),
        unit="row",
        labels=labels,
        slots=tuple(slots),
    )


def unlabelled(schema: Examples, inputs: Iterable[Sequence[Any]]) -> Examples:
    """`Examples` whose labels are placeholders, which no prediction reads.

    >>> unlabelled(schema_of("classify", labels=["bad", "good"]), [("fine",)]).rows
    (Text(text='fine', label='bad'),)

    Args:
      schema: Of `schema_of`.
      inputs: What the task reads of each row: classify, lm and seq2seq a text; tag and nlu the
        words; qa a question and a context.

    Raises:
      DataError: A row is empty.
    """
    place = _PLACED[schema.task]
    return dataclasses.replace(schema, rows=tuple(place(schema.labels, *each) for each in inputs))


def _outside(tokens: Sequence[str]) -> tuple[str, ...]:
    return ("O",) * len(tokens)


_DUMMIES: dict[str, tuple[Any, ...]] = {"tag": (("-",),), "nlu": (("-",),), "qa": ("-", "-")}
# (labels, what the task reads) to a row.
_PLACED: dict[str, Callable[..., Any]] = {
    "classify": lambda labels, text: Text(text, labels[0]),
    "tag": lambda labels, tokens: Tagged(tuple(tokens), _outside(tokens)),
    "nlu": lambda labels, tokens: Utterance(tuple(tokens), _outside(tokens), labels[0]),
    "qa": lambda labels, asked, context: Question(asked, context, (Answer(context[:1], 0),), ""),
    "lm": lambda labels, text: Document(text),
    "seq2seq": lambda labels, source: Pair(source, (source,)),
}
