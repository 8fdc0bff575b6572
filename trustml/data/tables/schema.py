"""The schema of a table: kinds, ranges, categories and classes, in a small TOML file.

    label = "income"
    labels = ["<=50K", ">50K"]

    [columns.age]
    low = 17
    high = 90

    [columns.workclass]
    values = ["Private", "State-gov"]

It is public: a range, a category or a class that is read off the rows would leak. One that is
left out is open, and must be learned privately before a network can read the table.
"""

import dataclasses
import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trustml.data.errors import DataError
from trustml.strict_json import dumps

# Texts that stand for a missing value.
MISSING = ("", "?", "NA", "N/A", "n/a", "nan", "NaN", "NULL", "null", "None")
SCALES = ("linear", "log")
_KINDS = {"number": ("low", "high", "scale"), "category": ("values",)}
_TOP = ("label", "labels", "missing", "learned", "columns")


@dataclasses.dataclass(frozen=True, kw_only=True)
class NumberColumn:
    """A column of numbers, which are clipped to a public range.

    Args:
      name: Of the column.
      low: Lower end of the range; None while it is not known.
      high: Upper end of the range; None while it is not known.
      scale: "linear", or "log" for numbers of many sizes: log(1 + |x|) with the sign of x.
    """

    name: str
    low: float | None = None
    high: float | None = None
    scale: str = "linear"

    def __post_init__(self):
        if (self.low is None) != (self.high is None):
            raise DataError(f"column {self.name!r} must have both `low` and `high`, or neither.")
        if self.low is not None and not _is_range(self.low, self.high):
            raise DataError(
                f"column {self.name!r}: `low` must be a number below `high`, got {self.low!r} and "
                f"{self.high!r}."
            )
        if self.scale not in SCALES:
            raise DataError(
                f"column {self.name!r}: `scale` must be one of {', '.join(SCALES)}, got "
                f"{self.scale!r}."
            )

    @property
    def is_open(self) -> bool:
        """Whether its range is not known."""
        return self.low is None

    def to_dict(self) -> dict[str, Any]:
        """The table of this column in the file."""
        known = {} if self.low is None else {"low": self.low, "high": self.high}
        return {"kind": "number", **known, "scale": self.scale}


@dataclasses.dataclass(frozen=True, kw_only=True)
class CategoryColumn:
    """A column of categories; those that `values` does not list are one other category.

    Args:
      name: Of the column.
      values: The categories; None while they are not known.
    """

    name: str
    values: tuple[str, ...] | None = None

    def __post_init__(self):
        _check_texts(f"column {self.name!r}: `values`", self.values, least=0)

    @property
    def is_open(self) -> bool:
        """Whether its categories are not known."""
        return self.values is None

    def to_dict(self) -> dict[str, Any]:
        """The table of this column in the file."""
        known = {} if self.values is None else {"values": list(self.values)}
        return {"kind": "category", **known}


Column = NumberColumn | CategoryColumn


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableSchema:
    """What the columns of a table may hold, and its classes. Public.

    >>> age = NumberColumn(name="age", low=0, high=100)
    >>> schema = TableSchema(columns=(age,), label="income", labels=("low", "high"))
    >>> schema.is_open, schema.names
    (False, ('age', 'income'))

    Args:
      columns: The columns that a network reads, in its order.
      label: Column of the class.
      labels: Every class; None while they are not known.
      missing: Texts that stand for a missing value.
      learned: Whether a part was learned privately; then a row of another class counts as none
        of the classes, instead of being refused.

    Raises:
      DataError: No columns, a name twice, or fewer than two classes.
    """

    columns: tuple[Column, ...]
    label: str
    labels: tuple[str, ...] | None = None
    missing: tuple[str, ...] = MISSING
    learned: bool = False

    def __post_init__(self):
        if not self.columns:
            raise DataError("`columns` must hold at least one column beside the label, got none.")
        twice = [name for name in self.names if self.names.count(name) > 1]
        if twice:
            raise DataError(
                f"`columns` and `label` must all differ in name, got {twice[0]!r} twice."
            )
        _check_texts("`labels`", self.labels, least=2)

    @property
    def names(self) -> tuple[str, ...]:
        """Every column of a file that is read, the label last."""
        return (*(column.name for column in self.columns), self.label)

    @property
    def open_parts(self) -> tuple[str, ...]:
        """What is not known: names of columns, and that of the label."""
        columns = tuple(column.name for column in self.columns if column.is_open)
        return columns + ((self.label,) if self.labels is None else ())

    @property
    def is_open(self) -> bool:
        """Whether anything is not known."""
        return bool(self.open_parts)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as the file holds them."""
        known = {} if self.labels is None else {"labels": list(self.labels)}
        columns = {column.name: column.to_dict() for column in self.columns}
        rest = {"missing": list(self.missing), "learned": self.learned, "columns": columns}
        return {"label": self.label, **known, **rest}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any], source: str) -> "TableSchema":
        """The schema that `to_dict` described; `source` names it in messages.

        Raises:
          DataError: A name is unknown or missing, or a value has the wrong kind.
        """
        _check_names(fields, _TOP, source)
        columns, label = fields.get("columns"), fields.get("label")
        if not (isinstance(columns, Mapping) and columns and isinstance(label, str)):
            raise DataError(f"{source} must hold `label` and a table `[columns.NAME]` each.")
        try:
            return cls(
                columns=tuple(_column(name, each, source) for name, each in columns.items()),
                label=label,
                labels=_texts(fields, "labels", source),
                missing=_texts(fields, "missing", source) or MISSING,
                learned=fields.get("learned") is True,
            )
        except DataError as error:
            prefix = "" if str(error).startswith(source) else f"{source}: "
            raise DataError(f"{prefix}{error}") from None

    def to_toml(self, head: str = "") -> str:
        """The file, with `head` as its comment; open parts are marked by a comment of their own.

        >>> schema = TableSchema(columns=(NumberColumn(name="age"),), label="income")
        >>> print(schema.to_toml().splitlines()[0])
        label = "income"
        """
        lines = [f"# {line}".rstrip() for line in head.splitlines()]
        lines += [f"label = {_quoted(self.label)}"]
        lines += ["# labels = [every class]"] if self.labels is None else []
        lines += [f"labels = {_array(self.labels)}"] if self.labels is not None else []
        lines += [f"missing = {_array(self.missing)}"]
        lines += ["learned = true"] if self.learned else []
        for column in self.columns:
            lines += ["", f"[columns.{_quoted(column.name)}]", *_lines(column)]
        return "\n".join(lines) + "\n"


def read_schema(path: str | Path) -> TableSchema:
    """The schema in a TOML file.

    >>> read_schema("no-such-file.toml")
    Traceback (most recent call last):
    trustml.data.errors.DataError: `--schema` must be a TOML file, got no-such-file.toml: No such \
