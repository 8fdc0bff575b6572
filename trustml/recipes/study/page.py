"""The page of `trustml audit study`: claims against attacks, audits and utility."""

from collections.abc import Sequence
from html import escape
from typing import Any

from trustml.formatting import round_down, round_up
from trustml.report import digits, markup
from trustml.report.page import frame
from trustml.report.plots import Axis, Series, line_plot

FILE = "study.html"
ABOUT = (
    "Each cell is a private training with an audit of its own. The claimed epsilon is an upper "
    "bound that the accountant proves; the audited one is a lower bound that attacks prove. An "
    "attack that finds little proves little: it does not show that one mechanism is more private "
    "than another of the same claim."
)
_LOOKS = ("private", "baseline", "budget")  # marks that differ in black and white
_CLAIM = Axis("Claimed epsilon, at most", log=True)


def page(document: dict[str, Any]) -> str:
    """HTML, whole. Private: it shows what attacks found.

    Args:
      document: What `study.json` holds.
    """
    rows, metrics = document["rows"], document["metrics"]
    boxes = [("private", f"Handle this page as the data: {document['private']}.")]
    boxes += [("danger", text) for text in document["dangers"]]
    boxes += [("warning", document["together"]["said"])]
    data = document["data"]
    head = markup.paragraph(f"{len(rows)} cells on {data}.") + markup.paragraph(ABOUT)
    models = dict.fromkeys(row["model"] for row in rows)
    parts = [
        f"<header><h1>Theory against practice</h1>{markup.boxes(boxes)}{head}</header>",
        *(
            _section(f"Model {model}" if len(models) > 1 else "Claims and findings", body)
            for model in models
            if (body := markup.figures(_figures(document, model)))
        ),
        _section("The cells", _cells(document)),
        _section("Correlation with the claim", _correlations(document["correlations"], metrics)),
        _section("To be known", markup.bullets(document["notes"])),
    ]
    return frame("Theory against practice", "".join(parts))


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _figures(document, model: str) -> list[tuple[str, str]]:
    rows = [row for row in document["rows"] if row["model"] == model and row["epsilon"]]
    bare = next((row for row in document["baselines"] if row["model"] == model), None)
    names = list(dict.fromkeys(row["mechanism"] for row in rows))
    figures = []
    for start in range(0, len(names), len(_LOOKS)):  # more than three no eye tells apart
        shown = names[start : start + len(_LOOKS)]
        kept = [[row for row in rows if row["mechanism"] == name] for name in shown]
        figures += _three(kept, shown, bare, document["metrics"])
    return figures


def _three(kept, names, bare, metrics) -> list[tuple[str, str]]:
    """Audit, attack and utility of some mechanisms against what they claim."""
    claims = [row["epsilon"] for rows in kept for row in rows]
    ends = [min(claims) / 1.15, max(claims) * 1.15]
    audit = [
        Series(name, [(row["epsilon"], _value(row["audited"])) for row in rows], look, marks=True)
        for name, rows, look in _looked(names, kept)
    ]
    edge = [ends[0] * (ends[1] / ends[0]) ** (step / 60) for step in range(61)]
    found = [row["audited"]["value"] for rows in kept for row in rows if row["audited"]]
    ruled = Series("ruled out: audited above claimed", [(at, at) for at in edge], "claim")
    high = max([*claims, *found]) * 1.05
    across = Axis("Audited epsilon, at least", low=0.0, high=high)
    caption = "A mark in the shaded part refutes its claim."
    figures = [
        (line_plot("Claimed and audited epsilon", audit, _CLAIM, across, forbidden=ruled), caption)
    ]

    def key(row):
        return row["attack_auc"]

    lines = [Series("guessing", [(at, 0.5) for at in ends], "guess"), *_level(bare, key, ends)]
    plot = _plot("Attack AUC", _estimates(names, kept, key), lines, Axis("Attack AUC"))
    figures.append((plot, "By the loss; 0.5 is guessing. Whiskers are 95 % intervals."))
    for metric in metrics:

        def score(row, metric=metric):
            return row["metrics"].get(metric["name"])

        axis = Axis(metric["label"], percent=metric["percent"])
        lines = _level(bare, score, ends)
        plot = _plot(metric["label"], _estimates(names, kept, score), lines, axis)
        figures.append((plot, "Lower is better." if metric.get("lower_is_better") else ""))
    return figures


def _plot(name: str, series, lines, axis: Axis) -> str:
    return line_plot(f"{name} against claimed epsilon", [*lines, *series], _CLAIM, axis)


def _looked(names, kept):
    ordered = [sorted(rows, key=lambda row: row["epsilon"]) for rows in kept]
    return list(zip(names, ordered, _LOOKS, strict=False))


def _estimates(names, kept, key) -> list[Series]:
    series = []
    for name, rows, look in _looked(names, kept):
        known = [(row["epsilon"], one) for row in rows if (one := key(row))]
        points = [(at, one["value"]) for at, one in known]
        spread = [(one.get("low"), one.get("high")) for _, one in known]
        series.append(Series(name, points, look, spread, marks=True))
    return series


def _level(bare, key, ends) -> list[Series]:
    """A line for the model without privacy."""
    value = _value(key(bare)) if bare else None
    return [] if value is None else [Series("no privacy", [(at, value) for at in ends], "claim")]


def _value(estimate) -> float | None:
    return estimate["value"] if estimate else None


def _cells(document) -> str:
    metrics = document["metrics"]
    return markup.table(cell_head(metrics), cell_rows(document)) + markup.folded(
        "Audits by each kind of canary",
        markup.table(
            ("Cell", "Canaries", "Epsilon at least", "Confidence", "In", "Out", "Right", "Method"),
            [_audit(row["cell"], one) for row in document["rows"] for one in row["audits"]],
        ),
    )


def _audit(cell: str, one) -> tuple[str, ...]:
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
        digits.estimate_text(row["attack_auc"]),
        digits.estimate_text(row["tpr_at_1_percent"], percent=True),
        *(digits.estimate_text(found, percent) for found, percent in scores),
        f"{row['step_ms']:.0f} ms",
    ]


def _correlations(found, metrics) -> str:
    said = (
        "Spearman's and Kendall's coefficients of the claimed epsilon and what was found: 1 where "
        "both order the cells alike, 0 where they have nothing to do with each other. The interval "
        "takes the cells as one sample, so that other mechanisms and models blur it. The p is the "
        "share of orders, shuffled within one model and mechanism, that look as related; each line "
        "is a test by itself."
    )
    lower = [one["label"] for one in metrics if one.get("lower_is_better")]
    better = f" Lower is better for {' and '.join(lower)}." if lower else ""
    return markup.paragraph(said + better) + markup.table(CORRELATED, correlation_rows(found))


CORRELATED = ["Claimed epsilon and", "Cells", "Spearman, 95 %", "By chance", "p", "Kendall"]


def correlation_rows(found: Sequence[dict[str, Any]]) -> list[list[str]]:
    """The table of correlations; what nothing can be said of takes one line."""
    rows = []
    for over in dict.fromkeys(one["over"] for one in found):
        of_group = [one for one in found if one["over"] == over]
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
