"""Several runs side by side."""

from collections.abc import Iterable
from html import escape
from typing import Any

from trustml.formatting import round_down, round_up
from trustml.report import digits, fields, markup, one_run, words
from trustml.report.fields import SIDES
from trustml.report.plots import Axis, Series, line_plot


def several_runs(reports, composed) -> str:
    """Their utility against epsilon, a table, and each run folded."""
    boxes = [*one_run.boxes_of(reports[0])[:1], *_shared(reports, composed)]
    runs = "".join(
        f'<details class="run"><summary>{escape(report["run"]["name"])}: '
        f"{escape(fields.epsilon(report['privacy']['epsilon']))}</summary>"
        f'<div id="run-{number}">{one_run.head(report)}{markup.boxes(one_run.boxes_of(report)[1:])}'
        f"{one_run.key_figures(report)}"
        f"{one_run.sections(report, f'run-{number}-', 'h3')}</div></details>"
        for number, report in enumerate(reports, 1)
    )
    links = ((f"#run-{index}", report["run"]["name"]) for index, report in enumerate(reports, 1))
    return (
        f"<header><h1>Trust report</h1>"
        f'<p class="run-name"><strong>{len(reports)} runs side by side</strong></p>'
        f"{markup.boxes(boxes)}</header><section><h2>Privacy against utility</h2>"
        f"{_privacy_utility(reports)}</section><section><h2>The runs</h2>{_run_table(reports)}"
        f"</section><section><h2>Each run</h2>{markup.links(links)}{runs}</section>"
    )


def _shared(reports, composed) -> Iterable[tuple[str, str]]:
    by_data: dict[str, list[dict]] = {}
    for report in reports:
        by_data.setdefault(report["data"].get("fingerprint") or "", []).append(report["privacy"])
    together = [group for mark, group in by_data.items() if mark and len(group) > 1]
    if composed is not None:
        same = "These runs used the same data, so their budgets add up. " if together else ""
        delta = max(report["privacy"]["delta"] for report in reports)
        yield (
            "warning",
            (
                f"{same}All together: {fields.epsilon(composed)} at delta {delta}, by the "
                "accountant, if no plan was chosen by what an earlier run had given."
            ),
        )
    for group in together if composed is None else ():
        spent = [
            one["epsilon"] and one["epsilon"] * (one.get("composed_runs") or 1) for one in group
        ]
        total = None if None in spent else sum(spent)
        delta = sum(one["delta"] * (one.get("composed_runs") or 1) for one in group)
        yield (
            "warning",
            (
                f"{len(group)} of these runs used the same data, so their budgets add up: who "
                f"publishes all spends {fields.epsilon(total)} at delta {round_up(delta)}, by "
                "addition."
            ),
        )


def _privacy_utility(reports) -> str:
    figures = []
    for name in dict.fromkeys(report["data"]["name"] for report in reports):
        runs = [report for report in reports if report["data"]["name"] == name]
        metrics = [report["metrics"][0] for report in runs if report["metrics"]]
        if metrics:
            figures.append((_trade_off(name, runs, metrics[0]), f"{name}. {words.TRADE_OFF}"))
    figures = [figure for figure in figures if figure[0]]
    absent = "Not there yet: no run has both a finite epsilon and results."
    return markup.figures(figures) or f'<p class="absent">{absent}</p>'


def _trade_off(name, runs, metric) -> str:
    found = [(report["privacy"]["epsilon"], report.get("results")) for report in runs]
    pairs = [(epsilon, fields.metric_of(results, "private", metric)) for epsilon, results in found]
    known = [(at, one) for at, one in pairs if at is not None and at > 0 and one]
    if not known:
        return ""
    known.sort(key=lambda pair: pair[0])
    points = [(at, one["value"]) for at, one in known]
    spread = [(one.get("low"), one.get("high")) for _, one in known]
    series = [Series("private, with interval", points, "private", spread, marks=True)]
    ends = [points[0][0] / 1.15, points[-1][0] * 1.15]
    baselines = [
        one for _, results in found if (one := fields.metric_of(results, "baseline", metric))
    ]
    if baselines:
        mean = sum(one["value"] for one in baselines) / len(baselines)
        lows, highs = ([fields.or_value(one, key) for one in baselines] for key in ("low", "high"))
        line, band = [(at, mean) for at in ends], [(min(lows), max(highs))] * 2
        series.append(Series("baseline, no privacy", line, "baseline", band))
    title = f"{metric['label']} against epsilon, {name}"
    across = Axis("Epsilon, at most", log=True)
    return line_plot(title, series, across, Axis(metric["label"], percent=metric["percent"]))


def _run_table(reports) -> str:
    rows = []
    for report in reports:
        metric: dict[str, Any] = {"label": digits.NONE, "percent": False}
        metric = report["metrics"][0] if report["metrics"] else metric
        values = [fields.metric_of(report.get("results"), side, metric) for side in SIDES]
        privacy, run, bound = report["privacy"], report["run"], fields.audit_of(report)
        rows.append(
            (
                run["name"],
                report["data"]["name"],
                report["status"],
                fields.epsilon(privacy["epsilon"], ""),
                f"{privacy['delta']}",
                f"at least {round_down(bound['value'])}" if bound else digits.NONE,
                metric["label"],
                *(digits.estimate_text(one, metric["percent"]) for one in values),
            )
        )
    head = ("Run", "Data", "Status", "Claimed epsilon", "Delta", "Audited epsilon", "Metric")
    return markup.table((*head, "Private", "Baseline"), rows)
