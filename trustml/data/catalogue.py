"""The data sets that load by name: what they are, whose rows they hold, under what terms.

catalogue.toml holds the entries. files.tsv holds their files, with the publisher's address and
checksum. The checksum is that of the content as the loaders read it: of the uncompressed file, and
where the publisher's layout is converted, of the converted rows.
"""

import dataclasses
import functools
import importlib.resources
import tomllib
from typing import Any, NamedTuple

from trustml.data.errors import DataError
from trustml.data.rows import TASKS

KINDS = (*TASKS, "images", "table", "fairness", "vectors")


class DataFile(NamedTuple):
    """One file of a data set."""

    name: str  # as the loaders read it; the same name with .gz behind is read too
    rows: int | None
    sha256: str  # of the uncompressed content
    publisher: str  # owner/repository@commit; "-" where it is not known
    path: (
        str  # inside the repository; {a,b} stands for several, * for a list that a converter knows
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """One data set.

    Args:
      name: What `load` or `load_items` is asked for.
      title: Its full name.
      task: One of `KINDS`.
      description: What it holds, in one line.
      sizes: Rows of train, valid and test as `load` gives them, or of the one table.
      unit: What one row is.
      owner_kind: The coarser level that rows share, or None.
      licence: Terms, and how they are known.
      citation: Authors, title and year.
      folder: Folder of its files; that of another set where both read the same files.
      split: How the splits came about, in words.
      extra: Files that a user's folder may hold beside the known ones, by split.
      refused: Why it cannot be downloaded; None where it can.
    """

    name: str
    title: str
    task: str
    description: str
    sizes: tuple[int, ...]
    unit: str
    owner_kind: str | None = None
    licence: str
    citation: str
    folder: str
    split: str = "the publisher's parts"
    extra: tuple[tuple[str, str], ...] = ()
    refused: str | None = None

    @property
    def files(self) -> tuple[DataFile, ...]:
        """Its files."""
        return _files()[self.folder]

    def file(self, name: str) -> DataFile:
        """The file called `name`."""
        return next(file for file in self.files if file.name == name)


def find_entry(name: str, kinds: tuple[str, ...] = KINDS) -> Entry:
    """The entry called `name`.

    >>> find_entry("scan").task
    'seq2seq'

    Args:
      name: Name of a data set.
      kinds: Tasks that the caller can use; others are refused.

    Raises:
      DataError: An unknown name, or a set of another kind.
    """
    fitting = [entry.name for entry in CATALOGUE.values() if entry.task in kinds]
    if name not in fitting:
        known = CATALOGUE.get(name)
        what = f", whose kind is {known.task}" if known else ""
        raise DataError(f"`name` must be one of {', '.join(fitting)}, got {name!r}{what}.")
    return CATALOGUE[name]


def _entry(name: str, fields: dict[str, Any]) -> Entry:
    lists = {"sizes": tuple(fields["sizes"]), "extra": tuple(fields.get("extra", {}).items())}
    return Entry(**{"name": name, "folder": name, **fields, **lists})


def _read(name: str) -> str:
    return importlib.resources.files("trustml.data").joinpath(name).read_text("utf-8")


@functools.cache
def _files() -> dict[str, tuple[DataFile, ...]]:
    files: dict[str, list[DataFile]] = {}
    for line in _read("files.tsv").splitlines()[1:]:
        folder, name, rows, sha256, publisher, path = line.split("\t")
        file = DataFile(name, None if rows == "-" else int(rows), sha256, publisher, path)
        files.setdefault(folder, []).append(file)
    return {folder: tuple(listed) for folder, listed in files.items()}


CATALOGUE = {
    name: _entry(name, fields) for name, fields in tomllib.loads(_read("catalogue.toml")).items()
}
