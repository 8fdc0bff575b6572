"""Opens a run in a folder: a new one, one to continue, or one that continues under a new key."""

import dataclasses
import datetime
import os
import secrets as random_bytes
import shutil
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from trustml.clipping import combine
from trustml.training.privatizer import MechanismState, kept_of
from trustml.training.runs import checkpoint
from trustml.training.runs.digest import state_digest
from trustml.training.runs.entries import Segment
from trustml.training.runs.environment import conditions, data_fingerprint, difference, machine
from trustml.training.runs.files import write_json
from trustml.training.runs.folder import RunFolder
from trustml.training.runs.ledger import Ledger
from trustml.training.runs.secrets import (
    Secrets,
    delete_secrets,
    load_secrets,
    new_secrets,
    save_secrets,
)
from trustml.training.runs.validation import (
    SCHEMA,
    check_folder,
    check_frozen,
    check_same,
    check_settled,
    check_tail,
    ledger_in,
)
from trustml.training.train_step import TrainState, TrainStep

_TOLERATED = 0.1  # of the plan's steps: a charge beyond this is taken with consent alone


class Opened(NamedTuple):
    """A run's folder, ready to be worked in. Secret."""

    folder: RunFolder
    ledger: Ledger
    state: TrainState
    secrets: Secrets | None  # None once the run has ended
    seconds: float  # of training that earlier processes did
    notes: tuple[str, ...]


def open_run(
    folder: RunFolder,
    step: TrainStep,
    params: PyTree,
    train: PyTree,
    *,
    resume: bool = False,
    seed: int | None = None,
    renew: str | None = None,
    accept_charge: bool = False,
    source: str | None = None,
) -> Opened:
    """Begins a run in a new folder, or goes on with one.

    Args:
      folder: The run's folder.
      step: Of `private_step` or `baseline_step`.
      params: Weights to start from.
      train: The whole data.
      resume: Whether a run that is there may be continued.
      seed: As in `fit`.
      renew: A reason for a new key although the conditions are the same.
      accept_charge: Whether a new key may cost more than a tenth of the plan's steps.
      source: Fingerprint of the data that `train` was taken from; runs compose by it.

    Guarantee:
      The noise of a step meets one state only: a run repeats steps under its key if machine, data,
      plan, program and versions are those they had, and takes a new key and a new charge
      otherwise. Where no step is repeated it keeps its key, on other devices too. Charges never
      exceed the plan's steps.

    Raises:
      FileExistsError: The folder holds a run and `resume` is false.
      ValueError: It holds a run of another plan or other data, or one that cannot be relied on.
      BlockingIOError: Another process works on it.
    """
    check_folder(folder, resume)
    check_settled(step)
    state = step.init(params, key=0)
    opening = _Opening(
        folder=folder,
        step=step,
        seed=seed,
        state=state,
        conditions=conditions(step.program(state, train)),
        data=data_fingerprint(train),
    )
    opening.ledger = ledger_in(folder)
    try:
        if opening.ledger.summary.run:
            opening.go_on(renew, accept_charge)
        else:
            check_tail(folder, opening.ledger.summary)
            opening.begin(source)
    except BaseException:
        opening.ledger.close()
        raise
    key = jnp.zeros_like(state.key) if opening.secrets is None else opening.secrets.key
    opening.state = opening.state._replace(key=jnp.asarray(key))
    if opening.secrets is not None:
        opening.state = step.restore_noise_state(opening.state)
    names = [field.name for field in dataclasses.fields(opening)]
    return Opened(**{name: getattr(opening, name) for name in Opened._fields if name in names})


