"""The ledger is ahead of every release, only grows, and shows what was done to it."""

import errno
import hashlib
import itertools
import json
import os
import shutil

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import trustml
from trustml.plan import Charge
from trustml.training import LedgerError, TrainStep, read_ledger, summarize
from trustml.training.runs import ledger
from trustml.training.runs.folder import RunFolder
from trustml.training.runs.ledger import Ledger
from trustml.training.runs.run import FolderRun

STEPS = 8
RUN = {"entry": "run", "plan": {"steps": STEPS}, "private_training": True}
SEGMENT = {
    "entry": "segment",
    "number": 0,
    "key": "first",
    "start": 0,
    "reason": "a new run",
    "conditions": {},
    "place": "here",
}
OPEN = {"entry": "open"}
END = {"entry": "end", "reason": "complete"}


def segment(key, start):
    return {**SEGMENT, "key": key, "start": start}


def reserve(start, stop, state="state"):
    return {"entry": "reserve", "start": start, "stop": stop, "state": f"{state} {start}"}


def settle(stop):
    return {"entry": "settle", "stop": stop}


def checkpoint(step):
    return {"entry": "checkpoint", "step": step, "files": f"hash of {step}", "seconds": 1.0}


def append(book, fields):
    book.append(
        fields["entry"], **{name: value for name, value in fields.items() if name != "entry"}
    )


def write(folder, *entries):
    with Ledger(RunFolder(folder).ledger) as book:
        for entry in entries:
            append(book, entry)
    return RunFolder(folder).ledger


def chained(*entries):
    """Entries as somebody writes them who knows how lines are hashed."""
    found, previous = [], "0" * 64
    for entry in entries:
        body = {**entry, "previous": previous}
        previous = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        found.append({**body, "hash": previous})
    return found


# --- What it holds ---


def test_entries_come_back_and_add_up(tmp_path):
    write(tmp_path, RUN, SEGMENT, reserve(0, 1), reserve(1, 4), checkpoint(2), checkpoint(4))
    assert [entry["entry"] for entry in read_ledger(tmp_path)] == [
        *["run", "segment", "reserve", "reserve"],
        *["checkpoint", "checkpoint"],
    ]
    summary = summarize(read_ledger(tmp_path))
    assert summary.charged == 4
    assert summary.last_step == STEPS
    assert [entry["step"] for entry in summary.checkpoints] == [2, 4]
    assert summary.end is None
    with Ledger(RunFolder(tmp_path).ledger) as book:
        assert book.summary == summary


def test_the_file_only_grows(tmp_path):
    states = [b""]
    with Ledger(RunFolder(tmp_path).ledger) as book:
        for entry in (RUN, SEGMENT, reserve(0, 2), settle(1), OPEN, checkpoint(1), END):
            append(book, entry)
            states.append(RunFolder(tmp_path).ledger.read_bytes())
    for before, after in itertools.pairwise(states):
        assert after.startswith(before)
        assert after.count(b"\n") == before.count(b"\n") + 1
    with Ledger(RunFolder(tmp_path).ledger):
        assert RunFolder(tmp_path).ledger.read_bytes() == states[-1]


@pytest.mark.parametrize(
    ("entries", "charged", "last"),
    [
        ([reserve(0, 5)], 5, 8),
        ([reserve(0, 5), settle(3)], 3, 8),
        ([reserve(0, 5), settle(7)], 5, 8),
        ([reserve(0, 5), OPEN, settle(3)], 5, 8),  # the first process may have released them
        ([reserve(0, 3), OPEN, reserve(1, 5), settle(4)], 4, 8),
        ([reserve(0, 3), OPEN, reserve(1, 3)], 3, 8),  # repeated under the same key
        ([reserve(0, 5), segment("second", 3), reserve(3, 5)], 7, 6),
        ([reserve(0, 8), segment("second", 6)], 8, 6),
        ([reserve(0, 4), segment("2", 3), reserve(3, 5), segment("3", 4), reserve(4, 6)], 8, 6),
        ([reserve(0, 3), segment("second", 1), reserve(1, 3), settle(0)], 3, 6),
    ],
)
def test_charges_add_up_and_the_run_ends_where_the_budget_does(entries, charged, last):
    summary = summarize(chained(RUN, SEGMENT, *entries))
    assert (summary.charged, summary.last_step) == (charged, last)


RELEASE = {
    "entry": "release",
    "id": "e" * 32,
    "what": "schema",
    "epsilon": 0.5,
    "delta": 1e-6,
    "how": "noisy histograms",
    "source": "d" * 64,
}


