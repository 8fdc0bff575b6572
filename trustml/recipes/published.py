"""Whether files of data sets and of models are the published ones."""

from typing import Any, NamedTuple

from trustml.models.pretrained.registry import PUBLISHED


class FileCheck(NamedTuple):
    """Whether a file is the published one."""

    owner: str  # the data set or model that it is of
    file: str
    verdict: str  # "published", "missing", or how it differs

    @property
    def holds(self) -> bool:
        """Whether the file has the published checksum."""
        return self.verdict == PUBLISHED


class FilesCheck(NamedTuple):
    """The files of some data sets or models against the published checksums."""

    kind: str  # "set" or "model"
    files: tuple[FileCheck, ...]

    @property
    def holds(self) -> bool:
        """Whether every file has the published checksum."""
        return all(file.holds for file in self.files)

    @property
    def owners(self) -> list[str]:
        """The data sets or models."""
        return sorted({file.owner for file in self.files})

    def to_dict(self) -> dict[str, Any]:
        """The document that `trustml data check --json` and `trustml models check --json` print."""
        files = [
            {self.kind: file.owner, "file": file.file, "verdict": file.verdict}
            for file in self.files
        ]
        return {"holds": self.holds, "files": files}
