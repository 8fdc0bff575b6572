"""Pretrained models by name: what they are, and whether their files are the published ones."""

from pathlib import Path
from typing import Any, NamedTuple

from trustml.models.pretrained.registry import (
    PUBLISHED,
    REGISTRY,
    ModelEntry,
    file_verdict,
    find_entry,
    find_files,
    install_advice,
)


class ModelFileCheck(NamedTuple):
    """Whether a model's file is the published one."""

    model: str
    file: str
    verdict: str  # "published", "missing", or how it differs

    @property
    def holds(self) -> bool:
        """Whether the file has the published checksum."""
        return self.verdict == PUBLISHED


class ModelCheck(NamedTuple):
    """The files of some models against the published checksums."""

    files: tuple[ModelFileCheck, ...]

    @property
    def holds(self) -> bool:
        """Whether every file has the published checksum."""
        return all(file.holds for file in self.files)

    def to_dict(self) -> dict[str, Any]:
        """The document that `trustml models check --json` prints."""
        return {"holds": self.holds, "files": [file._asdict() for file in self.files]}


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


def check_models(name: str | None = None, folder: str | Path | None = None) -> ModelCheck:
    """Compares files with the published checksums.

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
    return ModelCheck(tuple(check for listed in found for check in _file_checks(*listed)))


def _file_checks(entry: ModelEntry, folder: Path | None) -> list[ModelFileCheck]:
    assert folder is not None  # of an installed model
    return [
        ModelFileCheck(entry.name, file.path, file_verdict(folder / file.path, file))
        for file in entry.files
    ]
