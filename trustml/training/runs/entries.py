"""Adds ledger entries up to the state of a run; refuses those that no correct run writes."""

import dataclasses
from collections.abc import Callable
from typing import Any

from trustml.plan.charges import Charge

START = "0" * 64  # the hash before the first entry


@dataclasses.dataclass
class Segment:
    """The steps under one noise key."""

    number: int
    key: str  # fingerprint of its secrets; two segments never share one
    start: int
    stop: int  # first step that was not reserved
    reason: str
    conditions: dict[str, Any]
    place: str
    since: int  # first step under `conditions`
    digests: dict[int, str] = dataclasses.field(default_factory=dict)

    @property
    def charged(self) -> int:
        """Releases that count against the budget."""
        return self.stop - self.start


@dataclasses.dataclass
class Summary:
    """The state of a run, by the entries of its ledger."""

    releases: dict[str, Charge] = dataclasses.field(default_factory=dict)  # beside the training
    run: dict[str, Any] = dataclasses.field(default_factory=dict)
    segments: list[Segment] = dataclasses.field(default_factory=list)
    checkpoints: list[dict[str, Any]] = dataclasses.field(default_factory=list)  # the latest two
    end: dict[str, Any] | None = None
    head: str = START  # hash of the last entry
    floor: int = 0  # what earlier processes reserved in this segment: it may have been released

    @property
    def charges(self) -> list[Charge]:
        """What was released beside the training, before it."""
        return list(self.releases.values())

    @property
    def charged(self) -> int:
        """Releases that count against the budget, over all keys."""
        return sum(segment.charged for segment in self.segments)

    @property
    def last_step(self) -> int:
        """The step at which the last segment must stop so that all charges stay in the plan."""
        planned, segment = self.run["plan"]["steps"], self.segments[-1]
        if not self.run["private_training"]:
            return planned
        return min(planned, segment.start + planned - (self.charged - segment.charged))


def add_entry(summary: Summary, entry: dict[str, Any]) -> str | None:
    """Adds one entry; returns what is wrong with it, if anything."""
    kind = entry["entry"]
    if kind == "release":
        if summary.run:
            return "a release beside the training after the run had begun"
        charge = Charge(**{name: entry[name] for name in Charge._fields})
        summary.releases[entry["id"]] = charge  # several repeats share one
        return None
    if (kind == "run") == bool(summary.run):
        return "a run must begin with one entry `run`, after what was released before it"
    if kind not in ("run", "segment", *_ADD):
        return f"an unknown entry `{kind}`"
    if summary.end is not None:
        return "an entry after the end"
    if kind == "run":
        summary.run = entry
        return None
    if kind == "segment":
        return _add_segment(summary, entry)
    if not summary.segments:
        return f"`{kind}` before any segment"
    return _ADD[kind](summary, summary.segments[-1], entry)


def _add_segment(summary: Summary, entry) -> str | None:
    if any(entry["key"] == segment.key for segment in summary.segments):
        return "a key that an earlier segment used: its noise would be used twice"
    names = ("number", "key", "start", "reason", "conditions", "place")
    fields = {name: entry[name] for name in names}
    summary.segments.append(Segment(stop=entry["start"], since=entry["start"], **fields))
    summary.floor = entry["start"]
    summary.checkpoints = _until(entry["start"], summary.checkpoints)
    return None


def _add_open(summary: Summary, segment: Segment, entry) -> None:
    summary.floor = segment.stop
    if "conditions" in entry:
        segment.conditions, segment.since = entry["conditions"], segment.stop


def _add_reservation(summary: Summary, segment: Segment, entry) -> str | None:
    start, digest = entry["start"], entry["state"]
    if start < segment.start:
        return f"step {start} lies before the segment, which begins at {segment.start}"
    if start > segment.stop:
        return f"steps {segment.stop} to {start - 1} were not reserved"
    if segment.digests.setdefault(start, digest) != digest:
        return f"the noise of step {start} was used for two different states"
    segment.stop = max(segment.stop, entry["stop"])
    planned = summary.run["plan"]["steps"]
    if summary.run["private_training"] and summary.charged > planned:
        return f"{summary.charged} steps were charged, of {planned} in the plan"
    return None


def _add_settlement(summary: Summary, segment: Segment, entry) -> None:
    segment.stop = max(summary.floor, min(segment.stop, entry["stop"]))


def _add_checkpoint(summary: Summary, segment: Segment, entry) -> str | None:
    if entry["step"] > segment.stop:
        return f"step {entry['step']} is on disk but was not reserved"
    # One of this step or a later one was damaged, or this step would not have been repeated.
    summary.checkpoints = [*_until(entry["step"] - 1, summary.checkpoints)[-1:], entry]
    # No process goes back behind the older of two checkpoints.
    oldest = summary.checkpoints[0]["step"]
    segment.digests = {step: value for step, value in segment.digests.items() if step >= oldest}
    return None


def _until(step: int, checkpoints):
    return [entry for entry in checkpoints if entry["step"] <= step]


def _add_end(summary: Summary, segment: Segment, entry) -> None:
    del segment
    summary.end = entry


_ADD: dict[str, Callable] = {
    "open": _add_open,
    "reserve": _add_reservation,
    "settle": _add_settlement,
    "checkpoint": _add_checkpoint,
    "end": _add_end,
}
