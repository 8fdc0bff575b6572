"""Files of a data set, read with their checksum; what is broken is named by file and line."""

import csv
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from trustml.data.catalogue import Entry
from trustml.data.errors import DataError

VERIFIED = "checksum of the published file"
CHANGED = "NOT the published file"


class Content(NamedTuple):
    """What a file holds, and whether that is what was published."""

    path: str
    data: bytes
    verdict: str

    @property
    def text(self) -> str:
        """As UTF-8 text."""
        try:
            return self.data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{self.path} cannot be read as UTF-8 text: {error}; fetch it anew."
            ) from None


def find_file(folder: Path, name: str) -> Path | None:
    """`name` or `name`.gz in `folder`; None if neither is there."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def read_file(entry: Entry, folder: Path, name: str) -> Content:
    """Reads a file of `entry`, compressed or not, and compares its checksum.

    Raises:
      DataError: It is missing, empty, cut off or cannot be read.
    """
    path = find_file(folder, name)
    if path is None:
        raise DataError(
            f"{folder / name} does not exist, nor does {name}.gz; name the folder that holds it, "
            f"or fetch it with `trustml data get {entry.name}`."
        )
    data = read_bytes(path)
    known = next((file.sha256 for file in entry.files if file.name == name), None)
    verdict = VERIFIED if hashlib.sha256(data).hexdigest() == known else CHANGED
    return Content(str(path), data, verdict)


def read_bytes(path: Path) -> bytes:
    """The content of a file, uncompressed."""
    try:
        raw = path.read_bytes()
        data = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}; fetch it anew.") from None
    if not data.strip():
        raise DataError(f"{path} is empty; fetch it anew.")
    return data


def read_lines(content: Content) -> Iterator[tuple[str, str]]:
    """Each line with its location; blank lines at the end are left out."""
    # Not splitlines: a text may hold a character that Unicode counts as a line separator.
    lines = [line.rstrip("\r") for line in content.text.split("\n")]
    while lines and not lines[-1].strip():
        lines.pop()
    for number, line in enumerate(lines, 1):
        yield f"{content.path}:{number}", line


def read_json(content: Content) -> Any:
    """The one JSON document of a file."""
    return _parse(content.path, content.text)


def read_json_lines(content: Content) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each line's JSON object with its location."""
    for location, line in read_lines(content):
        row = _parse(location, line)
        if not isinstance(row, dict):
            raise DataError(f"{location}: must be a JSON object, got {line[:60]!r}.")
        yield location, row


def read_table(
    content: Content, width: int, *, delimiter: str = ","
) -> Iterator[tuple[str, list[str]]]:
    """Each row of a CSV file with the location of its last line.

    Args:
      content: The file.
      width: Fields that a row must have.
      delimiter: What separates them.
    """
    reader = csv.reader(io.StringIO(content.text, newline=""), delimiter=delimiter, strict=True)
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{content.path}:{reader.line_num}: {error}; fetch it anew.") from None
        if row is None:
            return
        if len(row) != width:
            raise DataError(
                f"{content.path}:{reader.line_num}: {len(row)} fields, must be {width}, "
                f"got {row!r:.80}."
            )
        yield f"{content.path}:{reader.line_num}", row


def read_header(rows: Iterator[tuple[str, list[str]]], expected: tuple[str, ...]) -> None:
    """Takes the first row, which must be `expected`."""
    location, row = next(rows)
    if tuple(row) != expected:
        raise DataError(
            f"{location}: the header must be {','.join(expected)}, got {','.join(row)}."
        )


def take(row: dict[str, Any], name: str, location: str, kind: type = str) -> Any:
    """The field `name` of a JSON object, which must be of `kind`."""
    value = row.get(name)
    if not isinstance(value, kind):
        raise DataError(f"{location}: `{name}` must be a {kind.__name__}, got {value!r:.60}.")
    return value


def _parse(location: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = location if ":" in Path(location).name else f"{location}:{error.lineno}"
        raise DataError(f"{where}: not JSON ({error.msg}); fetch it anew.") from None
