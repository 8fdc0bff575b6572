"""Data sets of the six language tasks by name, in three parts."""

import os
from pathlib import Path

from trustml.data.catalogue import EXAMPLE_TASKS, Entry, find_entry
from trustml.data.corpus import DataError
from trustml.data.examples import PARTS, TASKS, Examples, Parts, RowSchema
from trustml.data.readers import classify, documents, pairs, tagging
from trustml.data.readers.block import ALL, Block, divide
from trustml.data.transfer import cache_folder

VARIABLE = "TRUSTML_DATA"
READERS = {**classify.READERS, **tagging.READERS, **documents.READERS, **pairs.READERS}


def load_examples(
    name: str, data_dir: str | Path | None = None, *, download: bool = False
) -> Parts:
    """Loads a data set of the catalogue, or fails: one never stands in for another.

    Where the publisher gives no part of that name, a row's part is decided by a hash of the row
    (or of its owner) alone, so that no row's part depends on other rows; `source` says so. Files
    other than the published are read, as long as they keep to the layout; `source` says that too.

    Args:
      name: A name that `trustml data list` shows.
      data_dir: Folder that holds `NAME/`, or the files themselves; by default the environment
        variable TRUSTML_DATA, or the cache if `trustml data get` filled it.
      download: Fetch the files from their publisher when no folder is named.

    Raises:
      DataError: An unknown name, no folder named, or broken data; the message gives file and line.
    """
    entry = find_entry(name, EXAMPLE_TASKS)
    reader, schema = READERS[name]
    blocks = reader(entry, find_folder(entry, data_dir, download=download))
    published = set(blocks)
    blocks = _complete(blocks)
    return Parts(*(_build(entry, part, blocks[part], schema, published) for part in PARTS))


def find_folder(entry: Entry, data_dir: str | Path | None, *, download: bool) -> Path:
    """The folder with the files of `entry`: named, in the environment, or fetched.

    Raises:
      DataError: None is named, or it does not hold them.
    """
    folder = data_dir if data_dir is not None else os.environ.get(VARIABLE)
    if not folder and download:
        from trustml.data.fetching import fetch

        return fetch(entry.name)
    kept = cache_folder() / entry.place
    fetched = [file.name for file in entry.files if file.publisher != "-"]
    if not folder and all((kept / name).is_file() for name in fetched):
        return kept  # by an earlier `trustml data get`
    if not folder:
        raise DataError(
            f"`data_dir` must name a folder that contains {entry.place}/, got nothing; give it, "
            f"set {VARIABLE}, or fetch it with `trustml data get {entry.name}`."
        )
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"`data_dir` must be a folder, got {str(folder)!r}.")
    if (folder / entry.place).is_dir():
        return folder / entry.place
    known = [file.name for file in entry.files]
    if any((folder / each).is_file() or (folder / f"{each}.gz").is_file() for each in known):
        return folder
    raise DataError(
        f"`data_dir` must contain {entry.place}/ with {', '.join(known[:3])}"
        f"{' and others' if len(known) > 3 else ''}, got {str(folder)!r} without it."
    )


def _complete(blocks: dict[str, Block]) -> dict[str, Block]:
    """Adds the parts that the publisher does not give, cut from those that it gives."""
    if ALL in blocks:
        return dict(zip(PARTS, divide(blocks[ALL], (0.8, 0.1, 0.1)), strict=True))
    given = {"train": "valid", "valid": "train"}
    for missing, source in given.items():
        if missing not in blocks:
            train, valid = divide(blocks[source], (0.9, 0.1))
            return {**blocks, "train": train, "valid": valid}
    return blocks


def _build(entry: Entry, part: str, block: Block, schema: RowSchema, published: set[str]):
    for place, row in zip(block.places, block.rows, strict=True):
        problem = TASKS[entry.task](row, schema)
        if problem:
            raise DataError(f"{place}: {problem}")
    split = "the publisher's parts" if published == set(PARTS) else entry.split
    names = {name: number for number, name in enumerate(sorted(set(block.owners)))}
    groups = {group: number for number, group in enumerate(schema.groups)}
    return Examples(
        name=entry.name,
        part=part,
        task=entry.task,
        rows=tuple(block.rows),
        unit=entry.unit,
        labels=schema.labels,
        slots=schema.slots,
        owner_kind=entry.owner_kind,
        owners=tuple(names[owner] for owner in block.owners) if block.owners else None,
        groups=schema.groups,
        group_of=tuple(groups[group] for group in block.groups) if block.groups else None,
        source=f"{entry.title}, {part}, {len(block.rows)} rows, {block.verdict}; {split}",
        licence=entry.licence,
    )
