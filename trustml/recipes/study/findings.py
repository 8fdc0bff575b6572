"""What a study found: a row for each cell, correlations with the claim, what all cost together."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trustml.formatting import round_down, round_up
from trustml.recipes.composition import compose
from trustml.recipes.study.grid import Cell, Study
from trustml.report.words import SEEDED
from trustml.stats import rank_correlation
from trustml.training.runs.ledger import read_ledger, summarize

PRIVATE = "utility, attacks and audits were measured on people's rows without noise"
FALSE_ALARMS = 0.01
EDP_SGD = (
    "edp-sgd bounds means by layer: a gradient canary is one of many units in a mean and has the "
    "bound of one layer, while the noise is that of all. Its audit is weak by construction: a low "
    "audited epsilon says little there. Learning rates are those that the preset has for exact "
    "clipping; a lower utility may be due to them."
)


def row_of(cell: Cell, report: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What a cell's report says that a study compares."""
    privacy, results = report["privacy"], report["results"]["private"]
    found = _attack(report, "private")
    bound, claimed = found["audited"], privacy["epsilon"]
    return {
        **_identity(cell),
        "epsilon": claimed,
        "delta": privacy["delta"],
        "status": report["status"],
        "metrics": results["metrics"],
        **found,
        "contradicted": bound is not None and claimed is not None and bound["value"] > claimed,
        "step_ms": results["step_ms"],
        "folder": str(folder),
    }


def _identity(cell: Cell) -> dict[str, Any]:
    asked = cell._asdict()
    return {"cell": cell.name, "budget_epsilon": asked.pop("epsilon"), **asked}


def baseline_of(cell: Cell, report: dict[str, Any], folder: Path) -> dict[str, Any] | None:
    """The same of the training without privacy, if the cell has one."""
    side = report["results"].get("baseline")
    if side is None:
        return None
    return {
        "model": cell.model,
        "metrics": side["metrics"],
        **_attack(report, "baseline"),
        "step_ms": side["step_ms"],
        "folder": str(folder),
    }


def _attack(report, side: str) -> dict[str, Any]:
    found = ((report["attack"] or {}).get("sides") or {}).get(side) or {}
    rates = {one["rate"]: one["tpr"] for one in found.get("tpr_at_fpr") or ()}
    return {
        "attack_auc": found.get("auc"),
        "tpr_at_1_percent": rates.get(FALSE_ALARMS),
        "audited": found.get("epsilon_lower_bound"),
        "audits": found.get("audits") or [],
    }


def correlations(rows: Sequence[dict], metrics: Sequence[dict]) -> list[dict[str, Any]]:
    """Claimed epsilon against everything that was found, over all cells and over parts of them."""
    found = []
    for over, kept in _groups(rows).items():
        for name, values in _outcomes(kept, metrics).items():
            known = [
                (row, value)
                for row, value in zip(kept, values, strict=True)
                if value is not None and row["epsilon"] is not None
            ]
            kinds = [(row["model"], row["mechanism"]) for row, _ in known]
            numbers = {kind: number for number, kind in enumerate(dict.fromkeys(kinds))}
            one = rank_correlation(
                np.array([row["epsilon"] for row, _ in known], np.float64),
                np.array([value for _, value in known], np.float64),
                np.array([numbers[kind] for kind in kinds], np.int64),
            )
            found.append({"over": over, "of": name, **one._asdict()})
    return found


def _groups(rows) -> dict[str, list[dict]]:
    groups = {"all cells": list(rows)}
    for key in ("model", "mechanism"):
        names = list(dict.fromkeys(row[key] for row in rows))
        for name in names if len(names) > 1 else ():
            groups[f"{key} {name}"] = [row for row in rows if row[key] == name]
    return groups


def _outcomes(rows, metrics) -> dict[str, list[float | None]]:
    def of(estimate) -> float | None:
        return None if estimate is None else estimate["value"]

    return {
        "audited epsilon": [of(row["audited"]) for row in rows],
        "attack AUC": [of(row["attack_auc"]) for row in rows],
        "TPR at 1 % FPR": [of(row["tpr_at_1_percent"]) for row in rows],
        **{one["label"]: [of(row["metrics"].get(one["name"])) for row in rows] for one in metrics},
    }


