"""A file of scores as columns, each checked: messages name what is wrong by column and row."""

import csv
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

_TRUTH = {"0": False, "1": True, "false": False, "true": True}


class Table(NamedTuple):
    """Columns by name."""

    path: Path
    columns: dict[str, Any]  # arrays; of CSV text, which fills arrays only where it is read
    lines: Sequence[int] | None  # of CSV: the line that each row ends in

    def row_name(self, row: int) -> str:
        """A row as messages name it."""
        return f"row {row} of {self.path}" if not self.lines else f"{self.path}:{self.lines[row]}"

    def numbers(self, name: str, shape: tuple[int | None, ...]) -> Float[np.ndarray, "..."]:
        """A column of finite numbers.

        Args:
          name: Of the column.
          shape: That it must have; None is any length.

        Raises:
          ValueError: A cell holds something else, or the shape is another.
        """
        values = self.columns[name]
        if self.lines is None:
            self._check_shape(name, values, shape)
            return self._finite(name, values)
        numbers = np.empty(len(values))
        for row, text in enumerate(values):
            try:
                numbers[row] = float(text)
            except ValueError:
                raise ValueError(
                    f"`{name}` must be a number in every row, got {text!r} at {self.row_name(row)}."
                ) from None
        return self._finite(name, numbers)

    def truths(
        self, name: str, shape: tuple[int | None, ...] | None = None
    ) -> Bool[np.ndarray, "..."]:
        """A column of truth values, as 0, 1, true or false; see `numbers`."""
        values = self.columns[name]
        if shape is not None:
            self._check_shape(name, values, shape)
        if self.lines is None:
            numeric = values.dtype.kind in "biuf"
            wrong = (values != 0) & (values != 1) if numeric else np.ones(values.shape, bool)
            truths = values == 1
        else:
            texts = [text.strip().lower() for text in values]
            values = np.array(texts, np.str_)
            wrong = np.array([text not in _TRUTH for text in texts], bool)
            truths = np.array([_TRUTH.get(text, False) for text in texts], bool)
        if wrong.any():
            index, cell = self._first(wrong)
            got = values[index].item()
            raise ValueError(f"`{name}` must be 0, 1, true or false, got {got!r} at {cell}.")
        return np.asarray(truths, bool)

    def labels(self, name: str, length: int) -> np.ndarray:
        """A column of names or whole numbers; see `numbers`."""
        values = np.asarray(self.columns[name])
        self._check_shape(name, values, (length,))
        if values.dtype.kind not in "biuU":
            raise ValueError(
                f"`{name}` must hold text or whole numbers, got {values.dtype} in {self.path}."
            )
        return np.char.strip(values) if values.dtype.kind == "U" else values

    def _finite(self, name: str, values: np.ndarray) -> Float[np.ndarray, "..."]:
        if values.dtype.kind not in "iuf":
            raise ValueError(f"`{name}` must hold numbers, got {values.dtype} in {self.path}.")
        values = values.astype(np.float64)
        if not np.isfinite(values).all():
            index, cell = self._first(~np.isfinite(values))
            raise ValueError(
                f"`{name}` must be finite, got {values[index]} at {cell}. Leave the unit out, or "
                "give it a finite score that ranks it."
            )
        return values

    def _first(self, wrong: Bool[np.ndarray, "..."]) -> tuple[tuple[int, ...], str]:
        """The first cell that is marked: its index, and its name in messages."""
        index = tuple(map(int, np.argwhere(wrong)[0]))
        return index, self.row_name(index[0]) if len(index) == 1 else f"{index} of {self.path}"

    def _check_shape(self, name: str, values: np.ndarray, shape: tuple[int | None, ...]) -> None:
        fits = values.ndim == len(shape) and all(
            have == want or want is None for have, want in zip(values.shape, shape, strict=True)
        )
        if not (fits and values.size):
            wanted = "a vector" if shape == (None,) else f"of shape {tuple(shape)}, not empty,"
            raise ValueError(f"`{name}` must be {wanted} in {self.path}, got shape {values.shape}.")


def read_table(path: Path) -> Table:
    """The columns of a .csv file with a header, or of an .npz file.

    Raises:
      ValueError: The file cannot be read, or is no table.
    """
    readers = {".csv": _read_csv, ".npz": _read_npz}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"`FILE` must be named .csv or .npz, got {path}.")
    if not path.is_file():
        raise ValueError(f"`FILE` must be a file that is there, got {path}.")
    try:
        return reader(path)
    except OSError as error:
        raise ValueError(f"`FILE` must be readable, got {path}: {error.strerror}.") from None


def _read_csv(path: Path) -> Table:
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            head = [name.strip() for name in next(reader, [])]
            for row in reader:
                if row and len(row) != len(head):
                    raise ValueError(
                        f"`FILE` must have {len(head)} cells in every row, as its header has, got "
                        f"{len(row)} in {path}:{reader.line_num}."
                    )
                if row:
                    rows.append(row)
                    lines.append(reader.line_num)
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"`FILE` must be CSV in UTF-8, got {path}: {error}.") from None
    for name in head:
        if head.count(name) > 1:
            raise ValueError(f"`FILE` must name each column once, got `{name}` twice in {path}.")
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(head)
    return Table(path, dict(zip(head, columns, strict=True)), lines)


def _read_npz(path: Path) -> Table:
    broken = (ValueError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError(f"`FILE` must be an archive of `numpy.savez`, got {path}.")
        file.seek(0)
        try:
            with np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
        except broken as error:
            raise ValueError(f"`FILE` must be of plain arrays, got {path}: {error}.") from None
    return Table(path, {k: v for k, v in arrays.items() if isinstance(v, np.ndarray)}, None)
