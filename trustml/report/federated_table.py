"""The tables of a federated run, for a terminal and for the page."""

from typing import NamedTuple

from trustml.formatting import plural
from trustml.report.digits import NONE, difference, estimate_text
from trustml.report.document import Metric, Report
from trustml.report.federated import Federated, FederatedModel
from trustml.report.measured import Estimate

_SIZES = ("B", "kB", "MB", "GB", "TB")


class TitledTable(NamedTuple):
    """A table of a terminal, or of a page."""

    title: str
    head: list[str]
    rows: list[list[str]]


def model_table(report: Report) -> TitledTable:
    """Title, head and a row for each figure of both models; private quantities.

    Raises:
      ValueError: The run is no federated one.
    """
    found = _federated(report)
    data, metric = report.data, headline(report)
    rows = [_metric_row(one, found) for one in report.metrics]
    rows += _client_rows(found, metric)
    rows.append(
        [
            "examples trained on",
            *(f"{one.examples:,}" if one else NONE for one in _models(found)),
            "",
        ]
    )
    title = (
        f"{data.name}: {len(found.sizes):,} {plural(found.client)}; evaluated on "
        f"{data.evaluated:,} rows of the {data.eval_split} part, with 95 % intervals; over "
        f"{plural(found.client)}: {metric.label}, on rows that each kept aside. Private quantities:"
    )
    return TitledTable(title, ["figure", "federated", "central", "gap"], rows)


def cost_table(report: Report) -> TitledTable:
    """Title, head and a row for each cost of the rounds.

    Raises:
      ValueError: The run is no federated one.
    """
    found = _federated(report)
    costs = found.costs
    rows = [
        ["rounds", f"{costs.rounds:,}"],
        [f"{plural(found.client)} that answered", f"{costs.answers:,}"],
        ["bytes up", bytes_text(costs.bytes_up)],
        ["bytes down", bytes_text(costs.bytes_down)],
        ["examples processed", f"{costs.examples:,}"],
    ]
    if costs.lost:
        rows.insert(2, [f"{plural(found.client)} that were lost", f"{costs.lost:,}"])
    if costs.virtual_seconds is not None:
        rows.append(["virtual time", f"{costs.virtual_seconds:,.1f}"])
    title = f"Algorithm {found.algorithm}, selection {found.selection}:"
    return TitledTable(title, ["what the rounds cost", ""], rows)


def period_table(report: Report) -> TitledTable | None:
    """Title, head and a row for each period; None of a run without time."""
    found = _federated(report)
    if not found.periods:
        return None
    metric = headline(report)
    rows = [
        [
            str(number),
            *(f"{one:,}" for one in (period.clients, period.held, period.deleted, period.examples)),
            estimate_text(period.next, metric.percent),
        ]
        for number, period in enumerate(found.periods, 1)
    ]
    held = [plural(found.client), "examples held", "rows deleted", "examples processed"]
    head = ["period", *held, f"next: {metric.label}"]
    return TitledTable("Periods, each judged on the next:", head, rows)


def headline(report: Report) -> Metric:
    """The metric that curves and clients are shown by."""
    name = _federated(report).headline
    return next(one for one in report.metrics if one.name == name)


def bytes_text(number: int) -> str:
    """Bytes in the unit that fits.

    >>> bytes_text(1_234_567)
    '1.23 MB'
    """
    size, value = 0, float(number)
    while value >= 1000 and size + 1 < len(_SIZES):
        size, value = size + 1, value / 1000
    return f"{value:.3g} {_SIZES[size]}"


def _federated(report: Report) -> Federated:
    if report.federated is None:
        raise ValueError(f"`report` must be that of a federated run, got {report.run.name}.")
    return report.federated


def _models(found: Federated) -> tuple[FederatedModel, FederatedModel | None]:
    return found.model, found.central


def _metric_row(metric: Metric, found: Federated) -> list[str]:
    pair = [one.metrics.get(metric.name) if one else None for one in _models(found)]
    return _row(metric.label, pair, metric)


def _client_rows(found: Federated, metric: Metric) -> list[list[str]]:
    clients = [one.clients if one else None for one in _models(found)]
    if clients[0] is None:
        return []
    each, lowest = plural(found.client), "highest" if metric.lower_is_better else "lowest"
    means = [one.mean if one else None for one in clients]
    deviations = [_point(one.deviation) if one else None for one in clients]
    worst = [_point(one.worst_tenth) if one else None for one in clients]
    return [
        _row(f"over {each}: mean", means, metric),
        _row(f"over {each}: deviation", deviations, metric),
        _row(f"over {each}: {lowest} tenth", worst, metric),
    ]


def _point(value: float) -> Estimate:
    return Estimate(value, None, None, "")


def _row(label: str, pair: list[Estimate | None], metric: Metric) -> list[str]:
    texts = [estimate_text(one, metric.percent) for one in pair]
    federated, central = pair
    return [label, *texts, difference(federated, central, metric.percent)]
