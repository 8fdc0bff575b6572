"""Rows of the caller's own, a Hugging Face data set among them, as `Examples`."""

import json
import operator
import re
from collections.abc import Iterable, Mapping
from typing import Any

from trustml.data.errors import DataError
from trustml.data.examples import Examples
from trustml.data.rows import (
    TASKS,
    Answer,
    Document,
    Labelled,
    Pair,
    Question,
    Rated,
    Tagged,
    Text,
    Utterance,
    bio_tags,
)
from trustml.data.tables import TableSchema
from trustml.data.tables.table import record_of

COLUMNS = {
    "classify": ("text", "label"),
    "multilabel": ("text", "label"),
    "regression": ("text", "label"),
    "tabular": (),
    "tag": ("tokens", "tags"),
    "nlu": ("tokens", "tags", "label"),
    "qa": ("question", "context", "answers", "id"),
    "lm": ("text",),
    "seq2seq": ("source", "target"),
}
_WITH_LABELS = ("classify", "multilabel", "tag", "nlu")
_BETWEEN = re.compile(r"[;|,]")


def from_rows(
    rows: Iterable[Mapping[str, Any]],
    *,
    task: str,
    unit: str,
    labels: tuple[str, ...] | None = None,
    slots: tuple[str, ...] | None = None,
    value_range: tuple[float, float] | None = None,
    table: TableSchema | None = None,
    columns: Mapping[str, str] | None = None,
    owner: str | None = None,
    group: str | None = None,
    groups: tuple[str, ...] | None = None,
    name: str = "own rows",
    split: str = "train",
    source: str = "given by the caller",
) -> Examples:
    """`Examples` from dicts: from a list, or from a `datasets.Dataset`, which yields them.

    >>> from_rows([{"text": "fine", "label": 1}], task="classify", unit="review",
    ...           labels=("bad", "good")).rows
    (Text(text='fine', label='good'),)

    Args:
      rows: One dict a row. Columns by task: classify `text`, `label`; multilabel the same, with a
        list of labels or a text with `;`, `|` or `,` between them; regression the same, with a
        number; tabular those of `table`; tag `tokens`, `tags`; nlu these and `label`; qa
        `question`, `context`, `answers`, `id`; lm `text`; seq2seq `source`, `target` (a text or
        several). Labels and BIO tags may be names or numbers of the schema; `answers` are as in
        SQuAD.
      task: One of these tasks.
      unit: What one row is, as the privacy statement prints it.
      labels: Every class, entity kind or intent: public, so never read off the rows. A
        `datasets.Dataset` with class labels brings them along.
      slots: Every slot, for nlu; likewise.
      value_range: Ends of the numbers of regression, public; numbers beyond are clipped to it.
      table: Columns and classes of tabular, public.
      columns: Your column behind a name above, where it differs: `{"text": "sentence"}`.
      owner: Column whose value several rows may share; its name becomes the coarser unit.
      group: Column with the group of a row, a name of `groups`.
      groups: Every group, public.
      name: Name of the data set.
      split: "train", "valid" or "test".
      source: Where the rows come from.

    Raises:
      DataError: A missing column, labels that are not given, or a row that does not fit.
    """
    if task not in TASKS:
        raise DataError(f"`task` must be one of {', '.join(TASKS)}, got {task!r}.")
    names = {each: each for each in COLUMNS[task]} | dict(columns or {})
    unknown = set(names) - set(COLUMNS[task])
    if unknown:
        raise DataError(
            f"`columns` must rename {', '.join(COLUMNS[task])}, got {', '.join(sorted(unknown))}."
        )
    if task == "tabular" and table is None:
        raise DataError("`table` must give columns and classes for 'tabular', got none.")
    labels, slots, tags = _schema(getattr(rows, "features", None), task, names, labels, slots)
    made, owners, group_names = [], [], []
    for number, row in enumerate(rows):
        where = f"{name} row {number}"
        made.append(
            record_of(row, table, where)
            if table is not None
            else make_row(task, row, names, labels, tags, where)
        )
        owners.append(None if owner is None else _owner(_column(row, owner, where), where))
        group_names.append(None if group is None else _column(row, group, where))
    numbers = {each: number for number, each in enumerate(dict.fromkeys(owners))}
    return Examples(
        name=name,
        split=split,
        task=task,
        rows=tuple(made),
        unit=unit,
        labels=labels,
        slots=slots,
        value_range=value_range,
        table=table,
        owner_kind=owner,
        owners=None if owner is None else tuple(numbers[each] for each in owners),
        groups=groups or ("everyone",),
        group_of=None if group is None else tuple(_group(each, groups) for each in group_names),
        source=source,
    )


