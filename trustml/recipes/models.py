"""Pretrained models by name: what they are, and whether their files are the published ones."""

from pathlib import Path
from typing import Any, NamedTuple

from trustml.models.pretrained.fetching import fetch_model
from trustml.models.pretrained.registry import (
    REGISTRY,
    ModelEntry,
    file_verdict,
    find_entry,
    find_files,
    install_advice,
    locate,
)
from trustml.recipes.published import FileCheck, FilesCheck


class ListedModel(NamedTuple):
    """A model of the registry, and where its files are; None where they are not."""

    entry: ModelEntry
    folder: Path | None

    def to_dict(self) -> dict[str, Any]:
        """The model as `trustml models list --json` prints it."""
        entry = self.entry
        return {
            "name": entry.name,
            "title": entry.title,
            "architecture": entry.architecture,
            "licence": entry.licence,
            "size_bytes": entry.size,
            "installed": self.folder is not None,
            "folder": None if self.folder is None else str(self.folder),
            "extra": entry.extra,
            "package": entry.package,
            "version": entry.version,
            "address": entry.address,
            "files": [file._asdict() for file in entry.files],
        }


def list_models() -> list[ListedModel]:
    """Every model of the registry.

    >>> [listed.entry.name for listed in list_models()]
    ['minilm', 'smollm2']
    """
    return [ListedModel(entry, find_files(entry)) for entry in REGISTRY.values()]


class FetchedModel(NamedTuple):
    """A model of the registry, whose files have their checksums."""

    name: str
    folder: Path
    downloaded: bool  # now, not before

    def to_dict(self) -> dict[str, Any]:
        """The document that `trustml models fetch --json` prints."""
        return {**self._asdict(), "folder": str(self.folder)}


def get_model(
    name: str,
    out: str | Path | None = None,
    *,
    publisher: str | None = None,
    timeout: float = 30.0,
) -> FetchedModel:
    """A model of the registry where it is installed, else downloaded.

    >>> get_model("none-of-this-name")
    Traceback (most recent call last):
    ValueError: `name` must be one of minilm, smollm2, got 'none-of-this-name'.

    Args:
      name: A name of the registry.
      out: Folder to put the files in, wherever else they are.
      publisher: Address of a mirror of its files, to fetch them from in any case.
      timeout: Seconds without an answer that count as broken.

    Raises:
      ValueError: There is no such model, the server cannot be reached, or it sent something else.
    """
    installed = _installed(find_entry(name)) if out is None and publisher is None else None
    if installed is not None:
        return FetchedModel(name, installed, downloaded=False)
    folder = fetch_model(name, out, address=publisher, timeout=timeout)
    return FetchedModel(name, folder, downloaded=True)


def _installed(entry: ModelEntry) -> Path | None:
    try:
        found = locate(entry.name)
    except ValueError:
        return None
    return found if entry.loads is None else found.parent


def check_models(name: str | None = None, folder: str | Path | None = None) -> FilesCheck:
    """Compares files with the published checksums.

    >>> check_models("minilm", "no-such-folder")
    Traceback (most recent call last):
    ...
    ValueError: `--folder` must be a folder, got 'no-such-folder'.

    Args:
      name: One model; by default all that are installed.
      folder: Where the files of `name` are; by default where it is installed.

    Raises:
      ValueError: There is no such model, it is not installed, or no model is.
    """
    if name is None:
        if folder is not None:
            raise ValueError(f"`--folder` needs the name of a model, got {str(folder)!r} alone.")
        found = [listed for listed in list_models() if listed.folder is not None]
        if not found:
            raise ValueError("no model is installed; `trustml models list` says how to get one.")
    else:
        entry = find_entry(name)
        at = find_files(entry) if folder is None else Path(folder)
        if at is None:
            raise ValueError(f"`{name}` is not installed. {install_advice(entry)}")
        if not at.is_dir():
            raise ValueError(f"`--folder` must be a folder, got {str(at)!r}.")
        found = [ListedModel(entry, at)]
    return FilesCheck("model", tuple(check for listed in found for check in _file_checks(*listed)))


def _file_checks(entry: ModelEntry, folder: Path | None) -> list[FileCheck]:
    assert folder is not None  # of an installed model
    return [
        FileCheck(entry.name, file.path, file_verdict(folder / file.path, file))
        for file in entry.files
    ]
