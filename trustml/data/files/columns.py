"""Which columns of a source are the text, the label and the like: as given, or a safe guess."""

import dataclasses
import difflib
import itertools
from collections.abc import Collection, Sequence
from typing import NamedTuple

from trustml.data.errors import DataError
from trustml.data.files.options import FileOptions
from trustml.data.files.sources import Source
from trustml.data.own_rows import COLUMNS
from trustml.formatting import listed

# Names by which a column is known, the name of the task first: where that is there, it is meant.
USUAL_NAMES = {
    "text": ("text", "message", "sentence", "utterance", "content", "review", "comment", "tweet"),
    "label": ("label", "intent", "class", "category", "target"),
    "tokens": ("tokens", "words"),
    "tags": ("tags", "ner_tags", "slots"),
    "source": ("source", "src"),
    "target": ("target", "tgt"),
}
# Which of a task's columns the options `text` and `label` name.
_OPTIONS = {
    "tag": {"text": "tokens", "label": "tags"},
    "nlu": {"text": "tokens", "label": "label"},
    "qa": {"text": "context"},
    "seq2seq": {"text": "source", "label": "target"},
}
_FLAGS = ("text", "label")
_SAMPLE = 1000  # rows whose values may decide
_FEW = 0.1  # share of the rows: fewer different values are classes
_MANY = 0.5  # more are texts
_PEOPLE = ("user", "user_id", "author", "author_id", "customer", "customer_id", "patient_id")


class ColumnChoice(NamedTuple):
    """The task of a source, and its columns.

    Attributes:
      task: What to learn.
      names: The column behind each name of the task.
      decisions: How that was decided, in one sentence each.
    """

    task: str
    names: dict[str, str]
    decisions: tuple[str, ...]


def choose_columns(source: Source, options: FileOptions) -> ColumnChoice:
    """The task and its columns: those that `options` give, and a guess only where it is safe.

    >>> from trustml.data.files.sources import source_of
    >>> source = source_of([{"text": "hello", "label": "greeting", "when": "2026"}])
    >>> choose_columns(source, FileOptions()).names
    {'text': 'text', 'label': 'label'}

    Raises:
      DataError: A column is not there, or cannot be guessed; the message lists the columns.
    """
    for name in (options.text, options.label, options.owner, options.group):
        _check_column(source, name)
    task = options.task or _guess_task(source, options)
    if task not in COLUMNS:
        raise DataError(f"`task` must be one of {', '.join(COLUMNS)} for own rows, got {task!r}.")
    if options.table is not None:
        for name in options.table.names:
            _check_column(source, name)
    given = _given(task, options)
    names = dict(given)
    for name in COLUMNS[task]:
        if name not in names and (found := _find(name, _free(source, options, names))):
            names[name] = found
    by_values = task == "classify" and len(names) < 2
    if by_values:
        names = _by_values(source, options, names)
    if task == "qa":
        names.setdefault("id", "id")  # where there is no such column, the location is the id
    missing = [name for name in COLUMNS[task] if name not in names]
    if missing:
        raise DataError(_unknown(source, task, missing))
    chosen = ColumnChoice(task, names, ())
    how = "by their values" if by_values else "by their names"
    return chosen._replace(decisions=_decisions(source, options, chosen, given, how))


def _check_column(source: Source, name: str | None) -> None:
    if name is None or name in source.columns:
        return
    close = difflib.get_close_matches(name, source.columns, 1)
    way = f" Did you mean {close[0]!r}?" if close else ""
    raise DataError(f"{source.title} has no column {name!r}; it has {listed(source.columns)}.{way}")


def _guess_task(source: Source, options: FileOptions) -> str:
    """The task whose columns the source has."""
    free = _free(source, options, {})
    has = {name for name in (*USUAL_NAMES, "question", "context", "answers") if _find(name, free)}
    if options.text is None and {"tokens", "tags"} <= has:
        return "nlu" if "label" in has or options.label is not None else "tag"
    if {"question", "context", "answers"} <= has:
        return "qa"
    if options.text is None and options.label is None and {"source", "target"} <= has:
        return "seq2seq"
    alone = len(free) == 1 and options.label is None
    return "lm" if alone and ("text" in has or options.text is not None) else "classify"


def _given(task: str, options: FileOptions) -> dict[str, str]:
    roles = _OPTIONS.get(task, {"text": "text", "label": "label"})
    if options.table is not None and options.label in (None, options.table.label):
        roles, options = {}, dataclasses.replace(options, label=None)  # the schema names it
    given = {}
    for name in _FLAGS:
        column, role = getattr(options, name), roles.get(name)
        if column is not None and role not in COLUMNS[task]:
            raise DataError(f"`--{name}` {column} has no use for the task {task}. Leave it out.")
        if column is not None:
            given[str(role)] = column
    return given


def _free(source: Source, options: FileOptions, names: dict[str, str]) -> list[str]:
    """The columns that nothing else uses."""
    given = (options.text, options.label, options.owner, options.group)
    used = {*names.values(), *given}
    return [column for column in source.columns if column not in used]


def _find(name: str, columns: Sequence[str]) -> str | None:
    """The one column that is known by a name; None where there are several or none."""
    known = USUAL_NAMES.get(name, (name,))
    by_name = {column.strip().lower(): column for column in columns}
    if known[0] in by_name:
        return by_name[known[0]]
    found = [by_name[each] for each in known if each in by_name]
    return found[0] if len(found) == 1 else None


def _by_values(source: Source, options: FileOptions, names: dict[str, str]) -> dict[str, str]:
    """Text and label of two columns, where one has few different values and the other many."""
    columns = [*names.values(), *_free(source, options, names)]
    if len(columns) != 2:
        return names
    rows = [row for _, row in itertools.islice(source.rows(None, lambda _: None), _SAMPLE)]
    shares = {
        column: len({str(row.get(column)) for row in rows}) / max(1, len(rows))
        for column in columns
    }
    label, text = sorted(columns, key=shares.__getitem__)
    found = {"text": text, "label": label}
    agrees = all(found[role] == column for role, column in names.items())
    return found if shares[label] <= _FEW and shares[text] >= _MANY and agrees else names


def _unknown(source: Source, task: str, missing: Sequence[str]) -> str:
    flags = {role: name for name, role in _OPTIONS.get(task, {}).items()}
    ways = [f"`--{flags.get(name, name)}`" for name in missing if flags.get(name, name) in _FLAGS]
    way = f"Name it by {' and '.join(ways)}" if ways else "Rename one"
    which = " and ".join(missing)
    return (
        f"{source.title}: which column is the {which}? For the task {task} it cannot be guessed "
        f"from {listed(source.columns)}. {way}, or give another `--task`."
    )


def _decisions(
    source: Source, options: FileOptions, chosen: ColumnChoice, given: Collection[str], how: str
) -> tuple[str, ...]:
    """What was chosen, guessed or not: a run that goes on says the same."""
    named = ", ".join(f"column {column!r} as {role}" for role, column in chosen.names.items())
    guessed = [role for role in chosen.names if role not in given]
    why = f", guessed {how}; `--task`, `--text` and `--label` give others" if guessed else ""
    if options.table is not None:
        parts = len(options.table.columns)
        named = f"column {options.table.label!r} as label, by {parts} other columns"
    sentences = [f"task {chosen.task}: {named}{why}"]
    person = next((each for each in source.columns if each.lower() in _PEOPLE), None)
    if person is not None and options.owner is None:
        sentences.append(
            f"one row is protected, not all rows of one {person}: `--unit {person}` protects these"
        )
    return tuple(sentences)
