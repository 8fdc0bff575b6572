"""The metrics of both models, with intervals."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trustml.report.charts import Axis, Row, dot_chart
from trustml.report.digits import difference, estimate_text
from trustml.report.document import Metric, Report
from trustml.report.measured import Estimate
from trustml.report.sections.section import Block, Chart, Section, Table, drawn, is_central

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def metric_by_arm(report: Report, metric: Metric) -> "Figure | None":
    """One metric of the private and the baseline arm, with intervals.

    Args:
      report: Of a finished run.
      metric: One of its metrics.

    Returns:
      A figure; None where there are no results.
    """
    rows = [
        Row(name, estimate_text(estimate, metric.percent), [(name, estimate, name)])
        for name, arm in report.results or ()
        if (estimate := arm.metrics.get(metric.name))
    ]
    return dot_chart(rows, Axis(metric.label, percent=metric.percent))


def _build(report: Report) -> list[Block]:
    if report.results is None:
        return []
    charts = [
        Chart(f"{metric.label}, private and baseline", metric_by_arm(report, metric))
        for metric in report.metrics
    ]
    head = ("Metric", "Private", "Baseline", "Difference", "Interval")
    table = Table(head, [_row(report, metric) for metric in report.metrics])
    return [Block(text=[_lead(report)], charts=drawn(charts), table=table)]


def _row(report: Report, metric: Metric) -> tuple[str, ...]:
    private, baseline = estimates = _estimates(report, metric)
    intervals = dict.fromkeys(one.interval for one in estimates if one)
    return (
        metric.label,
        *(estimate_text(one, metric.percent) for one in estimates),
        difference(private, baseline, metric.percent),
        ", ".join(intervals),
    )


def _estimates(report: Report, metric: Metric) -> list[Estimate | None]:
    results = report.results
    arms = (results.private, results.baseline) if results else (None, None)
    return [arm.metrics.get(metric.name) if arm else None for arm in arms]


def _lead(report: Report) -> str:
    data, runs = report.data, report.run.repeats
    on = _better(report.metrics)
    if data.evaluated is not None:
        on = f"Evaluated on {data.evaluated:,} rows of the part “{data.eval_split}”. {on}"
    return f"{on} Means over {runs} runs of each arm." if runs > 1 else on


def _better(metrics: Sequence[Metric]) -> str:
    lower = [metric.label for metric in metrics if metric.lower_is_better]
    if not lower:
        return "Higher is better."
    rest = " Higher is better for the rest." if len(lower) < len(metrics) else ""
    return f"Lower is better for {' and '.join(lower)}.{rest}"


SECTIONS = (
    Section(
        "results",
        "Utility against the baseline",
        "the utility of the models",
        _build,
        applies=is_central,
    ),
)