file or directory.

    Raises:
      DataError: There is no such file, or it is no schema.
    """
    try:
        fields = tomllib.loads(Path(path).read_text("utf-8-sig"))
    except OSError as error:
        raise DataError(f"`--schema` must be a TOML file, got {path}: {error.strerror}.") from None
    except ValueError as error:
        raise DataError(f"`--schema` must be a TOML file, got {path}: {error}.") from None
    return TableSchema.from_dict(fields, str(path))


def _is_range(low, high) -> bool:
    kinds = all(isinstance(end, int | float) and not isinstance(end, bool) for end in (low, high))
    return kinds and math.isfinite(low) and math.isfinite(high) and low < high


def _check_texts(name: str, values, least: int) -> None:
    if values is None:
        return
    if len(values) < least or len(set(values)) < len(values):
        number = f"{least} or more " if least else ""
        raise DataError(f"{name} must list {number}different texts, got {list(values)}.")


def _check_names(fields, known, source: str) -> None:
    unknown = [name for name in fields if name not in known]
    if unknown:
        raise DataError(f"{source}: unknown name {unknown[0]!r}; known are {', '.join(known)}.")


def _texts(fields, name: str, source: str) -> tuple[str, ...] | None:
    values = fields.get(name)
    if values is None:
        return None
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise DataError(f"{source}: `{name}` must be a list of texts, got {values!r:.60}.")
    return tuple(values)


def _column(name: str, fields: Any, source: str) -> Column:
    where = f"{source}: column {name!r}"
    if not isinstance(fields, Mapping):
        raise DataError(f"{where} must be a table, got {fields!r:.60}.")
    kind = fields.get("kind") or ("category" if "values" in fields else "number")
    if kind not in _KINDS or not ("kind" in fields or set(fields) & {"low", "high", "values"}):
        raise DataError(f"{where} must have `kind` number or category, got {fields.get('kind')!r}.")
    _check_names(fields, ("kind", *_KINDS[kind]), where)
    if kind == "category":
        return CategoryColumn(name=name, values=_texts(fields, "values", where))
    return NumberColumn(name=name, **{key: fields[key] for key in _KINDS[kind] if key in fields})


def _lines(column: Column) -> list[str]:
    if isinstance(column, CategoryColumn):
        lines = [] if column.values is None else [f"values = {_array(column.values)}"]
        return ['kind = "category"', *(lines or ["# values = [every category]"])]
    lines = ['kind = "number"']
    if column.is_open:
        return [*lines, "# low = the least that is possible", "# high = the most that is possible"]
    scale = [f"scale = {_quoted(column.scale)}"] if column.scale != "linear" else []
    return [*lines, f"low = {column.low!r}", f"high = {column.high!r}", *scale]


def _quoted(text: str) -> str:
    # As JSON, but TOML refuses pairs of surrogates, and this one character by itself.
    return dumps(text, ascii_only=False).replace("\x7f", "\\u007f")


def _array(values) -> str:
    return f"[{', '.join(_quoted(value) for value in values)}]"
