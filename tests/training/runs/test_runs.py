"""Runs in folders: interrupted, killed, continued, refused; and what they leave behind."""

import contextlib
import errno
import functools
import json
import os
import re
import shutil
import stat
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
import pytest

import trustml
from trustml.training import (
    LedgerError,
    StepMetrics,
    load_weights,
    patience,
    read_ledger,
    save_weights,
    summarize,
)
from trustml.training.runs import resume, run, secrets, validation
from trustml.training.runs.checkpoint import (
    CheckpointError,
    restore_checkpoint,
    save_checkpoint,
)
from trustml.training.runs.digest import state_digest
from trustml.training.runs.folder import RunFolder
from trustml.training.runs.ledger import Ledger
from trustml.training.runs.metrics_log import MetricsLogger, read_lines
from trustml.training.runs.run import FolderRun
from trustml.training.runs.secrets import Secrets, load_secrets, new_secrets
from trustml.verify import killed
from trustml.verify.resume import survivals

UNITS, STEPS, CUT = 60, 20, 5


def plan(**changes):
    fields = {
        "clip_norm": 0.5,
        "noise_multiplier": 2.0,
        "sample_rate": 0.2,
        "steps": STEPS,
        "expected_batch": 12,
    }
    return trustml.PrivacyPlan(**{**fields, **changes})


def data(seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(UNITS, 3)).astype(dtype)
    return {"x": x, "y": (x @ np.array([1.0, -2.0, 0.5], dtype)).astype(dtype)}


def params():
    return {"w": jnp.zeros(3), "b": jnp.zeros(())}


def loss(params, unit):
    return 0.5 * (jnp.dot(unit["x"], params["w"]) + params["b"] - unit["y"]) ** 2


def other_loss(params, unit):
    return 0.5 * jnp.abs(jnp.dot(unit["x"], params["w"]) + params["b"] - unit["y"])


@functools.cache  # one program for the whole file
def private_step(loss=loss, rate=0.1, **options):
    return trustml.private_step(loss, optax.adam(rate), plan(), **options)


@functools.cache
def baseline_step():
    return trustml.baseline_step(loss, optax.adam(0.1), plan())


def size(weights):
    return {"size": float(jnp.abs(weights["w"]).sum())}


def train(folder, *, step=None, start=None, units=None, **options):
    """The training of this file: continued where there is one; a checkpoint after every step."""
    settings = {
        "evaluate": size,
        "evaluate_every": 5,
        "resume": True,
        "checkpoint_every": 0,
        "seed": 1,
        "progress": False,
    }
    return trustml.fit(
        step or private_step(),
        params() if start is None else start,
        data() if units is None else units,
        out=folder,
        **{**settings, **options},
    )


class Stopped(RuntimeError):
    """What ends a run in these tests."""


def stop_at(step, error=Stopped):
    def callback(event):
        if event.step == step:
            raise error("here")

    return callback


def end_here(*_):
    raise Stopped


def interrupted(folder, at=CUT, error=Stopped, **options):
    """A run whose process was ended after step `at`, and could still tell its ledger."""
    with pytest.raises(error):
        train(folder, callbacks=[stop_at(at, error)], **options)
    return folder


def summary_of(folder):
    return summarize(read_ledger(folder))


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def outcome(folder):
    return [(folder / name).read_bytes() for name in ("weights.safetensors", "metrics.jsonl")]


def assert_as_if_never_ended(folder, result, whole):
    """Bit for bit what a run gives that was not interrupted; each step is paid once."""
    assert outcome(folder) == outcome(whole[0])
    assert result.history == whole[1].history
    for name, leaf in result.params.items():
        np.testing.assert_array_equal(leaf, whole[1].params[name])
    assert (result.charged, result.stopped) == (STEPS, "complete")
    assert len(summary_of(folder).segments) == 1
    assert not (folder / "secret").exists()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was never interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return folder, train(folder, resume=False, checkpoint_every=60)


@pytest.fixture
def cut(tmp_path):
    """A run that was interrupted; its last step has to be repeated."""
    return interrupted(tmp_path / "run")


# --- Interrupted and continued ---


def failing_evaluation(calls):
    def evaluate(weights):
        calls.append(0)
        if len(calls) == 2:
            raise Stopped
        return size(weights)

    return evaluate


def failing_logger(step, numbers):
    if step == 7:
        raise Stopped


INTERRUPTS = {
    "an error in a callback": lambda: {"callbacks": [stop_at(CUT)]},
    "control-C": lambda: {"callbacks": [stop_at(CUT, KeyboardInterrupt)]},
    "in the first step": lambda: {"callbacks": [stop_at(1)]},
    "in the last step": lambda: {"callbacks": [stop_at(STEPS)]},
    "an error in an evaluation": lambda: {"evaluate": failing_evaluation([])},
    "an error in a logger": lambda: {"loggers": [failing_logger]},
}


@pytest.mark.parametrize("every", [0, 60])
@pytest.mark.parametrize("interrupt", INTERRUPTS)
def test_an_interrupted_run_ends_as_if_it_had_not_been(interrupt, every, tmp_path, whole, request):
    if interrupt == "control-C":
        request.getfixturevalue("orbax_storage")
    with pytest.raises((Stopped, KeyboardInterrupt)):
        train(tmp_path / "run", checkpoint_every=every, **INTERRUPTS[interrupt]())
    result = train(tmp_path / "run", checkpoint_every=60)
    assert_as_if_never_ended(tmp_path / "run", result, whole)


@pytest.mark.parametrize("every", [0, 60])
def test_the_ledger_of_an_interrupted_run_counts_the_steps_that_were_done(every, tmp_path):
    folder = interrupted(tmp_path / "run", checkpoint_every=every)
    assert summary_of(folder).charged == CUT
    assert read_ledger(folder)[-1]["entry"] == "settle"
    lines = [entry["step"] for entry in read_lines(folder / "metrics.jsonl") if "loss" in entry]
    assert lines == list(range(1, CUT + 1))
    folder = interrupted(folder, at=CUT + 2, checkpoint_every=every)
    assert summary_of(folder).charged == CUT + 2


