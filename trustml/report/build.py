"""Puts report.json together from what a run found; `schema.json` describes every field."""

import datetime
import math
from collections.abc import Sequence
from typing import Any

from trustml.plan import PrivacyPlan
from trustml.report.schema import SCHEMA_VERSION
from trustml.training.runs.entries import Summary

PRIVATE = (
    "results, attack, groups, timing, clipping, learning: computed on people's rows without noise"
)
_MARKS = 20


def report_frame(
    *, name: str, summary: Summary, plan: PrivacyPlan, delta: float, status: str, repeats: int = 1
) -> dict[str, Any]:
    """A report of what the ledger of a run says; whoever has more fills it in.

    Args:
      name: Of the run, for the title.
      summary: Of its ledger.
      plan: Its plan.
      delta: For every epsilon.
      status: "complete", "stopped early", "budget spent" or "unfinished".
      repeats: Private trainings of the call.
    """
    run = summary.run
    return {
        "schema_version": SCHEMA_VERSION,
        "private": PRIVATE,
        "status": status,
        "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "run": {
            "name": name,
            "id": run["id"],
            "repeats": repeats,
            "seeded": run["reproducible"],
        },
        "data": {"name": "unknown", "privacy_unit": plan.unit, "fingerprint": run["source"]},
        "model": {},
        "training": {},
        "plan": plan.to_dict(),
        "privacy": privacy(plan, delta, summary, status, repeats),
        "results": None,
        "metrics": [],
        "attack": None,
        "groups": None,
        "timing": None,
        "clipping": None,
        "learning": None,
        "ledger": {
            "file": "ledger.jsonl",
            "head": summary.head,
            "segments": [
                {
                    "number": segment.number,
                    "start": segment.start,
                    "charged": segment.charged,
                    "reason": segment.reason,
                }
                for segment in summary.segments
            ],
        },
        "notes": [],
        "versions": {},
    }


def privacy(plan: PrivacyPlan, delta: float, summary: Summary, status: str, repeats: int) -> dict:
    """The claim: of all steps once a run has ended, of those charged so far before.

    A run that stopped early learned from its releases when to stop, so that the claim stays that
    of all steps.
    """
    charged = summary.charged
    claimed = charged if status == "unfinished" else plan.steps
    parts = {max(1, round(plan.steps * part / _MARKS)) for part in range(1, _MARKS + 1)}
    marks = sorted({1, *parts})  # a first step costs more than its share
    epsilon = plan.epsilon(delta, steps=claimed)
    curve = [[steps, _finite(plan.epsilon(delta, steps=steps, coarse=True))] for steps in marks]
    curve[-1][1] = _finite(plan.epsilon(delta))
    reproducible = summary.run["reproducible"]
    return {
        "epsilon": _finite(epsilon),
        "delta": delta,
        "budget_epsilon": None,
        "adjacency": plan.adjacency,
        "unit": plan.unit,
        "steps_planned": plan.steps,
        "steps_charged": charged,
        "epsilon_by_steps": curve,
        "statement": plan.statement(delta, steps=claimed, reproducible=reproducible),
        "segments": len(summary.segments),
        "composed_runs": repeats,
    }


def clipping(history: Sequence[dict], clip_norm: Any) -> dict | None:
    """How much the bound cut, over steps. Private."""
    steps = [entry for entry in history if "clipped" in entry]
    if not steps:
        return None
    return {
        "clip_norm": clip_norm,
        "steps": [entry["step"] for entry in steps],
        "clipped_share": [_finite(entry["clipped"]) for entry in steps],
        "mean_norm": [_finite(entry["norm"]) for entry in steps],
        "dropped": sum(entry["dropped"] for entry in steps),
    }


def learning(history: Sequence[dict]) -> dict:
    """Loss over steps, and evaluations. Private."""
    steps = [entry for entry in history if "loss" in entry and "evaluation" not in entry]
    evaluations = [
        {name: value for name, value in entry.items() if name not in ("evaluation", "private")}
        for entry in history
        if entry.get("evaluation")
    ]
    return {
        "steps": [entry["step"] for entry in steps],
        "loss": [_finite(entry["loss"]) for entry in steps],
        "evaluations": evaluations,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
