"""Files that are there whole or not at all."""

import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def write_json(path: Path, value: Any) -> None:
    """Writes one JSON document; a reader sees the old file or the new, never half of one."""
    _replace(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_lines(path: Path, values: Iterable[Any]) -> None:
    """Writes JSON lines in the same way."""
    _replace(path, "".join(json.dumps(value, allow_nan=False) + "\n" for value in values))


def _replace(path: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