def test_an_error_between_steps_keeps_the_last_state(tmp_path, monkeypatch, whole):
    draw = trustml.sampling.Sampler.draw

    def failing(self, step):
        if step == CUT:
            raise Stopped
        return draw(self, step)

    monkeypatch.setattr(trustml.sampling.Sampler, "draw", failing)
    with pytest.raises(Stopped):
        train(tmp_path / "run", checkpoint_every=60)
    monkeypatch.undo()
    assert [each["step"] for each in summary_of(tmp_path / "run").checkpoints] == [CUT]
    result = train(tmp_path / "run")
    assert result.notes == (f"continues at step {CUT} of {STEPS}",)
    assert_as_if_never_ended(tmp_path / "run", result, whole)


def test_a_pause_repeats_nothing(tmp_path, whole):
    seen = []
    with pytest.raises(KeyboardInterrupt):
        train(
            tmp_path / "run",
            callbacks=[lambda event: seen.append(event.step)],
            pause=lambda: len(seen) == 7,
        )
    assert summarize(read_ledger(tmp_path / "run")).charged == 7
    result = train(tmp_path / "run", callbacks=[lambda event: seen.append(event.step)])
    assert seen == list(range(1, STEPS + 1))
    assert_as_if_never_ended(tmp_path / "run", result, whole)


def test_a_run_may_be_interrupted_many_times(tmp_path, whole):
    for at in (2, 3, 9):
        interrupted(tmp_path / "run", at=at, error=KeyboardInterrupt)
    seen = []
    result = train(tmp_path / "run", callbacks=[lambda event: seen.append(event.step)])
    assert seen == list(range(9, STEPS + 1))
    assert_as_if_never_ended(tmp_path / "run", result, whole)


def test_notes_and_seconds_tell_of_the_earlier_process(cut):
    before = summary_of(cut).checkpoints[-1]["seconds"]
    shown = train(cut)
    assert shown.notes == (
        f"continues at step {CUT - 1} of {STEPS}; 1 step is repeated, as the same releases",
    )
    assert shown.seconds > before > 0
    assert read_ledger(cut)[-1]["seconds"] == pytest.approx(shown.seconds, abs=0.5)


def test_without_a_seed_a_continued_run_keeps_its_key(tmp_path):
    folder = interrupted(tmp_path / "run", seed=None)
    before = load_secrets(RunFolder(folder))
    kept = []
    result = train(
        folder,
        seed=None,
        callbacks=[lambda event: kept.append(load_secrets(RunFolder(folder)) == before)],
    )
    assert all(kept)
    assert [segment.key for segment in summary_of(folder).segments] == [before.fingerprint]
    assert (result.charged, result.reproducible) == (STEPS, False)
    assert len([entry for entry in result.history if "loss" in entry]) == STEPS


@pytest.mark.usefixtures("orbax_storage")
def test_checkpoints_hold_what_is_trained_and_frozen_weights_must_be_those_of_before(tmp_path):
    start = {"w": jnp.zeros(3), "b": jnp.ones(())}
    step = private_step(trainable=lambda name: name == "w")
    with contextlib.suppress(Stopped):
        train(tmp_path, step=step, start=start, callbacks=[stop_at(CUT)])
    place = max((tmp_path / "checkpoints").iterdir())
    with orbax.checkpoint.StandardCheckpointer() as reader:
        held = reader.metadata(place.absolute()).item_metadata.tree
    assert "params/w" in held
    assert "params/b" not in held
    with pytest.raises(ValueError, match="`params` must hold the frozen weights"):
        train(tmp_path, step=step, start={**start, "b": 2 * jnp.ones(())}, resume=True)
    result = train(tmp_path, step=step, start=start, resume=True)
    assert float(result.params["b"]) == 1.0
    assert float(jnp.abs(result.params["w"]).max()) > 0
    saved = load_weights(tmp_path / "weights.safetensors", start)
    np.testing.assert_array_equal(saved["w"], result.params["w"])


def test_a_finished_run_is_handed_back_and_nothing_written(tmp_path, whole):
    folder = tmp_path / "copy"
    shutil.copytree(whole[0], folder)
    before = files(folder)
    result = train(folder, callbacks=[stop_at(1)], loggers=[failing_logger])
    assert files(folder) == before
    assert_as_if_never_ended(folder, result, whole)
    assert int(result.state.step) == STEPS
    assert not np.any(result.state.key)


def test_a_finished_run_whose_weights_are_damaged_hands_back_no_older_ones(tmp_path):
    train(tmp_path)
    damage(newest(tmp_path))
    with pytest.raises(CheckpointError, match=f"{STEPS:08d} is damaged"):
        train(tmp_path)


def test_a_run_may_be_resumed_before_it_begins(tmp_path, whole):
    result = train(tmp_path / "some" / "new" / "folder", checkpoint_every=60)
    assert result.notes == ()
    assert_as_if_never_ended(tmp_path / "some" / "new" / "folder", result, whole)


# --- Killed ---


class Died(BaseException):
    """A kill that the test survives."""


def die():
    raise Died


@pytest.fixture
def deaths(monkeypatch):
    """Inside, a run ends without being able to tell its ledger."""
    monkeypatch.setattr(killed, "die", die)
    monkeypatch.setattr(FolderRun, "suspend", lambda self, state, record: None)
    yield
    monkeypatch.undo()


LEFT = ["ledger.jsonl", "metrics.jsonl", "plan.json"]  # of a run that keeps no weights
ONCE = ("secrets, just written", "final weights", "secrets, before deletion")


@pytest.mark.parametrize("point", killed.POINTS)
def test_a_run_that_died_anywhere_ends_as_if_it_had_not(point, tmp_path, deaths, whole, request):
    if "checkpoint" in point:
        request.getfixturevalue("orbax_storage")
    for count in (1,) if point in ONCE else (1, 2, 5):
        reached = iter(range(1, 10**6))
        with (
            killed.POINTS[point](lambda at=reached, last=count: next(at) == last),
            contextlib.suppress(Died),
        ):
            train(tmp_path / "run")
            pytest.fail("nothing died")
    result = train(tmp_path / "run", checkpoint_every=60)
    assert_as_if_never_ended(tmp_path / "run", result, whole)


@pytest.mark.slow
def test_runs_survive_kill_9():
    found = list(survivals(4))
    assert [each for each in found if not each.holds] == []
    assert len({each.point for each in found}) == 4


# --- A new key and a new charge ---


def conditions_with(**changes):
    whole = resume.conditions
    return lambda program: {**whole(program), **changes}


