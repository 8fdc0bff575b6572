"""A data set from its publisher into a cache: verified, or refused."""

import functools
import shutil
import urllib.parse
from pathlib import Path

from trustml.data.catalogue import DataFile, Entry, find_entry
from trustml.data.converters import convert, publisher_paths
from trustml.data.errors import DataError
from trustml.data.transfer import cache_folder, checksum, download_bar, retrieve, store

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
    get = functools.partial(retrieve, timeout=timeout, attempts=attempts, pause=pause)
    partials = folder / ".partial"
    with download_bar(progress) as bar:
        for file in wanted:
            target = folder / file.name
            if target.is_file() and checksum(target.read_bytes()) == file.sha256:
                continue
            partials.mkdir(parents=True, exist_ok=True)
            try:
                content = _content(entry, file, publisher, partials, get, bar)
                store(target, content, file.sha256, partials, source=file.publisher)
            except DataError as error:
                raise DataError(f"{error} {_way_out(entry)}") from None
    shutil.rmtree(partials, ignore_errors=True)
    return folder


def _content(entry: Entry, file: DataFile, publisher, partials, get, bar) -> bytes:
    root = publisher.rstrip("/") if publisher else f"{_ROOT}/{file.publisher.replace('@', '/')}"
    parts = []
    paths = publisher_paths(entry.folder, file)
    task = bar.add_task(f"{entry.folder}/{file.name}", total=None)
    before = 0
    for path in paths:
        # One partial a publisher's file, under its checksum's name, so that it fits no other.
        address = f"{root}/{urllib.parse.quote(path)}"
        partial = partials / checksum(f"{file.sha256} {address}".encode())[:32]

        def report(done: int, total: int | None, before: int = before) -> None:
            whole = total if len(paths) == 1 else None
            bar.update(task, completed=before + done, total=whole)

        parts.append(get(address, partial, report=report))
        before += len(parts[-1])
    bar.update(task, completed=before, total=before)
    return convert(entry.folder, file, parts)


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
