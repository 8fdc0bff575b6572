"""Puts a report together from what a run measured."""

import dataclasses
import datetime
import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trustml.plan import Charge, PrivacyPlan
from trustml.plan.charges import epsilon_with
from trustml.report.claim import Ledger, LedgerSegment, Plan, Privacy, Release
from trustml.report.document import PRIVATE, SCHEMA_VERSION, Data, Report, Run, Status
from trustml.report.measured import ArmLearning, Clipping
from trustml.training.runs.entries import Summary
from trustml.training.runs.folder import RunFolder

_MARKS = 20


def report_frame(
    *,
    name: str,
    summary: Summary,
    plan: PrivacyPlan | None,
    delta: float,
    status: Status,
    repeats: int = 1,
    budget_epsilon: float | None = None,
    unit: str | None = None,
) -> Report:
    """A report of what the ledger of a run says; `dataclasses.replace` adds the rest.

    Args:
      name: Of the run, for the title.
      summary: Of its ledger.
      plan: Its plan; None where a federated run has none.
      delta: For every epsilon.
      status: How the run ended.
      repeats: Private trainings of the call.
      budget_epsilon: Epsilon that the run may not exceed.
      unit: What one unit is, where no plan says it.
    """
    run = summary.run
    segments = (
        LedgerSegment(one.number, one.start, one.charged, one.reason) for one in summary.segments
    )
    return Report(
        schema_version=SCHEMA_VERSION,
        private=PRIVATE,
        status=status,
        made=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        run=Run(name, run["id"], repeats, run["reproducible"]),
        data=Data("unknown", plan.unit if plan else unit or "client", run["source"]),
        model={},
        training=None,
        plan=Plan(**plan.to_dict()) if plan else None,
        privacy=_privacy(plan, delta, summary, status, repeats, budget_epsilon)
        if plan
        else _nothing_promised(summary, unit or "client"),
        metrics=(),
        ledger=Ledger(RunFolder(Path()).ledger.name, summary.head, tuple(segments)),
        notes=(),
        versions={},
    )


def with_data(report: Report, data: Data) -> Report:
    """The report on these data; its statement gets a line on what of them is assumed public."""
    statement = report.privacy.statement
    if data.assumed_public:
        listed = "; ".join(data.assumed_public)
        statement = f"{statement.rstrip()}\nAssumed public, though read off the data: {listed}."
    privacy = dataclasses.replace(report.privacy, statement=statement)
    return dataclasses.replace(report, data=data, privacy=privacy)


def _privacy(
    plan: PrivacyPlan,
    delta: float,
    summary: Summary,
    status: Status,
    repeats: int,
    budget_epsilon: float | None,
) -> Privacy:
    """The claim: about all steps once a run has ended, about those charged so far before.

    A run that stopped early learned from its releases when to stop, so that the claim stays that
    of all steps.
    """
    charged = summary.charged
    claimed = charged if status == "unfinished" else plan.steps
    reproducible, charges = summary.run["reproducible"], tuple(summary.charges)
    return Privacy(
        epsilon=_finite(epsilon_with(plan, charges, delta, steps=claimed)),
        delta=delta,
        budget_epsilon=budget_epsilon,
        adjacency=plan.adjacency,  # type: ignore[arg-type]  # the plan has checked it
        unit=plan.unit,
        steps_planned=plan.steps,
        steps_charged=charged,
        epsilon_by_steps=_curve(plan, charges, delta),
        released_before=tuple(Release(*charge) for charge in charges) or None,
        statement=plan.statement(delta, steps=claimed, reproducible=reproducible, charges=charges),
        segments=len(summary.segments),
        composed_runs=repeats,
    )


def _nothing_promised(summary: Summary, unit: str) -> Privacy:
    """Of a training without a plan."""
    return Privacy(
        epsilon=None,
        delta=0.0,
        budget_epsilon=None,
        adjacency="add-or-remove-one",
        unit=unit,
        steps_planned=summary.run["plan"]["steps"],
        steps_charged=summary.charged,
        epsilon_by_steps=(),
        statement=f"Promise: none. No plan bounds what the model tells about one {unit}.",
        segments=len(summary.segments),
        composed_runs=1,
    )


def _curve(
    plan: PrivacyPlan, charges: Sequence[Charge], delta: float
) -> tuple[tuple[int, float | None], ...]:
    parts = {max(1, round(plan.steps * part / _MARKS)) for part in range(1, _MARKS + 1)}
    *before, last = sorted({1, *parts})  # a first step costs more than its share
    epsilon = functools.partial(epsilon_with, plan, charges, delta)
    coarse = ((steps, epsilon(steps=steps, coarse=True)) for steps in before)
    exact = (last, epsilon())
    return tuple((steps, _finite(epsilon)) for steps, epsilon in [*coarse, exact])


def clipping(history: Sequence[dict[str, Any]], clip_norm: Any) -> Clipping | None:
    """How much the bound cut, over steps. Private.

    >>> clipping([{"step": 1, "clipped": 0.5, "norm": 2.0, "dropped": 0}], 1.0).mean_norm
    (2.0,)

    Args:
      history: Entries of the metrics log.
      clip_norm: Of the plan.
    """
    steps = [entry for entry in history if "clipped" in entry]
    if not steps:
        return None
    return Clipping(
        clip_norm,
        tuple(entry["step"] for entry in steps),
        tuple(_finite(entry["clipped"]) for entry in steps),
        tuple(_finite(entry["norm"]) for entry in steps),
        sum(entry["dropped"] for entry in steps),
    )


def learning(history: Sequence[dict[str, Any]]) -> ArmLearning:
    """Loss over steps, and evaluations. Private.

    >>> learning([{"step": 1, "loss": float("inf")}, {"step": 2, "loss": 0.5}]).loss
    (None, 0.5)
    """
    steps = [entry for entry in history if "loss" in entry and "evaluation" not in entry]
    evaluations = (
        {name: value for name, value in entry.items() if name not in ("evaluation", "private")}
        for entry in history
        if entry.get("evaluation")
    )
    return ArmLearning(
        tuple(entry["step"] for entry in steps),
        tuple(_finite(entry["loss"]) for entry in steps),
        tuple(evaluations),
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