@dataclasses.dataclass
class _Opening:
    folder: RunFolder
    step: TrainStep
    seed: int | None
    state: TrainState
    conditions: dict[str, str]
    data: str
    ledger: Any = None
    secrets: Secrets | None = None
    seconds: float = 0.0
    notes: tuple[str, ...] = ()

    def begin(self, source: str | None):
        """Writes what a new run is."""
        plan = self.step.plan
        described = {"private_training": self.step.private, "plan": plan.to_dict()}
        write_json(self.folder.plan, described)
        self.ledger.append(
            "run",
            schema=SCHEMA,
            id=random_bytes.token_hex(16),
            time=now(),
            **described,
            reproducible=self.seed is not None,
            plan_fingerprint=plan.fingerprint,
            data=self.data,
            source=source or self.data,
            frozen=self._frozen(),
            private="data, source: who guesses the whole data can confirm the guess by a hash",
        )
        self._new_segment(0, "a new run")

    def go_on(self, renew: str | None, accept_charge: bool):
        """Finds the state, and whether the key may serve on."""
        summary = self.ledger.summary
        check_same(self.folder, summary.run, self.step, self.data)
        check_frozen(self.folder, summary.run, self._frozen())
        check_tail(self.folder, summary)
        at = self._restore(summary) if summary.checkpoints or summary.end else 0
        if summary.end is not None:
            return
        if not summary.segments:
            self._new_segment(0, "a new run")
            return
        segment = summary.segments[-1]
        changed = difference(segment.conditions, self.conditions)
        broken = self._broken(segment, at) + ([renew] if renew else [])
        repeated = segment.stop - at
        if (changed or broken) and self.step.private and not self.step.plan.renewable:
            raise ValueError(
                f"`out` must be continued as it was begun, got {self.folder}, since when these "
                f"changed: {', '.join(changed + broken)}. Steps of this plan's noise and sampling "
                "hang together: no new key can take over. Undo the change, or start a new run."
            )
        if broken or (changed and repeated > 0):
            self._renew(at, repeated, changed + broken, accept_charge)
            return
        self.secrets = load_secrets(self.folder)
        # The noise of the steps to come has met no state yet, so it may serve under any conditions.
        fields = {"conditions": self.conditions} if changed else {}
        self.ledger.append("open", time=now(), process=os.getpid(), **fields)
        again = f"; {_steps(repeated)} repeated, as the same releases" if repeated > 0 else ""
        other = f"; nothing is repeated, and these changed: {', '.join(changed)}" if changed else ""
        self.notes += (f"continues at step {at} of {self.step.plan.steps}{again}{other}",)

    def _restore(self, summary) -> int:
        params = self.state.params
        like = kept_of(self.step.trained(params), self.state)
        folder = self.folder.checkpoints
        entries = summary.checkpoints
        if summary.end is not None:
            entries = [entry for entry in entries if entry["step"] == summary.end["step"]]
            if not summary.end["kept"]:
                delete_secrets(self.folder)  # where a process died between the end and this
                shutil.rmtree(folder, ignore_errors=True)
                raise ValueError(
                    f"`out` must hold a run to continue, got {self.folder}, which ended and whose "
                    "weights were not kept. Start a new run elsewhere."
                )
        entry, tree, damaged = checkpoint.restore_checkpoint(folder, entries, like)
        if damaged:
            self.notes += (f"checkpoint {damaged[0]} is damaged; an older one takes its place",)
        self.seconds = entry["seconds"]
        params = combine(tree["params"], self.step.frozen(params))
        at = jnp.asarray(entry["step"], jnp.int32)
        self.state = self.state._replace(params=params, opt_state=tree["opt_state"], step=at)
        if "clip" in tree:
            mechanism = MechanismState(tree["clip"])  # a plan whose bounds adapt carries no noise
            self.state = self.state._replace(mechanism=mechanism)
        return entry["step"]

    def _broken(self, segment: Segment, at: int) -> list[str]:
        """Why the key may not serve on, whatever the conditions."""
        changed = []
        if segment.place != self._place():
            changed.append("the folder (it was copied or moved, or the machine changed)")
        found = load_secrets(self.folder)
        if found is None or found.fingerprint != segment.key:
            changed.append("its keys (they are gone)")
        if at < segment.since:
            changed.append("the checkpoint (the newer one is damaged)")
        return changed

    def _renew(self, at: int, twice: int, changed: list[str], accept_charge: bool):
        steps, words = self.step.plan.steps, ", ".join(changed)
        cost = f"{_steps(twice)} charged twice, and the run ends as many earlier"
        if not self.step.private:
            twice = 0
        lost = self.ledger.summary.charged - at if self.step.private else 0  # by earlier keys too
        if lost > _TOLERATED * steps and not accept_charge:
            raise ValueError(
                f"`out` must be continued as it was begun, got {self.folder}, since when these "
                f"changed: {words}. With a new key {cost}. Undo the change, which costs nothing, "
                "or accept that by `accept_charge`."
            )
        self._new_segment(at, f"changed: {words}")
        note = f"continues at step {at} of {steps} with a new key, because these changed: {words}"
        self.notes += (f"{note}; {cost}" if twice else note,)

    def _new_segment(self, start: int, reason: str):
        number = len(self.ledger.summary.segments)
        # A run that was begun without a seed says so for good: no seed may enter it later.
        seed = self.seed if self.ledger.summary.run["reproducible"] else None
        self.secrets = new_secrets(seed, number)
        # On disk before the ledger names them: a key that is named but lost costs a new charge.
        save_secrets(self.folder, self.secrets)
        self.ledger.append(
            "segment",
            number=number,
            time=now(),
            key=self.secrets.fingerprint,
            start=start,
            reason=reason,
            conditions=self.conditions,
            place=self._place(),
        )

    def _frozen(self) -> str | None:
        """A digest of the weights that are not trained, which checkpoints do not hold."""
        frozen = self.step.frozen(self.state.params)
        return state_digest(frozen) if jax.tree.leaves(frozen) else None

    def _place(self) -> str:
        return f"{machine()}:{self.ledger.place()}"


def _steps(number: int) -> str:
    return "1 step is" if number == 1 else f"{number} steps are"


def now() -> str:
    """The time, as ledgers write it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