def _schema(features, task, names, labels, slots):
    """Labels, slots and BIO tags in their order: as given, or as the features declare them."""
    declared = {
        each: class_names((features or {}).get(names[each]))
        for each in ("label", "tags")
        if each in names
    }
    tags = declared.get("tags") or ()
    kinds = tuple(dict.fromkeys(tag[2:] for tag in tags if tag[:2] in ("B-", "I-")))
    if task == "tag":
        labels = labels if labels is not None else kinds
    else:
        labels = labels if labels is not None else declared.get("label") or ()
        slots = slots if slots is not None else kinds
    for name, value in (("labels", labels), ("slots", slots)):
        needed = name == "labels" and task in _WITH_LABELS
        if (needed or (name == "slots" and task == "nlu")) and not value:
            raise DataError(
                f"`{name}` must list every one that may occur for {task!r}, got none: they are "
                "public, and reading them off the rows would leak."
            )
    spans = labels if task == "tag" else slots
    return tuple(labels), tuple(slots or ()), tags or bio_tags(tuple(spans or ()))


def class_names(feature: Any) -> tuple[str, ...] | None:
    """The names that a feature of `datasets` declares: of a class label, or of a list of them."""
    names = getattr(getattr(feature, "feature", feature), "names", None)
    return tuple(names) if names else None


def make_row(
    task: str,
    row: Mapping[str, Any],
    names: Mapping[str, str],
    labels: tuple[str, ...],
    tags: tuple[str, ...],
    where: str,
) -> Any:
    """The row of `task` from a dict.

    Args:
      task: One of the tasks.
      row: Values by column.
      names: The column behind each name of `COLUMNS`.
      labels: Names behind numbers.
      tags: Names behind numbers.
      where: Location, for messages.

    Raises:
      DataError: A column is missing or holds something else.
    """
    values = [
        str(row.get(names[each], where)) if each == "id" else _column(row, names[each], where)
        for each in COLUMNS[task]
    ]
    if task == "classify":
        return Text(_text(values[0], where), _named(values[1], labels, where))
    if task == "multilabel":
        return Labelled(_text(values[0], where), _several_named(values[1], labels, where))
    if task == "regression":
        return Rated(_text(values[0], where), _number(values[1], where))
    if task in ("tag", "nlu"):
        tokens = tuple(_text(each, where) for each in values[0])
        marks = tuple(_named(each, tags, where) for each in values[1])
        return (
            Tagged(tokens, marks)
            if task == "tag"
            else Utterance(tokens, marks, _named(values[2], labels, where))
        )
    if task == "qa":
        question, context, answers, identifier = values
        return Question(question, context, _answers(answers, where), identifier)
    if task == "lm":
        return Document(_text(values[0], where))
    targets = (values[1],) if isinstance(values[1], str) else tuple(values[1])
    return Pair(_text(values[0], where), tuple(_text(each, where) for each in targets))


def _owner(value, where):
    if value is None or value != value:  # NaN is not itself: each would be a unit of its own
        raise DataError(f"{where}: the owner must be known, got {value!r}. Drop the row.")
    return value


def _column(row, name, where):
    if name not in row:
        raise DataError(
            f"{where}: no column {name!r}; it has {', '.join(map(str, row))}. Rename by `columns`."
        )
    return row[name]


def _text(value, where) -> str:
    if not isinstance(value, str):
        raise DataError(f"{where}: must be a text, got {value!r:.60}.")
    return value


def _named(value, names, where) -> str:
    if isinstance(value, str):
        return value
    try:
        number = operator.index(value)
    except TypeError:
        raise DataError(f"{where}: label {value!r:.60} must be a name or a whole number.") from None
    if not 0 <= number < len(names):
        raise DataError(f"{where}: label {number} must be from 0 to {len(names) - 1}.")
    return names[number]


def _several_named(value, names, where) -> tuple[str, ...]:
    if isinstance(value, str):
        text = value.strip()
        value = _read_list(text) if text.startswith("[") else _BETWEEN.split(text)
        value = [label for each in value if (label := str(each).strip())]
    if value is None or not isinstance(value, Iterable):
        raise DataError(f"{where}: labels must be a list or a text, got {value!r:.60}.")
    return tuple(dict.fromkeys(_named(each, names, where) for each in value))


def _read_list(text: str) -> list[Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    return found if isinstance(found, list) else _BETWEEN.split(text.strip("[]"))


def _number(value, where) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise DataError(f"{where}: the label must be a number, got {value!r:.60}.") from None


def _answers(answers, where) -> tuple[Answer, ...]:
    try:
        if isinstance(answers, Mapping):
            pairs = list(zip(answers["text"], answers["answer_start"], strict=True))
        else:
            pairs = [(each["text"], each["answer_start"]) for each in answers]
        return tuple(Answer(text, int(start)) for text, start in pairs)
    except (KeyError, TypeError, ValueError):
        raise DataError(
            f"{where}: `answers` must hold text and answer_start as in SQuAD, got {answers!r:.60}."
        ) from None


def _group(value, groups) -> int:
    if value not in (groups or ()):
        raise DataError(
            f"`groups` must list every group, got {', '.join(groups or ()) or 'none'} "
            f"without {value!r}."
        )
    return groups.index(value)
