"""What several runs on one data set cost together, from their ledgers."""

import collections
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from trustml.plan import PrivacyPlan, composed_epsilon
from trustml.training.runs.entries import Summary
from trustml.training.runs.folder import RunFolder
from trustml.training.runs.ledger import read_ledger, summarize


class Total(NamedTuple):
    """Runs on one data set, and what they cost together."""

    source: str  # fingerprint of the data
    epsilon: float
    runs: list[dict[str, Any]]  # one entry a ledger
    notes: list[str]


def compose(folders: Sequence[Path], delta: float) -> list[Total]:
    """Adds up what ledgers say was spent, by data set.

    A run that stopped early counts in full: when to stop was learned from its releases. Copies of
    one run that went on apart count their common part once.

    Raises:
      ValueError: A folder holds no ledger, or a damaged one, or runs that cannot be composed.
    """
    if not (0 < delta < 1):
        raise ValueError(f"`--delta` must be in (0, 1), got {delta!r}.")
    found = [(place, read_ledger(place)) for folder in folders for place in _places(folder)]
    sources: dict[str, list] = {}
    for place, entries in found:
        sources.setdefault(entries[0]["source"], []).append((place, entries))
    return [_total(source, runs, delta) for source, runs in sources.items()]


def _places(folder: Path) -> list[Path]:
    """The private trainings in a folder."""
    return [one.path for one in RunFolder(folder).trainings()] or [folder]


def _total(source: str, runs: list, delta: float) -> Total:
    spent, rows, notes = [], [], []
    keys: collections.Counter[str] = collections.Counter()
    seen: dict[str, list] = {}  # ledgers of one run by its id
    for place, entries in runs:
        summary = summarize(entries)
        if not summary.run["private_training"]:
            notes.append(
                f"{place} is a baseline: its weights must stay private, and nothing is added"
            )
            continue
        copies = seen.setdefault(summary.run["id"], [])
        common = max((_common(entries, other) for other in copies), default=0)
        copies.append(entries)
        shared = {segment.key for segment in summarize(entries[:common]).segments}
        keys.update({segment.key for segment in summary.segments} - shared)
        steps = _steps(summary)
        if summary.end is None:
            notes.append(
                f"{place} has not ended: its part is that of the steps so far, if nothing that the "
                "run showed decides whether it goes on; else that of all its steps"
            )
        plan = PrivacyPlan.from_dict(summary.run["plan"])
        if common and plan.noise_decay == 1:  # else later steps cost more than as many first ones
            steps = max(0, steps - summarize(entries[:common]).charged)
            notes.append(
                f"{place} is a copy of another run given here; from line {common + 1} of the "
                "ledger on they went apart, and their common part counts once"
            )
        spent.append((plan, steps))
        rows.append(
            {
                "run": str(place),
                "steps": steps,
                "planned": plan.steps,
                "ended": summary.end is not None,
                "epsilon": plan.epsilon(delta, steps=steps),
            }
        )
    total = composed_epsilon(spent, delta=delta)
    if any(count > 1 for count in keys.values()):
        total = math.inf
        notes.append(
            "two of these runs have one noise key, by one seed: where their data differ in a row, "
            "the difference of their weights shows it without noise, and nothing is promised"
        )
    if len(spent) > 1:
        notes.append("the sum holds if no run's plan was chosen by what an earlier one had given")
    return Total(source, total, rows, notes)


def _steps(summary: Summary) -> int:
    stopped = summary.end is not None and summary.end["reason"] == "stopped early"
    return summary.run["plan"]["steps"] if stopped else summary.charged


def _common(entries, other) -> int:
    """Length of the common beginning of two ledgers."""
    pairs = zip(entries, other, strict=False)
    apart = (place for place, (a, b) in enumerate(pairs) if a["hash"] != b["hash"])
    return next(apart, min(len(entries), len(other)))
