"""Utility and attack for each group, worst off first."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from trustml.report import digits, words
from trustml.report.charts import Axis, Row, dot_chart
from trustml.report.document import Metric, Report
from trustml.report.measured import Estimate, Group
from trustml.report.sections.section import Block, Chart, Section, Table, drawn

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST = 12  # groups in one chart; the table has them all
_FEW = 30  # evaluated rows below which a group's figures are flagged


def groups_chart(groups: Sequence[Group], metric: Metric) -> "Figure | None":
    """A metric of both models by group, in the order given.

    Args:
      groups: Of one kind.
      metric: One of the report's metrics.

    Returns:
      A figure; None where nothing was measured.
    """
    rows = [
        Row(
            group.name,
            f"n = {group.evaluated:,}",
            [(name, arm.metrics.get(metric.name), name) for name, arm in group.arms],
        )
        for group in groups
    ]
    return dot_chart(rows, Axis(metric.label, percent=metric.percent))


def _build(report: Report) -> list[Block]:
    kinds = dict.fromkeys(group.by for group in report.groups or ())
    blocks = [_kind(report, kind) for kind in kinds]
    return [Block(text=[words.GROUPS]), *blocks] if blocks else []


def _kind(report: Report, kind: str) -> Block:
    metrics = report.metrics
    groups = [group for group in report.groups or () if group.by == kind]
    if metrics:
        groups.sort(key=lambda group: _score(group, "private", metrics[0]))
    flags = _flags(groups, metrics)
    charts = []
    if metrics:
        title = f"{metrics[0].label} by group, worst off first"
        figure = groups_chart(groups[:_MOST], metrics[0])
        charts = drawn([Chart(title, figure, _caption(groups, flags))])
    head = ["Group", "Evaluated", "Flags"]
    for index, metric in enumerate(metrics):
        # The headline alone has a difference: with more columns no screen shows them all.
        head += [f"{metric.label}, private", "baseline", "difference"][: 2 + (index == 0)]
    rows = [_row(group, flag, metrics) for group, flag in zip(groups, flags, strict=True)]
    return Block(f"By {kind}", charts=charts, table=Table((*head, "Attack AUC, private"), rows))


def _score(group: Group, arm: str, metric: Metric) -> float:
    """The headline metric, so that more is better; infinite where it was not measured."""
    estimate = _estimate(group, arm, metric)
    sign = -1 if metric.lower_is_better else 1
    return math.inf if estimate is None else sign * estimate.value


def _estimate(group: Group, arm: str, metric: Metric) -> Estimate | None:
    found = group.arms.get(arm)
    return found.metrics.get(metric.name) if found else None


def _flags(groups: Sequence[Group], metrics: Sequence[Metric]) -> list[str]:
    """What each group is flagged for; one group alone has nothing to differ from."""
    flags: list[list[str]] = [[] for _ in groups]
    for name, scores in _marks(groups, metrics).items() if len(groups) > 1 else ():
        known = [score for score in scores if digits.is_number(score)]
        if known:
            flags[scores.index(max(known))].append(name)
    for group, found in zip(groups, flags, strict=True):
        if group.evaluated < _FEW:
            found.append("few rows")
    return [", ".join(found) for found in flags]


def _marks(groups: Sequence[Group], metrics: Sequence[Metric]) -> dict[str, list[float | None]]:
    """Scores by the flag of the group that has the largest."""
    marks: dict[str, list[float | None]] = {}
    if metrics:
        private, baseline = (
            [_score(group, arm, metrics[0]) for group in groups] for arm in ("private", "baseline")
        )
        losses = [before - after for before, after in zip(baseline, private, strict=True)]
        marks["worst off"] = [-value for value in private]
        marks["loses most"] = [loss if loss > 0 else None for loss in losses]
    aucs = [group.arms.private.attack_auc for group in groups]
    return {**marks, "most exposed": [None if auc is None else auc.value for auc in aucs]}


def _caption(groups: Sequence[Group], flags: list[str]) -> str:
    first = "Worst off first."
    if len(groups) > _MOST:
        first = f"The {_MOST} worst off of {len(groups)}; the table has all."
    flagged = [f"{one.name}: {flag}." for one, flag in zip(groups, flags, strict=True) if flag]
    return " ".join([first, *flagged])


def _row(group: Group, flags: str, metrics: Sequence[Metric]) -> tuple[str, ...]:
    row = [group.name, f"{group.evaluated:,}", flags]
    for index, metric in enumerate(metrics):
        private, baseline = (_estimate(group, arm, metric) for arm in ("private", "baseline"))
        row += [digits.estimate_text(one, metric.percent) for one in (private, baseline)]
        row += [digits.difference(private, baseline, metric.percent)] if index == 0 else []
    return (*row, digits.estimate_text(group.arms.private.attack_auc))


SECTIONS = (Section("groups", "By group", "the figures of groups", _build),)
