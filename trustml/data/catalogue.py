"""Which data sets can be loaded by name: what they are, whose rows they hold, under what terms.

The entries are in `trustml.data.entries`; their files, with the publisher's address and checksum,
are in files.tsv beside this module. The checksum is that of the content as the loaders read it:
of the uncompressed file, and where the publisher's layout is converted, of the converted rows.
"""

import dataclasses
import functools
import importlib.resources
from typing import NamedTuple

from trustml.data.corpus import DataError

EXAMPLE_TASKS = ("classify", "tag", "nlu", "qa", "lm", "seq2seq")
KINDS = (*EXAMPLE_TASKS, "images", "table", "fairness", "vectors")


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
      name: What `load_examples` or `load_items` is asked for.
      title: Its full name.
      task: One of `KINDS`.
      description: What it holds, in one line.
      sizes: Rows of train, valid and test as `load_examples` gives them, or of the one table.
      unit: What one row is.
      owner_kind: The coarser level that rows share, or None.
      licence: Terms, and how they are known.
      citation: Authors, title and year.
      folder: Folder of its files where another set has the same; by default the name.
      split: How the parts came about, in words.
      extra: Parts that a user's folder may hold beside the known files, by part.
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
    folder: str = ""
    split: str = "the publisher's parts"
    extra: tuple[tuple[str, str], ...] = ()
    refused: str | None = None

    @property
    def place(self) -> str:
        """The name of its folder."""
        return self.folder or self.name

    @property
    def files(self) -> tuple[DataFile, ...]:
        """Its files."""
        return _files()[self.place]

    def file(self, name: str) -> DataFile:
        """The file called `name`."""
        return next(file for file in self.files if file.name == name)


def find_entry(name: str, kinds: tuple[str, ...] = KINDS) -> Entry:
    """The entry called `name`.

    Args:
      name: Name of a data set.
      kinds: Tasks that the caller can use; others are refused.

    Raises:
      DataError: An unknown name, or a set of another kind.
    """
    from trustml.data.entries import CATALOGUE

    fitting = [entry.name for entry in CATALOGUE.values() if entry.task in kinds]
    if name not in fitting:
        known = CATALOGUE.get(name)
        what = f", whose kind is {known.task}" if known else ""
        raise DataError(f"`name` must be one of {', '.join(fitting)}, got {name!r}{what}.")
    return CATALOGUE[name]


@functools.cache
def _files() -> dict[str, tuple[DataFile, ...]]:
    text = importlib.resources.files("trustml.data").joinpath("files.tsv").read_text("utf-8")
    found: dict[str, list[DataFile]] = {}
    for line in text.splitlines()[1:]:
        folder, name, rows, sha256, publisher, path = line.split("\t")
        file = DataFile(name, None if rows == "-" else int(rows), sha256, publisher, path)
        found.setdefault(folder, []).append(file)
    return {folder: tuple(files) for folder, files in found.items()}
