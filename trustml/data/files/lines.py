"""Lines of a text file, compressed or not, with their numbers; a broken byte stays in its row."""

import contextlib
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeAlias

from trustml.data.errors import DataError

_OTHER_ENCODINGS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"PK": "a ZIP archive"}

# A location with a row, or with the reason why it cannot be read.
Rows: TypeAlias = Iterator[tuple[str, dict[str, Any] | str]]


class Line(NamedTuple):
    """One line without its end, and its number from 1."""

    number: int
    text: str


@contextlib.contextmanager
def open_text(path: Path) -> Iterator[IO[str]]:
    """A text file as UTF-8, with or without a byte order mark; bytes that are not are kept.

    They come as lone surrogates, which `read_rows` finds, so that the row can be named.

    Raises:
      DataError: The file cannot be read, is cut off, or is no UTF-8 text at all.
    """
    opener: Any = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as raw:
            _check_encoding(path, raw.read(2))
        with opener(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            yield file
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {_reason(error)}.") from None


def read_lines(path: Path) -> Iterator[Line]:
    """Every line of a text file."""
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            yield Line(number, line.rstrip("\r\n"))


def _check_encoding(path: Path, start: bytes) -> None:
    if not start:
        raise DataError(f"{path} is empty.")
    if other := _OTHER_ENCODINGS.get(start):
        raise DataError(f"{path} must be text in UTF-8, got {other}. Save it as UTF-8 text.")


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).rstrip(".")
