"""The membership attack on both models, and what the claim rules out."""

import math
from typing import TYPE_CHECKING

from trustml.report import digits, words
from trustml.report.charts import Axis, Row, Series, dot_chart, line_chart
from trustml.report.document import Report
from trustml.report.measured import ArmAttack, Attack, Estimate, Roc
from trustml.report.sections.section import Block, Chart, Section, Table, drawn

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROC_TITLE = "Membership attack: members found against false alarms"
_FOUND = (
    "The further above guessing, the more the model gives away. The shaded part is what the "
    "claim rules out for every attack on the private model; small samples scatter."
)
_AUDITED = (
    "The private model's true epsilon lies between what an attack proved and what is claimed. An "
    "audit that finds little proves little: a stronger one may find more, but none more than the "
    "claim."
)


def roc_chart(curves: dict[str, Roc], epsilon: float | None, delta: float) -> "Figure | None":
    """Curves of attacks, and the region that a claim rules out for every attack.

    >>> curve = Roc((0.0, 0.1, 1.0), (0.0, 0.3, 1.0))
    >>> figure = roc_chart({"private": curve}, epsilon=3.0, delta=1e-5)
    >>> figure.axes[0].get_title(loc="left")
    'Members found (TPR)'

    Args:
      curves: Of the private model first, then of the baseline, by their labels.
      epsilon: The claim; None for none.
      delta: Of the claim.

    Returns:
      A figure on logarithmic axes; None where there is no curve.
    """
    series = [
        Series(label, list(zip(curve.fpr, curve.tpr, strict=False)), look)
        for (label, curve), look in zip(curves.items(), ("private", "baseline"), strict=False)
        if curve.fpr and curve.tpr
    ]
    if not series:
        return None
    rates = [rate for one in series for pair in one.points for rate in pair if rate > 0]
    low = 10.0 ** max(-5, math.floor(math.log10(min(rates, default=0.01))))
    series.append(Series("guessing", [(low, low), (1.0, 1.0)], "guess"))
    edge = [low ** (1 - index / 80) for index in range(81)]
    most = [(rate, words.most_found(epsilon, delta, rate)) for rate in edge]
    claim = Series("ruled out by the claim", most, "claim")
    axis = Axis("False alarms (FPR)", log=True, low=low, high=1.0, percent=True)
    return line_chart(
        series,
        axis,
        axis._replace(label="Members found (TPR)"),
        forbidden=None if epsilon is None else claim,
    )


def audit_chart(report: Report) -> "Figure | None":
    """Claimed and audited epsilon of the private model, by kind of canary.

    Args:
      report: Of a run with an audit.

    Returns:
      A figure; None where nothing was audited.
    """
    claimed, rows = report.privacy.epsilon, []
    for audit in (report.attack and report.attack.arms.private.audits) or ():
        ends = Estimate(audit.value, audit.value, claimed, "")
        parts = [("audited: at least", ends, "private")]
        if claimed is not None:
            parts.append(("claimed: at most", Estimate(claimed, None, None, ""), "budget"))
        note = f"{audit.correct} of {audit.guesses} right"
        rows.append(Row(audit.canaries.capitalize(), note, parts))
    return dot_chart(rows, Axis("Epsilon", low=0.0))


def _build(report: Report) -> list[Block]:
    attack, privacy = report.attack, report.privacy
    if attack is None:
        return []
    curves = {name: arm.roc for name, arm in attack.arms if arm.roc}
    charts = [
        Chart(ROC_TITLE, roc_chart(curves, privacy.epsilon, privacy.delta), _FOUND),
        Chart("Claimed and audited epsilon", audit_chart(report), _AUDITED),
    ]
    sizes = (
        f"{attack.members:,} members, {attack.nonmembers:,} non-members; intervals at "
        f"{attack.confidence:.0%} confidence each"
    )
    table = Table(("Measure", "Private", "Baseline"), _rows(attack))
    return [Block(text=[attack.how, sizes], charts=drawn(charts), table=table)]


def _rows(attack: Attack) -> list[tuple[str, ...]]:
    arms = [attack.arms.private, attack.arms.baseline]
    aucs = [arm.auc if arm else None for arm in arms]
    bounds = [arm.epsilon_lower_bound if arm else None for arm in arms]
    return [
        (
            "AUC (0.5 is guessing)",
            *map(digits.estimate_text, aucs),
        ),
        *_rates(arms),
        ("Audited epsilon", *map(digits.bound_text, bounds)),
        *_audits(arms),
        ("How it was audited", *(bound.method if bound else digits.NONE for bound in bounds)),
    ]


def _rates(arms: list[ArmAttack | None]) -> list[tuple[str, ...]]:
    by_rate = [{one.rate: one for one in arm.tpr_at_fpr} if arm else {} for arm in arms]
    rows = []
    for rate in dict.fromkeys(rate for one in by_rate for rate in one):
        found = [one.get(rate) for one in by_rate]
        texts = (
            digits.estimate_text(one.tpr, percent=True)
            if one and one.tpr
            else (one and one.note) or digits.NONE
            for one in found
        )
        rows.append((f"Members found at {100 * rate:g}% false alarms", *texts))
    return rows


def _audits(arms: list[ArmAttack | None]) -> list[tuple[str, ...]]:
    by_kind = [{one.canaries: one for one in (arm and arm.audits) or ()} for arm in arms]
    kinds = dict.fromkeys(kind for one in by_kind for kind in one)
    return [
        (f"Audited by {kind}", *(digits.bound_text(one.get(kind)) for one in by_kind))
        for kind in kinds
    ]


SECTIONS = (Section("attack", "Membership attack", "an attack on the models", _build),)