CHANGES = {
    "loss": ({"step": lambda: private_step(other_loss)}, {}, r"the training step \(loss,"),
    "optimizer": ({"step": lambda: private_step(rate=0.2)}, {}, "the training step"),
    "strategy": ({"step": lambda: private_step(strategy="vmap")}, {}, "the training step"),
    "micro-batch": ({"step": lambda: private_step(physical_batch_size=5)}, {}, "the training step"),
    "flags": ({}, {"XLA_FLAGS": "--fast"}, r"XLA_FLAGS \(none before, --fast now\)"),
    "version": ({}, {"jaxlib": "9.9"}, r"jaxlib \(.* before, 9.9 now\)"),
    "cores": ({}, {"cores": "96"}, r"cores \(.* before, 96 now\)"),
}


def assert_renewed(folder, result, twice=1):
    """A second key, `twice` steps paid twice, and the run ends that many earlier."""
    summary = summary_of(folder)
    assert len({segment.key for segment in summary.segments}) == len(summary.segments) > 1
    assert result.charged == summary.charged == STEPS
    assert (result.stopped, summary.end["reason"]) == ("budget spent", "budget spent")
    assert int(result.state.step) == STEPS - twice
    cost = "1 step is" if twice == 1 else f"{twice} steps are"
    assert f"{cost} charged twice, and the run ends as many earlier" in str(result.notes)
    done = [entry["step"] for entry in result.history if "loss" in entry]
    assert done == list(range(1, STEPS - twice + 1))
    assert result.history[-1]["step"] == STEPS - twice  # the last step is evaluated
    assert "evaluation" in result.history[-1]


@pytest.mark.parametrize("seed", [pytest.param(1, marks=pytest.mark.slow), None])
@pytest.mark.parametrize("change", CHANGES)
def test_other_conditions_take_a_new_key_and_a_new_charge(
    change, seed, tmp_path, monkeypatch, whole
):
    options, changed, words = CHANGES[change]
    folder = interrupted(tmp_path / "run", seed=seed)
    if changed:
        monkeypatch.setattr(resume, "conditions", conditions_with(**changed))
    options = {name: make() for name, make in options.items()}
    result = train(folder, seed=seed, checkpoint_every=60, **options)
    assert_renewed(folder, result)
    assert_note(result, words)
    assert outcome(folder) != outcome(whole[0])


def assert_note(result, words):
    assert re.search(f"with a new key, because these changed: .*{words}", result.notes[-1])


def test_a_copy_of_a_run_takes_a_new_key_and_the_original_goes_on(cut, tmp_path, whole):
    shutil.copytree(cut, tmp_path / "copy")
    copied = train(tmp_path / "copy", checkpoint_every=60)
    assert_renewed(tmp_path / "copy", copied)
    assert_note(copied, r"the folder \(it was copied or moved")
    assert_as_if_never_ended(cut, train(cut, checkpoint_every=60), whole)


