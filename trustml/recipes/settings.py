"""One table of settings a recipe: each knob is declared once, with type, help, range and group.

Flags, YAML keys, `--help`, validation and docstrings follow from the declaration:

    @settings
    class PlanConfig(Settings):
        \"\"\"What a budget buys.\"\"\"

        epsilon: float | None = knob(None, "privacy budget", "privacy")
        steps: int = knob(1000, "private steps", "training", least=1)
"""

import contextlib
import dataclasses
import difflib
import math
import sys
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

REQUIRED: Any = dataclasses.MISSING  # the default of a knob that must be given
_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_METADATA = "knob"
_T = TypeVar("_T")


class Knob(NamedTuple):
    """What is declared of one setting.

    Args:
      help: One line, without its default.
      group: Heading of `--help` that it stands under.
      least: Smallest value.
      on_resume: Whether a run that goes on may change it.
      of_cell: Whether each cell of a study sets it; cells share the other settings.
      of_own: Whether it is for files of the user's own alone.
      shown: What `--help` says of the default; by default the default itself, if there is one.
      metavar: Name of its value in `--help`; by default its type's letter.
      positional: Whether it takes the arguments that no flag names.
      commas: Whether a flag's text is a list with commas between; else several texts are.
      flag: By default the name with dashes.
    """

    help: str
    group: str = "main"
    least: float | None = None
    on_resume: bool = False
    of_cell: bool = False
    of_own: bool = False
    shown: str | None = None
    metavar: str | None = None
    positional: bool = False
    commas: bool = False
    flag: str | None = None


class Field(NamedTuple):
    """A knob with its name, type and default."""

    name: str
    hint: Any
    default: Any
    knob: Knob

    @property
    def flag(self) -> str:
        """The flag that sets it."""
        return self.knob.flag or f"--{self.name.replace('_', '-')}"

    @property
    def title(self) -> str:
        """What messages call it: its flag, or its name in `--help`."""
        return self.knob.metavar or self.name.upper() if self.knob.positional else self.flag

    @property
    def kinds(self) -> tuple[Any, ...]:
        """The types that it allows, None left out."""
        given = typing.get_args(self.hint) if isinstance(self.hint, types.UnionType) else ()
        return tuple(kind for kind in given or (self.hint,) if kind is not type(None))

    @property
    def is_switch(self) -> bool:
        """Whether `--name` and `--no-name` set it."""
        return self.kinds == (bool,)

    @property
    def is_list(self) -> bool:
        """Whether several texts of the command line are its value."""
        return self._is_tuple and not self.knob.commas

    @property
    def _is_tuple(self) -> bool:
        return typing.get_origin(self.kinds[0]) is tuple

    @property
    def _item_kinds(self) -> tuple[Any, ...]:
        return typing.get_args(self.kinds[0])[:1] if self._is_tuple else self.kinds

    def parse(self, text: str) -> Any:
        """The value of a flag's text; `1e3` and `13_084` are whole numbers.

        Raises:
          ValueError: The text is no such value.
        """
        if self.knob.commas:
            parts = [part.strip() for part in text.split(",")]
            if not all(parts):
                raise ValueError(f"`{self.flag}` must be a list with commas between, got {text!r}.")
            return tuple(map(self._parse_one, parts))
        return self._parse_one(text)

    def _parse_one(self, text: str) -> Any:
        for kind in self._item_kinds:
            with contextlib.suppress(ValueError, OverflowError):
                return _whole(text) if kind is int else kind(text)
        raise ValueError(f"`{self.title}` must be {self._kind_in_words()}, got {text!r}.")

    def check(self, value: Any, source: str) -> Any:
        """`value`, if it is of the right kind and in range; a number given as text is converted.

        Raises:
          ValueError: It is neither.
        """
        kinds = self.kinds
        if isinstance(value, str) and set(kinds) <= {int, float}:
            with contextlib.suppress(ValueError):
                value = self._parse_one(value)  # YAML reads 1e-5, without a point, as text
        if isinstance(value, str) and Path in kinds:
            value = Path(value)
        if isinstance(value, list) and self._is_tuple:
            (kind,) = self._item_kinds
            with contextlib.suppress(TypeError, ValueError, OverflowError):
                value = tuple(map(kind, value))  # YAML has no tuples and no paths
        whole = type(value) is int and abs(value) <= sys.float_info.max
        optional = value is None and type(None) in typing.get_args(self.hint)
        fits = optional or (whole and float in kinds) or any(_is_of(value, kind) for kind in kinds)
        if not fits:
            raise ValueError(
                f"`{self.name}` must be {self._kind_in_words()}, got {value!r}, in {source}."
            )
        least = self.knob.least
        if least is not None and isinstance(value, int | float) and not value >= least:
            raise ValueError(f"`{self.name}` must be at least {least}, got {value!r}, in {source}.")
        return value

    def _kind_in_words(self) -> str:
        words = " or ".join(_KINDS.get(kind, "text") for kind in self._item_kinds)
        return f"{words} for each, with commas between" if self.knob.commas else words


