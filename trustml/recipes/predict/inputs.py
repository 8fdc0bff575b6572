"""What each kind of task reads of a row: which columns, and how their values become inputs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trustml.data.examples import Examples
from trustml.data.files.columns import USUAL_NAMES
from trustml.data.tables.table import record_of
from trustml.models.tasks.words import words

# A new row: the text itself, the words of a sentence, or values by column.
Row = str | Sequence[str] | Mapping[str, Any]


def choose_columns(
    schema: Examples, names: Sequence[str], given: Mapping[str, str | None]
) -> list[str]:
    """The columns that a model reads, in the order of its inputs.

    >>> from trustml.data.unlabelled import schema_of
    >>> choose_columns(schema_of("lm"), ["id", "message"], {"text": "message"})
    ['message']
    >>> choose_columns(schema_of("qa"), ["id", "question", "context"], {})
    ['question', 'context']

    Args:
      schema: The schema of the model.
      names: Columns of the rows.
      given: Chosen columns by their knob, `text` or `question`; None leaves the choice.

    Raises:
      ValueError: A column is missing, or the choice is not clear.
    """
    roles = _COLUMNS[schema.task]
    for role, name in given.items():
        if name is not None and role not in roles:
            raise ValueError(f"`--{role}` is not of the task {schema.task!r}, got {name!r}.")
    if schema.table is not None:
        return [column.name for column in schema.table.columns]
    return [
        _choose(role, usual, names, given.get(role), only=len(roles) == 1)
        for role, usual in roles.items()
    ]


def _choose(
    role: str, usual: Sequence[str], names: Sequence[str], given: str | None, *, only: bool
) -> str:
    if given is not None:
        if given not in names:
            raise ValueError(
                f"`--{role}` must be one of the columns {', '.join(names)}, got {given!r}."
            )
        return given
    by_name = {name.strip().lower(): name for name in names}
    found = [by_name[name] for name in usual if name in by_name]
    if not found and only and len(names) == 1:
        found = list(names)
    # The name of the task is meant where it is there; of two others either could be.
    if not found or (len(found) > 1 and found[0].strip().lower() not in _TASKS_OWN):
        raise ValueError(
            f"`--{role}` must name the column to read: {'several' if found else 'none'} of "
            f"{', '.join(names)} have a usual name ({', '.join(usual)})."
        )
    return found[0]


def read_row(schema: Examples, row: Row, where: str, text: str | None = None) -> tuple[Any, ...]:
    """What a model reads of a row of the caller's, under the usual names of the columns.

    `text` is the name of the column that it was trained on, where that is known.

    >>> from trustml.data.unlabelled import schema_of
    >>> read_row(schema_of("tag", labels=["city"]), "fly to Rome!", "row 1")
    (['fly', 'to', 'Rome', '!'],)

    Raises:
      ValueError: A column is missing or empty, or holds no text; the message begins with `where`.
    """
    if not isinstance(row, Mapping):
        roles = _COLUMNS[schema.task]
        if len(roles) != 1:
            wanted = " and ".join(_named(roles)) or "the columns of the table"
            raise ValueError(f"{where}: must hold {wanted} by name, got {row!r:.60}.")
        name = "text" if isinstance(row, str) or schema.task not in _READ else "tokens"
        return read_input(schema, {name: row}, [name], where)
    try:
        columns = choose_columns(schema, list(row), {"text": text if text in row else None})
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return read_input(schema, row, columns, where)


def _named(roles: Mapping[str, Sequence[str]]) -> list[str]:
    return [usual[0] for usual in roles.values()]


def read_input(
    schema: Examples, row: Mapping[str, Any], columns: Sequence[str], where: str
) -> tuple[Any, ...]:
    """What a model reads in the `columns` of a row, as `trustml.data.unlabelled` takes it.

    Raises:
      ValueError: A column is missing or empty, or holds no text; the message begins with `where`.
    """
    if schema.table is not None:
        labelled = {**row, schema.table.label: schema.labels[0]}  # which nothing reads
        return (record_of(labelled, schema.table, where).values,)
    read = _READ.get(schema.task, _text)
    return tuple(read(_value(row, name, where), name, where) for name in columns)


def _value(row: Mapping[str, Any], name: str, where: str) -> Any:
    if name not in row:
        raise ValueError(f"{where}: must have the column {name!r}, got {', '.join(row) or 'none'}.")
    return row[name]


def _text(value: Any, name: str, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{where}: {name!r} must hold a text, got {value!r:.60}.")
    return value


def _tokens(value: Any, name: str, where: str) -> list[str]:
    if isinstance(value, str):
        # The column of words holds them with spaces between where a format has no lists.
        value = value.split() if name in _TOKENS else words(value)
    if (
        not isinstance(value, Sequence)
        or not value
        or not all(isinstance(one, str) for one in value)
    ):
        raise ValueError(f"{where}: {name!r} must hold words or a text, got {value!r:.60}.")
    return list(value)


_TEXT, _TOKENS, _SOURCE = (USUAL_NAMES[name] for name in ("text", "tokens", "source"))
_TASKS_OWN = ("text", "tokens", "source", "question", "context")
# Knob to the usual names of its column, the name of the task first.
_COLUMNS: dict[str, dict[str, tuple[str, ...]]] = {
    "classify": {"text": _TEXT},
    "multilabel": {"text": _TEXT},
    "regression": {"text": _TEXT},
    "tabular": {},  # the columns of its schema
    "tag": {"text": (*_TOKENS, *_TEXT)},
    "nlu": {"text": (*_TOKENS, *_TEXT)},
    "qa": {"question": ("question",), "text": ("context",)},
    "lm": {"text": _TEXT},
    "seq2seq": {"text": (*_SOURCE, *_TEXT)},
}
_READ: dict[str, Callable[[Any, str, str], Any]] = {"tag": _tokens, "nlu": _tokens}