def together(folders: Sequence[Path], rows: Sequence[dict]) -> dict[str, Any]:
    """What all cells cost together, as who publishes several must add them up.

    Guarantee:
      At the largest delta where that can be composed, else by basic composition:
      epsilons add up at the sum of the deltas. Neither holds for trainings with one noise key:
      then nothing is promised, and epsilon is None.
    """
    try:
        totals = compose(folders, max(row["delta"] for row in rows))
    except (ValueError, NotImplementedError) as error:
        return _added(folders, rows, [f"What all cells cost is added up: {error}"])
    notes = [note for total in totals for note in total.notes]
    if len(totals) > 1:
        notes.append("cells were trained on different versions of the data: the largest is shown")
    epsilon = max(total.epsilon for total in totals)
    if not math.isfinite(epsilon):
        return _added(folders, rows, notes)
    delta = max(row["delta"] for row in rows)
    return {"epsilon": epsilon, "delta": delta, "how": "at one delta", "notes": notes}


def _added(folders, rows, notes: list[str]) -> dict[str, Any]:
    claims, keys = [row["epsilon"] for row in rows], [key for one in folders for key in _keys(one)]
    shared = len(set(keys)) < len(keys)
    total = None if None in claims or shared else sum(claims)
    delta = sum(row["delta"] for row in rows)
    return {"epsilon": total, "delta": delta, "how": "by addition", "notes": notes}


def _keys(folder: Path) -> set[str]:
    """Which noise keys a cell used; a run that went on has one or several."""
    return {segment.key for segment in summarize(read_ledger(folder)).segments}


def document_of(study: Study, out: Path, reports, skipped) -> dict[str, Any]:
    """All that a study found, for `study.json` and the page."""
    rows = [row_of(cell, report, out / cell.name) for cell, report in reports.items()]
    bare = [baseline_of(cell, report, out / cell.name) for cell, report in reports.items()]
    one = next(iter(reports.values()))
    total = together([out / cell.name for cell in reports], rows)
    return {
        "private": PRIVATE,
        "study": study.to_dict(),
        "data": one["data"]["name"] + (", synthetic" if one["data"].get("synthetic") else ""),
        "metrics": one["metrics"],
        "rows": rows,
        "baselines": [row for row in bare if row],
        "skipped": [{**_identity(cell), "reason": why} for cell, why in skipped.items()],
        "correlations": correlations(rows, one["metrics"]),
        "together": {**total, "said": _said(total, len(rows))},
        "dangers": _dangers(rows, seeded=study.shared.get("seed") is not None),
        "notes": [*_notes(study, rows, skipped), *total["notes"]],
    }


def _said(total, cells: int) -> str:
    epsilon = (
        "infinite"
        if total["epsilon"] is None
        else f"at most {round_up(total['epsilon'], places=4)}"
    )
    return (
        f"All {cells} cells were trained on the same data: publishing several adds their budgets. "
        f"All together epsilon is {epsilon} at delta {round_up(total['delta'])}, {total['how']}. "
        "Trainings without privacy have no guarantee."
    )


def _dangers(rows, *, seeded: bool) -> list[str]:
    """What must be read first."""
    dangers = [
        f"{row['cell']}: the audit contradicts the claim. With "
        f"{row['audited']['confidence']:.0%} confidence epsilon is at least "
        f"{round_down(row['audited']['value'])}, more than the {round_up(row['epsilon'])} "
        f"claimed. Take the claim as void until this is explained."
        for row in rows
        if row["contradicted"]
    ]
    if dangers and len(rows) > 1:
        wrong = 1 - rows[0]["audited"]["confidence"] if rows[0]["audited"] else 0.05
        dangers.append(
            f"Each audit may be wrong in {wrong:.0%} of all studies, so that of {len(rows)} cells "
            f"up to {wrong * len(rows):.2g} may look refuted by chance: train a cell again."
        )
    return [*dangers, *([SEEDED] if seeded else [])]


def _notes(study: Study, rows, skipped) -> list[str]:
    notes = [
        "The correlations describe these cells: few epsilons, one data set, these attacks. They "
        "are no law of other data.",
        "Confidence is that of each audit and each interval by itself, not of all together.",
    ]
    if study.seeds == 1:
        notes.append(
            "Each cell is one training. Cells differ by luck as well: `--seeds` trains each "
            "several times."
        )
    if "edp-sgd" in study.mechanisms:
        notes.append(EDP_SGD)
    for cell, why in skipped.items():
        notes.append(f"{cell.name} was skipped, as it cannot be planned: {why}")
    unfinished = [row["cell"] for row in rows if row["status"] != "complete"]
    if unfinished:
        notes.append(f"Not all planned steps were carried out in {', '.join(unfinished)}.")
    return notes
