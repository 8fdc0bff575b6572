"""Files that are there whole or not at all, and stay after a crash."""

import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def write_text(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Writes a file; a reader sees the old one or the new, never half of one."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, mode)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_json(path: Path, value: Any, *, mode: int = 0o644) -> None:
    """Writes one JSON document in the way of `write_text`."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n", mode=mode)


def write_lines(path: Path, values: Iterable[Any]) -> None:
    """Writes JSON lines in the way of `write_text`."""
    write_text(path, "".join(json.dumps(value, allow_nan=False) + "\n" for value in values))


def sync_folder(folder: Path) -> None:
    """Makes the names in `folder` last: a new file's own fsync does not cover them."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
