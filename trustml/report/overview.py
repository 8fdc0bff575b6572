"""What a reader of a report sees first: its facts, its warnings, its key figures."""

from datetime import datetime
from typing import NamedTuple

from trustml.formatting import round_down
from trustml.report import digits, words
from trustml.report.document import Report
from trustml.report.federated import Federated

HANDLE = "Handle this page as the data themselves."


class Box(NamedTuple):
    """A text that must be read first; `kind` is private, danger or warning."""

    kind: str
    text: str


def facts(report: Report) -> str:
    """Data and date."""
    kinds = {True: " (synthetic data)", False: " (data of people)", None: ""}
    try:
        made = f"{datetime.fromisoformat(report.made):%d %B %Y, %H:%M %Z}".strip()
    except ValueError:
        made = report.made
    return f"{report.data.name}{kinds[report.data.synthetic]} · {made}"


def boxes_of(report: Report) -> list[Box]:
    """The warnings; the first, how to handle the page, is there in every report."""
    privacy, bound = report.privacy, report.audited
    boxes = [Box("private", f"{HANDLE} It holds private quantities: {report.private}.")]
    if privacy.epsilon is None:
        boxes.append(Box("danger", "Nothing is promised: epsilon is infinite."))
    elif bound and bound.value > privacy.epsilon:
        text = (
            f"The audit contradicts the claim: with {bound.confidence:.0%} confidence epsilon is "
            f"at least {round_down(bound.value)}, more than is claimed. Take the claim as void "
            "until this is explained."
        )
        boxes.append(Box("danger", text))
    if report.run.seeded and report.plan is not None:
        boxes.append(Box("danger", words.SEEDED))
    if report.status != "complete":
        boxes.append(Box("warning", words.progress(report)))
    if privacy.composed_runs > 1:
        boxes.append(Box("warning", words.repeated(report)))
    return boxes


def key_figures(report: Report) -> dict[str, tuple[str, str]]:
    """The four figures above all sections: label to figure and note."""
    privacy, bound = report.privacy, report.audited
    audit = (digits.NONE, "nothing was audited yet")
    if bound:
        least = round_down(bound.value)
        audit = (f"at least {least}", f"lower bound, {bound.confidence:.0%} confidence")
    claim = digits.claim_text(privacy.epsilon, "")
    whom = {"Unit of privacy": (f"one {privacy.unit}", f"adjacency: {privacy.adjacency}")}
    if report.plan is None and report.federated is not None:
        whom = {"Clients": (f"{len(report.federated.sizes):,}", report.federated.partition)}
    return {
        "Claimed epsilon": (claim, f"upper bound, at delta {privacy.delta}"),
        "Audited epsilon": audit,
        report.metrics[0].label if report.metrics else "Utility": _utility(report),
        **whom,
    }


def _utility(report: Report) -> tuple[str, str]:
    if not report.metrics:
        return digits.NONE, "no metric was named"
    if report.federated is not None:
        return _across_clients(report, report.federated)
    if report.results is None:
        return digits.NONE, "not measured yet"
    metric, results = report.metrics[0], report.results
    private, baseline = (
        digits.value_text(arm.metrics[metric.name].value, metric.percent)
        if arm and metric.name in arm.metrics
        else digits.NONE
        for arm in (results.private, results.baseline)
    )
    return private, f"private; without privacy {baseline}"


def _across_clients(report: Report, found: Federated) -> tuple[str, str]:
    metric = report.metrics[0]
    federated, central = (
        digits.value_text(one.metrics[metric.name].value, metric.percent) if one else digits.NONE
        for one in (found.model, found.central)
    )
    return federated, f"across clients; on the pooled rows {central}"