@pytest.mark.parametrize("lost", ["the folder", "half of the file", "a digit"])
def test_lost_keys_are_replaced(cut, lost):
    path = cut / "secret" / "keys.json"
    text = path.read_text()
    if lost == "the folder":
        shutil.rmtree(cut / "secret")
    elif lost == "half of the file":
        path.write_text(text[: len(text) // 2])
    else:
        digit = load_secrets(RunFolder(cut)).noise.hex()[0]
        path.write_text(text.replace(f'"noise": "{digit}', f'"noise": "{9 - int(digit, 16) % 9}'))
    result = train(cut, checkpoint_every=60)
    assert_renewed(cut, result)
    assert_note(result, r"its keys \(they are gone\)")


def test_a_checkpoint_from_before_the_key_takes_another_key(cut, monkeypatch):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resume, "conditions", conditions_with(cores="96"))
        interrupted(cut, at=CUT, checkpoint_every=60)
        damage(newest(cut))
        result = train(cut, checkpoint_every=60, accept_charge=True)
    assert_note(result, "the checkpoint")
    assert [segment.start for segment in summary_of(cut).segments] == [0, CUT - 1, CUT - 2]
    assert "is damaged; an older one takes its place" in result.notes[0]
    assert result.charged == STEPS
    assert len({segment.key for segment in summary_of(cut).segments}) == 3
    assert int(result.state.step) == STEPS - 3  # steps 3, 4 and 4 again


def paused(folder, at, **options):
    """A run left between two steps."""
    asked = iter(range(1, STEPS + 1))
    with pytest.raises(KeyboardInterrupt):
        train(folder, pause=lambda: next(asked) == at, **options)
    return folder


def test_other_conditions_keep_the_key_where_no_step_is_repeated(tmp_path, monkeypatch, whole):
    folder = paused(tmp_path / "run", CUT)
    monkeypatch.setattr(resume, "conditions", conditions_with(cores="96"))
    result = train(folder, checkpoint_every=60)
    assert "nothing is repeated, and these changed: cores" in result.notes[-1]
    assert_as_if_never_ended(folder, result, whole)
    (segment,) = summary_of(folder).segments
    assert segment.conditions["cores"] == "96"
    assert segment.since == CUT


def test_a_checkpoint_from_before_other_conditions_takes_another_key(tmp_path, monkeypatch):
    """Under the key lie steps of both conditions: those before the change cannot be repeated."""
    folder = paused(tmp_path / "run", CUT)
    monkeypatch.setattr(resume, "conditions", conditions_with(cores="96"))
    interrupted(folder, at=CUT + 1, checkpoint_every=60)
    damage(newest(folder))
    result = train(folder, checkpoint_every=60, accept_charge=True)
    assert_note(result, "the checkpoint")
    assert len(summary_of(folder).segments) == 2


@pytest.fixture
def dear(tmp_path):
    """An interrupted run without a checkpoint: a new key would cost all its steps again."""
    return interrupted(tmp_path / "run", checkpoint_every=60)


def test_a_charge_beyond_a_tenth_is_refused_and_undoing_the_change_is_free(dear, whole):
    before = files(dear)
    with pytest.raises(ValueError, match=r"`out` must be continued as it was begun") as caught:
        train(dear, step=private_step(other_loss))
    assert "5 steps are charged twice, and the run ends as many earlier" in str(caught.value)
    assert "the training step" in str(caught.value)
    assert "`accept_charge`" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert files(dear) == before
    assert_as_if_never_ended(dear, train(dear, checkpoint_every=60), whole)


def test_a_charge_beyond_a_tenth_may_be_accepted(dear):
    other = private_step(other_loss)
    result = train(dear, step=other, checkpoint_every=60, accept_charge=True)
    assert_renewed(dear, result, twice=CUT)


def test_a_charge_of_a_tenth_is_accepted_unasked(tmp_path):
    interrupted(tmp_path, at=STEPS // 10, checkpoint_every=60)
    result = train(tmp_path, step=private_step(other_loss), checkpoint_every=60)
    assert_renewed(tmp_path, result, twice=STEPS // 10)


def test_a_baseline_has_nothing_to_charge(tmp_path, monkeypatch):
    interrupted(tmp_path, checkpoint_every=60, step=baseline_step())
    monkeypatch.setattr(resume, "conditions", conditions_with(cores="96"))
    result = train(tmp_path, step=baseline_step())
    assert (result.stopped, int(result.state.step)) == ("complete", STEPS)
    assert "charged twice" not in str(result.notes)


def test_charges_never_exceed_the_plan_however_often_conditions_change(tmp_path, monkeypatch):
    at = 0
    for number in range(5):
        at += 3
        monkeypatch.undo()
        monkeypatch.setattr(resume, "conditions", conditions_with(cores=str(number)))
        if number > 2:  # a tenth in all, however many changes it took
            with pytest.raises(ValueError, match="or accept that by `accept_charge`"):
                train(tmp_path)
        interrupted(tmp_path, at=at, accept_charge=number > 2)
        assert summary_of(tmp_path).charged <= STEPS
    monkeypatch.undo()
    result = train(tmp_path, accept_charge=True)
    summary = summary_of(tmp_path)
    assert (result.charged, result.stopped) == (STEPS, "budget spent")
    assert len({segment.key for segment in summary.segments}) == 6
    assert int(result.state.step) == STEPS - 5


def test_a_budget_that_is_spent_ends_the_run_where_it_stands(tmp_path, monkeypatch):
    with pytest.raises(Stopped):
        train(tmp_path, callbacks=[stop_at(STEPS)])
    result = train(tmp_path, step=private_step(other_loss))
    assert_renewed(tmp_path, result)


def test_other_weights_to_start_from_are_not_hidden_by_the_same_noise(tmp_path):
    interrupted(tmp_path, at=1, checkpoint_every=60)
    result = train(tmp_path, start={"w": jnp.ones(3), "b": jnp.ones(())}, checkpoint_every=60)
    assert_renewed(tmp_path, result)
    assert_note(result, "step 0 was repeated and did not give the same bits")


def test_a_repeated_step_that_meets_another_state_takes_a_new_key(cut, monkeypatch):
    whole, calls = run.state_digest, []

    def digest(tree):
        calls.append(0)
        return whole(tree) if len(calls) > 1 else "0" * 16

    monkeypatch.setattr(FolderRun, "_next_window", lambda self, number: 1)
    monkeypatch.setattr(run, "state_digest", digest)
    entries = read_ledger(cut)
    if not any(entry.get("start") == CUT - 1 for entry in entries if entry["entry"] == "reserve"):
        with Ledger(RunFolder(cut).ledger) as book:
            book.append("reserve", start=CUT - 1, stop=CUT, state="f" * 16)
    result = train(cut, checkpoint_every=60)
    assert_renewed(cut, result)
    assert_note(result, f"step {CUT - 1} was repeated and did not give the same bits")


def test_what_a_differing_repetition_gave_is_not_kept(tmp_path, monkeypatch):
    with pytest.MonkeyPatch.context() as patch:  # as if killed: nothing is saved
        patch.setattr(FolderRun, "suspend", lambda *_: None)
        patch.setattr(FolderRun, "_next_window", lambda self, number: 1)
        interrupted(tmp_path, at=4, checkpoint_every=60)
    before = len(read_ledger(tmp_path))
    assert not (tmp_path / "checkpoints").exists()
    update, moved = trustml.training.TrainStep.update, []

    def perturbed(self, state, draw, units):
        if draw.step == 1 and not moved:
            moved.append(jax.tree.map(lambda leaf: leaf + 1e-3, state.params))
            state = state._replace(params=moved[0])
        return update(self, state, draw, units)

    monkeypatch.setattr(trustml.training.TrainStep, "update", perturbed)
    result = train(tmp_path, checkpoint_every=0, accept_charge=True)
    entries = read_ledger(tmp_path)[before:]
    renewal = next(at for at, entry in enumerate(entries) if entry["entry"] == "segment")
    assert moved
    assert "checkpoint" not in [entry["entry"] for entry in entries[:renewal]]
    assert entries[renewal]["start"] == 0
    assert "step 2 was repeated" in entries[renewal]["reason"]
    assert_renewed(tmp_path, result, twice=4)


def test_two_copies_of_a_seeded_run_never_share_a_later_key(cut, monkeypatch):
    shutil.copytree(cut, cut.with_name("copy"))
    for place in (cut, cut.with_name("copy")):
        train(place, step=private_step(rate=0.2))
    keys = [summary_of(place).segments[-1].key for place in (cut, cut.with_name("copy"))]
    assert keys[0] != keys[1]


def test_a_seed_given_later_does_not_enter_a_secret_run(tmp_path):
    folder = interrupted(tmp_path / "run", seed=None)
    result = train(folder, seed=1, step=private_step(other_loss))
    used = {segment.key for segment in summary_of(folder).segments}
    assert len(used) == 2
    assert used.isdisjoint(new_secrets(1, number).fingerprint for number in range(3))
    assert not result.reproducible


# --- Refused ---


def newest(folder):
    return max((folder / "checkpoints").iterdir())


def damage(place, how="flipped"):
    if how == "removed":
        shutil.rmtree(place)
        return
    path = max(
        (path for path in place.rglob("*") if path.is_file()), key=lambda p: p.stat().st_size
    )
    content = path.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    path.write_bytes(content[:middle] if how == "truncated" else flipped)


def rewritten(folder, **fields):
    """A ledger whose first entry says something else, and whose chain is whole."""
    entries = read_ledger(folder)
    RunFolder(folder).ledger.unlink()
    with Ledger(RunFolder(folder).ledger) as book:
        for number, entry in enumerate(entries):
            body = {name: value for name, value in entry.items() if name not in CHAIN}
            book.append(**({**body, **fields} if number == 0 else body))


CHAIN = ("previous", "hash")
REFUSED = {
    "not resumed": ({"resume": False}, FileExistsError, "`out` must be a new folder.*resume=True"),
    "another plan": (
        {"step": lambda: trustml.private_step(loss, optax.adam(0.1), plan(noise_multiplier=3.0))},
        ValueError,
        r"`plan` must be that of the run in .*, got noise_multiplier=3.0 \(the run: 2.0\)\.",
    ),
    "another length": (
        {"step": lambda: trustml.private_step(loss, optax.adam(0.1), plan(steps=21))},
        ValueError,
        r"`plan` must be.*got steps=21 \(the run: 20\)\. A budget",
    ),
    "other data": ({"units": lambda: data(seed=1)}, ValueError, "`train` must be the data of"),
    "the order of the data": (
        {"units": lambda: {name: leaf[::-1] for name, leaf in data().items()}},
        ValueError,
        "`train` must be the data of",
    ),
    "the type of the data": (
        {"units": lambda: data(dtype=np.float64)},
        ValueError,
        "`train` must be the data of",
    ),
    "a baseline": ({"step": baseline_step}, ValueError, "`step` must train with privacy as the"),
    "params of another network": (
        {"start": lambda: {**params(), "more": jnp.zeros(2)}},
        CheckpointError,
        "`params` and the state of `optimizer` must be those of the run",
    ),
    "params of another shape": (
        {"start": lambda: {**params(), "b": jnp.zeros(1)}, "step": lambda: private_step(summed)},
        CheckpointError,
        "`params` and the state of `optimizer` must be those of the run",
    ),
    "an optimizer with another state": (
        {"step": lambda: trustml.private_step(loss, optax.sgd(0.1), plan())},
        CheckpointError,
        "`params` and the state of `optimizer` must be those of the run",
    ),
}


def summed(params, unit):
    return loss({**params, "b": params["b"].sum()}, unit)


@pytest.fixture(scope="module")
def waiting(tmp_path_factory):
    """An interrupted run that is not to be changed."""
    return interrupted(tmp_path_factory.mktemp("waiting") / "run")


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_continued_is_refused_and_left_as_it_is(case, waiting):
    options, error, message = REFUSED[case]
    before = files(waiting)
    made = {name: make() if callable(make) else make for name, make in options.items()}
    with pytest.raises(error, match=message) as caught:
        train(waiting, **made)
    assert "\n" not in str(caught.value)
    assert files(waiting) == before


def test_a_private_step_does_not_continue_a_baseline(tmp_path):
    interrupted(tmp_path, step=baseline_step(), at=1)
    with pytest.raises(ValueError, match="`step` must train without as the run in"):
        train(tmp_path)


def test_a_ledger_of_another_format_is_refused(cut):
    rewritten(cut, schema=1)
    before = files(cut)
    with pytest.raises(ValueError, match=r"`out` must hold a run of format 3, got .* of format 1"):
        train(cut)
    assert files(cut) == before


@pytest.mark.parametrize("left", [("metrics.jsonl",), ("checkpoints",), ("secret",), ()])
@pytest.mark.parametrize("emptied", [True, False])
def test_a_run_without_its_ledger_is_not_begun_anew(cut, left, emptied):
    RunFolder(cut).ledger.write_bytes(b"") if emptied else RunFolder(cut).ledger.unlink()
    for name in {"metrics.jsonl", "checkpoints", "secret"} - set(left):
        path = cut / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if not left:
        assert train(cut, checkpoint_every=60).charged == STEPS  # nothing is left of a run
        return
    before = files(cut)
    with pytest.raises(LedgerError, match="`out` must hold a run with its ledger") as caught:
        train(cut)
    assert "\n" not in str(caught.value)
    assert files(cut) == before


@pytest.mark.usefixtures("orbax_storage")
@pytest.mark.parametrize("how", ["truncated", "flipped", "removed"])
def test_a_damaged_checkpoint_gives_way_to_an_older_one_at_no_cost(how, cut, whole):
    damage(newest(cut), how)
    result = train(cut, checkpoint_every=60)
    assert result.notes[0] == f"checkpoint {CUT - 1:08d} is damaged; an older one takes its place"
    assert_as_if_never_ended(cut, result, whole)


@pytest.mark.parametrize("how", ["truncated", "flipped", "removed"])
def test_a_run_whose_checkpoints_are_all_damaged_is_refused(how, cut):
    for place in (cut / "checkpoints").iterdir():
        damage(place, how)
    before = files(cut)
    with pytest.raises(CheckpointError, match="`out` must hold a whole checkpoint") as caught:
        train(cut)
    assert "00000003" in str(caught.value)
    assert "00000004" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert files(cut) == before


def test_the_damaged_checkpoint_of_the_last_step_is_written_again(tmp_path, monkeypatch, whole):
    monkeypatch.setattr(run, "save_weights", end_here)
    with pytest.raises(Stopped):
        train(tmp_path)
    monkeypatch.undo()
    damage(newest(tmp_path))
    result = train(tmp_path, checkpoint_every=60)
    assert_as_if_never_ended(tmp_path, result, whole)
    assert_as_if_never_ended(tmp_path, train(tmp_path), whole)


def test_a_damaged_ledger_is_refused(cut):
    lines = RunFolder(cut).ledger.read_bytes().splitlines(keepends=True)
    RunFolder(cut).ledger.write_bytes(b"".join(lines[:3] + lines[4:]))
    before = files(cut)
    with pytest.raises(LedgerError, match="line 4 is damaged"):
        train(cut)
    assert files(cut) == before


@pytest.mark.parametrize("content", ["", "{"])
def test_the_description_of_the_plan_is_for_readers_alone(content, cut, whole):
    (cut / "plan.json").write_text(content)
    assert_as_if_never_ended(cut, train(cut, checkpoint_every=60), whole)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(NotADirectoryError, match="`out` must be a folder, got the file"):
        train(tmp_path / "file")
    with pytest.raises(
        OSError, match="`out` must be a folder that can be written to, got"
    ) as caught:
        train(tmp_path / "file" / "run")
    assert "\n" not in str(caught.value)
    assert (tmp_path / "file").read_text() == "kept"


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(validation, "Ledger", refuse)
    with pytest.raises(
        PermissionError, match=r"`out` must be a folder that can be.*denied"
    ) as caught:
        train(tmp_path)
    assert "\n" not in str(caught.value)


def test_resuming_needs_a_folder():
    with pytest.raises(ValueError, match="`out` must name the run's folder"):
        train(None)


def test_a_second_process_is_refused(cut):
    with Ledger(RunFolder(cut).ledger):
        before = files(cut)
        with pytest.raises(BlockingIOError, match="`out` must be a run that no other process"):
            train(cut)
        assert files(cut) == before


# --- The disk ---


def held(seed):
    """What a checkpoint may hold, of every kind."""
    normal = jax.random.normal(jax.random.key(seed), (3,))
    weights = {"w": normal, "half": normal.astype(jnp.bfloat16)}
    return {"params": weights, "opt_state": (jnp.int32(seed), jax.random.key(seed))}


@pytest.mark.usefixtures("orbax_storage")
def test_a_checkpoint_gives_back_every_bit_and_refuses_other_shapes(tmp_path):
    entry = {"step": 4, "files": save_checkpoint(tmp_path, 4, held(1), {"about": "test"})}
    found, tree, damaged = restore_checkpoint(tmp_path, [entry], held(2))
    assert (found, damaged) == (entry, [])
    assert jax.random.key_data(tree["opt_state"][1]).tolist() == [0, 1]
    assert state_digest(tree) == state_digest(held(1)) != state_digest(held(2))
    other = {**held(2), "opt_state": (jnp.zeros(2, jnp.int32), jax.random.key(2))}
    with pytest.raises(CheckpointError, match=r"got int32\[2\] for `opt_state/0`, where .* int32"):
        restore_checkpoint(tmp_path, [entry], other)


@pytest.mark.usefixtures("orbax_storage")
def test_a_checkpoint_is_on_disk_before_the_ledger_names_it(tmp_path, monkeypatch):
    synced, append, missing = set(), Ledger.append, []
    sync = os.fsync

    def note(file):
        synced.add(os.fstat(file).st_ino)
        sync(file)

    def look(self, entry, **fields):
        if entry == "checkpoint":
            place = tmp_path / "checkpoints" / f"{fields['step']:08d}"
            paths = [place.parent, place, *place.rglob("*")]
            missing.extend(path for path in paths if path.stat().st_ino not in synced)
        append(self, entry, **fields)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(Ledger, "append", look)
    train(tmp_path, checkpoint_every=60)
    assert missing == []
    assert summary_of(tmp_path).checkpoints


@pytest.fixture
def small_disk(tmp_path):
    """A disk of two megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    try:
        made = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        made = False
    if not made:
        pytest.skip("mounting a small disk is not permitted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def fill(path):
    """Takes all room there is, to the last byte."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        for size in (2**16, 2**8, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"\0" * size)


@pytest.mark.usefixtures("orbax_storage")
@pytest.mark.parametrize("every", [0, 60])
@pytest.mark.parametrize("at", [1, CUT, 16, STEPS])
def test_a_run_goes_on_after_the_disk_was_full(at, every, small_disk, whole):
    def filled(event):
        if event.step == at:
            fill(small_disk / "filler")

    with pytest.raises(OSError, match="No space left on device") as caught:
        train(small_disk / "run", checkpoint_every=every, callbacks=[filled])
    assert "\n" not in str(caught.value)
    (small_disk / "filler").unlink()
    result = train(small_disk / "run", checkpoint_every=60)
    assert_as_if_never_ended(small_disk / "run", result, whole)


# --- Secrets ---


def traces(folder, found: Secrets, but=None):
    """Files in which a secret stands, as bytes, hexadecimal digits or numbers, and checkpoints."""
    words = found.key.tolist()
    needles = [found.noise, found.sampler]
    for text in (found.noise.hex(), found.sampler.hex(), *map(str, words[:2])):
        needles += [text.encode(), text.upper().encode()]
    needles += [found.noise[:12], found.sampler[:12]]
    held = [
        path
        for path, content in files(folder).items()
        if any(needle in content for needle in needles) and path.parent.name != but
    ]
    for place in (folder / "checkpoints").iterdir() if (folder / "checkpoints").exists() else ():
        # Storage compresses: what a checkpoint holds must be read to be seen.
        with orbax.checkpoint.StandardCheckpointer() as checkpointer:
            leaves = jax.tree.leaves(checkpointer.restore(place.absolute()))
        if any(secret in np.asarray(leaf).tobytes() for leaf in leaves for secret in needles[:2]):
            held.append(place)
    return held


def watched(folder, **options):
    """Trains; returns the secrets, and where traces of them were seen while it went on."""
    seen, found = [], []

    def look(event):
        found.append(load_secrets(RunFolder(folder)))
        if event.step in (1, CUT):
            seen.extend(traces(folder, found[-1], but="secret"))
        if event.step == 1:
            modes = [stat.S_IMODE((folder / name).stat().st_mode) for name in PLACES]
            assert modes == [0o700, 0o600]

    result = train(folder, callbacks=[look], **options)
    assert not np.any(result.state.key)
    assert len(set(found)) == 1
    return found[0], seen


PLACES = ("secret", "secret/keys.json")


@pytest.mark.usefixtures("orbax_storage")
@pytest.mark.parametrize("seed", [1, None])
def test_no_secret_leaves_its_folder_and_none_survives_the_end(tmp_path, seed):
    found, seen = watched(tmp_path / "run", seed=seed)
    assert seen == []
    assert traces(tmp_path / "run", found) == []
    assert not (tmp_path / "run" / "secret").exists()


@pytest.mark.usefixtures("orbax_storage")
def test_the_secrets_of_a_continued_run_are_deleted_too(cut):
    found = load_secrets(RunFolder(cut))
    assert traces(cut, found, but="secret") == []
    assert traces(cut, found) == [cut / "secret" / "keys.json"]
    train(cut, checkpoint_every=60)
    assert traces(cut, found) == []


def test_secrets_are_overwritten_before_they_are_removed(tmp_path, monkeypatch):
    secrets.save_secrets(RunFolder(tmp_path), new_secrets(None, 0))
    os.link(tmp_path / "secret" / "keys.json", tmp_path / "block")
    found = load_secrets(RunFolder(tmp_path))
    assert traces(tmp_path, found)
    secrets.delete_secrets(RunFolder(tmp_path))
    assert traces(tmp_path, found) == []


@pytest.mark.usefixtures("orbax_storage")
def test_secrets_that_are_not_deleted_are_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "delete_secrets", lambda folder: None)
    found, _ = watched(tmp_path / "run", checkpoint_every=60)
    assert traces(tmp_path / "run", found) == [tmp_path / "run" / "secret" / "keys.json"]


@pytest.mark.usefixtures("orbax_storage")
def test_a_key_in_a_checkpoint_is_noticed(tmp_path, monkeypatch):
    save = run.checkpoint.save_checkpoint

    def careless(folder, step, tree, *facts):
        key = jnp.asarray(load_secrets(RunFolder(folder.parent)).key)
        return save(folder, step, {**tree, "key": key}, *facts)

    monkeypatch.setattr(run.checkpoint, "save_checkpoint", careless)
    _, seen = watched(tmp_path / "run")
    assert {path for path in seen if path.parent.name == "checkpoints"} == {
        tmp_path / "run" / "checkpoints" / name for name in ("00000003", "00000004")
    }


@pytest.mark.usefixtures("orbax_storage")
def test_a_key_in_the_metrics_is_noticed(tmp_path):
    folder = tmp_path / "run"
    careless = {"evaluate": lambda weights: {"key": int(load_secrets(RunFolder(folder)).key[0])}}
    found, _ = watched(folder, checkpoint_every=60, evaluate_every=1, **careless)
    word = str(found.key[0])
    assert word in (folder / "metrics.jsonl").read_text()
    assert folder / "metrics.jsonl" in traces(folder, found)


def test_a_new_segment_that_keeps_its_key_is_noticed(cut, monkeypatch):
    monkeypatch.setattr(resume, "new_secrets", lambda seed, number: load_secrets(RunFolder(cut)))
    with pytest.raises(LedgerError, match="a key that an earlier segment used"):
        train(cut, step=private_step(other_loss))
    assert len(summary_of(cut).segments) == 1


def test_noise_that_would_hide_a_second_state_is_noticed(tmp_path, monkeypatch):
    interrupted(tmp_path, at=1, checkpoint_every=60)

    def unchecked(self, number, state):
        digest = run.state_digest((state.params, state.opt_state))
        self._ledger.append("reserve", start=number, stop=number + 1, state=digest)
        self._begun = number + 1

    monkeypatch.setattr(FolderRun, "before", unchecked)
    with pytest.raises(LedgerError, match="the noise of step 0 was used for two different states"):
        train(tmp_path, start={"w": jnp.ones(3), "b": jnp.ones(())})


def test_the_first_keys_of_a_seed_repeat_and_later_ones_never():
    found = [new_secrets(7, number) for number in range(4)]
    assert len({each.noise for each in found}) == len({each.sampler for each in found}) == 4
    assert found[0] == new_secrets(7, 0)
    assert found[1] != new_secrets(7, 1)  # copies of a run that go on apart must not share it
    assert new_secrets(None, 0) != new_secrets(None, 0)
    assert found[0].sampler == plan().sampler(7).secret
    np.testing.assert_array_equal(found[0].key, trustml.noise.key_from_seed(7))


# --- Metrics ---


def test_metrics_hold_every_step_once_and_say_that_they_are_private(cut):
    with (cut / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "loss": 0.')  # cut off by a crash
    result = train(cut)
    lines = [json.loads(line) for line in (cut / "metrics.jsonl").read_text().splitlines()]
    assert lines == result.history
    assert all(line["private"] is True for line in lines)
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, STEPS + 1))
    assert [line["step"] for line in lines if "evaluation" in line] == [5, 10, 15, 20]


def test_numbers_that_are_not_finite_do_not_end_a_run(tmp_path):
    units = data()
    units["x"][::2] = np.nan
    infinite = {"units": units, "evaluate": lambda weights: {"size": float("inf")}}
    interrupted(tmp_path, **infinite)
    result = train(tmp_path, **infinite)
    assert (result.charged, result.stopped) == (STEPS, "complete")
    assert np.isnan(result.history[0]["loss"])
    assert train(tmp_path, **infinite).history[-1]["size"] == float("inf")


def test_loggers_are_told_that_numbers_are_private(tmp_path):
    seen = []
    train(tmp_path, loggers=[lambda step, numbers: seen.append((step, numbers))])
    assert [step for step, numbers in seen if "private/loss" in numbers] == list(range(1, 21))
    assert [step for step, numbers in seen if "private/size" in numbers] == [5, 10, 15, 20]
    for _, numbers in seen:
        assert all(name.startswith("private/") for name in numbers)
        assert all(type(value) is float for value in numbers.values())


def test_an_entry_that_a_logger_refuses_takes_no_other_with_it(tmp_path):
    metrics = StepMetrics(*jnp.arange(5.0))
    told = []

    def failing(step, numbers):
        told.append(step)
        if told == [1, 2]:
            raise Stopped

    with MetricsLogger(tmp_path / "metrics.jsonl", 0, [failing]) as record:
        for done in (1, 2, 3):
            record.step(done, metrics)
        with pytest.raises(Stopped):
            record.sync()
        record.sync()
        assert [entry["step"] for entry in record.history] == [1, 2, 3]
        assert read_lines(tmp_path / "metrics.jsonl") == record.history


# --- Stopping early ---


def worse(calls):
    def evaluate(weights):
        calls.append(0)
        return {"accuracy": 1.0 / len(calls)}

    return evaluate


def early(folder, **options):
    options = {"evaluate": worse([]), "stop": patience("accuracy", 1), **options}
    return train(folder, checkpoint_every=60, **options)


def test_a_run_stops_early_and_says_so(tmp_path):
    result = early(tmp_path / "run")
    assert (result.stopped, int(result.state.step), result.charged) == ("stopped early", 10, 10)
    end = read_ledger(tmp_path / "run")[-1]
    assert (end["entry"], end["step"], end["reason"]) == ("end", 10, "stopped early")
    again = early(tmp_path / "run")
    assert (again.stopped, again.charged) == ("stopped early", 10)
    np.testing.assert_array_equal(again.params["w"], result.params["w"])
    assert again.history == result.history


def test_reservations_that_were_not_used_are_given_back_at_an_early_end(tmp_path, monkeypatch):
    monkeypatch.setattr(FolderRun, "_next_window", lambda self, number: 16)
    assert early(tmp_path).charged == 10
    assert summary_of(tmp_path).charged == 10


def test_a_decision_to_stop_outlives_the_process(tmp_path, monkeypatch):
    whole = early(tmp_path / "whole")
    monkeypatch.setattr(run, "save_weights", end_here)
    with pytest.raises(Stopped):
        early(tmp_path / "run")
    monkeypatch.undo()
    result = early(tmp_path / "run", evaluate=lambda weights: {"accuracy": 5.0})
    assert (result.stopped, result.charged) == ("stopped early", 10)
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")
    assert result.history == whole.history


def test_the_last_evaluation_stops_nothing(tmp_path):
    result = early(tmp_path, evaluate_every=20)
    assert result.stopped == "complete"
    assert early(tmp_path / "two", stop=lambda found: len(found) == 4).stopped == "complete"


@pytest.mark.parametrize(
    ("values", "stops"),
    [([1.0], False), ([2, 1], False), ([2, 1, 1], True), ([1, 2, 2], False), ([1, 1, 1], True)],
)
def test_patience_ends_without_a_new_best(values, stops):
    assert patience("score", 2)([{"score": value} for value in values]) is stops


def test_patience_of_nothing_is_refused():
    with pytest.raises(ValueError, match="`evaluations` must be at least 1, got 0"):
        patience("score", 0)


# --- Weights and baselines ---


def test_weights_come_back_under_their_names(tmp_path):
    tree = {
        "encoder": [{"kernel": jnp.arange(6.0).reshape(2, 3)}, {"kernel": jnp.ones((1, 1))}],
        "half": jnp.asarray([1.5, -2.25], jnp.bfloat16),
        "table": jnp.arange(3),
        "scale": jnp.float32(7.0),
    }
    path = tmp_path / "weights.safetensors"
    save_weights(path, tree, {"about": "test"})
    found = load_weights(path, jax.tree.map(jnp.zeros_like, tree))
    assert jax.tree.structure(found) == jax.tree.structure(tree)
    for leaf, saved in zip(jax.tree.leaves(found), jax.tree.leaves(tree), strict=True):
        assert (leaf.dtype, leaf.shape) == (saved.dtype, saved.shape)
        np.testing.assert_array_equal(leaf, saved)
    assert b'"encoder.0.kernel"' in path.read_bytes()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("like", "message"),
    [
        ({"w": jnp.zeros(3)}, r"must hold no other tensors, got `b`"),
        ({**params(), "c": jnp.zeros(1)}, r"must hold the tensor `c`, which is missing"),
        ({"w": jnp.zeros(4), "b": jnp.zeros(())}, r"must hold `w` as float32\[4\].*float32\[3\]"),
        (
            {"w": jnp.zeros(3, jnp.bfloat16), "b": jnp.zeros(())},
            r"must hold `w` as bfloat16\[3\], got float32\[3\]",
        ),
    ],
)
def test_weights_of_another_network_are_refused(like, message, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(path, params())
    with pytest.raises(ValueError, match=message) as caught:
        load_weights(path, like)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("length", [0, 4, 20, -1])
def test_weights_that_are_cut_off_are_refused(length, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(path, params())
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match="must be a whole safetensors file") as caught:
        load_weights(path, params())
    assert "\n" not in str(caught.value)


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"nothing.safetensors must be a whole safetensors file"):
        load_weights(tmp_path / "nothing.safetensors", params())


