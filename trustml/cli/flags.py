"""Flags and `--help` from tables of settings, by tyro; errors are one line."""

import contextlib
import dataclasses
import difflib
import io
import re
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

import tyro
from rich.console import Console
from rich.table import Table

from trustml.recipes.settings import Field, Settings, default_in_words, fields_of

_NOT_GIVEN = "\0"  # a text that no command line can hold
_ABOUT = "[about]"  # tyro joins the lines of a description
_LETTERS = {int: "N", float: "X", str: "NAME"}
_FRAME = re.compile("[─│╭╮╰╯]|-{3,}")
_T = TypeVar("_T", bound=Settings)


def parse(
    tables: Sequence[type[Settings]], arguments: Sequence[str], *, prog: str, about: str | None
) -> list[dict[str, Any]]:
    """The settings that flags give, for each table; those not given leave no trace.

    Args:
      tables: Settings that the command takes.
      arguments: The command line behind the command's name.
      prog: The command, as `--help` shows it.
      about: What it does, with examples, for `--help`.

    Raises:
      ValueError: A flag is unknown, has no value, or one of the wrong kind.
      SystemExit: `--help` was asked for, and shown.
    """
    fields = [field for table in tables for field in fields_of(table)]
    texts = _given(fields, arguments, prog, about)
    values = {
        field.name: _value(field, texts[field.name]) for field in fields if field.name in texts
    }
    return [
        {field.name: values[field.name] for field in fields_of(table) if field.name in values}
        for table in tables
    ]


def parse_one(table: type[_T], arguments: Sequence[str], *, prog: str, about: str | None) -> _T:
    """As `parse`, for one table: its settings, checked."""
    (given,) = parse([table], arguments, prog=prog, about=about)
    return table.from_dict(given, "the flags")


def _given(fields, arguments, prog, about) -> dict[str, Any]:
    """What the command line says, as text, by name."""
    groups: dict[str, list[Field]] = {}
    for field in fields:
        groups.setdefault(field.knob.group, []).append(field)
    every = dataclasses.make_dataclass("Flags", [_group(name, groups[name]) for name in groups])
    printed, errors = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
            parsed: Any
            parsed, unknown = tyro.cli(
                every,
                args=list(arguments),
                prog=prog,
                description=_ABOUT,
                config=(tyro.conf.OmitArgPrefixes,),
                return_unknown_args=True,
            )
    except SystemExit as stop:
        if stop.code:
            raise ValueError(_one_line(errors.getvalue())) from None
        print(printed.getvalue().replace(_ABOUT, _wrapped(about or "")), end="")
        raise
    if unknown:
        raise ValueError(_unknown(unknown[0], fields, prog))
    switched = {argument.replace("_", "-") for argument in arguments}
    texts = {}
    for field in fields:
        value = getattr(getattr(parsed, field.knob.group.replace(" ", "_")), field.name)
        # Of a switch the value does not tell whether it was given.
        switch = not switched.isdisjoint({field.flag, f"--no-{field.flag[2:]}"})
        if switch if field.is_switch else value not in (_NOT_GIVEN, ()):
            texts[field.name] = value
    return texts


def _group(name: str, fields: Sequence[Field]) -> tuple[str, type, Any]:
    made = dataclasses.make_dataclass(name, [_flag(field) for field in fields])
    return name.replace(" ", "_"), made, dataclasses.field(default_factory=made)


def _flag(field: Field) -> tuple[str, Any, Any]:
    knob = field.knob
    shown = tyro.conf.arg(
        name=field.flag[2:],
        help=knob.help + default_in_words(field),
        help_behavior_hint="",
        metavar=None if field.is_switch else knob.metavar or _LETTERS.get(field.kinds[0], "NAME"),
    )
    kind: Any = bool if field.is_switch else tuple[str, ...] if field.is_list else str
    marks = (tyro.conf.Positional,) if knob.positional else ()
    default = bool(field.default) if field.is_switch else () if field.is_list else _NOT_GIVEN
    return field.name, Annotated[(kind, shown, *marks)], dataclasses.field(default=default)


def _value(field: Field, given: Any) -> Any:
    if field.is_switch:
        return given
    return tuple(map(field.parse, given)) if field.is_list else field.parse(given)


def _unknown(argument: str, fields: Sequence[Field], prog: str) -> str:
    flags = [field.flag for field in fields]
    close = difflib.get_close_matches(argument.split("=")[0], flags, 1)
    way = f"Did you mean `{close[0]}`?" if close else f"`{prog} --help` names them."
    kind = "flag" if argument.startswith("-") else "argument"
    return f"`{argument}` is no {kind} of `{prog}`. {way}"


def _wrapped(about: str) -> str:
    """Paragraphs as wide as the terminal; examples, which are indented, as they are."""
    width = min(100, shutil.get_terminal_size().columns)
    return "\n\n".join(
        text if "\n  " in text else textwrap.fill(" ".join(text.split()), width)
        for text in about.split("\n\n")
    )


def _one_line(printed: str) -> str:
    lines = [" ".join(_FRAME.sub(" ", line).split()) for line in printed.splitlines()]
    _title, *rest = filter(None, lines)
    return " ".join(rest)


def run_command(
    commands: Mapping[str, Any], arguments: Sequence[str], *, prog: str, about: str
) -> int:
    """Runs the sub-command that `arguments` begin with; without one, prints which there are.

    Args:
      commands: Modules with `run`, or functions, by the name of their sub-command.
      arguments: The command line behind the command's name.
      prog: The command.
      about: What it does.

    Returns:
      The exit code.

    Raises:
      ValueError: There is no sub-command of that name.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        _show_commands(commands, prog, about, error=not arguments)
        return 0 if arguments else 2
    name, *rest = arguments
    if name not in commands:
        close = difflib.get_close_matches(name, list(commands), 1)
        way = f"Did you mean `{close[0]}`?" if close else f"`{prog} --help` names them."
        raise ValueError(f"`{name}` is no command of `{prog}`. {way}")
    command = commands[name]
    return getattr(command, "run", command)(rest)


def _show_commands(commands: Mapping[str, Any], prog: str, about: str, *, error: bool) -> None:
    """What a command with sub-commands does, and the first line of each of them."""
    console = Console(stderr=error)
    first, _, rest = about.partition("\n\n")
    table = Table(box=None, padding=(0, 2, 0, 2), show_header=False)
    for name, command in commands.items():
        table.add_row(name, (command.__doc__ or "").strip().splitlines()[0])
    first = " ".join(first.split())  # wrapped by the console
    console.print(f"usage: {prog} COMMAND [options]\n\n{first}\n", highlight=False, markup=False)
    console.print(table)
    rest = f"{rest}\n\n" if rest else ""
    console.print(f"\n{rest}`{prog} COMMAND --help` says more.", highlight=False, markup=False)
