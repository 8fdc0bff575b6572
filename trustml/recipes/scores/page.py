"""The page of `trustml audit scores`: each attack's curve, and what the claim rules out."""

from trustml.formatting import round_down
from trustml.recipes.scores.bounds import Bound
from trustml.recipes.scores.results import PRIVATE, ScoresAudit, Success
from trustml.report.measured import Roc
from trustml.report.overview import Box
from trustml.report.page import render_blocks
from trustml.report.sections.membership import ROC_TITLE, roc_chart
from trustml.report.sections.section import Block, Chart, Table, drawn

FILE = "audit.html"
_CLAIMED = "The shaded part is what the claim rules out for every attack; small samples scatter."
_HEAD = ("Bound", "Epsilon at least", "Confidence", "Holds for")


def page(audit: ScoresAudit) -> str:
    """HTML, whole. Private: it shows what the audit measured.

    Args:
      audit: Of `trustml audit scores`.
    """
    boxes = [Box("private", f"It holds private quantities: {PRIVATE}.")]
    if audit.claim:
        boxes.append(Box("danger" if audit.claim.refuted else "warning", audit.verdict))
    lead = [
        f"{audit.members:,} members and {audit.nonmembers:,} others.",
        f"Assumed: {audit.assumed}.",
    ]
    attacks = [(name, [_block(audit, name, one.whole)]) for name, one in audit.attacks.items()]
    notes = ("Notes", [Block(text=audit.notes, listed=True)] if audit.notes else [])
    return render_blocks("Audit", boxes, lead, [*attacks, notes])


def _block(audit: ScoresAudit, name: str, attack: Success) -> Block:
    epsilon, delta = (audit.claim.epsilon, audit.claim.delta) if audit.claim else (None, 0.0)
    roc = attack.result.roc
    curves = {name: Roc(tuple(roc.fpr.tolist()), tuple(roc.tpr.tolist()))}
    figure = roc_chart(curves, epsilon, delta)
    chart = Chart(f"{name}: {ROC_TITLE}", figure, _CLAIMED if audit.claim else "")
    return Block(charts=drawn([chart]), table=Table(_HEAD, [_row(one) for one in attack.bounds]))


def _row(bound: Bound) -> tuple[str, ...]:
    found = bound.bound
    return found.method, round_down(found.epsilon), f"{found.confidence:.6g}", bound.holds_for
