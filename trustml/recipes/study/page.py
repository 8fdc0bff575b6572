"""The page of `trustml audit study`: claims against attacks, audits and utility."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from trustml.recipes.study import tables
from trustml.recipes.study.results import PRIVATE, BaselineResult, CellResult, StudyResult
from trustml.report.charts import Axis, Series, line_chart
from trustml.report.document import Metric
from trustml.report.measured import Estimate
from trustml.report.overview import Box
from trustml.report.page import render_blocks
from trustml.report.sections.section import Block, Chart, Table, drawn

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FILE = "study.html"
_ABOUT = (
    "Each cell is a private training with an audit of its own. The claimed epsilon is an upper "
    "bound that the accountant proves; the audited one is a lower bound that attacks prove. An "
    "attack that finds little proves little: it does not show that one mechanism is more private "
    "than another of the same claim."
)
_LOOKS = ("private", "baseline", "budget")  # marks that differ in black and white
_CLAIM = Axis("Claimed epsilon, at most", log=True)
_REFUTES = "A mark in the shaded part refutes its claim."

_Shown = Mapping[str, Sequence[CellResult]]  # rows by mechanism, three at most, by rising claim
_Outcome = Callable[[CellResult | BaselineResult], Estimate | None]


def page(result: StudyResult) -> str:
    """HTML, whole. Private: it shows what attacks measured."""
    boxes = [Box("private", f"Handle this page as the data: {PRIVATE}.")]
    boxes += [Box("danger", text) for text in result.dangers]
    boxes.append(Box("warning", result.together.statement(len(result.rows))))
    models = list(dict.fromkeys(row.model for row in result.rows))
    sections = [
        (
            f"Model {model}" if len(models) > 1 else "Claims and findings",
            [Block(charts=charts)] if (charts := _charts(result, model)) else [],
        )
        for model in models
    ]
    sections += [
        ("The cells", _cells(result)),
        ("Correlation with the claim", _correlations(result)),
        ("Limits", [Block(text=result.notes, listed=True)]),
    ]
    lead = [f"{len(result.rows)} cells on {result.data}.", _ABOUT]
    return render_blocks("Theory against practice", boxes, lead, sections)


def _charts(result: StudyResult, model: str) -> list[Chart]:
    rows = [row for row in result.rows if row.model == model and row.epsilon]
    baseline = next((row for row in result.baselines if row.model == model), None)
    names = list(dict.fromkeys(row.mechanism for row in rows))
    charts: list[Chart] = []
    for start in range(0, len(names), len(_LOOKS)):  # more than three no eye tells apart
        shown = {
            name: sorted((row for row in rows if row.mechanism == name), key=_claim)
            for name in names[start : start + len(_LOOKS)]
        }
        charts += _charts_of(shown, baseline, result.metrics)
    return drawn(charts)


def _charts_of(
    shown: _Shown, baseline: BaselineResult | None, metrics: Sequence[Metric]
) -> Iterable[Chart]:
    """Audit, attack and utility of some mechanisms against what they claim."""
    yield Chart("Claimed and audited epsilon", _audit_chart(shown), _REFUTES)
    caption = "By the loss; 0.5 is guessing. Whiskers are 95 % intervals."
    guess = [Series("guessing", [(end, 0.5) for end in _ends(shown)], "guess")]
    figure = _outcome_chart(shown, baseline, lambda row: row.attack_auc, Axis("Attack AUC"), guess)
    yield Chart("Attack AUC against claimed epsilon", figure, caption)
    for metric in metrics:

        def score(row: CellResult | BaselineResult, name=metric.name) -> Estimate | None:
            return row.metrics.get(name)

        axis = Axis(metric.label, percent=metric.percent)
        caption = "Lower is better." if metric.lower_is_better else ""
        title = f"{metric.label} against claimed epsilon"
        yield Chart(title, _outcome_chart(shown, baseline, score, axis), caption)


def _audit_chart(shown: _Shown) -> "Figure | None":
    """Audited against claimed epsilon; where the audit exceeds the claim, the chart is shaded."""
    series = [
        Series(
            name,
            [(_claim(row), row.audited and row.audited.value) for row in rows],
            look,
            marks=True,
        )
        for (name, rows), look in zip(shown.items(), _LOOKS, strict=False)
    ]
    low, high = _ends(shown)
    edge = [low * (high / low) ** (step / 60) for step in range(61)]
    ruled = Series("ruled out: audited above claimed", [(at, at) for at in edge], "claim")
    audited = [row.audited.value for rows in shown.values() for row in rows if row.audited]
    most = 1.05 * max([high / 1.15, *audited])
    across = Axis("Audited epsilon, at least", low=0.0, high=most)
    return line_chart(series, _CLAIM, across, forbidden=ruled)


def _outcome_chart(
    shown: _Shown,
    baseline: BaselineResult | None,
    outcome_of: _Outcome,
    axis: Axis,
    lines: Sequence[Series] = (),
) -> "Figure | None":
    """An outcome with its intervals against the claim, and the level without privacy."""
    level = outcome_of(baseline) if baseline else None
    levels = [(end, level.value) for end in _ends(shown)] if level else []
    lines = [*lines, *([Series("no privacy", levels, "claim")] if levels else [])]
    return line_chart([*lines, *_estimates(shown, outcome_of)], _CLAIM, axis)


def _estimates(shown: _Shown, outcome_of: _Outcome) -> list[Series]:
    series = []
    for (name, rows), look in zip(shown.items(), _LOOKS, strict=False):
        known = [(_claim(row), one) for row in rows if (one := outcome_of(row))]
        points = [(at, one.value) for at, one in known]
        spread = [(one.low, one.high) for _, one in known]
        series.append(Series(name, points, look, spread, marks=True))
    return series


def _ends(shown: _Shown) -> tuple[float, float]:
    claims = [_claim(row) for rows in shown.values() for row in rows]
    return min(claims) / 1.15, max(claims) * 1.15


def _claim(row: CellResult) -> float:
    return row.epsilon or 0.0  # rows without a claim are in no chart


def _cells(result: StudyResult) -> list[Block]:
    cells = Table(tables.cells_head(result.metrics), tables.cells(result))
    audits = Table(tables.AUDITS, tables.audits(result))
    return [Block(table=cells), Block(folded="Audits by each kind of canary", table=audits)]


def _correlations(result: StudyResult) -> list[Block]:
    text = (
        "Spearman's and Kendall's coefficients of the claimed epsilon and what was measured: 1 "
        "where both order the cells alike, 0 where they are unrelated. The interval takes the "
        "cells as one sample, so that other mechanisms and models blur it. The p is the share of "
        "orders, shuffled within one model and mechanism, that look as related; each line is a "
        "test by itself."
    )
    lower = [metric.label for metric in result.metrics if metric.lower_is_better]
    better = f" Lower is better for {' and '.join(lower)}." if lower else ""
    rows = tables.correlations(result.correlations)
    return [Block(text=[text + better], table=Table(tables.CORRELATIONS, rows))]
