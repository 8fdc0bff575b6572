"""The page of `trustml audit scores`: each attack's curve, and what the claim rules out."""

from typing import Any

from trustml.formatting import round_down
from trustml.report.measured import Roc
from trustml.report.overview import Box
from trustml.report.page import render_blocks
from trustml.report.sections.membership import ROC_TITLE, roc_chart
from trustml.report.sections.section import Block, Chart, Table, drawn

FILE = "audit.html"
_CLAIMED = "The shaded part is what the claim rules out for every attack; small samples scatter."
_HEAD = ("Bound", "Epsilon at least", "Confidence", "Holds for")


def page(document: dict[str, Any], verdict: str) -> str:
    """HTML, whole. Private: it shows what the audit measured.

    Args:
      document: What `audit.json` holds.
      verdict: On the claim; empty where there is none.
    """
    boxes = [Box("private", f"It holds private quantities: {document['private']}.")]
    if verdict:
        boxes.append(Box("danger" if document["refuted"] else "warning", verdict))
    lead = [
        f"{document['members']:,} members and {document['nonmembers']:,} others.",
        f"Assumed: {document['assumed']}.",
    ]
    attacks = [
        (name, [_block(document, name, attack)]) for name, attack in document["attacks"].items()
    ]
    notes = ("Notes", [Block(text=document["notes"], listed=True)] if document["notes"] else [])
    return render_blocks("Audit", boxes, lead, [*attacks, notes])


def _block(document: dict[str, Any], name: str, attack: dict[str, Any]) -> Block:
    claim = document["claim"] or {"epsilon": None, "delta": document["delta"]}
    curves = {name: Roc(attack["roc"]["fpr"], attack["roc"]["tpr"])}
    figure = roc_chart(curves, claim["epsilon"], claim["delta"])
    chart = Chart(f"{name}: {ROC_TITLE}", figure, _CLAIMED if document["claim"] else "")
    rows = [
        (one["method"], round_down(one["epsilon"]), f"{one['confidence']:.6g}", one["holds_for"])
        for one in attack["bounds"]
    ]
    return Block(charts=drawn([chart]), table=Table(_HEAD, rows))