def test_leaves_with_one_name_are_refused(tmp_path):
    twice = {"a": {"b": jnp.zeros(1)}, "a.b": jnp.zeros(1)}
    with pytest.raises(ValueError, match="`params` must have distinct paths"):
        save_weights(tmp_path / "weights.safetensors", twice)


def test_the_weights_of_a_run_are_in_its_folder(whole):
    folder, result = whole
    found = load_weights(folder / "weights.safetensors", params())
    for name, leaf in found.items():
        np.testing.assert_array_equal(leaf, result.params[name])


@pytest.mark.parametrize("every", [0, 60])
def test_the_weights_of_a_baseline_are_not_kept(every, tmp_path):
    result = train(tmp_path, step=baseline_step(), checkpoint_every=every)
    assert int(result.state.step) == STEPS
    assert sorted(path.name for path in tmp_path.iterdir()) == LEFT
    with pytest.raises(ValueError, match="which ended and whose weights were not kept"):
        train(tmp_path, step=baseline_step())


def test_what_a_baseline_that_died_at_its_end_left_is_removed(tmp_path, deaths):
    with killed.POINTS["secrets, before deletion"](lambda: True), pytest.raises(Died):
        train(tmp_path, step=baseline_step())
    assert (tmp_path / "checkpoints").exists()
    with pytest.raises(ValueError, match="which ended and whose weights were not kept"):
        train(tmp_path, step=baseline_step())
    assert sorted(path.name for path in tmp_path.iterdir()) == LEFT