def test_what_was_released_before_a_run_is_charged_beside_its_steps(tmp_path):
    path = write(tmp_path, RELEASE)
    assert summarize(read_ledger(tmp_path)).charges == [
        Charge("schema", 0.5, 1e-6, "noisy histograms")
    ]
    with Ledger(path) as book:
        append(book, RUN)
        append(book, SEGMENT)
        append(book, reserve(0, 2))
        assert book.summary.charged == 2
        assert len(book.summary.charges) == 1
        with pytest.raises(LedgerError, match="after the run had begun"):
            append(book, RELEASE)
    with pytest.raises(LedgerError, match="a run must begin"):
        summarize(chained(RELEASE, SEGMENT))


def test_a_baseline_has_no_budget():
    baseline = {**RUN, "private_training": False}
    entries = [SEGMENT, reserve(0, 8), segment("second", 3), reserve(3, 8)]
    assert summarize(chained(baseline, *entries)).last_step == STEPS


def test_a_damaged_checkpoint_gives_way_to_the_next_one():
    entries = [RUN, SEGMENT, reserve(0, 8), *map(checkpoint, (2, 4, 6))]
    again = [OPEN, reserve(4, 5), checkpoint(5)]
    kept = summarize(chained(*entries, *again)).checkpoints
    assert [entry["step"] for entry in kept] == [4, 5]
    kept = summarize(chained(*entries, segment("second", 4))).checkpoints
    assert [entry["step"] for entry in kept] == [4]


# --- What it refuses ---

BEGUN = [RUN, SEGMENT, reserve(0, 4)]
WRONG = {
    "two runs": ([*BEGUN, RUN], "a run must begin with one entry `run`"),
    "no run": ([SEGMENT], "a run must begin with one entry `run`"),
    "no segment": ([RUN, reserve(0, 1)], "`reserve` before any segment"),
    "an unknown entry": ([*BEGUN, {"entry": "refund"}], "an unknown entry `refund`"),
    "a gap": ([*BEGUN, reserve(6, 7)], "steps 4 to 5 were not reserved"),
    "a step before its segment": (
        [*BEGUN, segment("second", 2), reserve(1, 3)],
        "step 1 lies before the segment, which begins at 2",
    ),
    "more than the plan": ([*BEGUN, reserve(4, 9)], "9 steps were charged, of 8 in the plan"),
    "more than the plan, over two keys": (
        [*BEGUN, segment("second", 2), reserve(2, 7)],
        "9 steps were charged, of 8 in the plan",
    ),
    "a key twice": ([*BEGUN, segment("first", 4)], "a key that an earlier segment used"),
    "an old key again": (
        [*BEGUN, segment("second", 4), segment("first", 4)],
        "a key that an earlier segment used",
    ),
    "noise for two states": (
        [*BEGUN, OPEN, reserve(0, 2, "another")],
        "the noise of step 0 was used for two different states",
    ),
    "a checkpoint of a step that was not reserved": (
        [*BEGUN, checkpoint(5)],
        "step 5 is on disk but was not reserved",
    ),
    "a step after the end": ([*BEGUN, END, reserve(4, 5)], "an entry after the end"),
    "two ends": ([*BEGUN, END, END], "an entry after the end"),
    "a segment after the end": ([*BEGUN, END, segment("second", 4)], "an entry after the end"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_no_correct_run_writes_is_refused_when_it_is_read(case):
    entries, message = WRONG[case]
    summarize(chained(*entries[:-1]))
    with pytest.raises(LedgerError, match=message) as caught:
        summarize(chained(*entries))
    assert f"line {len(entries)}:" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("case", WRONG)
def test_what_no_correct_run_writes_is_refused_before_it_is_written(case, tmp_path):
    entries, message = WRONG[case]
    path = write(tmp_path, *entries[:-1])
    before = path.read_bytes()
    with Ledger(path) as book:
        with pytest.raises(LedgerError, match=message):
            append(book, entries[-1])
        with pytest.raises(LedgerError, match="resume the run"):
            append(book, END)
    assert path.read_bytes() == before


def test_the_chain_cannot_be_given_as_a_field(tmp_path):
    path = RunFolder(tmp_path).ledger
    with Ledger(path) as book, pytest.raises(LedgerError, match=r"`fields`.*'hash'"):
        book.append("run", **{"hash": "mine"})
    assert path.read_bytes() == b""


# --- Damage ---

WHOLE = [RUN, SEGMENT, reserve(0, 1), reserve(1, 3), reserve(3, 4), END]


def without(lines, at):
    return lines[:at] + lines[at + 1 :]


def swapped(lines, at):
    return [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]]


def changed(lines, at):
    return [
        *lines[:at],
        lines[at].replace(b'"previous"', b'"more": 1, "previous"'),
        *lines[at + 1 :],
    ]


def replaced(lines, at):
    return [*lines[:at], b"[]\n", *lines[at + 1 :]]


def rehashed(lines, at):
    """One line is changed and hashed anew: the next one still names the old hash."""
    entry = json.loads(lines[at])
    body = {**entry, "more": 1}
    del body["hash"]
    body["hash"] = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    return [*lines[:at], json.dumps(body).encode() + b"\n", *lines[at + 1 :]]


@pytest.mark.parametrize("at", range(len(WHOLE) - 1))
@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (changed, 1),
        (replaced, 1),
        (without, 1),
        (swapped, 1),
        (rehashed, 2),
        (lambda lines, at: [*lines[: at + 1], *lines[at:]], 2),
    ],
)
def test_damage_is_refused_and_the_line_named(damage, named, at, tmp_path):
    path = write(tmp_path, *WHOLE)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(damage(lines, at)))
    damaged = path.read_bytes()
    for opened in (lambda: read_ledger(tmp_path), lambda: Ledger(path)):
        with pytest.raises(LedgerError, match=f"line {at + named} is damaged.*do not continue"):
            opened()
    assert path.read_bytes() == damaged


