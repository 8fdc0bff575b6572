"""Fills report.json in with what `trustml train` found."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from trustml.formatting import plural
from trustml.models.tasks.units import PRESENT
from trustml.recipes.train.evaluation import ArmResult, attack_report, groups_report
from trustml.recipes.train.experiment import Experiment
from trustml.report import clipping, learning, report_frame
from trustml.stats import mean_estimate
from trustml.training.runs.environment import versions
from trustml.training.runs.ledger import read_ledger, summarize


def describe(experiment: Experiment) -> dict[str, Any]:
    """What is known of a run before it begins, as the report shows it."""
    config, train = experiment.config, experiment.parts.train
    return {
        "delta": experiment.delta,
        "budget_epsilon": experiment.epsilon,
        "plan": experiment.plan.to_dict(),
        "data": {
            "name": train.name,
            "synthetic": train.synthetic,
            "source": train.source,
            "privacy_unit": experiment.unit,
            "train": experiment.num_units,
            "held_out": len(experiment.canaries.left_out),
            "judged_on": config.eval_split,
            "judged": len(experiment.evaluated),
            "max_examples_per_unit": config.max_examples_per_unit,
        },
        "model": experiment.model.describe(),
        "training": {
            "private": dataclasses.asdict(experiment.private),
            "baseline": dataclasses.asdict(experiment.baseline) if config.baseline else None,
            "pretraining": experiment.model.pretraining_steps,
            "strategy": config.strategy,
            "physical_batch_size": config.physical_batch_size,
        },
        "notes": [
            *experiment.task.disclosures,
            f"settings: {experiment.tuned_on}",
            *_notes_on_units(experiment),
            *_notes_on_canaries(experiment),
        ],
    }


def _notes_on_units(experiment: Experiment) -> list[str]:
    """What is protected, and what of it is read."""
    train, most = experiment.parts.train, experiment.config.max_examples_per_unit
    notes = []
    if experiment.unit == train.unit and train.owner_kind is not None:
        notes.append(
            f"one {train.owner_kind} may have several {plural(train.unit)}: one {train.unit} is "
            f"protected, not the {train.owner_kind}; `--unit` protects that"
        )
    if PRESENT in experiment.units or experiment.task.kind == "lm":
        pieces = "piece" if most == 1 else "pieces"
        notes.append(
            f"of one {experiment.unit} at most {most} {pieces} of text of "
            f"{experiment.model.max_length} tokens are trained on; the rest is left out, in "
            "the baseline too"
        )
    return notes


def _notes_on_canaries(experiment: Experiment) -> list[str]:
    """What the audit put into the training."""
    coins, notes = experiment.canaries, []
    if wrong := len(coins.wrong_members):
        notes.append(
            f"the training data hold {wrong} {plural(experiment.unit)} with a wrong label, which "
            "the audit put there; both models were trained on them"
        )
    if number := len(coins.gradients):
        inside = coins.gradients.sum()
        notes.append(
            f"the private training carried {number} gradient canaries, of which {inside} "
            "took part as units of their own: they are counted in the plan, move no weight of the "
            "model, and lie beside it in weights.safetensors, which `trustml export` leaves out"
        )
    return notes


def metrics_shown(experiment: Experiment) -> list[dict[str, Any]]:
    """What the report says of each metric."""
    return [
        {
            "name": metric.name,
            "label": metric.label,
            "percent": metric.percent,
            "lower_is_better": metric.lower_is_better,
        }
        for metric in experiment.task.scoring.metrics
    ]


def make_report(
    experiment: Experiment,
    sides: dict[str, list[ArmResult]],
    timing: dict[str, Any],
    folder: Path,
    place: Path,
) -> dict[str, Any]:
    """The whole report of a run that has ended.

    Args:
      experiment: Shared by all trainings.
      sides: What each found, one entry a repeat.
      timing: By `time_steps`.
      folder: Of the run, which names it.
      place: Of the first private training, with its ledger.
    """
    config, plan = experiment.config, experiment.plan
    first = {name: runs[0] for name, runs in sides.items()}
    stopped = {side.result.stopped for side in sides["private"]}
    status = stopped.pop() if len(stopped) == 1 else "stopped early"
    report = report_frame(
        name=folder.resolve().name,
        summary=summarize(read_ledger(place)),
        plan=plan,
        delta=experiment.delta,
        status=status,
        repeats=config.repeats,
    )
    described = describe(experiment)
    for name in ("data", "model", "training"):
        report[name] |= described[name]
    report["privacy"]["budget_epsilon"] = experiment.epsilon
    return report | {
        "results": {
            name: _results(name, runs, timing[name], report["privacy"]["epsilon"])
            for name, runs in sides.items()
        },
        "metrics": metrics_shown(experiment),
        "attack": attack_report(experiment, first, experiment.delta),
        "groups": groups_report(experiment, first),
        "timing": {
            "batch": plan.expected_batch,
            "sides": {name: side._asdict() for name, side in timing.items()},
        },
        "clipping": clipping(first["private"].result.history, plan.to_dict()["clip_norm"]),
        "learning": {name: learning(side.result.history) for name, side in first.items()},
        "notes": _notes(experiment, sides, described["notes"]),
        "versions": versions(),
    }


def _results(name: str, runs: list[ArmResult], timing, epsilon) -> dict[str, Any]:
    metrics = {}
    for metric in runs[0].metrics:
        found = [run.metrics[metric] for run in runs]
        one = found[0] if len(found) == 1 else mean_estimate([each.value for each in found])
        metrics[metric] = one._asdict()
    return {
        "epsilon": epsilon if name == "private" else None,
        "metrics": metrics,
        "step_ms": timing.step_ms,
        "train_seconds": float(np.mean([run.result.seconds for run in runs])),
        "runs": [run.scores for run in runs],
    }


def _notes(experiment: Experiment, sides, disclosures: list[str]) -> list[str]:
    notes, repeats = list(disclosures), experiment.config.repeats
    if repeats > 1:
        notes.append(
            f"{repeats} private runs on one data set compose: publish one of them, or add their "
            "budgets"
        )
    if any(side.result.stopped == "stopped early" for side in sides["private"]):
        notes.append(
            "stopped early by scores on generated rows: when to stop was learned from the "
            "releases, so the claim stays that of all steps"
        )
    for name, runs in sides.items():
        for run in runs:
            notes += [f"{name}: {note}" for note in run.result.notes]
    return notes
