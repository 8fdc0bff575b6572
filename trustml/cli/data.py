"""Which data sets there are, and whether a folder holds what was published."""

import argparse
from pathlib import Path

from trustml.cli.options import add_output, number, show_json, show_table
from trustml.data import fetch
from trustml.data.catalogue import KINDS, Entry, find_entry
from trustml.data.example_sets import VARIABLE
from trustml.recipes.data import DataCheck, check_data, download_terms, entry_to_dict, list_data

DESCRIPTION = """\
Lists the data sets that can be loaded by name, shows one with its licence and its files, fetches
one from its publisher, or checks files against the published checksums. A set's rows are never
part of the package. `list` and `show` need no data and no network."""

EXAMPLES = """\
examples:
  trustml data list --task classify
  trustml data show clinc150
  trustml data get clinc150 --out data
  trustml data check --data-dir data"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `trustml data`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listed = actions.add_parser("list", help="every data set, one a row")
    listed.add_argument("--task", choices=KINDS, help="those of one task alone")
    add_output(listed)
    shown = actions.add_parser("show", help="one data set: terms, parts, files")
    shown.add_argument("name", help="name of the data set")
    add_output(shown)
    got = actions.add_parser("get", help="fetch one from its publisher, verified")
    got.add_argument("name", help="name of the data set")
    got.add_argument("--out", type=Path, help="folder to put NAME/ in; default: the cache")
    got.add_argument("--from", dest="publisher", metavar="ADDRESS", help="a mirror of its files")
    got.add_argument("--timeout", type=number, default=30.0, help="seconds; default: %(default)s")
    add_output(got)
    checked = actions.add_parser("check", help="compare files with the published checksums")
    checked.add_argument("name", nargs="?", help="one data set; default: all that the folder has")
    checked.add_argument("--data-dir", type=Path, help=f"default: the variable {VARIABLE}")
    add_output(checked)


def run(chosen: argparse.Namespace) -> int:
    """Lists, shows, fetches or checks."""
    return {"list": _list, "show": _show, "get": _get, "check": _check}[chosen.action](chosen)


def _list(chosen) -> int:
    entries = list_data(chosen.task)
    if chosen.json:
        show_json([entry_to_dict(entry) for entry in entries])
        return 0
    for entry in entries:
        print(f"{entry.name:<18} {entry.task:<9} {_sizes(entry):<23} {_levels(entry)}")
        print(f"  {entry.description}. {entry.licence}.")
    return 0


def _show(chosen) -> int:
    entry = find_entry(chosen.name)
    if chosen.json:
        show_json(entry_to_dict(entry, files=True))
    else:
        _show_entry(entry)
    return 0


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
        print(f"  {entry.place}/{file.name}")
        known = file.publisher != "-"
        print(f"    from {file.publisher} {file.path}" if known else "    publisher not known")
        print(f"    SHA-256 of the content {file.sha256}")


def _get(chosen) -> int:
    folder = fetch(chosen.name, chosen.out, publisher=chosen.publisher, timeout=chosen.timeout)
    if chosen.json:
        show_json({"name": chosen.name, "folder": str(folder)})
    else:
        print(f"{chosen.name} is in {folder}; every checksum is the published one.")
    return 0


def _check(chosen) -> int:
    check = check_data(chosen.data_dir, chosen.name)
    if chosen.json:
        show_json(check.to_dict())
    else:
        _show_check(check)
    return 0 if check.holds else 1


def _show_check(check: DataCheck) -> None:
    bad = [[f"{file.set}/{file.file}", file.verdict] for file in check.files if not file.holds]
    if bad:
        show_table("Files that are not the published ones", ["file", "verdict"], bad)
    print(
        f"{len(check.files) - len(bad)} of {len(check.files)} files of {len(check.sets)} sets have "
        "the published checksum."
    )


def _sizes(entry: Entry) -> str:
    return " + ".join(f"{size:,}" for size in entry.sizes)


def _levels(entry: Entry) -> str:
    return entry.unit if entry.owner_kind is None else f"{entry.unit} < {entry.owner_kind}"
