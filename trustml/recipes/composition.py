"""What several runs on one data set cost together, from their ledgers."""

import collections
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from trustml.plan import Charge, PrivacyPlan, composed_epsilon
from trustml.plan.charges import epsilon_with, total_charge
from trustml.training.runs.entries import Summary
from trustml.training.runs.folder import RunFolder
from trustml.training.runs.ledger import read_ledger, summarize
from trustml.training.runs.validation import SCHEMA


class RunCost(NamedTuple):
    """What one run has spent so far."""

    run: str  # its folder
    steps: int  # charged
    planned: int
    ended: bool
    epsilon: float


class Total(NamedTuple):
    """Runs on one data set, and what they cost together."""

    source: str  # fingerprint of the data
    epsilon: float
    runs: tuple[RunCost, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The document that `trustml plan --ledger --json` prints, infinities included."""
        runs = [run._asdict() for run in self.runs]
        return {**self._asdict(), "runs": runs, "notes": list(self.notes)}


def compose(folders: Sequence[Path], delta: float) -> list[Total]:
    """The cost of the runs in some folders, added up by data set.

    A run that stopped early counts in full: when to stop was learned from its releases. Copies of
    one run that went on separately count their common part once.

    >>> compose([], delta=1e-5)
    []

    Args:
      folders: Of runs; a run with several repeats counts each.
      delta: At which epsilon is computed.

    Raises:
      ValueError: A folder holds no ledger, or a damaged one, or runs that cannot be composed.
    """
    if not (0 < delta < 1):
        raise ValueError(f"`--delta` must be in (0, 1), got {delta!r}.")
    sources: dict[str, list[_Ledger]] = {}
    for folder in folders:
        for training in RunFolder(folder).trainings() or [RunFolder(folder)]:
            ledger = _read(training.path)
            sources.setdefault(ledger.entries[0]["source"], []).append(ledger)
    return [_total(source, ledgers, delta) for source, ledgers in sources.items()]


class _Ledger(NamedTuple):
    folder: Path
    entries: list[dict[str, Any]]


def _read(folder: Path) -> _Ledger:
    entries = read_ledger(folder)
    if (found := entries[0].get("schema")) != SCHEMA:
        raise ValueError(
            f"`ledger` must be of format {SCHEMA}, got {folder} of format {found!r}. Add it up "
            "with the version of trustml that wrote it."
        )
    return _Ledger(folder, entries)


class _Spent(NamedTuple):
    """What one ledger adds to the total: what no other ledger counts."""

    plan: PrivacyPlan | None  # None where the training never began
    steps: int
    charges: tuple[Charge, ...]
    cost: RunCost


def _total(source: str, ledgers: list[_Ledger], delta: float) -> Total:
    spent: list[_Spent] = []
    notes: list[str] = []
    keys: collections.Counter[str] = collections.Counter()
    counted: set[str] = set()  # releases beside trainings, which repeats share
    copies: dict[str, list] = {}  # entries of the ledgers of one run, by the hash of its first
    for ledger in ledgers:
        summary = summarize(ledger.entries)
        if summary.run and not summary.run["private_training"]:
            notes.append(
                f"{ledger.folder} is a baseline: its weights must stay private, and nothing is "
                "added"
            )
            continue
        earlier = copies.setdefault(ledger.entries[0]["hash"], [])
        common = max((_common(ledger.entries, other) for other in earlier), default=0)
        earlier.append(ledger.entries)
        shared = summarize(ledger.entries[:common])
        keys.update(_keys(summary) - _keys(shared))
        spent.append(_spent(ledger.folder, summary, shared, delta, counted))
        counted |= set(summary.releases)
        notes += _notes_of(ledger.folder, summary, spent[-1], common)
    epsilon = _together(spent, delta)
    if any(count > 1 for count in keys.values()):
        epsilon = math.inf
        notes.append(
            "two of these runs have one noise key, by one seed: where their data differ in a row, "
            "the difference of their weights shows it without noise, and nothing is promised"
        )
    if len(spent) > 1:
        notes.append("the sum holds if no run's plan was chosen by what an earlier one had given")
    return Total(source, epsilon, tuple(one.cost for one in spent), tuple(notes))


def _together(spent: list[_Spent], delta: float) -> float:
    """Epsilon of all steps as one run, and of what was released beside them."""
    epsilon, taken = total_charge([charge for one in spent for charge in one.charges])
    if taken >= delta:
        return math.inf
    runs = [(one.plan, one.steps) for one in spent if one.plan is not None]
    return epsilon + composed_epsilon(runs, delta=delta - taken)


def _spent(
    folder: Path, summary: Summary, shared: Summary, delta: float, counted: set[str]
) -> _Spent:
    """What a ledger adds, and what its run costs by itself; `counted` are releases of others."""
    own = {name: one for name, one in summary.releases.items() if name not in shared.releases}
    beside, new = (
        tuple(own.values()),
        tuple(one for name, one in own.items() if name not in counted),
    )
    if not summary.run:
        cost = RunCost(str(folder), 0, 0, False, total_charge(beside)[0])
        return _Spent(None, 0, new, cost)
    plan = PrivacyPlan.from_dict(summary.run["plan"])
    steps = _steps(summary)
    if plan.noise_decay == 1:  # else later steps cost more than as many first ones
        steps = max(0, steps - shared.charged)
    epsilon = math.inf
    if total_charge(beside)[1] < delta:
        epsilon = epsilon_with(plan, beside, delta, steps=steps)
    cost = RunCost(str(folder), steps, plan.steps, summary.end is not None, epsilon)
    return _Spent(plan, steps, new, cost)


def _notes_of(folder: Path, summary: Summary, spent: _Spent, common: int) -> list[str]:
    notes = []
    if summary.end is None:
        notes.append(
            f"{folder} has not ended: its part is that of the steps so far, if nothing that the "
            "run showed decides whether it goes on; else that of all its steps"
        )
    for charge in spent.charges:
        notes.append(
            f"{folder} released the {charge.what} before its training: epsilon "
            f"{charge.epsilon} at delta {charge.delta} of it"
        )
    if common and spent.plan is not None and spent.plan.noise_decay == 1:
        notes.append(
            f"{folder} is a copy of another run given here; they differ from line {common + 1} of "
            "the ledger on, and their common part counts once"
        )
    return notes


def _steps(summary: Summary) -> int:
    stopped = summary.end is not None and summary.end["reason"] == "stopped early"
    return summary.run["plan"]["steps"] if stopped else summary.charged


def _keys(summary: Summary) -> set[str]:
    return {segment.key for segment in summary.segments}


def _common(entries, other) -> int:
    """Length of the common beginning of two ledgers."""
    pairs = zip(entries, other, strict=False)
    different = (line for line, (a, b) in enumerate(pairs) if a["hash"] != b["hash"])
    return next(different, min(len(entries), len(other)))
