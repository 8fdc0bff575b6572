"""A federated run: both models, what the rounds cost, learning curves, and the clients."""

from typing import TYPE_CHECKING

from trustml.formatting import plural
from trustml.report.charts import Axis, Point, Series, label_chart, line_chart, size_chart
from trustml.report.digits import is_number
from trustml.report.document import Report
from trustml.report.federated import Federated, FederatedCurve, OverClients
from trustml.report.federated_table import (
    cost_table,
    headline,
    model_table,
    period_table,
)
from trustml.report.sections.section import Block, Chart, Section, Table, drawn

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DOTS = 40  # clients that are drawn as dots
_MEGA = 1e6
_LIMITS = (
    "One run on one division of the rows: another seed gives other figures, and the intervals do "
    "not cover it.",
    "A curve per round favours whoever processes more examples in a round. Compare algorithms and "
    "selections per example and per byte too.",
    "A client's own figure rests on few rows: part of the spread is chance, and a low figure need "
    "not be a badly served client.",
    "Clients that hold one row have none aside, so the spread does not show them.",
    "The clients are simulated: no network failed, and no device was too slow unless it was asked "
    "for.",
)


def curve_per(report: Report, per: str) -> "Figure | None":
    """The headline metric along the training.

    Args:
      report: Of a federated run.
      per: "round", "example" (with central training) or "byte".

    Returns:
      A figure; None where nothing was evaluated on the way.
    """
    found = report.federated
    if found is None:
        return None
    metric = headline(report)
    series = [Series("federated", _points(found, found.curve, per), "private")]
    if per == "example" and found.central_curve:
        series.append(Series("central", _points(found, found.central_curve, per), "baseline"))
    across = {"round": "Round", "example": "Examples processed", "byte": "Megabytes up and down"}
    upward = Axis(metric.label, log=metric.lower_is_better, percent=metric.percent)
    return line_chart(series, Axis(across[per], low=0.0), upward)


def _points(found: Federated, curve: FederatedCurve, per: str) -> list[Point]:
    at = {
        "round": curve.rounds,
        "example": curve.examples,
        "byte": tuple(one / _MEGA for one in curve.bytes),
    }[per]
    pairs = [(x, one.get(found.headline)) for x, one in zip(at, curve.scores, strict=True)]
    return [pair for pair in pairs if all(map(is_number, pair))]


def over_clients(report: Report) -> "Figure | None":
    """The headline metric of each client, worst first, under both models.

    Args:
      report: Of a federated run.

    Returns:
      A figure; None where no client had rows to keep aside.
    """
    found = report.federated
    if found is None:
        return None
    metric, names = headline(report), {"federated": found.model, "central": found.central}
    series = [
        Series(name, _ranked(model.clients), look, marks=len(model.clients.values) <= _DOTS)
        for (name, model), look in zip(names.items(), ("private", "baseline"), strict=True)
        if model and model.clients
    ]
    upward = Axis(metric.label, log=metric.lower_is_better, percent=metric.percent)
    across = Axis(f"Part of the {plural(found.client)}, worst first", low=0.0, percent=True)
    return line_chart(series, across, upward)


def _ranked(clients: OverClients) -> list[Point]:
    number = len(clients.values)
    return [((place + 0.5) / number, value) for place, value in enumerate(clients.values)]


def _build(report: Report) -> list[Block]:
    found = report.federated
    if found is None:
        return []
    models, costs = model_table(report), cost_table(report)
    return [
        Block(text=[_lead(report, found)], table=Table(*models[1:])),
        Block("What the rounds cost", [f"{costs.title[:-1]}."], table=Table(*costs[1:])),
        *_periods(report),
        Block("Learning curves", [_on_curves(report)], charts=_curves(report)),
        Block("The clients", [_on_clients(found)], charts=_clients(report, found)),
        Block("What these figures do not show", _LIMITS, listed=True),
    ]


def _periods(report: Report) -> list[Block]:
    table = period_table(report)
    if table is None:
        return []
    return [Block("Over time", [f"{table.title[:-1]}."], table=Table(*table[1:]))]


def _lead(report: Report, found: Federated) -> str:
    central = ""
    if found.central:
        central = (
            " Central training is the same network on the pooled rows, which no client would have "
            "to hand over here, with as many examples processed."
        )
    return (
        f"{len(found.sizes):,} {plural(found.client)} ({found.partition}) trained "
        f"{found.trained_values:,} values together.{central}"
    )


def _on_curves(report: Report) -> str:
    return f"{headline(report).label}, on rows of the part for choices: the test part stays unseen."


def _curves(report: Report) -> list[Chart]:
    label = headline(report).label
    charts = [Chart(f"{label} per {per}", curve_per(report, per)) for per in _CAPTIONS]
    return drawn(
        chart._replace(caption=caption)
        for chart, caption in zip(charts, _CAPTIONS.values(), strict=True)
    )


_CAPTIONS = {
    "round": "Per round: what communication latency pays for.",
    "example": "Per example: what devices compute.",
    "byte": "Per byte: what the network carries, both ways.",
}


def _on_clients(found: Federated) -> str:
    sizes = found.sizes
    text = (
        f"The largest {found.client} trains on {sizes[0]:,} examples, the median on "
        f"{sizes[len(sizes) // 2]:,}, the smallest on {sizes[-1]:,}."
    )
    clients = found.model.clients
    if clients is None:
        return text
    return (
        f"{text} {len(clients.values):,} of them kept rows aside, on which each is measured by "
        "itself."
    )


def _clients(report: Report, found: Federated) -> list[Chart]:
    kinds, labels, counts = plural(found.client), found.labels, found.rows_by_label
    return drawn(
        [
            Chart(f"{kinds.capitalize()} by size", size_chart(found.sizes, "examples")),
            Chart(f"{headline(report).label} over {kinds}, worst first", over_clients(report)),
            *([Chart(f"Labels of {kinds}", label_chart(counts, labels))] if labels else []),
        ]
    )


SECTIONS = (
    Section(
        "federated",
        "Across clients",
        "clients and rounds",
        _build,
        applies=lambda report: report.federated is not None,
    ),
)
