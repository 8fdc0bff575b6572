"""CSV and TSV files, with a header of names."""

import csv
from collections.abc import Sequence
from pathlib import Path

from trustml.data.errors import DataError
from trustml.data.files.lines import Rows, open_text

_DELIMITERS = ",;\t"


def read_delimited(path: Path) -> Rows:
    """Each row by the names of the header; a quoted field may hold line breaks."""
    with open_text(path) as file:
        delimiter, names = _header(path, file.readline())
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        width, end = len(names), 1
        while True:
            first, problem, values = end + 1, None, None
            try:
                values = next(reader, None)
            except csv.Error as error:
                problem = _csv_problem(error)
            end = reader.line_num + 1
            location = f"{path} line {first}"
            if problem is not None and end > first + 1:  # to skip it would lose the rows of others
                raise DataError(f"{path} lines {first} to {end - 1} are read as one row: {problem}")
            if problem is not None:
                yield location, problem
            elif values is None:
                return
            elif len(values) == width:
                yield location, dict(zip(names, values, strict=True))
            elif values:  # a blank line is no row
                yield location, f"{len(values)} fields, must be {width} as in the header."


def columns_of_delimited(path: Path) -> tuple[str, ...]:
    """The names in the header."""
    with open_text(path) as file:
        return _header(path, file.readline())[1]


def _header(path: Path, line: str) -> tuple[str, tuple[str, ...]]:
    """What separates the fields, and their names. A name that is missing becomes `column N`."""
    line = line.rstrip("\r\n")
    delimiter = max(_DELIMITERS, key=lambda one: len(_fields(path, line, one)))
    fields = [name.strip() for name in _fields(path, line, delimiter)]
    names = tuple(name or f"column {number}" for number, name in enumerate(fields, 1))
    if not any(fields):
        raise DataError(f"{path} line 1: must hold the names of the columns, got a blank line.")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(
            f"{path} line 1: the header must name each column once, got {twice!r} "
            f"{names.count(twice)} times. Rename one."
        )
    return delimiter, names


def _fields(path: Path, line: str, delimiter: str) -> Sequence[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter, strict=True), [])
    except csv.Error as error:
        raise DataError(f"{path} line 1: {_csv_problem(error)}") from None


def _csv_problem(error: csv.Error) -> str:
    if "field limit" in str(error):
        return (
            f"a field is longer than {csv.field_size_limit():,} characters: a quote may not be "
            "closed. Longer texts fit in JSONL or Parquet."
        )
    if "unexpected end" in str(error):
        return "a quote is not closed before the end of the file."
    return f"{error}. Write a quote inside a quoted field twice."
