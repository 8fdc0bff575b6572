"""Sets that are no language task, by name: tests of bias, images, a table, word vectors."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from trustml.data.catalogue import KINDS, find_entry
from trustml.data.content import CHANGED, VERIFIED, Content, read_file
from trustml.data.errors import DataError
from trustml.data.loading import find_folder
from trustml.data.readers import arrays, bias, stereotypes
from trustml.data.rows import TASKS

_READERS = {**arrays.READERS, **bias.READERS, **stereotypes.READERS}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Items:
    """A set that is no language task, as rows, lists of words or arrays.

    Args:
      name: Name of the data set, as `load_items` knows it.
      kind: "fairness", "images", "table" or "vectors".
      unit: What one row is.
      rows: Rows of a NamedTuple of `trustml.data.readers.bias` or `stereotypes`; empty for arrays.
      lists: Further tuples by name: occupations, nouns, templates, words of the vectors.
      arrays: Arrays by name, documented in `trustml.data.readers.arrays`.
      source: Where they come from and whether the checksums were verified, in one line.
      licence: Terms of the publisher.
    """

    name: str
    kind: str
    unit: str
    rows: tuple[Any, ...] = ()
    lists: dict[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)
    arrays: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    source: str
    licence: str

    def __len__(self) -> int:
        return len(self.rows) or len(next(iter(self.arrays.values())))


def load_items(name: str, data_dir: str | Path | None = None, *, download: bool = False) -> Items:
    """A set of the catalogue that is no language task.

    >>> load_items("scan")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    trustml.data.errors.DataError: `name` must be one of mnist, ... got 'scan'...

    Args:
      name: A name that `trustml data list` shows.
      data_dir: Folder that holds `NAME/`, or the files themselves; by default the environment
        variable TRUSTML_DATA.
      download: Fetch the files from their publisher when no folder is named.

    Raises:
      DataError: An unknown name, no folder named, or broken data; the message gives file and line.
    """
    entry = find_entry(name, tuple(kind for kind in KINDS if kind not in TASKS))
    folder = find_folder(entry, data_dir, download=download)
    read: list[Content] = []

    def open_file(file: str) -> Content:
        read.append(read_file(entry, folder, file))
        return read[-1]

    try:
        raw = _READERS[name](entry, open_file)
    except DataError:
        raise
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        location = read[-1].path if read else folder
        raise DataError(
            f"{location} does not have the published layout ({type(error).__name__}: {error}); "
            "fetch it anew."
        ) from None
    if not (raw.rows or raw.arrays):
        raise DataError(f"{folder}: no rows for {name}; fetch it anew.")
    return Items(
        name=name,
        kind=entry.task,
        unit=entry.unit,
        rows=tuple(raw.rows),
        lists=raw.lists,
        arrays=raw.arrays,
        source=f"{entry.title}, {_verdict(read)}; {entry.split}",
        licence=entry.licence,
    )


def _verdict(read: list[Content]) -> str:
    changed = [Path(content.path).name for content in read if content.verdict == CHANGED]
    return f"{CHANGED}: {', '.join(changed)}" if changed else VERIFIED
