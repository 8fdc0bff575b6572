"""Does a run survive `kill -9`? Runs are killed at chosen and at random points, and continued."""

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from trustml.training import read_ledger, summarize
from trustml.training.runs.folder import RunFolder
from trustml.verify.killed import POINTS, STARTED, STEPS

_COMMAND = "import sys; from trustml.verify.killed import main; sys.exit(main(sys.argv[1:]))"
_SIGNAL = "a signal at a random time"
# How often each point is reached in a run, at least; the times are drawn from these.
_TIMES = {
    "secrets, just written": 1,
    "final weights": 1,
    "secrets, before deletion": 1,
    "ledger, half a line": 40,
    "ledger, before fsync": 40,
    "ledger, after a line": 40,
}


class Survival(NamedTuple):
    """One run that was killed and continued."""

    point: str
    times: int  # the time at which the point was reached that killed it; seconds for a signal
    steps_before: int  # steps in the ledger when it died
    identical: bool  # weights and metrics are, bit for bit, those of a run that was not killed
    charged: int  # steps in the ledger at the end
    segments: int  # keys used
    secrets_left: bool

    @property
    def holds(self) -> bool:
        """Whether the run ended as if nothing had happened, each step charged once."""
        return (
            self.identical
            and self.charged == STEPS
            and self.segments == 1
            and not self.secrets_left
        )


def survivals(kills: int = 20, *, seed: int = 0) -> Iterator[Survival]:
    """Kills one run after another, each in a folder of its own, and continues it.

    Args:
      kills: How many, at least one at each point and then at random ones.
      seed: Of the points and times.
    """
    draw = random.Random(seed)
    order = [_SIGNAL, *POINTS]
    points = (order * (1 + kills // len(order)))[:kills]
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        _run(base, base / "whole", "none", 1)
        for number, point in enumerate(points):
            count = draw.randint(1, _TIMES.get(point, STEPS - 1))
            yield _survive(base, base / f"killed-{number}", point, count, draw)


def _survive(base: Path, folder: Path, point: str, count: int, draw) -> Survival:
    _run(base, folder, point, count, draw.uniform(0.0, 1.0) if point == _SIGNAL else None)
    before = _charged(folder)
    _run(base, folder, "none", 1)
    summary = summarize(read_ledger(folder))
    return Survival(
        point,
        count,
        before,
        _same(base / "whole", folder),
        summary.charged,
        len(summary.segments),
        RunFolder(folder).secret.exists(),
    )


def _run(base: Path, folder: Path, point: str, count: int, seconds: float | None = None) -> None:
    """Waits for one process; kills it after so many seconds of training where they are given."""
    environment = {
        "JAX_COMPILATION_CACHE_DIR": str(base / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        **os.environ,
    }
    command = [sys.executable, "-c", _COMMAND, str(folder), point, str(count)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as child:
        if seconds is not None and child.stdout is not None:
            if child.stdout.readline().strip() == STARTED.encode():
                time.sleep(seconds)
            child.kill()
        child.communicate()


def _charged(folder: Path) -> int:
    """Steps in the ledger of a run that died; a line cut off by its death does not count."""
    path = RunFolder(folder).ledger
    if not path.exists() or b"\n" not in path.read_bytes():
        return 0
    return summarize(read_ledger(folder)).charged


def _same(one: Path, other: Path) -> bool:
    files = [(run.weights, run.metrics) for run in map(RunFolder, (one, other))]
    return all(a.read_bytes() == b.read_bytes() for a, b in zip(*files, strict=True))
