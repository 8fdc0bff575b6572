"""Which data sets there are, and whether a folder holds what was published."""

from collections.abc import Sequence
from pathlib import Path

from trustml.cli import flags
from trustml.cli.options import Output, show_files_check, show_json
from trustml.data import fetch
from trustml.data.catalogue import KINDS, Entry, find_entry
from trustml.data.loading import VARIABLE
from trustml.recipes.data import check_data, download_terms, entry_to_dict, list_data
from trustml.recipes.settings import REQUIRED, knob, settings
from trustml.recipes.train.table_schema import SchemaConfig, schema_skeleton

_ABOUT = """\
Lists the data sets that can be loaded by name, shows one with its licence and its files, fetches
one from its publisher, or checks files against the published checksums. A set's rows are never
part of the package. `list` and `show` need no data and no network. `schema` prints what a table of
your own needs: a file to fill in with public ranges, categories and classes.

examples:
  trustml data list --task classify
  trustml data show clinc150
  trustml data get clinc150 --out data
  trustml data check --data-dir data
  trustml data schema people.csv --label income > people.toml"""


@settings
class _ListCall(Output):
    """Which data sets are listed."""

    task: str | None = knob(None, f"those of one task alone: {', '.join(KINDS)}")


@settings
class _ShowCall(Output):
    """Which data set is shown."""

    name: str = knob(REQUIRED, "name of the data set", positional=True)


@settings
class _GetCall(Output):
    """Which data set is fetched, and how."""

    name: str = knob(REQUIRED, "name of the data set", positional=True)
    out: Path | None = knob(None, "folder to put NAME/ in", shown="the cache", metavar="FOLDER")
    publisher: str | None = knob(
        None, "address of a mirror of its files", flag="--from", metavar="ADDRESS"
    )
    timeout: float = knob(30.0, "seconds without an answer")


@settings
class _CheckCall(Output):
    """Which files are compared with the published checksums."""

    name: str | None = knob(None, "one data set", shown="all that the folder has", positional=True)
    data_dir: Path | None = knob(
        None, "folder with data sets", shown=f"the variable {VARIABLE}", metavar="FOLDER"
    )


def _list(arguments: Sequence[str]) -> int:
    """Every data set, one a row."""
    call = flags.parse_one(_ListCall, arguments, prog="trustml data list", about=_list.__doc__)
    entries = list_data(call.task)
    if call.json:
        show_json([entry_to_dict(entry) for entry in entries])
        return 0
    for entry in entries:
        print(f"{entry.name:<18} {entry.task:<9} {_sizes(entry):<23} {_levels(entry)}")
        print(f"  {entry.description}. {entry.licence}.")
    return 0


def _show(arguments: Sequence[str]) -> int:
    """One data set: terms, parts, files."""
    call = flags.parse_one(_ShowCall, arguments, prog="trustml data show", about=_show.__doc__)
    entry = find_entry(call.name)
    if call.json:
        show_json(entry_to_dict(entry, files=True))
    else:
        _show_entry(entry)
    return 0


def _get(arguments: Sequence[str]) -> int:
    """Fetch one from its publisher, verified."""
    call = flags.parse_one(_GetCall, arguments, prog="trustml data get", about=_get.__doc__)
    folder = fetch(call.name, call.out, publisher=call.publisher, timeout=call.timeout)
    if call.json:
        show_json({"name": call.name, "folder": str(folder)})
    else:
        print(f"{call.name} is in {folder}; every checksum is the published one.")
    return 0


def _schema(arguments: Sequence[str]) -> int:
    """The schema of a table to fill in, as TOML."""
    prog = "trustml data schema"
    config = flags.parse_one(SchemaConfig, arguments, prog=prog, about=_schema.__doc__)
    print(schema_skeleton(config), end="")
    return 0


def _check(arguments: Sequence[str]) -> int:
    """Compare files with the published checksums."""
    call = flags.parse_one(_CheckCall, arguments, prog="trustml data check", about=_check.__doc__)
    check = check_data(call.data_dir, call.name)
    if call.json:
        show_json(check.to_dict())
    else:
        show_files_check(check)
    return 0 if check.holds else 1


def _show_entry(entry: Entry) -> None:
    facts = [
        ["title", entry.title],
        ["task", entry.task],
        ["rows", _sizes(entry)],
        ["parts", entry.split],
        ["privacy unit", _levels(entry)],
        ["licence", entry.licence],
        ["citation", entry.citation],
        ["download", download_terms(entry)],
        *([f"may be added: {part}", file] for part, file in entry.extra),
    ]
    print(f"{entry.name}: {entry.description}")
    for name, value in facts:
        print(f"  {name}: {value}")
    for file in entry.files:
        print(f"  {entry.folder}/{file.name}")
        known = file.publisher != "-"
        print(f"    from {file.publisher} {file.path}" if known else "    publisher not known")
        print(f"    SHA-256 of the content {file.sha256}")


def _sizes(entry: Entry) -> str:
    return " + ".join(f"{size:,}" for size in entry.sizes)


def _levels(entry: Entry) -> str:
    return entry.unit if entry.owner_kind is None else f"{entry.unit} < {entry.owner_kind}"


_COMMANDS = {"list": _list, "show": _show, "get": _get, "check": _check, "schema": _schema}


def run(arguments: Sequence[str]) -> int:
    """Lists, shows, fetches or checks; or prints a schema to fill in."""
    return flags.run_command(_COMMANDS, arguments, prog="trustml data", about=_ABOUT)
