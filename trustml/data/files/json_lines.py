"""JSONL: one JSON object a line."""

import itertools
import json
from pathlib import Path

from trustml.data.files.lines import Rows, read_lines

_LOOKED_AT = 100  # rows whose names are the columns: an object may leave out what is null


def read_json_lines(path: Path) -> Rows:
    """Each line's object."""
    for number, line in read_lines(path):
        if not line.strip():
            continue
        location = f"{path} line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield location, f"must be a JSON object ({getattr(error, 'msg', error)})."
            continue
        yield location, row if isinstance(row, dict) else f"must be a JSON object, got {line:.40}."


def columns_of_json_lines(path: Path) -> tuple[str, ...]:
    """The names in the first objects, in order of their first use."""
    rows = itertools.islice(read_json_lines(path), _LOOKED_AT)
    return tuple(dict.fromkeys(name for _, row in rows if isinstance(row, dict) for name in row))
