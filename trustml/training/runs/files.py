"""Files that are there whole or not at all, and stay after a crash."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from trustml.strict_json import dumps


@contextlib.contextmanager
def new_file(path: Path, *, mode: int = 0o644) -> Iterator[TextIO]:
    """A file to write text into, which takes its name once it is whole; else nothing is left."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, mode)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_text(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Writes a file; a reader sees the old one or the new, never half of one."""
    with new_file(path, mode=mode) as file:
        file.write(text)


def write_json(path: Path, value: Any, *, mode: int = 0o644) -> None:
    """Writes one JSON document in the way of `write_text`."""
    write_text(path, dumps(value, indent=2) + "\n", mode=mode)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes out of a folder that they would lock too.

    Raises:
      BlockingIOError: One of them is in it.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        lock(handle, folder)
        yield
    finally:
        os.close(handle)


def lock(handle: int, folder: Path) -> None:
    """Locks an open file of `folder` until it is closed, however its process ends.

    Raises:
      BlockingIOError: Another process has it locked.
    """
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BlockingIOError(
            f"`out` must be a run that no other process works on, got {folder}, which one does. "
            "Wait for it, or name another folder."
        ) from None


def sync_folder(folder: Path) -> None:
    """Makes the names in `folder` last: a new file's own fsync does not cover them."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
