"""Data sets of the language tasks by name, in three splits."""

import os
from pathlib import Path

from trustml.data import synthetic
from trustml.data.catalogue import Entry, find_entry
from trustml.data.errors import DataError
from trustml.data.examples import SPLITS, Examples, Splits
from trustml.data.readers import classify, documents, pairs, tagging
from trustml.data.readers.block import ALL, Block, divide
from trustml.data.rows import TASKS, Schema, find_problem
from trustml.data.transfer import cache_folder

VARIABLE = "TRUSTML_DATA"
_READERS = {**classify.READERS, **tagging.READERS, **documents.READERS, **pairs.READERS}


def load(name: str, data_dir: str | Path | None = None, *, download: bool = False) -> Splits:
    """The three splits of a data set. One data set never stands in for another.

    Where the publisher gives no such split, a hash of the row (or of its owner) alone decides a
    row's split, so that it does not depend on other rows; `source` says so. Files other than the
    published ones are read if they keep to the layout; `source` says that too.

    >>> load("synthetic").train.synthetic
    True

    Args:
      name: "synthetic", which the package generates, or a name that `trustml data list` shows.
      data_dir: Folder that holds `NAME/`, or the files themselves; by default the environment
        variable TRUSTML_DATA, or the cache if `trustml data get` filled it.
      download: Fetch the files from their publisher when no folder is named.

    Raises:
      DataError: An unknown name, no folder named, or broken data; the message gives file and line.
    """
    if name == "synthetic":
        return synthetic.generate()
    entry = find_entry(name, TASKS)
    reader, schema = _READERS[name]
    blocks = reader(entry, find_folder(entry, data_dir, download=download))
    published = set(blocks)
    blocks = _complete(blocks)
    return Splits(*(_build(entry, name, blocks[name], schema, published) for name in SPLITS))


def find_folder(entry: Entry, data_dir: str | Path | None, *, download: bool) -> Path:
    """The folder with the files of `entry`: named, in the environment, or fetched.

    Raises:
      DataError: None is named, or it does not hold them.
    """
    folder = data_dir if data_dir is not None else os.environ.get(VARIABLE)
    if not folder and download:
        from trustml.data.fetching import fetch

        return fetch(entry.name)
    cached = cache_folder() / entry.folder
    fetched = [file.name for file in entry.files if file.publisher != "-"]
    if not folder and all((cached / name).is_file() for name in fetched):
        return cached  # by an earlier `trustml data get`
    if not folder:
        raise DataError(
            f"`data_dir` must name a folder that contains {entry.folder}/, got nothing; give it, "
            f"set {VARIABLE}, or fetch it with `trustml data get {entry.name}`."
        )
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"`data_dir` must be a folder, got {str(folder)!r}.")
    if (folder / entry.folder).is_dir():
        return folder / entry.folder
    known = [file.name for file in entry.files]
    if any((folder / each).is_file() or (folder / f"{each}.gz").is_file() for each in known):
        return folder
    raise DataError(
        f"`data_dir` must contain {entry.folder}/ with {', '.join(known[:3])}"
        f"{' and others' if len(known) > 3 else ''}, got {str(folder)!r} without it."
    )


def _complete(blocks: dict[str, Block]) -> dict[str, Block]:
    """Adds the splits that the publisher does not give, cut from those that it gives."""
    if ALL in blocks:
        return dict(zip(SPLITS, divide(blocks[ALL], (0.8, 0.1, 0.1)), strict=True))
    for missing, source in (("train", "valid"), ("valid", "train")):
        if missing not in blocks:
            train, valid = divide(blocks[source], (0.9, 0.1))
            return {**blocks, "train": train, "valid": valid}
    return blocks


def _build(entry: Entry, split: str, block: Block, schema: Schema, published: set[str]):
    for location, row in zip(block.locations, block.rows, strict=True):
        if problem := find_problem(entry.task, row, schema):
            raise DataError(f"{location}: {problem}")
    how = "the publisher's parts" if published == set(SPLITS) else entry.split
    names = {name: number for number, name in enumerate(sorted(set(block.owners)))}
    groups = {group: number for number, group in enumerate(schema.groups)}
    return Examples(
        name=entry.name,
        split=split,
        task=entry.task,
        rows=tuple(block.rows),
        unit=entry.unit,
        labels=schema.labels,
        slots=schema.slots,
        owner_kind=entry.owner_kind,
        owners=tuple(names[owner] for owner in block.owners) if block.owners else None,
        groups=schema.groups,
        group_of=tuple(groups[group] for group in block.groups) if block.groups else None,
        source=f"{entry.title}, {split}, {len(block.rows)} rows, {block.verdict}; {how}",
        licence=entry.licence,
    )
