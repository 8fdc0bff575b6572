"""A training in a folder: its ledger before each release, its checkpoints after some.

`RunFolder` says which file holds what.
"""

import contextlib
import shutil
import time

import jax.numpy as jnp
from jaxtyping import PyTree

from trustml.plan.charges import Charge
from trustml.training.privatizer import kept_of
from trustml.training.runs import checkpoint
from trustml.training.runs.digest import state_digest
from trustml.training.runs.resume import Opened, now
from trustml.training.runs.secrets import delete_secrets
from trustml.training.runs.weights import save_weights
from trustml.training.train_step import TrainState, TrainStep

_RESERVED_SECONDS = 1.0  # a crash on another machine costs at most about these steps


class ReplayDiffers(RuntimeError):
    """A repeated step met another state than before: the same noise must not serve it."""


class MemoryRun:
    """A training that leaves nothing behind."""

    def __init__(self, step: TrainStep, params: PyTree, seed: int | None):
        self.first, self.last = 0, step.plan.steps
        self.charged_before, self.notes = 0, ()
        self.reproducible = seed is not None
        self.state = step.init(params, key=seed)
        self.sampler = step.plan.sampler(seed)
        self._began, self._done = time.monotonic(), 0

    ended, stopped = False, ""

    charges = ()  # nothing is released beside it

    @property
    def charged(self) -> int:
        """Releases so far."""
        return self._done

    @property
    def seconds(self) -> float:
        """Time spent training."""
        return time.monotonic() - self._began

    def before(self, number: int, state: TrainState) -> None:
        """To be called before step `number` is carried out."""
        del state
        self._done = number + 1

    def after(self, state: TrainState, record) -> None:
        """To be called after each step."""

    def suspend(self, state: TrainState, record) -> None:
        """To be called when the loop is left before its end."""

    def finish(self, state: TrainState, record, reason: str) -> TrainState:
        """To be called after the last step; returns the state to hand out."""
        del record, reason
        return state

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


