"""Data sets that can be loaded by name: what they are, and whether files are the published ones."""

import hashlib
import os
from pathlib import Path
from typing import Any

from trustml.data.catalogue import CATALOGUE, KINDS, Entry, find_entry
from trustml.data.content import find_file, read_bytes
from trustml.data.converters import publisher_paths
from trustml.data.errors import DataError
from trustml.data.loading import VARIABLE, find_folder
from trustml.models.pretrained.registry import PUBLISHED
from trustml.recipes.published import FileCheck, FilesCheck


def list_data(task: str | None = None) -> list[Entry]:
    """Every data set of the catalogue, or those of one task.

    >>> "snips" in [entry.name for entry in list_data("nlu")]
    True

    Raises:
      ValueError: There is no such task.
    """
    if task is not None and task not in KINDS:
        raise ValueError(f"`--task` must be one of {', '.join(KINDS)}, got {task!r}.")
    return [entry for entry in CATALOGUE.values() if task is None or entry.task == task]


def check_data(data_dir: Path | str | None = None, name: str | None = None) -> FilesCheck:
    """Compares files with the published checksums.

    >>> check_data("no-such-folder")
    Traceback (most recent call last):
    ...
    ValueError: `--data-dir` must be a folder with data sets, got 'no-such-folder'; give \
it, or set TRUSTML_DATA.

    Args:
      data_dir: Folder that holds a folder for each data set; by default TRUSTML_DATA.
      name: One data set; by default all that the folder has.

    Raises:
      ValueError: There is no such folder, or no known data set in it.
    """
    given = data_dir or os.environ.get(VARIABLE)
    if not given or not Path(given).is_dir():
        raise ValueError(
            f"`--data-dir` must be a folder with data sets, got {str(given or 'none')!r}; give "
            f"it, or set {VARIABLE}."
        )
    folder = Path(given)
    if name is not None:
        entries = [find_entry(name)]
    else:
        entries = [entry for entry in CATALOGUE.values() if (folder / entry.name).is_dir()]
    if not entries:
        raise ValueError(f"`--data-dir` {str(folder)!r} holds no data set that is known by name.")
    files = tuple(check for entry in entries for check in _file_checks(entry, folder))
    return FilesCheck("set", files)


def _file_checks(entry: Entry, data_dir: Path) -> list[FileCheck]:
    folder = find_folder(entry, data_dir, download=False)
    return [
        FileCheck(entry.folder, file.name, _verdict(folder, file.name, file.sha256))
        for file in entry.files
    ]


def _verdict(folder: Path, name: str, sha256: str) -> str:
    path = find_file(folder, name)
    if path is None:
        return "missing"
    try:
        same = hashlib.sha256(read_bytes(path)).hexdigest() == sha256
    except DataError as error:
        return f"broken: {error}"
    return PUBLISHED if same else "differs"


def entry_to_dict(entry: Entry, *, files: bool = False) -> dict[str, Any]:
    """A data set as `trustml data --json` prints it.

    Args:
      entry: Of the catalogue.
      files: Whether its files with their checksums are listed too.
    """
    document = {
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
        "download": download_terms(entry),
    }
    return document | ({"files": [file._asdict() for file in entry.files]} if files else {})


def download_terms(entry: Entry) -> str:
    """Whether a data set can be fetched from its publisher, and why not.

    >>> from trustml.data.catalogue import CATALOGUE
    >>> download_terms(CATALOGUE["clinc150"])
    'yes'
    """
    if entry.refused:
        return f"no, because {entry.refused}"
    lacking = [file.name for file in entry.files if not publisher_paths(entry.folder, file)]
    return f"yes, but for {', '.join(lacking)}, which no loader needs" if lacking else "yes"
