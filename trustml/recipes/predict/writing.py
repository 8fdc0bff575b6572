"""Writes predictions as JSON lines or CSV, while they are made."""

import contextlib
import csv
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from trustml.strict_json import dumps, finite
from trustml.training.runs.files import new_file

_Put = Callable[[Mapping[str, Any]], None]


def check_out(out: Path) -> None:
    """Refuses a file that is there, has no known format or no folder.

    >>> check_out(Path("found.txt"))
    Traceback (most recent call last):
    ...
    ValueError: `--out` must end with .jsonl or .csv, got found.txt.

    Raises:
      ValueError: The name has another suffix.
      OSError: The file is there, or its folder is not.
    """
    if out.suffix not in FORMATS:
        raise ValueError(f"`--out` must end with {' or '.join(FORMATS)}, got {out}.")
    if out.exists():
        raise FileExistsError(f"`--out` must be a new file, got {out}, which is there already.")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"`--out` must be in a folder that exists, got {out}.")


@contextlib.contextmanager
def open_out(
    out: Path | None, columns: Sequence[str], terminal: TextIO, *, mode: int
) -> Iterator[_Put]:
    """A function that writes one row; a file takes its name once all rows are in it.

    Args:
      out: The file; None writes JSON lines to `terminal`.
      columns: Names of all values of a row.
      terminal: Standard output.
      mode: Who may read the file.
    """
    if out is None:
        yield _json_lines(terminal, columns)
        return
    with new_file(out, mode=mode) as file:
        yield FORMATS[out.suffix](file, columns)


def _json_lines(file: TextIO, columns: Sequence[str]) -> _Put:
    del columns

    def put(row: Mapping[str, Any]) -> None:
        file.write(dumps(finite(dict(row)), default=str) + "\n")

    return put


def _csv(file: TextIO, columns: Sequence[str]) -> _Put:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    return lambda row: writer.writerow([_cell(row.get(name)) for name in columns])


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
        return " ".join(value)
    return dumps(finite(value), default=str) if isinstance(value, list | tuple | dict) else value


FORMATS: dict[str, Callable[[TextIO, Sequence[str]], _Put]] = {
    ".jsonl": _json_lines,
    ".csv": _csv,
}
