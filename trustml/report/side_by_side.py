"""Several runs side by side: their utility against epsilon, and what they cost together."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trustml.formatting import round_down, round_up
from trustml.report import digits, words
from trustml.report.charts import Axis, Series, line_chart
from trustml.report.claim import Privacy
from trustml.report.document import Metric, Report
from trustml.report.measured import Estimate
from trustml.report.overview import Box
from trustml.report.sections.section import Chart, Table, drawn

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def shared_budget(reports: Sequence[Report], composed: float | None) -> list[Box]:
    """Warnings about runs on the same data, whose budgets add up.

    Args:
      reports: Of the runs.
      composed: Epsilon of all together, from the accountant; None: budgets are added.
    """
    by_data: dict[str, list[Privacy]] = {}
    for report in reports:
        by_data.setdefault(report.data.fingerprint or "", []).append(report.privacy)
    together = [group for mark, group in by_data.items() if mark and len(group) > 1]
    if composed is None:
        return [Box("warning", _added(group)) for group in together]
    same = "These runs used the same data, so their budgets add up. " if together else ""
    delta = max(report.privacy.delta for report in reports)
    text = (
        f"{same}All together: {digits.claim_text(composed)} at delta {delta}, by the accountant, "
        "if no plan was chosen by what an earlier run had given."
    )
    return [Box("warning", text)]


def _added(group: Sequence[Privacy]) -> str:
    spent = [None if one.epsilon is None else one.epsilon * one.composed_runs for one in group]
    total = None if None in spent else sum(one or 0.0 for one in spent)
    delta = sum(one.delta * one.composed_runs for one in group)
    return (
        f"{len(group)} of these runs used the same data, so their budgets add up: who publishes "
        f"all spends {digits.claim_text(total)} at delta {round_up(delta)}, by addition."
    )


def trade_offs(reports: Sequence[Report]) -> list[Chart]:
    """Utility against epsilon, a chart for each data set."""
    charts = []
    for name in dict.fromkeys(report.data.name for report in reports):
        runs = [report for report in reports if report.data.name == name]
        metrics = [report.metrics[0] for report in runs if report.metrics]
        if metrics:
            title = f"{metrics[0].label} against epsilon, {name}"
            caption = f"{name}. {words.TRADE_OFF}"
            charts.append(Chart(title, trade_off_chart(runs, metrics[0]), caption))
    return drawn(charts)


def trade_off_chart(reports: Sequence[Report], metric: Metric) -> "Figure | None":
    """A metric of several runs against their epsilon, with that of the baselines.

    Args:
      reports: Of runs on one data set.
      metric: One of their metrics.

    Returns:
      A figure; None where no run has both a finite epsilon and results.
    """
    known = sorted(
        (
            (report.privacy.epsilon, estimate)
            for report in reports
            if report.privacy.epsilon and (estimate := _estimate(report, "private", metric))
        ),
        key=lambda pair: pair[0],
    )
    if not known:
        return None
    points = [(epsilon, estimate.value) for epsilon, estimate in known]
    spread = [(estimate.low, estimate.high) for _, estimate in known]
    series = [Series("private, with interval", points, "private", spread, marks=True)]
    baselines = [one for report in reports if (one := _estimate(report, "baseline", metric))]
    if baselines:
        series.append(_level(baselines, points[0][0] / 1.15, points[-1][0] * 1.15))
    axis = Axis(metric.label, percent=metric.percent)
    return line_chart(series, Axis("Epsilon, at most", log=True), axis)


def _level(baselines: Sequence[Estimate], start: float, end: float) -> Series:
    """The mean of the baselines, and a band over all their intervals."""
    mean = sum(one.value for one in baselines) / len(baselines)
    low = min(one.value if one.low is None else one.low for one in baselines)
    high = max(one.value if one.high is None else one.high for one in baselines)
    line = [(start, mean), (end, mean)]
    return Series("baseline, no privacy", line, "baseline", [(low, high)] * 2)


def run_table(reports: Sequence[Report]) -> Table:
    """One line a run."""
    head = ("Run", "Data", "Status", "Claimed epsilon", "Delta", "Audited epsilon", "Metric")
    return Table((*head, "Private", "Baseline"), [_row(report) for report in reports])


def _row(report: Report) -> tuple[str, ...]:
    privacy, bound = report.privacy, report.audited
    headline = [digits.NONE, digits.NONE, digits.NONE]
    if report.metrics:
        metric = report.metrics[0]
        estimates = (_estimate(report, arm, metric) for arm in ("private", "baseline"))
        texts = (digits.estimate_text(one, metric.percent) for one in estimates)
        headline = [metric.label, *texts]
    return (
        report.run.name,
        report.data.name,
        report.status,
        digits.claim_text(privacy.epsilon, ""),
        f"{privacy.delta}",
        f"at least {round_down(bound.value)}" if bound else digits.NONE,
        *headline,
    )


def _estimate(report: Report, arm: str, metric: Metric) -> Estimate | None:
    results = report.results.get(arm) if report.results else None
    return results.metrics.get(metric.name) if results else None
