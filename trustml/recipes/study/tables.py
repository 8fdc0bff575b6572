"""The tables of a study, as its page and the terminal show them: a head and rows of text."""

from collections.abc import Sequence

from trustml.formatting import round_down, round_up
from trustml.recipes.study.results import (
    BaselineResult,
    CellCorrelation,
    CellResult,
    StudyResult,
)
from trustml.report import digits
from trustml.report.document import Metric
from trustml.report.measured import CanaryAudit

CORRELATIONS = ["Claimed epsilon and", "Cells", "Spearman, 95 %", "By chance", "p", "Kendall"]
AUDITS = ["Cell", "Canaries", "Epsilon at least", "Confidence", "In", "Out", "Right", "Method"]


def cells_head(metrics: Sequence[Metric]) -> list[str]:
    """The head of the table of cells."""
    labels = [metric.label for metric in metrics]
    return ["Cell", "Claimed", "Audited", "AUC", "TPR at 1%", *labels, "Step"]


def cells(result: StudyResult) -> list[list[str]]:
    """One row a cell; then trainings without privacy, and cells that could not be planned."""
    metrics = result.metrics
    rows = [
        [_label(row), round_up(row.epsilon), _audited(row), *_measured(row, metrics)]
        for row in result.rows
    ]
    rows += [
        [f"{row.model}, no privacy", "none", _audited(row), *_measured(row, metrics)]
        for row in result.baselines
    ]
    blank = [""] * (len(cells_head(metrics)) - 3)
    for cell in result.skipped:
        name = _name(cell.model, cell.mechanism, cell.epsilon, cell.seed)
        rows.append([name, digits.NONE, "skipped", *blank])
    return rows


def audits(result: StudyResult) -> list[list[str]]:
    """One row for each audit of a cell by one kind of canary."""
    return [_audit(row.cell, audit) for row in result.rows for audit in row.audits]


def correlations(found: Sequence[CellCorrelation]) -> list[list[str]]:
    """One row a correlation; where nothing is known of some cells, they take one row together."""
    rows = []
    for over in dict.fromkeys(one.over for one in found):
        group = [one for one in found if one.over == over]
        if all(one.correlation.spearman is None for one in group):
            notes = "; ".join(dict.fromkeys(one.correlation.note for one in group))
            most = str(max(one.correlation.cells for one in group))
            rows.append([f"anything, {over}", most, notes, "", "", ""])
        else:
            rows += map(_correlation, group)
    return rows


def _label(row: CellResult) -> str:
    return _name(row.model, row.mechanism, row.budget_epsilon, row.seed)


def _name(model: str, mechanism: str, epsilon: float, seed: int) -> str:
    return f"{model} {mechanism} {epsilon}" + (f", seed {seed}" if seed > 1 else "")


def _audited(row: CellResult | BaselineResult) -> str:
    if row.audited is None:
        return digits.NONE
    against = isinstance(row, CellResult) and row.contradicted
    return round_down(row.audited.value) + (" ABOVE THE CLAIM" if against else "")


def _measured(row: CellResult | BaselineResult, metrics: Sequence[Metric]) -> list[str]:
    scores = [(row.metrics.get(metric.name), metric.percent) for metric in metrics]
    return [
        digits.estimate_text(row.attack_auc),
        digits.estimate_text(row.tpr_at_1_percent, percent=True),
        *(digits.estimate_text(estimate, percent) for estimate, percent in scores),
        digits.NONE if row.step_ms is None else f"{row.step_ms:.0f} ms",
    ]


def _audit(cell: str, audit: CanaryAudit) -> list[str]:
    return [
        cell,
        audit.canaries,
        round_down(audit.value),
        f"{audit.confidence:.1%}",
        str(audit.members),
        str(audit.nonmembers),
        f"{audit.correct} of {audit.guesses}",
        audit.method,
    ]


def _correlation(one: CellCorrelation) -> list[str]:
    found = one.correlation
    head = [f"{one.of}, {one.over}", str(found.cells)]
    if found.spearman is None or found.p is None:
        return [*head, found.note, "", "", ""]
    interval = f"{found.spearman:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"
    p = "<0.0001" if found.p < 1e-4 else f"{found.p:.2g}"
    # Rounded up: the true range is never wider than what is shown.
    within = f"within {round_up(found.by_chance, places=2)}"
    return [*head, interval, within, p, f"{found.kendall:+.2f}"]
