"""A small training that dies at a chosen point, as if by `kill -9`; for `trustml verify resume`.

    python -m trustml.verify.killed FOLDER POINT COUNT

Runs, or continues, the training in FOLDER; at the COUNT-th time that POINT is reached the process
kills itself. POINT "none" lets it end. The functions at a point are wrapped in this process alone.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import jax.numpy as jnp
import numpy as np
import optax

from trustml.plan import PrivacyPlan
from trustml.training import TrainStep, fit, private_step
from trustml.training.batches import Prefetcher
from trustml.training.runs import checkpoint, ledger, run, secrets

STEPS = 24
STARTED = "training"


def train(folder: Path, callback: Callable = lambda event: None):
    """The training itself: logistic regression, Adam, a checkpoint after every step."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(512, 8)).astype(np.float32)
    units = {"x": x, "y": (x[:, 0] > 0).astype(np.float32)}
    plan = PrivacyPlan(
        clip_norm=1.0, noise_multiplier=1.0, sample_rate=0.125, steps=STEPS, expected_batch=64
    )

    def loss(params, unit):
        score = jnp.dot(unit["x"], params["w"]) + params["b"]
        return jnp.logaddexp(0.0, score) - unit["y"] * score

    return fit(
        private_step(loss, optax.adam(0.1), plan),
        {"w": jnp.zeros(8), "b": jnp.zeros(())},
        units,
        evaluate=lambda params: {"size": float(jnp.abs(params["w"]).sum())},
        callbacks=[callback],
        out=folder,
        resume=True,
        checkpoint_every=0,
        seed=1,
        progress=False,
    )


def die() -> None:
    """Ends the process as `kill -9` does: no handler runs, nothing is flushed."""
    os.kill(os.getpid(), signal.SIGKILL)


def _before(owner: Any, name: str):
    """Dies instead of the COUNT-th call of `owner.name`."""

    @contextlib.contextmanager
    def point(due):
        whole = getattr(owner, name)

        def wrapped(*args, **options):
            if due():
                die()
            return whole(*args, **options)

        with mock.patch.object(owner, name, wrapped):
            yield

    return point


def _after(owner: Any, name: str):
    """Dies after the COUNT-th call of `owner.name`, before its caller goes on."""

    @contextlib.contextmanager
    def point(due):
        whole = getattr(owner, name)

        def wrapped(*args, **options):
            found = whole(*args, **options)
            if due():
                die()
            return found

        with mock.patch.object(owner, name, wrapped):
            yield

    return point


class _Disk:
    """The `os` of the ledger, which writes half of a line and dies, or dies before `fsync`."""

    def __init__(self, due, half: bool):
        self._due, self._half = due, half

    def __getattr__(self, name):
        return getattr(os, name)

    def write(self, file, line):
        if self._half and self._due():
            os.write(file, line[: len(line) // 2])
            die()
        return os.write(file, line)

    def fsync(self, file):
        if not self._half and self._due():
            die()
        os.fsync(file)


def _ledger_disk(half: bool):
    return lambda due: mock.patch.object(ledger, "os", _Disk(due, half))


@contextlib.contextmanager
def _in_storage(due) -> Iterator[None]:
    """Dies while orbax is writing, in its own call."""
    import orbax.checkpoint

    with _before(orbax.checkpoint.StandardCheckpointer, "wait_until_finished")(due):
        yield


POINTS: dict[str, Callable] = {
    "data loading": _before(Prefetcher, "_submit"),
    "before a step": _before(TrainStep, "update"),
    "after a step": _after(TrainStep, "update"),
    "ledger, half a line": _ledger_disk(half=True),
    "ledger, before fsync": _ledger_disk(half=False),
    "ledger, after a line": _after(ledger.Ledger, "append"),
    "checkpoint, while written": _in_storage,
    "checkpoint, not yet in the ledger": _after(checkpoint, "save_checkpoint"),
    "checkpoint, old ones removed": _before(checkpoint, "keep_only"),
    "secrets, just written": _after(secrets, "write_json"),
    "final weights": _after(run, "save_weights"),
    "secrets, before deletion": _before(run, "delete_secrets"),
}


def main(arguments: list[str]) -> int:
    """Runs the training, dying where it is told to."""
    folder, point, count = Path(arguments[0]), arguments[1], int(arguments[2])
    reached = 0

    def due():
        nonlocal reached
        reached += 1
        return reached == count

    def started(event):
        if event.step == 1:
            print(STARTED, flush=True)

    around = POINTS[point](due) if point in POINTS else contextlib.nullcontext()
    with around:
        train(folder, started)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
