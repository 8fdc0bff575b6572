"""Which data sets there are, and whether a folder holds what was published."""

import argparse
import hashlib
import os
from pathlib import Path

from trustml.cli.options import add_output, number, show_json, show_table
from trustml.data.catalogue import CATALOGUE, KINDS, Entry, find_entry
from trustml.data.content import find_file, read_bytes
from trustml.data.converters import publisher_paths
from trustml.data.errors import DataError
from trustml.data.fetching import fetch
from trustml.data.loading import VARIABLE, find_folder

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
    entries = [
        entry for entry in CATALOGUE.values() if chosen.task is None or entry.task == chosen.task
    ]
    if chosen.json:
        show_json([_facts(entry) for entry in entries])
        return 0
    for entry in entries:
        print(f"{entry.name:<18} {entry.task:<9} {_sizes(entry):<23} {_levels(entry)}")
        print(f"  {entry.description}. {entry.licence}.")
    return 0


def _show(chosen) -> int:
    entry = find_entry(chosen.name)
    if chosen.json:
        show_json(_facts(entry) | {"files": [file._asdict() for file in entry.files]})
        return 0
    facts = [
        ["title", entry.title],
        ["task", entry.task],
        ["rows", _sizes(entry)],
        ["parts", entry.split],
        ["privacy unit", _levels(entry)],
        ["licence", entry.licence],
        ["citation", entry.citation],
        ["download", _download(entry)],
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
    return 0


def _get(chosen) -> int:
    folder = fetch(chosen.name, chosen.out, publisher=chosen.publisher, timeout=chosen.timeout)
    if chosen.json:
        show_json({"name": chosen.name, "folder": str(folder)})
    else:
        print(f"{chosen.name} is in {folder}; every checksum is the published one.")
    return 0


def _check(chosen) -> int:
    folder = chosen.data_dir or os.environ.get(VARIABLE)
    if not folder or not Path(folder).is_dir():
        raise ValueError(
            f"`--data-dir` must be a folder with data sets, got {str(folder or 'none')!r}; give "
            f"it, or set {VARIABLE}."
        )
    if chosen.name is not None:
        entries = [find_entry(chosen.name)]
    else:
        entries = [entry for entry in CATALOGUE.values() if (Path(folder) / entry.name).is_dir()]
    if not entries:
        raise ValueError(f"`--data-dir` {str(folder)!r} holds no data set that is known by name.")
    verdicts = [row for entry in entries for row in _verdicts(entry, Path(folder))]
    good = all(verdict == "published" for _, _, verdict in verdicts)
    if chosen.json:
        rows = [dict(zip(("set", "file", "verdict"), row, strict=True)) for row in verdicts]
        show_json({"holds": good, "files": rows})
        return 0 if good else 1
    bad = [
        [f"{name}/{file}", verdict] for name, file, verdict in verdicts if verdict != "published"
    ]
    if bad:
        show_table("Files that are not the published ones", ["file", "verdict"], bad)
    print(
        f"{len(verdicts) - len(bad)} of {len(verdicts)} files of {len(entries)} sets have the "
        "published checksum."
    )
    return 0 if good else 1


def _verdicts(entry: Entry, data_dir: Path):
    """Set, file and verdict of each known file."""
    folder = find_folder(entry, data_dir, download=False)
    for file in entry.files:
        path = find_file(folder, file.name)
        try:
            verdict = "missing" if path is None else _compare(path, file.sha256)
        except DataError as error:
            verdict = f"broken: {error}"
        yield entry.folder, file.name, verdict


def _compare(path: Path, sha256: str) -> str:
    same = hashlib.sha256(read_bytes(path)).hexdigest() == sha256
    return "published" if same else "differs"


def _facts(entry: Entry) -> dict:
    return {
        "name": entry.name,
        "title": entry.title,
        "task": entry.task,
        "rows": list(entry.sizes),
        "parts": entry.split,
        "unit": entry.unit,
        "owner": entry.owner_kind,
        "licence": entry.licence,
        "citation": entry.citation,
        "description": entry.description,
        "download": _download(entry),
    }


def _download(entry: Entry) -> str:
    if entry.refused:
        return f"no, because {entry.refused}"
    lacking = [file.name for file in entry.files if not publisher_paths(entry.folder, file)]
    return f"yes, but for {', '.join(lacking)}, which no loader needs" if lacking else "yes"


def _sizes(entry: Entry) -> str:
    return " + ".join(f"{size:,}" for size in entry.sizes)


def _levels(entry: Entry) -> str:
    return entry.unit if entry.owner_kind is None else f"{entry.unit} < {entry.owner_kind}"
