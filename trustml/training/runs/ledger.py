"""The ledger: what was released, written ahead of each release, append-only, each line hashed.

Every line is one JSON object that holds the hash of the line before it, so a line that was changed,
removed or moved shows. The kinds of entries:

    release      something beside the training, such as a schema, is about to be released at this
                 cost; before the run alone
    run          plan, data fingerprint, whether the plan's guarantee holds
    segment      a new noise key and sampler secret from step `start` on, and under what conditions
    open         a process continues the last segment: what it repeats is the same release; under
                 new conditions, if it names them, and then it repeats nothing
    reserve      steps `start` to `stop - 1` are about to be released; `state` is a digest before
    settle       of what this process reserved, only the steps before `stop` were released
    checkpoint   the state after `step` steps is on disk, in files of this hash
    end          no further step of this run

A reservation counts as spent, so a crash between it and the release costs budget, never privacy.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from trustml.strict_json import dumps
from trustml.training.runs.entries import START, Summary, add_entry
from trustml.training.runs.files import lock, sync_folder
from trustml.training.runs.folder import RunFolder

_UNKNOWN = RunFolder(Path()).ledger  # where the caller does not say whose entries they are


class LedgerError(ValueError):
    """A ledger that cannot be relied on: the message names the line and the way out."""


class Ledger:
    """The open ledger of a run; holds the lock that keeps a second process out.

    Args:
      path: Where; created if it is not there.

    Raises:
      LedgerError: The file is damaged.
      BlockingIOError: Another process has it open.
    """

    def __init__(self, path: Path):
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            lock(self._file, path.parent)
            entries, self._size = _parse(_read(self._file), path)
            self.summary = summarize(entries, path)
            # A line cut off by a crash was never confirmed: its release had not begun.
            os.ftruncate(self._file, self._size)
            sync_folder(path.parent)
        except BaseException:
            os.close(self._file)
            raise
        self._usable = True

    def append(self, entry: str, **fields: Any) -> None:
        """Adds an entry; returns when it is on disk. After an error the ledger takes no more.

        Raises:
          LedgerError: It contradicts the entries before it; nothing is written.
          OSError: It cannot be written; the file is as it was.
        """
        if not self._usable:
            raise LedgerError(f"{self.path} could not be written before; resume the run.")
        if clash := {"entry", "previous", "hash"} & set(fields):
            raise LedgerError(f"`fields` must not hold {clash.pop()!r}, which every entry has.")
        body = {"entry": entry, **fields, "previous": self.summary.head}
        body["hash"] = _hash(body)
        self._usable = False
        problem = add_entry(self.summary, body)
        if problem:
            raise LedgerError(f"{self.path}: {problem}. Do not continue this run.")
        line = (dumps(body) + "\n").encode()
        try:
            written = 0
            while written < len(line):
                written += os.write(self._file, line[written:])
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, self._size)
            raise type(error)(error.errno, f"{self.path}: {error.strerror}") from None
        self._size += len(line)
        self.summary.head, self._usable = body["hash"], True

    def place(self) -> str:
        """Device and inode of this file: a copy has others."""
        found = os.fstat(self._file)
        return f"{found.st_dev}:{found.st_ino}"

    def close(self) -> None:
        """Lets go of file and lock."""
        os.close(self._file)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def read_ledger(folder: Path) -> list[dict[str, Any]]:
    """The entries of a run's ledger, checked; the file is only read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as name:
    ...     with Ledger(RunFolder(Path(name)).ledger) as ledger:
    ...         ledger.append("run", plan={"steps": 2}, private_training=True)
    ...     [entry["entry"] for entry in read_ledger(Path(name))]
    ['run']

    Raises:
      LedgerError: There is none, or it is damaged.
    """
    path = RunFolder(Path(folder)).ledger
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise LedgerError(
            f"`ledger` must be a run's folder that holds {path.name}, "
            f"got {folder}: {error.strerror}."
        ) from None
    entries, _ = _parse(raw, path)
    if not entries:
        raise LedgerError(f"{path} is empty: no run was begun there.")
    summarize(entries, path)
    return entries


def summarize(entries: Iterable[dict[str, Any]], path: Path = _UNKNOWN) -> Summary:
    """Adds up the entries, and refuses what no correct run writes.

    >>> run = {"entry": "run", "plan": {"steps": 2}, "private_training": True, "hash": "1" * 64}
    >>> summarize([run]).run["plan"]
    {'steps': 2}
    >>> summarize([run, run])
    Traceback (most recent call last):
    trustml.training.runs.ledger.LedgerError: ...

    Raises:
      LedgerError: A key serves two segments; noise of one step meets two different states; a step
        was released without a reservation, or beyond the plan's budget.
    """
    summary = Summary()
    for number, entry in enumerate(entries, 1):
        problem = add_entry(summary, entry)
        if problem:
            raise LedgerError(f"{path} line {number}: {problem}. Do not continue this run.")
        summary.head = entry["hash"]
    return summary


def _parse(raw: bytes, path: Path):
    """The entries and the length of what is whole; only the last line may be cut off."""
    entries: list[dict[str, Any]] = []
    previous, size = START, 0
    for number, line in enumerate(raw.split(b"\n")[:-1], 1):
        try:
            entry = json.loads(line)
            whole = entry["previous"] == previous and entry["hash"] == _hash(entry)
        except (ValueError, KeyError, TypeError):
            whole = False
        if not whole:
            raise LedgerError(
                f"{path} line {number} is damaged, or lines before it are missing: what was "
                "released is not known. Restore the file from a backup; do not continue this run."
            )
        entries.append(entry)
        previous, size = entry["hash"], size + len(line) + 1
    return entries, size


def _hash(entry: dict[str, Any]) -> str:
    body = {name: value for name, value in entry.items() if name != "hash"}
    return hashlib.sha256(dumps(body, sort_keys=True).encode()).hexdigest()


def _read(file: int) -> bytes:
    return os.pread(file, os.fstat(file).st_size, 0)
