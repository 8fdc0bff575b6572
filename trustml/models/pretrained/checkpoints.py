"""The tensors of a folder's safetensors files, and which of them were read."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_FLOATS = ("F64", "F32", "F16", "BF16")


class Tensors:
    """Tensors by name, read on demand.

    Attributes:
      folder: Folder of the files.
      files: The file of each tensor; the index decides between several.
      used: Names of tensors that were read.

    Raises:
      ValueError: There are no such files, or one is incomplete.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.files = _located(folder)
        self.used: set[str] = set()

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, without reading it."""
        with _opened(self.files[name]) as file:
            return tuple(file.get_slice(name).get_shape())

    def read(self, names: Sequence[str]) -> tuple[str, np.ndarray] | None:
        """The tensor that the files store under one or several of `names`.

        Returns:
          The first such name and the tensor as float32; None if the files have none of them.

        Raises:
          ValueError: Copies differ, or the numbers are not floating-point.
        """
        stored = [name for name in names if name in self.files]
        return (stored[0], self.tensor(stored)) if stored else None

    def tensor(self, copies: Sequence[str]) -> np.ndarray:
        """The tensor that the files store under each of `copies`, as float32.

        Raises:
          ValueError: As `read`.
        """
        first = self._get(copies[0])
        for name in copies[1:]:
            if not np.array_equal(self._get(name), first, equal_nan=True):
                raise ValueError(
                    f"{self.files[name]}: `{name}` must equal `{copies[0]}`, of which config.json "
                    "makes it a copy; remove the one that is stale, or, where an output is not "
                    "tied to its word embedding, set `tie_word_embeddings` to false."
                )
        return first

    def _get(self, name: str) -> np.ndarray:
        with _opened(self.files[name]) as file:
            kind = file.get_slice(name).get_dtype()
            if kind not in _FLOATS:
                raise ValueError(
                    f"{self.files[name]}: `{name}` must hold floating-point numbers of 16 bits or "
                    f"more, got {kind}, as quantized checkpoints do; take the checkpoint that was "
                    "quantized, or one that transformers saved after `model.dequantize()`."
                )
        # NumPy lacks bfloat16; JAX would hold two more copies of the others.
        with _opened(self.files[name], "flax" if kind == "BF16" else "numpy") as file:
            tensor = file.get_tensor(name)
        self.used.add(name)
        return np.asarray(tensor).astype(np.float32, copy=False)

    @property
    def unread(self) -> tuple[str, ...]:
        """Names of the tensors that were not read."""
        return tuple(sorted(set(self.files) - self.used))


def _opened(path: Path, framework: str = "numpy"):
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, framework=framework)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} must be a whole safetensors file: {error}.") from None


def _located(folder: Path) -> dict[str, Path]:
    """The file of each tensor."""
    whole, index = folder / WEIGHTS, folder / INDEX
    if whole.exists():
        return dict.fromkeys(_names(whole), whole)
    if index.exists():
        return _indexed(folder, index)
    for path in sorted(folder.glob("*.bin")):
        raise ValueError(
            f"{folder} must hold {WEIGHTS}, got {path.name} alone, a pickle, which may run any "
            "code; convert it with transformers' save_pretrained, or take a checkpoint that has "
            "safetensors."
        )
    raise ValueError(f"{folder} must hold {WEIGHTS} or {INDEX}, got neither.")


def _indexed(folder: Path, index: Path) -> dict[str, Path]:
    try:
        named = json.loads(index.read_text())["weight_map"].items()
        files = {str(name): folder / shard for name, shard in named}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{index} must be a readable index: {error!r}.") from None
    for path in sorted(set(files.values())):
        lacking = sorted({name for name in files if files[name] == path} - set(_names(path)))
        if lacking:
            raise ValueError(
                f"{path} must hold `{lacking[0]}`, as {INDEX} says, but lacks it; take all files "
                "of one checkpoint."
            )
    return files


def _names(path: Path) -> list[str]:
    with _opened(path) as file:
        return list(file.keys())
