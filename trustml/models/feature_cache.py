"""Keeps features that an encoder computed, in a folder of files for the owner alone.

Features of private rows are private, and so are their files: they can give the texts away almost
word by word (Morris et al. 2023, arXiv:2310.06816), and no mechanism has noised them.
"""

import contextlib
import dataclasses
import hashlib
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trustml.models.features import TextFeatures
from trustml.models.pretrained.sentence import Progress, TokenStates
from trustml.models.word_features import WordFeatures

_VERSION = "3"  # of the files, and of how features are computed


@dataclasses.dataclass(frozen=True)
class FeatureCache:
    """Features by what they were computed from: the encoder's content, and the rows.

    Attributes:
      folder: Folder of the files, which is made with mode 0700, its files with mode 0600.
    """

    folder: Path

    def features(
        self,
        features: TextFeatures | WordFeatures,
        rows: Sequence[str] | Sequence[Sequence[str]],
        progress: Progress | None = None,
    ) -> Any:
        """What `features(rows, progress)` gives, computed where it is not kept whole.

        Its arrays cannot be written to.

        Raises:
          ValueError: The folder cannot be made.
        """
        path = self.folder / _key(features, rows)
        found = _read(path)
        if found is None:
            self._make_folder()
            made: Any = features(rows, progress)  # type: ignore[arg-type]  # rows of its kind
            found = made._asdict() if isinstance(made, TokenStates) else {"values": made}
            _write(path, found)
        for array in found.values():
            array.flags.writeable = False
        return TokenStates(**found) if isinstance(features, WordFeatures) else found["values"]

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise ValueError(
                f"`feature_cache` must be a folder, or one that can be made, got {self.folder}: "
                f"{error.strerror}."
            ) from None


def _key(features: TextFeatures | WordFeatures, rows: Iterable[str] | Iterable[Sequence[str]]):
    whole = hashlib.sha256(f"trustml features, version {_VERSION}\n".encode())
    whole.update(features.fingerprint.encode())
    for row in rows:
        texts = [row] if isinstance(row, str) else row
        whole.update(len(texts).to_bytes(8, "little"))
        for text in texts:
            content = text.encode("utf-8", "surrogatepass")
            whole.update(len(content).to_bytes(8, "little") + content)
    return whole.hexdigest()


def _read(path: Path) -> dict[str, np.ndarray] | None:
    """The arrays of a file; None where there is none, or where it is not whole."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            facts = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return None
    whole = facts.get("version") == _VERSION and facts.get("sha256") == _digest(arrays)
    return arrays if whole else None


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes a file whole, or not at all; nobody but its owner can ever read it."""
    from safetensors.numpy import save

    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    content = save(arrays, {"version": _VERSION, "sha256": _digest(arrays)})
    number, partial = tempfile.mkstemp(dir=path.parent, prefix=".partial")  # with mode 0600
    try:
        with os.fdopen(number, "wb") as file:
            file.write(content)
        Path(partial).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)
        raise


def _digest(arrays: dict[str, np.ndarray]) -> str:
    whole = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        whole.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        whole.update(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
    return whole.hexdigest()