@pytest.mark.parametrize("bit", [0, 5])
def test_no_byte_can_be_changed(bit, tmp_path):
    path = write(tmp_path, RUN, SEGMENT, reserve(0, 1))
    whole = path.read_bytes()
    for at in range(len(whole) - 1):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
        with pytest.raises(LedgerError, match="is damaged"):
            read_ledger(tmp_path)


@pytest.mark.parametrize("torn", [RUN, reserve(1, 3)])
def test_a_last_line_that_was_cut_off_is_repaired_and_costs_nothing(torn, tmp_path):
    before = [] if torn is RUN else [RUN, SEGMENT, reserve(0, 1)]
    path = write(tmp_path, *before)
    kept = path.read_bytes()
    whole = write(tmp_path, torn).read_bytes()
    for length in range(len(kept), len(whole)):
        path.write_bytes(whole[:length])
        with Ledger(path) as book:
            assert len(book.summary.segments) == (torn is not RUN)
            assert book.summary.charged == (torn is not RUN)
        assert path.read_bytes() == kept
    write(tmp_path, torn)
    assert path.read_bytes() == whole


def test_reading_a_ledger_repairs_nothing(tmp_path):
    path = write(tmp_path, *WHOLE)
    path.write_bytes(path.read_bytes()[:-9])
    torn = path.read_bytes()
    assert len(read_ledger(tmp_path)) == len(WHOLE) - 1
    assert path.read_bytes() == torn


def test_a_missing_or_empty_ledger_says_so(tmp_path):
    with pytest.raises(LedgerError, match=r"`ledger` must be a run's folder.*No such file"):
        read_ledger(tmp_path)
    RunFolder(tmp_path).ledger.touch()
    with pytest.raises(LedgerError, match="is empty: no run was begun there"):
        read_ledger(tmp_path)
    with Ledger(RunFolder(tmp_path).ledger) as book:
        assert book.summary.run == {}


# --- The disk ---


class Disk:
    """The `os` of the ledger on a disk with a cache: what is not synced goes with the power."""

    def __init__(self, *, room=10**9, syncs=True):
        self.room, self.kept, self._syncs = room, 0, syncs

    def __getattr__(self, name):
        return getattr(os, name)

    def write(self, file, line):
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = os.write(file, line[: self.room])
        self.room -= written
        return written

    def fsync(self, file):
        if self._syncs:
            self.kept = os.fstat(file).st_size


@pytest.mark.parametrize("room", [0, 1, 50])
def test_a_full_disk_leaves_the_ledger_as_it_was(room, tmp_path, monkeypatch):
    path = write(tmp_path, *BEGUN)
    before = path.read_bytes()
    with Ledger(path) as book:
        monkeypatch.setattr(ledger, "os", Disk(room=room))
        with pytest.raises(OSError, match=r"ledger.jsonl.*No space left"):
            append(book, reserve(4, 5))
        monkeypatch.undo()
        with pytest.raises(LedgerError, match="could not be written before; resume the run"):
            append(book, reserve(4, 5))
    assert path.read_bytes() == before
    write(tmp_path, reserve(4, 5))


