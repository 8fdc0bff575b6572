"""Metrics in memory, in a file, and for loggers. Every line is marked private."""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from trustml.strict_json import dumps, with_reasons, without_reasons
from trustml.training.runs.files import write_text

Logger = Callable[[int, dict[str, float]], None]


class MetricsLogger:
    """The metrics and evaluations of a run, written as they come.

    Args:
      path: A file of JSON lines, or None for none. Lines of steps after `first` are dropped: they
        are about to be repeated.
      first: Steps done before.
      loggers: Told of every entry, some steps late.
    """

    _PENDING = 16  # fetched together: asking for each step's metrics would wait for the device

    def __init__(self, path: Path | None, first: int, loggers: Iterable[Logger]):
        self.history: list[dict[str, Any]] = []
        self._pending: list = []
        self._file, self._loggers = None, tuple(loggers)
        if path is None:
            return
        found = path.read_text(errors="replace") if path.exists() else None
        if found is not None:
            self.history = [entry for entry in read_lines(path) if entry["step"] <= first]
        kept = "".join(map(_line, self.history))
        if kept != found:
            write_text(path, kept)
        self._file = path.open("a")

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        """The entries that evaluations gave, in order."""
        return [entry for entry in self.history if entry.get("evaluation")]

    def step(self, done: int, metrics) -> dict[str, Any] | None:
        """Takes the metrics of a step; now and then gives back the latest that is at hand."""
        self._pending.append((done, metrics._replace(aux=None)))
        return self.flush() if len(self._pending) >= self._PENDING else None

    def evaluation(self, done: int, numbers: dict[str, Any]) -> dict[str, Any]:
        """Takes the result of an evaluation."""
        self.flush()
        named = {name: float(value) for name, value in numbers.items()}
        return self._write({"step": done, "evaluation": True, **named})

    def flush(self) -> dict[str, Any] | None:
        """Fetches what is pending; returns the last entry."""
        fetched = jax.device_get(self._pending)
        last = None
        for done, metrics in fetched:
            self._pending.pop(0)  # one by one: a logger may fail, and the others are still due
            named = zip(metrics._fields, metrics, strict=True)
            values = {name: _plain(value) for name, value in named if value is not None}
            last = self._write({"step": done, **values})
        return last

    def sync(self) -> None:
        """Brings all entries to disk."""
        self.flush()
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())

    def _write(self, entry):
        entry = {**entry, "private": True}
        self.history.append(entry)
        if self._file is not None:
            self._file.write(_line(entry))
            self._file.flush()
        for log in self._loggers:
            log(entry["step"], _numbers(entry))
        return entry

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                self.flush()
        finally:
            if self._file is not None:
                self._file.close()


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file of JSON lines; one that a crash cut off is left out.

    A number that was not finite is one again, where the file says null and why.
    """
    entries = []
    for line in path.read_text(errors="replace").split("\n")[:-1]:
        try:
            entries.append(without_reasons(json.loads(line)))
        except ValueError:
            break
    return entries


def _line(entry) -> str:
    return dumps(with_reasons(entry)) + "\n"


def _numbers(entry) -> dict[str, float]:
    """For loggers: private quantities say so in their names."""
    return {
        f"private/{name}": float(value)
        for name, value in entry.items()
        if name != "step" and not isinstance(value, bool)
    }


def _plain(value):
    return int(value) if np.issubdtype(np.asarray(value).dtype, np.integer) else float(value)
