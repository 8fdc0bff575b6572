"""What a study returns: typed, and as the document `study.json`."""

import dataclasses
from typing import Any, NamedTuple

from trustml.formatting import round_up
from trustml.recipes.study.grid import Cell, Study
from trustml.report import to_json
from trustml.report.document import Metric
from trustml.report.measured import Bound, CanaryAudit, Estimate, Estimates
from trustml.stats import Correlation

PRIVATE = "utility, attacks and audits were measured on people's rows without noise"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellResult:
    """A cell of the grid: its claim, and what was measured. Private quantities."""

    cell: str
    budget_epsilon: float
    model: str
    mechanism: str
    seed: int
    epsilon: float | None  # claimed
    delta: float
    status: str
    metrics: Estimates
    attack_auc: Estimate | None
    tpr_at_1_percent: Estimate | None
    audited: Bound | None
    audits: tuple[CanaryAudit, ...]
    contradicted: bool  # whether the audited bound exceeds the claim
    step_ms: float | None
    folder: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class BaselineResult:
    """The training of a model without privacy. Private quantities."""

    model: str
    metrics: Estimates
    attack_auc: Estimate | None
    tpr_at_1_percent: Estimate | None
    audited: Bound | None
    audits: tuple[CanaryAudit, ...]
    step_ms: float | None
    folder: str


class CellCorrelation(NamedTuple):
    """The claimed epsilon against one measured quantity."""

    over: str  # "all cells", or those of one model or mechanism
    of: str
    correlation: Correlation

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {"over": self.over, "of": self.of, **self.correlation._asdict()}


class TotalCost(NamedTuple):
    """What all cells cost together, for whoever publishes several."""

    epsilon: float | None  # None where nothing is promised
    delta: float
    how: str  # "at one delta", or "by addition"
    notes: tuple[str, ...]

    def statement(self, cells: int) -> str:
        """The cost in words."""
        epsilon = "infinite"
        if self.epsilon is not None:
            epsilon = f"at most {round_up(self.epsilon, places=4)}"
        return (
            f"All {cells} cells were trained on the same data: publishing several adds their "
            f"budgets. All together epsilon is {epsilon} at delta {round_up(self.delta)}, "
            f"{self.how}. Trainings without privacy have no guarantee."
        )


class StudyResult(NamedTuple):
    """A grid of private trainings: claims against what attacks measure. Private quantities."""

    study: Study
    data: str
    metrics: tuple[Metric, ...]
    rows: tuple[CellResult, ...]
    baselines: tuple[BaselineResult, ...]
    skipped: dict[Cell, str]  # cells that cannot be planned, and why
    correlations: tuple[CellCorrelation, ...]
    together: TotalCost
    dangers: tuple[str, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The document `study.json`."""
        total = self.together
        skipped = [{**identity(cell), "reason": why} for cell, why in self.skipped.items()]
        return {
            "private": PRIVATE,
            "study": self.study.to_dict(),
            "data": self.data,
            "metrics": [to_json(metric) for metric in self.metrics],
            "rows": [to_json(row) for row in self.rows],
            "baselines": [to_json(row) for row in self.baselines],
            "skipped": skipped,
            "correlations": [one.to_dict() for one in self.correlations],
            "together": {
                **total._asdict(),
                "notes": list(total.notes),
                "statement": total.statement(len(self.rows)),
            },
            "dangers": list(self.dangers),
            "notes": list(self.notes),
        }


def identity(cell: Cell) -> dict[str, Any]:
    """The fields by which a document names a cell."""
    fields = cell._asdict()
    return {"cell": cell.name, "budget_epsilon": fields.pop("epsilon"), **fields}
