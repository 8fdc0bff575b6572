"""Rows of files of every known format, one reader each."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from trustml.data.errors import DataError
from trustml.data.files import arrays, arrow, conll, delimited, json_lines, plain_text
from trustml.data.files.lines import Rows

_PACKED = ".gz"  # behind the suffix of a text format


class _Format(NamedTuple):
    """How files of one format are read."""

    rows: Callable[[Path], Rows]
    columns: Callable[[Path], tuple[str, ...]]
    is_text: bool = True


_DELIMITED = _Format(delimited.read_delimited, delimited.columns_of_delimited)
_JSON = _Format(json_lines.read_json_lines, json_lines.columns_of_json_lines)
_CONLL = _Format(conll.read_conll, lambda path: conll.COLUMNS)
_PARQUET = _Format(arrow.read_parquet, arrow.columns_of_parquet, is_text=False)
FORMATS = {
    ".csv": _DELIMITED,
    ".tsv": _DELIMITED,
    ".jsonl": _JSON,
    ".ndjson": _JSON,
    ".parquet": _PARQUET,
    ".conll": _CONLL,
    ".bio": _CONLL,
    ".iob": _CONLL,
    ".txt": _Format(plain_text.read_plain_text, lambda path: plain_text.COLUMNS),
    ".npz": _Format(arrays.read_npz, arrays.columns_of_npz, is_text=False),
}


def is_rows(path: str | Path) -> bool:
    """Whether there is a file, or a folder that `datasets` saved, to read rows from.

    >>> is_rows("no-such-file.csv")
    False
    """
    path = Path(path)
    return path.is_file() or arrow.is_saved(path)


def read_rows(
    path: str | Path,
    *,
    split: str | None = None,
    on_bad_row: Callable[[str], None] | None = None,
) -> Iterator[tuple[str, dict[str, Any]]]:
    r"""Each row of a file with its location, such as `messages.csv line 17`, one at a time.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "messages.csv")
    ...     _ = path.write_text("text;label\nfine;good\n")
    ...     [row for _, row in read_rows(path)]
    [{'text': 'fine', 'label': 'good'}]

    Args:
      path: A .csv, .tsv, .jsonl, .conll, .txt (these also with .gz behind), .parquet or .npz file,
        or a folder that `datasets` saved. Values are as the format has them: texts in CSV.
      split: One of `splits_of`; by default all of them.
      on_bad_row: Takes the line on a row that cannot be read, which is then left out; by default
        the row ends the reading.

    Raises:
      DataError: The file or a row cannot be read; the message gives the row.
    """
    path = Path(path)
    form = None if path.is_dir() else _format_of(path)
    found = form.rows(path) if form is not None else arrow.read_saved(_saved(path), split)
    for location, row in found:
        problem = row if isinstance(row, str) else _broken_text(row)
        if problem is None:
            yield location, row  # type: ignore[misc]  # a text is a problem
        elif on_bad_row is None:
            raise DataError(f"{location}: {problem}")
        else:
            on_bad_row(f"{location}: {problem}")


def columns_of(path: str | Path) -> tuple[str, ...]:
    """The names of a file's columns; it reads no more of it than these need.

    >>> columns_of("none.csv")
    Traceback (most recent call last):
    ...
    trustml.data.errors.DataError: none.csv must be a file, got none of that name.

    Raises:
      DataError: The file cannot be read, or names no column.
    """
    path = Path(path)
    columns = arrow.columns_of_saved(_saved(path)) if path.is_dir() else _columns(path)
    if not columns:
        raise DataError(f"{path} must have columns, got none.")
    return columns


def splits_of(path: str | Path) -> tuple[str, ...]:
    """The names of the splits that a folder saved by `datasets` has; none for a file.

    >>> splits_of("rows.csv")
    ()
    """
    path = Path(path)
    return arrow.splits_of_saved(path) if arrow.is_saved(path) else ()


def suffix_of(path: Path) -> str:
    """The suffix that names the format of a file, without that of compression.

    >>> suffix_of(Path("Rows.CSV.gz"))
    '.csv'
    """
    name = path.name.lower().removesuffix(_PACKED)
    return Path(name).suffix


def _columns(path: Path) -> tuple[str, ...]:
    return _format_of(path).columns(path)


def _format_of(path: Path) -> _Format:
    known = FORMATS.get(suffix_of(path))
    packed = path.name.lower().endswith(_PACKED)
    if known is None or (packed and not known.is_text):
        raise DataError(
            f"{path} must end in {', '.join(FORMATS)}, and text formats may have {_PACKED} behind."
        )
    if not path.is_file():
        raise DataError(f"{path} must be a file, got none of that name.")
    return known


def _saved(path: Path) -> Path:
    if not arrow.is_saved(path):
        raise DataError(f"{path} must be a file, or a folder that `datasets` saved.")
    return path


def _broken_text(row: dict[str, Any]) -> str | None:
    for name, value in row.items():
        if _is_broken(value):
            return f"column {name!r} is not UTF-8 text. Mend the row or the file's encoding."
        if _is_broken(name):
            return "the name of a column is not UTF-8 text. Mend the file's encoding."
    return None


def _is_broken(value: Any) -> bool:
    """Whether a text, or one of a list, holds what UTF-8 cannot: bytes that were none."""
    if type(value) is str:
        if value.isascii():
            return False
        try:
            value.encode()
        except UnicodeEncodeError:
            return True
        return False
    return isinstance(value, list | tuple) and any(map(_is_broken, value))
