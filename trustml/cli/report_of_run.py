"""Fills report.json in with what `trustml train` found."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from trustml.cli.judge import METRICS, Side, attack_report, groups_report
from trustml.cli.setting import Setting
from trustml.plan import PrivacyPlan
from trustml.report import clipping, learning, mean_of, report_frame
from trustml.training.conditions import versions
from trustml.training.ledger import read_ledger, summarize


def describe(setting: Setting, plan: PrivacyPlan) -> dict[str, Any]:
    """What is known of a run before it begins, as the report shows it."""
    config, preset, train = setting.config, setting.preset, setting.train_corpus
    return {
        "delta": preset.delta,
        "budget_epsilon": preset.epsilon,
        "plan": plan.to_dict(),
        "data": {
            "name": train.name,
            "synthetic": train.synthetic,
            "source": train.source,
            "privacy_unit": train.privacy_unit,
            "train": setting.units,
            "held_out": len(setting.canaries.nonmembers),
            "judged_on": config.on,
            "judged": len(setting.judged),
        },
        "model": {"network": preset.network, **preset.sizes, "buckets": preset.buckets},
        "training": {
            "private": dataclasses.asdict(preset.private),
            "baseline": dataclasses.asdict(preset.baseline) if config.baseline else None,
            "pretraining": None
            if preset.pretraining is None
            else dataclasses.asdict(preset.pretraining),
            "strategy": config.strategy,
            "microbatch": config.microbatch,
        },
        "notes": list(preset.disclosures),
    }


def network_config(setting: Setting) -> dict[str, Any]:
    """What rebuilds the network. Public: nothing here is read off the rows."""
    preset, corpus = setting.preset, setting.train_corpus
    return {
        "architectures": ["trustml.models.nlu"],
        "kind": preset.network,
        "sizes": dict(preset.sizes),
        "intents": list(corpus.intents),
        "slots": list(corpus.slots),
        "tokenizer": {"kind": "hash", "buckets": preset.buckets},
        "max_length": preset.evaluation_length,
        "dtype": "float32",
    }


def make_report(
    setting: Setting,
    plan: PrivacyPlan,
    sides: dict[str, list[Side]],
    timing: dict[str, Any],
    folder: Path,
    place: Path,
) -> dict[str, Any]:
    """The whole report of a run that has ended.

    Args:
      setting: Shared by all trainings.
      plan: Of the private ones.
      sides: What each found, one entry a repeat.
      timing: By `time_steps`.
      folder: Of the run, which names it.
      place: Of the first private training, with its ledger.
    """
    preset, config = setting.preset, setting.config
    first = {name: runs[0] for name, runs in sides.items()}
    stopped = {side.result.stopped for side in sides["private"]}
    status = stopped.pop() if len(stopped) == 1 else "stopped early"
    report = report_frame(
        name=folder.resolve().name,
        summary=summarize(read_ledger(place)),
        plan=plan,
        delta=preset.delta,
        status=status,
        repeats=config.repeats,
    )
    described = describe(setting, plan)
    for name in ("data", "model", "training"):
        report[name] |= described[name]
    report["privacy"]["budget_epsilon"] = preset.epsilon
    return report | {
        "results": {
            name: _results(name, runs, timing[name], report["privacy"]["epsilon"])
            for name, runs in sides.items()
        },
        "metrics": METRICS,
        "attack": attack_report(setting, first, preset.delta),
        "groups": groups_report(setting, first),
        "timing": {
            "batch": plan.expected_batch,
            "sides": {name: side._asdict() for name, side in timing.items()},
        },
        "clipping": clipping(first["private"].result.history, plan.to_dict()["clip_norm"]),
        "learning": {name: learning(side.result.history) for name, side in first.items()},
        "notes": _notes(setting, sides, described["notes"]),
        "versions": versions(),
    }


def _results(name: str, runs: list[Side], timing, epsilon) -> dict[str, Any]:
    metrics = {}
    for metric in runs[0].metrics:
        found = [run.metrics[metric] for run in runs]
        one = found[0] if len(found) == 1 else mean_of([each.value for each in found])
        metrics[metric] = one._asdict()
    return {
        "epsilon": epsilon if name == "private" else None,
        "metrics": metrics,
        "step_ms": timing.step_ms,
        "train_seconds": float(np.mean([run.result.seconds for run in runs])),
        "runs": [run.scores for run in runs],
    }


def _notes(setting: Setting, sides, disclosures: list[str]) -> list[str]:
    notes, repeats = list(disclosures), setting.config.repeats
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
