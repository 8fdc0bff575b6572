"""The page of `trustml audit scores`: each attack's curve, and what the claim rules out."""

from typing import Any

from trustml.formatting import round_down
from trustml.report import markup
from trustml.report.measured import attack_plot
from trustml.report.page import frame

FILE = "audit.html"
_CLAIMED = "The shaded part is what the claim rules out for every attack; small samples scatter."


def page(document: dict[str, Any], verdict: str) -> str:
    """HTML, whole. Private: it shows what the audit found.

    Args:
      document: What `audit.json` holds.
      verdict: What is said of the claim; empty where there is none.
    """
    claim = document["claim"] or {"epsilon": None, "delta": document["delta"]}
    caption = _CLAIMED if document["claim"] else ""
    sections = "".join(
        f"<section><h2>{name}</h2>"
        + markup.figures([(attack_plot({"sides": {"private": one}}, claim, name), caption)])
        + markup.table(("Bound", "Epsilon at least", "Confidence", "Holds for"), _rows(one))
        + "</section>"
        for name, one in document["attacks"].items()  # names are the command's own
    )
    sizes = f"{document['members']:,} members and {document['nonmembers']:,} others"
    kind = "danger" if document["refuted"] else "warning"
    boxes = [("private", f"It holds private quantities: {document['private']}.")]
    boxes += [(kind, verdict)] if verdict else []
    top = f"<h1>Audit</h1>{markup.boxes(boxes)}{markup.paragraph(sizes + '.')}"
    assumed = markup.paragraph(f"Assumed: {document['assumed']}.")
    return frame(
        "Audit", f"<header>{top}{assumed}</header>{sections}{markup.bullets(document['notes'])}"
    )


def _rows(attack) -> list[tuple[str, ...]]:
    return [
        (one["method"], round_down(one["epsilon"]), f"{one['confidence']:.6g}", one["holds_for"])
        for one in attack["bounds"]
    ]
