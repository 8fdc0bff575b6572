"""The results of a study: a row for each cell, correlations with the claim, the total cost."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trustml.formatting import round_down, round_up
from trustml.recipes.composition import compose
from trustml.recipes.study.grid import Cell, Study
from trustml.recipes.study.results import (
    BaselineResult,
    CellCorrelation,
    CellResult,
    StudyResult,
    TotalCost,
    identity,
)
from trustml.report import Report
from trustml.report.document import Metric
from trustml.report.measured import Estimate
from trustml.report.words import SEEDED
from trustml.stats import rank_correlation
from trustml.training.runs.ledger import read_ledger, summarize

_FALSE_ALARMS = 0.01
_EDP_SGD = (
    "edp-sgd bounds means by layer: a gradient canary is one of many units in a mean and has the "
    "bound of one layer, while the noise is that of all. Its audit is weak by construction: a low "
    "audited epsilon says little there. Learning rates are those that the preset has for exact "
    "clipping; a lower utility may be due to them."
)


def compare(
    study: Study, out: Path, reports: Mapping[Cell, Report], skipped: dict[Cell, str]
) -> StudyResult:
    """Everything that a study compares, from the reports of its cells.

    Args:
      study: The grid.
      out: Its folder, with one folder for each cell.
      reports: Of the cells that were trained.
      skipped: Cells that cannot be planned, and why.
    """
    rows = tuple(_row(cell, report, out / cell.name) for cell, report in reports.items())
    bare = [_baseline(cell, report, out / cell.name) for cell, report in reports.items()]
    one = next(iter(reports.values()))
    total = _total_cost([out / cell.name for cell in reports], rows)
    return StudyResult(
        study=study,
        data=one.data.name + (", synthetic" if one.data.synthetic else ""),
        metrics=one.metrics,
        rows=rows,
        baselines=tuple(row for row in bare if row),
        skipped=skipped,
        correlations=tuple(_correlations(rows, one.metrics)),
        together=total,
        dangers=tuple(_dangers(rows, seeded=study.shared.get("seed") is not None)),
        notes=(*_notes(study, rows, skipped), *total.notes),
    )


def _row(cell: Cell, report: Report, folder: Path) -> CellResult:
    results, claimed = report.results, report.privacy.epsilon
    if results is None:
        raise ValueError(f"{folder} must hold a run that has ended, got {report.status!r}.")
    attack = _attack(report, "private")
    bound = attack["audited"]
    return CellResult(
        **identity(cell),
        epsilon=claimed,
        delta=report.privacy.delta,
        status=report.status,
        metrics=results.private.metrics,
        **attack,
        contradicted=bound is not None and claimed is not None and bound.value > claimed,
        step_ms=results.private.step_ms,
        folder=str(folder),
    )


def _baseline(cell: Cell, report: Report, folder: Path) -> BaselineResult | None:
    """The same of the training without privacy, if the cell has one."""
    results = report.results.baseline if report.results else None
    if results is None:
        return None
    return BaselineResult(
        model=cell.model,
        metrics=results.metrics,
        **_attack(report, "baseline"),
        step_ms=results.step_ms,
        folder=str(folder),
    )


def _attack(report: Report, arm: str) -> dict[str, Any]:
    """The fields of a row that an attack on one arm fills."""
    attack = getattr(report.attack.arms, arm) if report.attack else None
    if attack is None:
        return {"attack_auc": None, "tpr_at_1_percent": None, "audited": None, "audits": ()}
    rates = {one.rate: one.tpr for one in attack.tpr_at_fpr}
    return {
        "attack_auc": attack.auc,
        "tpr_at_1_percent": rates.get(_FALSE_ALARMS),
        "audited": attack.epsilon_lower_bound,
        "audits": attack.audits or (),
    }


def _correlations(rows: Sequence[CellResult], metrics: Sequence[Metric]) -> list[CellCorrelation]:
    """Claimed epsilon against every measured quantity, over all cells and over parts of them."""
    return [
        CellCorrelation(over, of, _correlation(part, value_of))
        for over, part in _parts(rows).items()
        for of, value_of in _quantities(metrics).items()
    ]


def _correlation(rows: Sequence[CellResult], value_of: Callable[[CellResult], float | None]):
    known = [
        (row.epsilon, value, (row.model, row.mechanism))
        for row in rows
        if (value := value_of(row)) is not None and row.epsilon is not None
    ]
    kinds = list(dict.fromkeys(kind for *_, kind in known))
    return rank_correlation(
        np.array([epsilon for epsilon, *_ in known], np.float64),
        np.array([value for _, value, _ in known], np.float64),
        np.array([kinds.index(kind) for *_, kind in known], np.int64),
    )


def _parts(rows: Sequence[CellResult]) -> dict[str, list[CellResult]]:
    parts = {"all cells": list(rows)}
    for key in ("model", "mechanism"):
        names = list(dict.fromkeys(getattr(row, key) for row in rows))
        for name in names if len(names) > 1 else ():
            parts[f"{key} {name}"] = [row for row in rows if getattr(row, key) == name]
    return parts


def _quantities(
    metrics: Sequence[Metric],
) -> dict[str, Callable[[CellResult], float | None]]:
    def metric(name: str) -> Callable[[CellResult], float | None]:
        return lambda row: _value(row.metrics.get(name))

    return {
        "audited epsilon": lambda row: None if row.audited is None else row.audited.value,
        "attack AUC": lambda row: _value(row.attack_auc),
        "TPR at 1 % FPR": lambda row: _value(row.tpr_at_1_percent),
        **{one.label: metric(one.name) for one in metrics},
    }


def _value(estimate: Estimate | None) -> float | None:
    return None if estimate is None else estimate.value


def _total_cost(folders: Sequence[Path], rows: Sequence[CellResult]) -> TotalCost:
    """What all cells cost together, as whoever publishes several must add them up.

    Guarantee:
      At the largest delta where that can be composed, else by basic composition:
      epsilons add up at the sum of the deltas. Neither holds for trainings with one noise key:
      then nothing is promised, and epsilon is None.
    """
    delta = max(row.delta for row in rows)
    try:
        totals = compose(folders, delta)
    except (ValueError, NotImplementedError) as error:
        return _added(folders, rows, [f"What all cells cost is added up: {error}"])
    notes = [note for total in totals for note in total.notes]
    if len(totals) > 1:
        notes.append("cells were trained on different versions of the data: the largest is shown")
    epsilon = max(total.epsilon for total in totals)
    if not math.isfinite(epsilon):
        return _added(folders, rows, notes)
    return TotalCost(epsilon, delta, "at one delta", tuple(notes))


def _added(folders: Sequence[Path], rows: Sequence[CellResult], notes: list[str]) -> TotalCost:
    keys = [key for folder in folders for key in _keys(folder)]
    claims = [row.epsilon for row in rows if row.epsilon is not None]
    promised = len(claims) == len(rows) and len(set(keys)) == len(keys)
    delta = sum(row.delta for row in rows)
    return TotalCost(sum(claims) if promised else None, delta, "by addition", tuple(notes))


def _keys(folder: Path) -> set[str]:
    """Which noise keys a cell used; a run that went on has one or several."""
    return {segment.key for segment in summarize(read_ledger(folder)).segments}


def _dangers(rows: Sequence[CellResult], *, seeded: bool) -> list[str]:
    """What must be read first."""
    refuted = [(row, row.audited) for row in rows if row.contradicted and row.audited]
    dangers = [
        f"{row.cell}: the audit contradicts the claim. With {bound.confidence:.0%} confidence "
        f"epsilon is at least {round_down(bound.value)}, more than the {round_up(row.epsilon)} "
        "claimed. Take the claim as void until this is explained."
        for row, bound in refuted
    ]
    if dangers and len(rows) > 1:
        wrong = 1 - rows[0].audited.confidence if rows[0].audited else 0.05
        dangers.append(
            f"Each audit may be wrong in {wrong:.0%} of all studies, so that of {len(rows)} cells "
            f"up to {wrong * len(rows):.2g} may look refuted by chance: train a cell again."
        )
    return [*dangers, *([SEEDED] if seeded else [])]


def _notes(study: Study, rows: Sequence[CellResult], skipped: Mapping[Cell, str]) -> list[str]:
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
        notes.append(_EDP_SGD)
    for cell, why in skipped.items():
        notes.append(f"{cell.name} was skipped, as it cannot be planned: {why}")
    unfinished = [row.cell for row in rows if row.status != "complete"]
    if unfinished:
        notes.append(f"Not all planned steps were carried out in {', '.join(unfinished)}.")
    return notes
