"""One run on the page: its head, its boxes, its key figures, its sections."""

from collections.abc import Callable
from datetime import datetime
from html import escape
from typing import Any

from trustml.formatting import round_down, round_up
from trustml.report import digits, fields, markup, measured, words
from trustml.report.fields import SIDES
from trustml.report.plots import Axis, Series, line_plot
from trustml.report.schema import absence

HANDLE = "Handle this page as the data themselves."


def one_run(report, composed) -> str:
    """A page of its own."""
    boxes = boxes_of(report)
    if composed is not None:
        boxes.append(("warning", f"All runs on these data together: {fields.epsilon(composed)}."))
    contents = markup.links((f"#{anchor}", heading) for anchor, heading, _, _ in _SECTIONS)
    top = f"<h1>Trust report</h1>{head(report)}{markup.boxes(boxes)}{key_figures(report)}"
    return f"<header>{top}</header>{contents}{sections(report, '', 'h2')}"


def head(report) -> str:
    """Name, status, data and date."""
    run, data = report["run"], report["data"]
    kinds = {True: " (synthetic data)", False: " (data of people)"}
    kind = kinds.get(data.get("synthetic"), "")
    try:
        made = f"{datetime.fromisoformat(report['made']):%d %B %Y, %H:%M %Z}".strip()
    except ValueError:
        made = report["made"]
    facts = (f"{data['name']}{kind}", made)
    status = report["status"]
    return (
        f'<p class="run-name"><strong>{escape(run["name"])}</strong> '
        f'<span class="badge {escape(status.replace(" ", "-"))}">{escape(status)}</span></p>'
        f'<p class="facts">{escape(" · ".join(facts))}</p>'
    )


def boxes_of(report) -> list[tuple[str, str]]:
    """Kind and text of each box that must be read first; the first is there in every report."""
    privacy, bound = report["privacy"], fields.audit_of(report)
    boxes = [("private", f"{HANDLE} It holds private quantities: {report['private']}.")]
    if privacy["epsilon"] is None:
        boxes.append(("danger", "Nothing is promised: epsilon is infinite."))
    elif bound and bound["value"] > privacy["epsilon"]:
        text = (
            f"The audit contradicts the claim: with {bound['confidence']:.0%} confidence epsilon "
            f"is at least {round_down(bound['value'])}, more than is claimed. Take the "
            "claim as void until this is explained."
        )
        boxes.append(("danger", text))
    if report["run"].get("seeded"):
        boxes.append(("danger", words.SEEDED))
    if report["status"] != "complete":
        boxes.append(("warning", words.progress(report)))
    if (privacy.get("composed_runs") or 1) > 1:
        boxes.append(("warning", words.repeated(report)))
    return boxes


def key_figures(report) -> str:
    """The four figures that stand above all."""
    privacy, bound, metrics = report["privacy"], fields.audit_of(report), report["metrics"]
    unit = (f"one {privacy['unit']}", f"adjacency: {privacy['adjacency']}")
    claim = (fields.epsilon(privacy["epsilon"], ""), f"upper bound, at delta {privacy['delta']}")
    audit = (digits.NONE, "nothing was audited yet")
    if bound:
        least = round_down(bound["value"])
        audit = (f"at least {least}", f"lower bound, {bound['confidence']:.0%} confidence")
    label, utility = "Utility", (digits.NONE, "no metric was named")
    if metrics:
        label = metrics[0]["label"]
        private, baseline = (
            digits.value_text(
                fields.metric_of(report.get("results"), side, metrics[0]), metrics[0]["percent"]
            )
            for side in SIDES
        )
        utility = (private, f"private; without privacy {baseline}")
        if not report.get("results"):
            utility = (digits.NONE, "not measured yet")
    cards = {"Claimed epsilon": claim, "Audited epsilon": audit, label: utility}
    return markup.cards({**cards, "Unit of privacy": unit})


def sections(report, prefix: str, level: str) -> str:
    """All sections; `prefix` keeps the anchors of several runs apart."""
    parts = []
    for anchor, heading, key, build in _SECTIONS:
        body = build(report) if key is None or report.get(key) else ""
        body = body or f'<p class="absent">{escape(absence(report, anchor))}</p>'
        if level == "h2":
            body = body.replace("<h4", "<h3").replace("</h4>", "</h3>")  # no level is left out
        parts.append(f'<section id="{prefix}{anchor}"><{level}>{heading}</{level}>{body}</section>')
    return "".join(parts)


