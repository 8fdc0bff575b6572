"""The page of `trustml audit study`: claims against attacks, audits and utility."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from trustml.formatting import round_down, round_up
from trustml.report import digits
from trustml.report.charts import Axis, Series, line_chart
from trustml.report.measured import Estimate
from trustml.report.overview import Box
from trustml.report.page import render_blocks
from trustml.report.sections.section import Block, Chart, Table, drawn

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FILE = "study.html"
ABOUT = (
    "Each cell is a private training with an audit of its own. The claimed epsilon is an upper "
    "bound that the accountant proves; the audited one is a lower bound that attacks prove. An "
    "attack that finds little proves little: it does not show that one mechanism is more private "
    "than another of the same claim."
)
_LOOKS = ("private", "baseline", "budget")  # marks that differ in black and white
_CLAIM = Axis("Claimed epsilon, at most", log=True)
_REFUTES = "A mark in the shaded part refutes its claim."
_AUDITS = ("Cell", "Canaries", "Epsilon at least", "Confidence", "In", "Out", "Right", "Method")

Row = dict[str, Any]  # a cell, as `study.json` has it


def page(document: dict[str, Any]) -> str:
    """HTML, whole. Private: it shows what attacks measured.

    Args:
      document: What `study.json` holds.
    """
    rows, metrics = document["rows"], document["metrics"]
    boxes = [Box("private", f"Handle this page as the data: {document['private']}.")]
    boxes += [Box("danger", text) for text in document["dangers"]]
    boxes.append(Box("warning", document["together"]["said"]))
    models = list(dict.fromkeys(row["model"] for row in rows))
    sections = [
        (
            f"Model {model}" if len(models) > 1 else "Claims and findings",
            [Block(charts=charts)] if (charts := _charts(document, model)) else [],
        )
        for model in models
    ]
    sections += [
        ("The cells", _cells(document)),
        ("Correlation with the claim", _correlations(document["correlations"], metrics)),
        ("Limits", [Block(text=document["notes"], listed=True)]),
    ]
    lead = [f"{len(rows)} cells on {document['data']}.", ABOUT]
    return render_blocks("Theory against practice", boxes, lead, sections)


def _charts(document: dict[str, Any], model: str) -> list[Chart]:
    rows = [row for row in document["rows"] if row["model"] == model and row["epsilon"]]
    baselines = document["baselines"]
    baseline = next((row for row in baselines if row["model"] == model), None)
    names = list(dict.fromkeys(row["mechanism"] for row in rows))
    charts = []
    for start in range(0, len(names), len(_LOOKS)):  # more than three no eye tells apart
        shown = {
            name: sorted(
                (row for row in rows if row["mechanism"] == name), key=lambda row: row["epsilon"]
            )
            for name in names[start : start + len(_LOOKS)]
        }
        charts += _charts_of(shown, baseline, document["metrics"])
    return drawn(charts)


def _charts_of(
    shown: dict[str, list[Row]], baseline: Row | None, metrics: Sequence[Row]
) -> Iterable[Chart]:
    """Audit, attack and utility of some mechanisms against what they claim."""
    yield Chart("Claimed and audited epsilon", audit_chart(shown), _REFUTES)
    caption = "By the loss; 0.5 is guessing. Whiskers are 95 % intervals."
    guess = [Series("guessing", [(end, 0.5) for end in _ends(shown)], "guess")]
    figure = _outcome_chart(
        shown, baseline, lambda row: row["attack_auc"], Axis("Attack AUC"), guess
    )
    yield Chart("Attack AUC against claimed epsilon", figure, caption)
    for metric in metrics:

        def score(row: Row, name=metric["name"]) -> dict[str, Any] | None:
            return row["metrics"].get(name)

        axis = Axis(metric["label"], percent=metric["percent"])
        caption = "Lower is better." if metric.get("lower_is_better") else ""
        title = f"{metric['label']} against claimed epsilon"
        yield Chart(title, _outcome_chart(shown, baseline, score, axis), caption)


def audit_chart(shown: dict[str, list[Row]]) -> "Figure | None":
    """Audited against claimed epsilon; where the audit exceeds the claim, the chart is shaded.

    Args:
      shown: Rows of `study.json` by mechanism, three at most, by rising claim.

    Returns:
      A figure; None where nothing was audited.
    """
    series = [
        Series(name, [(row["epsilon"], _value(row["audited"])) for row in rows], look, marks=True)
        for (name, rows), look in zip(shown.items(), _LOOKS, strict=False)
    ]
    low, high = _ends(shown)
    edge = [low * (high / low) ** (step / 60) for step in range(61)]
    ruled = Series("ruled out: audited above claimed", [(at, at) for at in edge], "claim")
    audited = [row["audited"]["value"] for rows in shown.values() for row in rows if row["audited"]]
    most = 1.05 * max([high / 1.15, *audited])
    across = Axis("Audited epsilon, at least", low=0.0, high=most)
    return line_chart(series, _CLAIM, across, forbidden=ruled)


def _outcome_chart(
    shown: dict[str, list[Row]],
    baseline: Row | None,
    outcome_of: Callable[[Row], dict[str, Any] | None],
    axis: Axis,
    lines: Sequence[Series] = (),
) -> "Figure | None":
    """An outcome with its intervals against the claim, and the level without privacy."""
    level = _value(outcome_of(baseline)) if baseline else None
    levels = [] if level is None else [(end, level) for end in _ends(shown)]
    lines = [*lines, *([Series("no privacy", levels, "claim")] if levels else [])]
    return line_chart([*lines, *_estimates(shown, outcome_of)], _CLAIM, axis)


def _estimates(shown: dict[str, list[Row]], outcome_of: Callable) -> list[Series]:
    series = []
    for (name, rows), look in zip(shown.items(), _LOOKS, strict=False):
        known = [(row["epsilon"], one) for row in rows if (one := outcome_of(row))]
        points = [(at, one["value"]) for at, one in known]
        spread = [(one.get("low"), one.get("high")) for _, one in known]
        series.append(Series(name, points, look, spread, marks=True))
    return series


def _ends(shown: dict[str, list[Row]]) -> tuple[float, float]:
    claims = [row["epsilon"] for rows in shown.values() for row in rows]
    return min(claims) / 1.15, max(claims) * 1.15


def _value(estimate: dict[str, Any] | None) -> float | None:
    return estimate["value"] if estimate else None


def _cells(document: dict[str, Any]) -> list[Block]:
    audits = [_audit(row["cell"], one) for row in document["rows"] for one in row["audits"]]
    return [
        Block(table=Table(cell_head(document["metrics"]), cell_rows(document))),
        Block(folded="Audits by each kind of canary", table=Table(_AUDITS, audits)),
    ]


def _audit(cell: str, one: Row) -> tuple[str, ...]:
    right = f"{one['correct']} of {one['guesses']}"
    sizes = (str(one["members"]), str(one["nonmembers"]))
    least = round_down(one["value"])
    return (cell, one["canaries"], least, f"{one['confidence']:.1%}", *sizes, right, one["method"])


def cell_head(metrics: Sequence[dict]) -> list[str]:
    """Of the table of cells."""
    return [
        "Cell",
        "Claimed",
        "Audited",
        "AUC",
        "TPR at 1%",
        *(one["label"] for one in metrics),
        "Step",
    ]


def cell_rows(document: dict[str, Any]) -> list[list[str]]:
    """One line a cell; then trainings without privacy, and cells that could not be planned."""
    metrics = document["metrics"]
    rows = [
        [_label(row), round_up(row["epsilon"]), _audited(row), *_found(row, metrics)]
        for row in document["rows"]
    ]
    rows += [
        [f"{row['model']}, no privacy", "none", _audited(row), *_found(row, metrics)]
        for row in document["baselines"]
    ]
    blank = [""] * (len(cell_head(metrics)) - 3)
    rows += [[_label(one), digits.NONE, "skipped", *blank] for one in document["skipped"]]
    return rows


def _label(row) -> str:
    seed = f", seed {row['seed']}" if row["seed"] > 1 else ""
    return f"{row['model']} {row['mechanism']} {row['budget_epsilon']}{seed}"


def _audited(row) -> str:
    bound = row["audited"]
    if bound is None:
        return digits.NONE
    against = " ABOVE THE CLAIM" if row.get("contradicted") else ""
    return round_down(bound["value"]) + against


def _found(row, metrics) -> list[str]:
    scores = [(row["metrics"].get(one["name"]), one["percent"]) for one in metrics]
    return [
        _estimate_text(row["attack_auc"]),
        _estimate_text(row["tpr_at_1_percent"], percent=True),
        *(_estimate_text(estimate, percent) for estimate, percent in scores),
        f"{row['step_ms']:.0f} ms",
    ]


def _estimate_text(estimate: dict[str, Any] | None, percent: bool = False) -> str:
    return digits.estimate_text(Estimate(**estimate) if estimate else None, percent)


def _correlations(rows: Sequence[Row], metrics: Sequence[Row]) -> list[Block]:
    text = (
        "Spearman's and Kendall's coefficients of the claimed epsilon and what was found: 1 where "
        "both order the cells alike, 0 where they have nothing to do with each other. The interval "
        "takes the cells as one sample, so that other mechanisms and models blur it. The p is the "
        "share of orders, shuffled within one model and mechanism, that look as related; each line "
        "is a test by itself."
    )
    lower = [one["label"] for one in metrics if one.get("lower_is_better")]
    better = f" Lower is better for {' and '.join(lower)}." if lower else ""
    return [Block(text=[text + better], table=Table(CORRELATED, correlation_rows(rows)))]


CORRELATED = ["Claimed epsilon and", "Cells", "Spearman, 95 %", "By chance", "p", "Kendall"]


def correlation_rows(correlations: Sequence[dict[str, Any]]) -> list[list[str]]:
    """The table of correlations; what nothing can be said of takes one line."""
    rows = []
    for over in dict.fromkeys(one["over"] for one in correlations):
        of_group = [one for one in correlations if one["over"] == over]
        if all(one["spearman"] is None for one in of_group):
            notes = "; ".join(dict.fromkeys(one["note"] for one in of_group))
            cells = str(max(one["cells"] for one in of_group))
            rows.append([f"anything, {over}", cells, notes, "", "", ""])
        else:
            rows += map(_correlation_row, of_group)
    return rows


def _correlation_row(one) -> list[str]:
    head = [f"{one['of']}, {one['over']}", str(one["cells"])]
    if one["spearman"] is None:
        return [*head, one["note"], "", "", ""]
    interval = f"{one['spearman']:+.2f} [{one['low']:+.2f}, {one['high']:+.2f}]"
    p = "<0.0001" if one["p"] < 1e-4 else f"{one['p']:.2g}"
    # Rounded up: the true range is never wider than what is said.
    within = f"within {round_up(one['by_chance'], places=2)}"
    return [*head, interval, within, p, f"{one['kendall']:+.2f}"]
