"""The schema of a run's table: as given, or open where it is to be learned within the budget."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

from trustml.data.errors import DataError
from trustml.data.files import source_of
from trustml.data.files.options import ROW
from trustml.data.tables import TableSchema, read_schema
from trustml.data.tables.guessing import guess_schema
from trustml.recipes.settings import REQUIRED, Settings, knob, settings
from trustml.recipes.train.config import TrainConfig

_SAMPLE = 1000  # rows that tell the kinds of columns
_HEAD = """\
The schema of a table: the ranges of its numbers, its categories and its classes.
It is public. Take ranges, categories and classes from what is known without the rows, such as the
form that people filled in: read off the rows they would leak. Leave the lines of a range or a list
out to learn it privately, by `--learn-schema EPSILON`. Delete columns that are no features."""


@settings
class SchemaConfig(Settings):
    """A file of rows, and which of its columns are no features."""

    file: str = knob(REQUIRED, "file of your own rows", metavar="FILE", positional=True)
    label: str = knob(REQUIRED, "column of the class")
    unit: str | None = knob(None, "column of the privacy unit, which is no feature")


def schema_skeleton(config: SchemaConfig) -> str:
    """The TOML of a schema with names and kinds alone, to fill in by hand.

    Kinds are guessed from the first rows; nothing else is read off them.

    Args:
      config: The file and its columns.

    Raises:
      ValueError: The file cannot be read, or has no such column.
    """
    return _guessed(source_of(config.file), config.label, config.unit).to_toml(_HEAD)


def table_of(config: TrainConfig, source: Any) -> TableSchema | None:
    """The schema of a table, with open parts where they are to be learned; None for other tasks.

    Args:
      config: The settings.
      source: Of `trustml.data.files.source_of`; only kinds are read off its rows.

    Raises:
      ValueError: Neither a schema nor a budget to learn one is given, or they do not fit.
    """
    if config.task not in (None, "tabular"):
        for name in ("schema", "learn_schema"):
            if getattr(config, name) is not None:
                flag = name.replace("_", "-")
                raise ValueError(f"`--{flag}` is for the task tabular, got {config.task!r}.")
    if config.schema is None and config.learn_schema is None:
        if config.task == "tabular":
            raise ValueError(
                "`--schema FILE` or `--learn-schema EPSILON` must be given for a table, got "
                "neither: ranges and categories read off the rows would leak. `trustml data "
                "schema` prints a file to fill in."
            )
        return None
    if config.schema is not None:
        table = read_schema(near_path(config.schema))
    elif config.label is None:
        raise ValueError("`--label` must name the column of the class for `--learn-schema`.")
    else:
        table = _guessed(source, config.label, config.unit)
    return _checked(config, table)


def _checked(config: TrainConfig, table: TableSchema) -> TableSchema:
    if config.labels is not None:
        if table.labels not in (None, config.labels):
            raise ValueError("`--labels` must be left out where the schema lists them.")
        table = dataclasses.replace(table, labels=config.labels)
    path = near_path(config.schema or "")
    if table.is_open and config.learn_schema is None:
        raise ValueError(
            f"`--schema` must give ranges, categories and classes, got {path} without "
            f"those of {', '.join(table.open_parts)}. Fill them in, or learn them by "
            "`--learn-schema EPSILON`."
        )
    if not table.is_open and config.learn_schema is not None:
        raise ValueError(
            f"`--learn-schema` must be left out where the schema is whole, as {path} is."
        )
    return table


def _guessed(source: Any, label: str, unit: str | None) -> TableSchema:
    if unit not in (None, ROW, *source.columns):
        raise DataError(
            f"`--unit` must be a column, got {unit!r}; there are {', '.join(source.columns)}."
        )
    rows = (row for _, row in itertools.islice(source.rows(None, lambda _: None), _SAMPLE))
    return guess_schema(source.columns, rows, label=label, without=() if unit is None else (unit,))


def whole_path(path: str) -> str:
    """A path that stays right when the run is resumed elsewhere."""
    return str(Path(path).resolve())


def near_path(path: str) -> Path:
    """A whole path as messages show it: from the working folder, if it lies there."""
    whole, here = Path(path), Path.cwd()
    return whole.relative_to(here) if whole.is_relative_to(here) else whole
