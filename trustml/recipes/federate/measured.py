"""What the rounds of a run cost, and its learning curves: from the trainings that ended."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from trustml.recipes.federate.evaluation import Trained
from trustml.recipes.federate.experiment import Federation
from trustml.recipes.federate.rounds_log import RoundCost
from trustml.report.federated import Costs, FederatedCurve, Period
from trustml.report.measured import Estimate
from trustml.training import FitResult

_BYTES = 4  # of one number on the wire


class StageRun(NamedTuple):
    """One stage that has ended."""

    result: FitResult
    costs: tuple[RoundCost, ...]
    next: Estimate | None  # on the rows of the next period


class Measured(NamedTuple):
    """The trainings of a run, and what its rounds took."""

    stages: tuple[StageRun, ...]
    federated: Trained
    central: Trained | None

    @property
    def rounds(self) -> list[RoundCost]:
        """All rounds of all stages."""
        return [one for stage in self.stages for one in stage.costs]

    @property
    def evaluations(self) -> list[tuple[int, dict[str, Any]]]:
        """Evaluations along the way, with the rounds done before each."""
        found, before = [], 0
        for stage in self.stages:
            found += [(before + one["step"], one) for one in _evaluations(stage.result)]
            before += len(stage.costs)
        return found


def total_costs(federation: Federation, rounds: Sequence[RoundCost]) -> Costs:
    """What all rounds cost together."""
    seconds = [one.seconds for one in rounds if one.seconds is not None]
    return Costs(
        rounds=len(rounds),
        answers=sum(one.answers for one in rounds),
        lost=sum(one.lost for one in rounds),
        examples=sum(one.examples for one in rounds),
        bytes_up=sum(_up(federation, one) for one in rounds),
        bytes_down=sum(_down(federation, one) for one in rounds),
        virtual_seconds=_total(federation, seconds) if seconds else None,
    )


def _total(federation: Federation, seconds: list[float]) -> float:
    # An asynchronous round tells the time since the start.
    return seconds[-1] if federation.kind.asynchronous else sum(seconds)


def _up(federation: Federation, cost: RoundCost) -> int:
    return _message(federation) * cost.answers


def _down(federation: Federation, cost: RoundCost) -> int:
    return _message(federation) * (cost.answers + cost.lost)


def _message(federation: Federation) -> int:
    return _BYTES * federation.kind.vectors * federation.trained_values


def federated_curve(federation: Federation, measured: Measured) -> FederatedCurve:
    """Scores along the rounds of all stages."""
    rounds, found = measured.rounds, measured.evaluations
    examples = [0, *accumulate(one.examples for one in rounds)]
    sent = [0, *accumulate(_up(federation, one) + _down(federation, one) for one in rounds)]
    return FederatedCurve(
        rounds=tuple(done for done, _ in found),
        examples=tuple(examples[done] for done, _ in found),
        bytes=tuple(sent[done] for done, _ in found),
        scores=tuple(_scores(one) for _, one in found),
    )


def central_curve(result: FitResult) -> FederatedCurve:
    """Scores along the steps of central training."""
    seen = [0, *accumulate(one["batch_size"] for one in result.history if "batch_size" in one)]
    found = _evaluations(result)
    return FederatedCurve(
        rounds=tuple(one["step"] for one in found),
        examples=tuple(int(seen[one["step"]]) for one in found),
        bytes=(0,) * len(found),
        scores=tuple(map(_scores, found)),
    )


def periods_of(federation: Federation, measured: Measured) -> tuple[Period, ...] | None:
    """What each period held, and how it fares on the next; None without time."""
    pairs = list(zip(federation.stages, measured.stages, strict=True))
    if pairs[0][0].next is None:
        return None
    return tuple(
        Period(
            clients=len(stage.clients),
            held=int(stage.clients.counts.sum()),
            deleted=stage.deleted,
            examples=sum(one.examples for one in run.costs),
            next=run.next,
        )
        for stage, run in pairs
    )


def _evaluations(result: FitResult) -> list[dict[str, Any]]:
    return [entry for entry in result.history if entry.get("evaluation")]


def _scores(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in entry.items()
        if name not in ("evaluation", "private", "step")
    }
