"""Keeps vectors that an encoder computed: in memory, or in a folder of files for the owner alone.

Vectors of private rows are private, and so are their files: they can give the texts away almost
word by word (Morris et al. 2023, arXiv:2310.06816), and no mechanism has noised them. Nothing is
written unless a folder is named.
"""

import contextlib
import dataclasses
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Float

from trustml.data.transfer import cache_folder

_VERSION = "1"  # of the files, and of how vectors are computed
_NAME = "features"
_MOST_BYTES = 1 << 30  # kept in memory


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureCache:
    """Vectors by what they were computed from; for `SentenceEncoder.embed`.

    >>> cache = FeatureCache()
    >>> cache.get("key", lambda: np.ones(2, np.float32)).tolist()
    [1.0, 1.0]
    >>> cache.get("key", lambda: np.zeros(2, np.float32)).tolist()
    [1.0, 1.0]

    Attributes:
      folder: Folder of the files, which is made with mode 0700, its files with mode 0600; None
        keeps vectors in memory, the last gigabyte of them. `of_user` names a usual one.
    """

    folder: Path | None = None
    _kept: dict[str, np.ndarray] = dataclasses.field(default_factory=dict, repr=False)

    @classmethod
    def of_user(cls) -> "FeatureCache":
        """The cache in the user's cache folder, beside what was downloaded."""
        return cls(cache_folder() / _NAME)

    def get(
        self, key: str, compute: Callable[[], Float[np.ndarray, "..."]]
    ) -> Float[np.ndarray, "..."]:
        """The array of a key, computed where it is not kept whole; it cannot be written to.

        Args:
          key: Digits that stand for all that the array depends on, as `feature_key` makes.
          compute: Makes the array.

        Raises:
          OSError: The folder cannot be written.
        """
        found = self._kept.get(key) if self.folder is None else _read(self.folder / key)
        if found is None:
            found = compute()
            if self.folder is None:
                self._keep(key, found)
            else:
                _write(self.folder / key, found)
        found.flags.writeable = False
        return found

    def _keep(self, key: str, array: np.ndarray) -> None:
        self._kept[key] = array
        while len(self._kept) > 1 and sum(one.nbytes for one in self._kept.values()) > _MOST_BYTES:
            del self._kept[next(iter(self._kept))]


def feature_key(parts: Iterable[str | bytes]) -> str:
    """A key that differs where any of `parts` does, or their number.

    >>> feature_key(["ab", "c"]) == feature_key(["a", "bc"])
    False
    """
    whole = hashlib.sha256(f"trustml features, version {_VERSION}".encode())
    for part in parts:
        content = part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass")
        whole.update(len(content).to_bytes(8, "little") + content)
    return whole.hexdigest()


def _read(path: Path) -> np.ndarray | None:
    """The array of a file; None where there is none, or where it is not whole."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            facts, array = file.metadata() or {}, file.get_tensor(_NAME)
    except (OSError, SafetensorError):
        return None
    whole = facts.get("version") == _VERSION and facts.get("sha256") == _digest(array)
    return array if whole else None


def _write(path: Path, array: np.ndarray) -> None:
    """Writes a file whole, or not at all; nobody but its owner can ever read it."""
    from safetensors.numpy import save

    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    array = np.ascontiguousarray(array)
    content = save({_NAME: array}, {"version": _VERSION, "sha256": _digest(array)})
    number, partial = tempfile.mkstemp(dir=path.parent, prefix=".partial")  # with mode 0600
    try:
        with os.fdopen(number, "wb") as file:
            file.write(content)
        Path(partial).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)
        raise


def _digest(array: np.ndarray) -> str:
    whole = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    whole.update(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
    return whole.hexdigest()