def test_a_line_that_cannot_be_synced_is_taken_back(tmp_path, monkeypatch):
    path = write(tmp_path, *BEGUN)
    before = path.read_bytes()

    def fails(file):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    disk = Disk()
    disk.fsync = fails
    with Ledger(path) as book:
        monkeypatch.setattr(ledger, "os", disk)
        with pytest.raises(OSError, match="Input/output error"):
            append(book, reserve(4, 5))
    assert path.read_bytes() == before


def test_a_line_may_take_several_writes(tmp_path, monkeypatch):
    disk = Disk()
    disk.write = lambda file, line: os.write(file, line[:7])
    monkeypatch.setattr(ledger, "os", disk)
    path = write(tmp_path, *WHOLE)
    assert len(read_ledger(tmp_path)) == len(WHOLE)
    assert disk.kept == path.stat().st_size


# --- Write-ahead ---


def plan():
    return trustml.PrivacyPlan(
        clip_norm=0.5, noise_multiplier=2.0, sample_rate=0.2, steps=STEPS, expected_batch=12
    )


def train(folder):
    units = {"x": np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)}
    step = trustml.private_step(
        lambda params, unit: jnp.square(jnp.dot(params, unit["x"])), optax.sgd(0.1), plan()
    )
    return trustml.fit(step, jnp.ones(3), units, out=folder, seed=0, progress=False)


def is_ahead(folder, monkeypatch, disk):
    """Whether every release was counted by what the disk would keep if the power failed then."""
    update, ahead = TrainStep.update, []

    def release(self, state, draw, units):
        kept = RunFolder(folder).ledger.read_bytes()[: disk.kept]
        entries = [json.loads(line) for line in kept.splitlines()]
        ahead.append(summarize(entries).charged > draw.step)
        return update(self, state, draw, units)

    monkeypatch.setattr(ledger, "os", disk)
    monkeypatch.setattr(TrainStep, "update", release)
    train(folder)
    assert len(ahead) == STEPS
    return all(ahead)


def test_every_release_is_in_the_ledger_on_disk_before_it_happens(tmp_path, monkeypatch):
    assert is_ahead(tmp_path / "run", monkeypatch, Disk())


def test_a_ledger_written_after_the_release_is_noticed(tmp_path, monkeypatch):
    before, after = FolderRun.before, FolderRun.after

    def late(self, state, record):
        before(self, int(state.step) - 1, state)
        after(self, state, record)

    monkeypatch.setattr(FolderRun, "before", lambda self, number, state: None)
    monkeypatch.setattr(FolderRun, "after", late)
    assert not is_ahead(tmp_path / "run", monkeypatch, Disk())


def test_a_ledger_that_is_not_synced_is_noticed(tmp_path, monkeypatch):
    assert not is_ahead(tmp_path / "run", monkeypatch, Disk(syncs=False))


def test_a_step_whose_reservation_fails_is_not_carried_out(tmp_path, monkeypatch):
    update, carried_out = TrainStep.update, []
    disk = Disk()

    def release(self, state, draw, units):
        carried_out.append(draw.step)
        if draw.step == 2:
            disk.room = 0
        return update(self, state, draw, units)

    monkeypatch.setattr(ledger, "os", disk)
    monkeypatch.setattr(TrainStep, "update", release)
    monkeypatch.setattr(FolderRun, "_next_window", lambda self, number: 1)
    with pytest.raises(OSError, match=r"ledger.jsonl.*No space left"):
        train(tmp_path / "run")
    assert carried_out == [0, 1, 2]
    assert summarize(read_ledger(tmp_path / "run")).charged == 3


# --- One process at a time ---


def test_a_second_process_is_refused_in_one_line(tmp_path):
    with Ledger(RunFolder(tmp_path).ledger), pytest.raises(BlockingIOError) as caught:
        Ledger(RunFolder(tmp_path).ledger)
    assert str(caught.value).startswith("`out` must be a run that no other process works on, got")
    assert "\n" not in str(caught.value)
    Ledger(RunFolder(tmp_path).ledger).close()


def test_a_damaged_ledger_is_let_go_of(tmp_path):
    RunFolder(tmp_path).ledger.write_text("no ledger\n")
    for _ in range(2):
        with pytest.raises(LedgerError, match="line 1 is damaged"):
            Ledger(RunFolder(tmp_path).ledger)


def test_a_copy_of_a_ledger_lives_elsewhere(tmp_path):
    path = write(tmp_path, *BEGUN)
    shutil.copytree(tmp_path, tmp_path / "copy")
    places = []
    for each in (path, RunFolder(tmp_path / "copy").ledger, path):
        with Ledger(each) as book:
            places.append(book.place())
    assert places[0] == places[2] != places[1]