def knob(default: _T, help: str, group: str = "main", **how: Any) -> _T:
    """Declares a setting in a class that `settings` decorates; `how` as in `Knob`."""
    declared = Knob(help, group, **how)
    return dataclasses.field(default=default, metadata={_METADATA: declared})


def knob_of(cls: type, name: str, **how: Any) -> Any:
    """Declares a setting as another table has it; `how` says what differs.

    >>> from trustml.recipes.train.config import TrainConfig
    >>> knob_of(TrainConfig, "text").metadata["knob"].group
    'data'
    """
    (field,) = [one for one in fields_of(cls) if one.name == name]
    return dataclasses.field(
        default=field.default, metadata={_METADATA: field.knob._replace(**how)}
    )


@typing.dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(knob,))
def settings(cls: type[_T]) -> type[_T]:
    """Makes a frozen dataclass of a table of knobs, with the table in its docstring."""
    made = dataclasses.dataclass(frozen=True, kw_only=True)(cls)
    rows = [f"  {field.name}: {_sentence(field)}" for field in fields_of(made)]
    made.__doc__ = "\n".join([(cls.__doc__ or "").rstrip(), "", "Args:", *rows])
    return made


class Settings:
    """What every table of knobs can do."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @classmethod
    def from_dict(cls, given: Mapping[str, Any], source: str) -> Self:
        """Settings by name.

        Args:
          given: Those that differ from the defaults.
          source: Where they come from, for messages.

        Raises:
          ValueError: A name is unknown, or a value of the wrong kind or out of range.
        """
        known = {field.name: field for field in fields_of(cls)}
        for name in given:
            if name not in known:
                raise ValueError(f"`{name}` is no setting, in {source}.{_nearest(name, known)}")
        for name, field in known.items():
            if field.default is REQUIRED and name not in given:
                raise ValueError(f"`{field.title}` must be given, got none.")
        return cls(**{name: known[name].check(value, source) for name, value in given.items()})

    def to_dict(self) -> dict[str, Any]:
        """Every setting by name, ready for YAML."""
        values = {field.name: getattr(self, field.name) for field in fields_of(type(self))}
        return {name: _plain(value) for name, value in values.items()}


def fields_of(cls: type) -> list[Field]:
    """The knobs of a class, in the order of their declaration."""
    hints = typing.get_type_hints(cls)
    return [
        Field(field.name, hints[field.name], field.default, field.metadata[_METADATA])
        for field in dataclasses.fields(cls)  # type: ignore[arg-type]
        if _METADATA in field.metadata
    ]


def part_of(cls: type, name: str, **how: Any) -> type[Settings]:
    """A table called `name` of the knobs of `cls` that `names_of` lists.

    >>> from trustml.recipes.train.config import TrainConfig
    >>> fields_of(part_of(TrainConfig, "Data", group="data"))[0].flag
    '--task'
    """
    names = names_of(cls, **how)
    kept = [field for field in dataclasses.fields(cls) if field.name in names]
    made = [
        (one.name, one.type, dataclasses.field(default=one.default, metadata=one.metadata))
        for one in kept
    ]
    return dataclasses.make_dataclass(name, made, bases=(Settings,), frozen=True, kw_only=True)


def names_of(cls: type, **how: Any) -> list[str]:
    """The names of the knobs with these properties: `names_of(TrainConfig, on_resume=True)`."""
    matches = [
        field
        for field in fields_of(cls)
        if all(getattr(field.knob, name) == value for name, value in how.items())
    ]
    return [field.name for field in matches]


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(map(_plain, value))
    return str(value) if isinstance(value, Path) else value


def _whole(text: str) -> int:
    value = float(text)
    if math.isnan(value) or value != int(value):
        raise ValueError
    return int(text) if text.lstrip("-").isdigit() else int(value)


def _is_of(value: Any, kind: Any) -> bool:
    if typing.get_origin(kind) is tuple:
        return isinstance(value, tuple)
    return type(value) is kind or (kind is Path and isinstance(value, Path))


def _sentence(field: Field) -> str:
    text = field.knob.help
    return f"{text[:1].upper()}{text[1:]}{default_in_words(field)}."


def default_in_words(field: Field) -> str:
    """What `--help` adds to a knob's help: "; default: 3", or nothing."""
    shown = field.knob.shown
    if shown is None and field.default not in (None, False, (), REQUIRED):
        values = field.default if field.knob.commas else (field.default,)
        shown = ",".join(map(str, values))
    return f"; default: {shown}" if shown else ""


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    return f" Did you mean `{close[0]}`?" if close else " `--help` names them."