def _plain_words(report) -> str:
    topics = "".join(
        f"<div>{markup.heading(topic.heading)}"
        f"{(markup.bullets if topic.listed else markup.paragraphs)(topic.sentences)}</div>"
        for topic in words.plain_words(report)
    )
    privacy = report["privacy"]
    certain = words.most_certain(privacy["epsilon"], privacy["delta"])
    found = words.most_found(privacy["epsilon"], privacy["delta"], words.FALSE_ALARMS)
    cards = {
        "How sure somebody can be": (
            f"50% to {digits.share_up(certain)}",
            "before the model is known, and at most afterwards",
        ),
        "How many members an attack finds": (
            f"1% to {digits.share_up(found)}",
            "by guessing, and at most by any attack, at 1% false alarms",
        ),
    }
    formal = words.statement_lines(privacy["statement"])
    terms = "".join(f"<dt>{escape(key)}</dt><dd>{escape(text)}</dd>" for key, text in formal)
    return (
        f'{markup.cards(cards)}<div class="topics">{topics}</div>'
        f'{markup.heading("The formal statement, in full")}<dl class="formal">{terms}</dl>'
    )


def _claim(report) -> str:
    privacy = report["privacy"]
    curve = [
        (step, epsilon)
        for step, epsilon in privacy["epsilon_by_steps"]
        if fields.is_number(epsilon)
    ]
    if not curve or privacy["epsilon"] is None:
        return ""
    title = f"Claimed epsilon over {curve[-1][0]} steps"
    axis = Axis("Epsilon, at most", low=0.0)
    plot = line_plot(title, _claim_series(report, curve), measured.STEPS, axis)
    caption = (
        f"{words.progress(report)} It is {fields.epsilon(privacy['epsilon'])}, at delta "
        f"{privacy['delta']}. Early steps cost most."
    )
    rows = [(f"{step:,}", round_up(epsilon)) for step, epsilon in curve]
    numbers = markup.table(("Steps", "Epsilon, at most"), rows)
    return markup.figures([(plot, caption)]) + markup.folded("The same in numbers", numbers)


def _claim_series(report, curve) -> list[Series]:
    privacy = report["privacy"]
    charged, budget = privacy["steps_charged"], privacy.get("budget_epsilon")
    done = [point for point in curve if point[0] <= charged]
    if report["status"] == "unfinished" and (not done or charged > done[-1][0]):
        done.append((charged, privacy["epsilon"]))
    series = [Series("charged so far", done, "private")]
    ahead = [*done[-1:], *(point for point in curve if point[0] > charged)]
    if ahead[1:] or not done:
        series.append(Series("planned, not charged", ahead, "planned"))
    if budget is not None:
        series.append(Series("budget", [(0.0, budget), (curve[-1][0], budget)], "budget"))
    return [*series, Series("last step charged", done[-1:], "private", marks=True)]


def _particulars(report) -> str:
    run, ledger = report["run"], report.get("ledger")
    seed = words.SEEDED if run.get("seeded") else words.UNSEEDED
    trainings = report["training"]
    inner = {name: value for name, value in trainings.items() if isinstance(value, dict)}
    outer = {name: value for name, value in trainings.items() if name not in inner}
    tables = [("Plan", report["plan"]), *((f"Training: {name}", inner[name]) for name in inner)]
    tables += [("Training", outer), ("Data", report["data"]), ("Model", report["model"])]
    tables += [("Run", run), ("Versions", report["versions"])]
    return (
        f"{markup.heading('Limits and assumptions')}{markup.bullets(report['notes'])}"
        f"{markup.heading('Seed')}{markup.paragraph(seed)}{markup.heading('Ledger')}"
        f"{_ledger(ledger) if ledger else markup.paragraph(absence(report, 'ledger'))}"
        + "".join(markup.folded(title, markup.pairs(values)) for title, values in tables if values)
    )


def _ledger(ledger) -> str:
    rows = [
        (str(one["number"]), f"{one['start']:,}", f"{one['charged']:,}", one.get("reason", ""))
        for one in ledger.get("segments") or ()
    ]
    said = f"Kept in {ledger['file']}; head {ledger.get('head') or digits.NONE}."
    head = ("Segment", "First step", "Steps charged", "Reason")
    return markup.paragraph(said) + (markup.table(head, rows) if rows else "")


_SECTIONS: tuple[tuple[str, str, str | None, Callable[[Any], str]], ...] = (
    ("words", "In plain words", None, _plain_words),
    ("claim", "Claimed epsilon over the steps", None, _claim),
    ("results", "Utility against the baseline", "results", measured.utility),
    ("attack", "Membership attack", "attack", measured.attack),
    ("groups", "By group", "groups", measured.groups),
    ("timing", "Where the time went", "timing", measured.timing),
    ("clipping", "Clipping", "clipping", measured.clipping),
    ("learning", "Learning curves", "learning", measured.learning),
    ("particulars", "Plan, versions, ledger and limits", None, _particulars),
)
