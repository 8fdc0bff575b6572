"""`.npz` files: arrays with one entry a row, by name; a matrix gives several columns."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from trustml.data.errors import DataError
from trustml.data.files.lines import Rows
from trustml.formatting import one_line


def read_npz(path: Path) -> Rows:
    """Each row's values by the names of the arrays."""
    columns = _columns(path)
    for number, values in enumerate(zip(*columns.values(), strict=True), 1):
        yield f"{path} row {number}", dict(zip(columns, map(_plain, values), strict=True))


def columns_of_npz(path: Path) -> tuple[str, ...]:
    """The names of the arrays; those of a matrix's columns are its name and their number."""
    return tuple(_columns(path))


def _columns(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} must be an .npz file of numbers or texts, got one that cannot be read: "
            f"{one_line(error).rstrip('.')}."
        ) from None
    columns: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        if array.ndim not in (1, 2):
            raise DataError(
                f"{path}: the array {name!r} must have an entry for each row, [row] or "
                f"[row, column], got the shape {array.shape}."
            )
        parts = {name: array} if array.ndim == 1 else _parts(name, array)
        columns.update(parts)
    lengths = {len(column) for column in columns.values()}
    if len(lengths) != 1:
        sizes = ", ".join(f"{name} {len(array)}" for name, array in arrays.items())
        raise DataError(f"{path}: all arrays must have as many rows, got {sizes or 'no array'}.")
    return columns


def _parts(name: str, matrix: np.ndarray) -> dict[str, np.ndarray]:
    return {f"{name}{number}": matrix[:, number] for number in range(matrix.shape[1])}


def _plain(value: Any) -> Any:
    value = value.item()
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