def test_the_weights_of_a_baseline_are_kept_where_asked(tmp_path):
    result = train(tmp_path, step=baseline_step(), checkpoint_every=60, keep=True)
    before = files(tmp_path)
    assert tmp_path / "weights.safetensors" in before
    again = train(tmp_path, step=baseline_step())
    assert files(tmp_path) == before
    np.testing.assert_array_equal(again.params["w"], result.params["w"])


def test_an_interrupted_baseline_is_continued(tmp_path):
    whole = train(tmp_path / "whole", step=baseline_step(), checkpoint_every=60)
    interrupted(tmp_path / "run", step=baseline_step())
    result = train(tmp_path / "run", step=baseline_step())
    np.testing.assert_array_equal(result.params["w"], whole.params["w"])
    assert result.history == whole.history


@pytest.mark.parametrize("kept", ["checkpoints", "metrics.jsonl"])
def test_a_ledger_without_its_last_lines_is_refused(kept, cut):
    path = RunFolder(cut).ledger
    lines = path.read_text().splitlines(keepends=True)
    first = next(at for at, line in enumerate(lines) if '"reserve"' in line)
    path.write_text("".join(lines[: first + 1]))
    for name in {"checkpoints", "metrics.jsonl"} - {kept}:
        place = cut / name
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    with pytest.raises(LedgerError, match="left its traces: lines are missing"):
        train(cut)


def test_a_ledger_cut_off_in_its_first_line_is_refused(cut):
    path = RunFolder(cut).ledger
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(LedgerError, match=r"holds no step, but .* holds traces of some"):
        train(cut)


def test_a_run_is_its_owners_alone(cut):
    assert stat.S_IMODE(cut.stat().st_mode) == 0o700


def test_linked_secrets_are_deleted_where_they_lie(cut):
    elsewhere = cut.with_name("encrypted")
    shutil.move(cut / "secret", elsewhere)
    (cut / "secret").symlink_to(elsewhere)
    train(cut)
    assert not (cut / "secret").is_symlink()
    assert not elsewhere.exists()
