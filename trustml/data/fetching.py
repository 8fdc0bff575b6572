"""A data set from its publisher into a cache: verified, or refused."""

import functools
import urllib.parse
from pathlib import Path

from trustml.checksums import file_sha256
from trustml.data.catalogue import DataFile, Entry, find_entry
from trustml.data.converters import convert, publisher_paths
from trustml.data.errors import DataError
from trustml.data.transfer import Download, cache_folder, download, retrieve

_ROOT = "https://raw.githubusercontent.com"


def fetch(
    name: str,
    cache: str | Path | None = None,
    *,
    publisher: str | None = None,
    progress: bool = True,
    timeout: float = 30.0,
    attempts: int = 4,
    pause: float = 1.0,
) -> Path:
    """The folder of a data set's files, downloaded where they are not there with their checksum.

    >>> fetch("hatexplain")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    trustml.data.errors.DataError: `name`: hatexplain cannot be downloaded, because ...

    A file appears under its name only once its content, converted to the layout that the loaders
    read, has the published checksum. A download that broke off is continued by the next call.

    Tests run against a server on one machine. The publishers' own addresses were not reached when
    this was written; a file that differs is refused, not used.

    Args:
      name: A name of the catalogue.
      cache: Folder to keep data sets in; by default `cache_folder()`. The files go to `NAME/`.
      publisher: Address to fetch from instead of the publisher's repository at its commit.
      progress: Whether to show a bar on standard error.
      timeout: Seconds without an answer or a byte that count as broken.
      attempts: How often to try a file.
      pause: Seconds before the second try; each further pause is twice as long.

    Returns:
      The folder with the files.

    Raises:
      DataError: The set cannot be downloaded, the publisher cannot be reached, or sent something
        else.
    """
    entry = find_entry(name)
    wanted = [file for file in entry.files if publisher_paths(entry.folder, file)]
    if entry.refused or not wanted:
        raise DataError(_refusal(entry))
    folder = (Path(cache) if cache is not None else cache_folder()) / entry.folder
    download(
        (
            _from_publisher(entry, file, publisher, folder)
            for file in wanted
            if not _is_at(folder, file)
        ),
        folder / ".partial",
        get=functools.partial(retrieve, timeout=timeout, attempts=attempts, pause=pause),
        way_out=_way_out(entry),
        progress=progress,
    )
    return folder


def _is_at(folder: Path, file: DataFile) -> bool:
    target = folder / file.name
    return target.is_file() and file_sha256(target) == file.sha256


def _from_publisher(entry: Entry, file: DataFile, publisher: str | None, folder: Path) -> Download:
    root = publisher.rstrip("/") if publisher else f"{_ROOT}/{file.publisher.replace('@', '/')}"
    paths = publisher_paths(entry.folder, file)
    return Download(
        folder / file.name,
        f"{entry.folder}/{file.name}",
        file.sha256,
        [f"{root}/{urllib.parse.quote(path)}" for path in paths],
        file.publisher,
        join=functools.partial(convert, entry.folder, file),
    )


def _refusal(entry: Entry) -> str:
    sources = " and ".join(sorted({file.publisher for file in entry.files}))
    return (
        f"`name`: {entry.name} cannot be downloaded, because {entry.refused}. {_way_out(entry)} "
        f"Its rows come from {sources}."
    )


def _way_out(entry: Entry) -> str:
    names = [file.name for file in entry.files]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return (
        f"Give `data_dir`, or set TRUSTML_DATA to a folder that contains {entry.folder}/ with "
        f"{', '.join(names[:3])}{more}."
    )