class FolderRun:
    """A training in a folder, new or continued; see the module.

    Args:
      opened: What it starts from, and the open ledger; closed with the run.
      step: What is trained.
      checkpoint_every: Seconds between checkpoints, at least.
      keep: Whether weights and the last checkpoint stay after the end.

    Guarantee:
      A step is carried out only after the ledger on disk counts it.
    """

    def __init__(self, opened: Opened, step: TrainStep, *, checkpoint_every: float, keep: bool):
        self._ledger, self._folder = opened.ledger, opened.folder
        self._every, self._keep = checkpoint_every, keep
        self._trained = step.trained
        self._earlier, self.notes = opened.seconds, opened.notes
        covered = "covered by the plan's promise" if step.private else "a private quantity"
        self._facts = {"privacy": covered}
        summary = self._ledger.summary
        self.state, self.ended = opened.state, summary.end is not None
        self.reproducible = summary.run["reproducible"]
        self.first = int(self.state.step)
        self.last = self.first if self.ended else summary.last_step
        self.charged_before = summary.charged - (summary.segments[-1].stop - self.first)
        self._reserved = self._begun = self.first
        # Before this step all is repetition: nothing of it is kept until its end was verified.
        self._floor = summary.floor
        self._saved = self.first if summary.checkpoints else 0
        self._whole = True  # the state and all its records are those after `_begun` steps
        self._began = self._marked = time.monotonic()
        self._marked_step, self._window = self.first, 1
        self._due = self._began + self._every
        if opened.secrets is None:
            delete_secrets(self._folder)  # where a process died between the end and their deletion
        else:
            self.sampler = step.plan.sampler(opened.secrets.sampler)

    @property
    def charged(self) -> int:
        """Releases that count against the budget."""
        return self._ledger.summary.charged

    @property
    def charges(self) -> tuple[Charge, ...]:
        """What was released beside the training, before it."""
        return tuple(self._ledger.summary.charges)

    @property
    def stopped(self) -> str:
        """How the run ended, empty while it lasts."""
        end = self._ledger.summary.end
        return end["reason"] if end else ""

    @property
    def seconds(self) -> float:
        """Time spent training, earlier processes included as far as their work was kept."""
        return self._earlier + (0.0 if self.ended else time.monotonic() - self._began)

    def before(self, number: int, state: TrainState) -> None:
        """Returns when the ledger on disk counts step `number`; `state` is the one it starts from.

        Raises:
          ReplayDiffers: The step was released before, from another state.
          OSError: The ledger cannot be written; the step must not be carried out.
        """
        known = self._ledger.summary.segments[-1].digests.get(number)
        if number >= self._reserved or known is not None:
            clip = None if state.mechanism is None else state.mechanism.clip
            digest = state_digest((state.params, state.opt_state, clip))
            if known not in (None, digest):
                raise ReplayDiffers(f"step {number} was repeated and did not give the same bits")
            if number >= self._reserved:
                self._reserve(number, digest)
        self._begun, self._whole = number + 1, False

    def _reserve(self, number: int, digest: str) -> None:
        window = self._next_window(number)
        stop = min(number - number % window + window, self.last)
        self._ledger.append("reserve", start=number, stop=stop, state=digest)
        self._reserved = stop

    def _next_window(self, number: int) -> int:
        """Steps of about a second, a power of two, so that a repeated run reserves alike."""
        clock = time.monotonic()
        if number > self._marked_step:
            each = (clock - self._marked) / (number - self._marked_step)
            wanted = max(_RESERVED_SECONDS, 1e-3 * (clock - self._began)) / max(each, 1e-6)
            while self._window > max(1.0, wanted):
                self._window //= 2
            if 2 * self._window <= wanted:
                self._window *= 2
        self._marked, self._marked_step = clock, number
        return self._window

    def after(self, state: TrainState, record) -> None:
        """Notes that a step was carried out, and writes a checkpoint when one is due."""
        self._whole = True
        if time.monotonic() >= self._due and self._begun >= self._floor:
            self.checkpoint(state, record)

    def checkpoint(self, state: TrainState, record) -> None:
        """Writes a checkpoint and tells the ledger."""
        began, number = time.monotonic(), int(state.step)
        record.sync()
        folder = self._folder.checkpoints
        tree = kept_of(self._trained(state.params), state)
        found = checkpoint.save_checkpoint(folder, number, tree, self._facts)
        self._ledger.append("checkpoint", step=number, files=found, seconds=round(self.seconds, 3))
        checkpoint.keep_only(folder, self._ledger.summary.checkpoints)
        ended, self._saved = time.monotonic(), number
        self._due = ended + (self._every and max(self._every, 20 * (ended - began)))

    def suspend(self, state: TrainState, record) -> None:
        """Saves what can be saved; whatever fails, the last checkpoint stands."""
        with contextlib.suppress(Exception):
            record.sync()
        with contextlib.suppress(Exception):
            # Left within a step, its state may be gone and its metrics not recorded.
            if self._whole and int(state.step) > max(self._saved, self._floor - 1):
                self.checkpoint(state, record)
        with contextlib.suppress(Exception):
            self._ledger.append("settle", stop=self._begun)

    def finish(self, state: TrainState, record, reason: str) -> TrainState:
        """Writes the weights, ends the ledger, deletes the secrets; returns the state, keyless."""
        record.sync()
        weights = None
        if self._begun < self._ledger.summary.segments[-1].stop:
            self._ledger.append("settle", stop=self._begun)
        if self._keep:
            if int(state.step) != self._saved:
                self.checkpoint(state, record)
            weights = save_weights(self._folder.weights, state.params, self._facts)
        summary = self._ledger.summary
        self._ledger.append(
            "end",
            step=int(state.step),
            charged=summary.charged,
            reason=reason,
            time=now(),
            seconds=round(self.seconds, 3),
            kept=self._keep,
            weights=weights,
        )
        delete_secrets(self._folder)
        if not self._keep:
            shutil.rmtree(self._folder.checkpoints, ignore_errors=True)
        return state._replace(key=jnp.zeros_like(state.key))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._ledger.close()
