"""The sections of the page that show what was measured. All private."""

import math

from trustml.report import digits, fields, markup, words
from trustml.report.fields import SIDES
from trustml.report.plots import Axis, Row, Series, bar_plot, dot_plot, line_plot

_MOST_GROUPS = 12  # in one plot; the table has them all
_FEW = 30  # judged rows below which a group's figures are flagged
STEPS = Axis("Step", low=0.0)
_AUDITED = (
    "The private model's true epsilon lies between what an attack proved and what is claimed. An "
    "audit that finds little proves little: a stronger one may find more, but none more than the "
    "claim."
)


def utility(report) -> str:
    """Each metric of both models, with intervals."""
    results, figures, rows = report["results"], [], []
    for metric in report["metrics"]:
        label, percent = metric["label"], metric["percent"]
        found = [fields.metric_of(results, side, metric) for side in SIDES]
        texts = [digits.estimate_text(one, percent) for one in found]
        lines = [
            Row(side, text, [(side, one, side)])
            for side, one, text in zip(SIDES, found, texts, strict=True)
            if one
        ]
        plot = dot_plot(f"{label}, private and baseline", lines, Axis(label, percent=percent))
        figures.append((plot, ""))
        rows.append((label, *texts, fields.difference(found, percent), fields.intervals(found)))
    table = markup.table(("Metric", "Private", "Baseline", "Difference", "Interval"), rows)
    data = report["data"]
    on = _better(report["metrics"])
    if data.get("judged") is not None:
        on = f"Judged on {data['judged']:,} rows of the part “{data.get('judged_on')}”. {on}"
    runs = report["run"].get("repeats") or 1
    if runs > 1:
        on += f" Means over {runs} runs of each side."
    return markup.paragraph(on) + markup.figures(figures) + table


def _better(metrics) -> str:
    lower = [metric["label"] for metric in metrics if metric.get("lower_is_better")]
    if not lower:
        return "Higher is better."
    rest = " Higher is better for the rest." if len(lower) < len(metrics) else ""
    return f"Lower is better for {' and '.join(lower)}.{rest}"


def attack(report) -> str:
    """What the attack finds in both models, and what the claim rules out."""
    attack = report["attack"]
    caption = (
        "The further above guessing, the more the model gives away. The shaded part is what the "
        "claim rules out for every attack on the private model; small samples scatter."
    )
    facts = {"members": attack.get("members"), "non-members": attack.get("nonmembers")}
    sizes = ", ".join(f"{size:,} {name}" for name, size in facts.items() if size is not None)
    sizes += f"; intervals at {attack['confidence']:.0%} confidence each" if sizes else ""
    figures = markup.figures(
        [
            (attack_plot(attack, report["privacy"]), caption),
            (_audit_plot(attack, report["privacy"]), _AUDITED),
        ]
    )
    table = markup.table(("Measure", "Private", "Baseline"), _attack_rows(attack))
    return markup.paragraph(attack["how"]) + markup.paragraph(sizes) + figures + table


def attack_plot(attack, privacy, label: str | None = None) -> str:
    """Curves of the attack on both models, and what the claim rules out."""
    curves = {side: fields.side_of(attack, side).get("roc") or {} for side in SIDES}
    series = [
        Series(label or side, list(zip(curve["fpr"], curve["tpr"], strict=False)), side)
        for side, curve in curves.items()
        if curve.get("fpr") and curve.get("tpr")
    ]
    every = [rate for curve in curves.values() for axis in curve.values() for rate in axis]
    least = min((rate for rate in every if rate > 0), default=0.01)
    low = 10.0 ** max(-5, math.floor(math.log10(least)))
    rates = [low ** (1 - index / 80) for index in range(81)]
    most = [(r, words.most_found(privacy["epsilon"], privacy["delta"], r)) for r in rates]
    claim = Series("ruled out by the claim", most, "claim")
    axis = Axis("False alarms (FPR)", log=True, low=low, high=1.0, percent=True)
    return line_plot(
        "Membership attack: members found against false alarms",
        [*series, Series("guessing", [(low, low), (1.0, 1.0)], "guess")] if series else [],
        axis,
        axis._replace(label="Members found (TPR)"),
        forbidden=None if privacy["epsilon"] is None else claim,
    )


def _audit_plot(attack, privacy) -> str:
    """Claimed and audited epsilon of the private model, by kind of canary."""
    claimed, rows = privacy["epsilon"], []
    for one in fields.side_of(attack, "private").get("audits") or ():
        ends = {"value": one["value"], "low": one["value"], "high": claimed}
        parts = [("audited: at least", ends, "private")]
        if claimed is not None:
            parts.append(("claimed: at most", {"value": claimed}, "budget"))
        note = f"{one['correct']} of {one['guesses']} right"
        rows.append(Row(one["canaries"].capitalize(), note, parts))
    return dot_plot("Claimed and audited epsilon", rows, Axis("Epsilon", low=0.0))


def _attack_rows(attack) -> list[tuple[str, ...]]:
    sides = [fields.side_of(attack, side) for side in SIDES]
    rows = [("AUC (0.5 is guessing)", *(digits.estimate_text(one.get("auc")) for one in sides))]
    at = [{entry["rate"]: entry for entry in one.get("tpr_at_fpr") or ()} for one in sides]
    for rate in dict.fromkeys(rate for one in at for rate in one):
        found = (one.get(rate) or {} for one in at)
        texts = (
            digits.estimate_text(entry.get("tpr"), percent=True)
            if entry.get("tpr")
            else entry.get("note") or digits.NONE
            for entry in found
        )
        rows.append((f"Members found at {100 * rate:g}% false alarms", *texts))
    bounds = [one.get("epsilon_lower_bound") for one in sides]
    rows.append(("Audited epsilon", *map(digits.bound_text, bounds)))
    audits = [{one["canaries"]: one for one in side.get("audits") or ()} for side in sides]
    for kind in dict.fromkeys(kind for side in audits for kind in side):
        texts = (digits.bound_text(side.get(kind)) for side in audits)
        rows.append((f"Audited by {kind}", *texts))
    rows.append(("How it was audited", *((one or {}).get("method", digits.NONE) for one in bounds)))
    return rows


def groups(report) -> str:
    """Utility and attack for each group, worst off first."""
    kinds = dict.fromkeys(group["by"] for group in report["groups"])
    parts = []
    for kind in kinds:
        groups = [group for group in report["groups"] if group["by"] == kind]
        parts.append(f"{markup.heading(f'By {kind}')}{_group_kind(report, groups)}")
    return markup.paragraph(words.GROUPS) + "".join(parts)


def _group_kind(report, groups) -> str:
    metrics = report["metrics"]
    sign = -1 if metrics and metrics[0].get("lower_is_better") else 1

    def value(group, side="private"):
        found = fields.metric_of(group, side, metrics[0]) if metrics else None
        return math.inf if found is None else sign * found["value"]

    ordered = sorted(groups, key=value)
    flags = _group_flags(ordered, value)
    plot = _group_plot(ordered, metrics[0]) if metrics else ""
    head = ["Group", "Judged", "Flags"]
    for index, metric in enumerate(metrics):
        # The headline alone has a difference: with more columns no screen shows them all.
        head += [f"{metric['label']}, private", "baseline", "difference"][: 2 + (index == 0)]
    rows = [_group_row(group, flags[index], metrics) for index, group in enumerate(ordered)]
    return markup.figures([(plot, _group_caption(ordered, flags))]) + markup.table(
        (*head, "Attack AUC, private"), rows
    )


def _group_plot(ordered, metric) -> str:
    rows = [
        Row(
            group["name"],
            f"n = {group['judged']:,}",
            [
                (side, fields.metric_of(group, side, metric), side)
                for side in SIDES
                if fields.side_of(group, side)
            ],
        )
        for group in ordered[:_MOST_GROUPS]
    ]
    axis = Axis(metric["label"], percent=metric["percent"])
    return dot_plot(f"{metric['label']} by group, worst off first", rows, axis)


def _group_flags(ordered, value) -> list[str]:
    """Per group, what it stands out by; of one group alone nothing can be said."""
    flags: list[list[str]] = [[] for _ in ordered]
    losses = [value(group, "baseline") - value(group) for group in ordered]
    exposed = [
        (fields.side_of(group, "private").get("attack_auc") or {}).get("value") for group in ordered
    ]
    marks = (
        ("worst off", [-value(group) for group in ordered]),
        ("loses most", [loss if loss > 0 else None for loss in losses]),
        ("most exposed", exposed),
    )
    for name, scores in marks if len(ordered) > 1 else ():
        known = [score for score in scores if score is not None and math.isfinite(score)]
        if known:
            flags[scores.index(max(known))].append(name)
    for group, found in zip(ordered, flags, strict=True):
        if group["judged"] < _FEW:
            found.append("few rows")
    return [", ".join(found) for found in flags]


def _group_caption(ordered, flags: list[str]) -> str:
    said = "Worst off first."
    if len(ordered) > _MOST_GROUPS:
        said = f"The {_MOST_GROUPS} worst off of {len(ordered)}; the table has all."
    told = [f"{group['name']}: {flag}." for group, flag in zip(ordered, flags, strict=True) if flag]
    return " ".join([said, *told])


def _group_row(group, flags: str, metrics) -> tuple[str, ...]:
    row = [group["name"], f"{group['judged']:,}", flags]
    for index, metric in enumerate(metrics):
        found = [fields.metric_of(group, side, metric) for side in SIDES]
        row += [digits.estimate_text(one, metric["percent"]) for one in found]
        row += [fields.difference(found, metric["percent"])] if index == 0 else []
    return (*row, digits.estimate_text(fields.side_of(group, "private").get("attack_auc")))


def timing(report) -> str:
    """Where a step of each model spends its time."""
    timing = report["timing"]
    rows, lines = [], []
    for side in [side for side in SIDES if fields.side_of(timing, side)]:
        whole, parts = (
            fields.side_of(timing, side)["step_ms"],
            fields.side_of(timing, side).get("parts_ms") or {},
        )
        # Parts are timed by themselves, so together they may take longer than the step.
        parts = {**parts, "rest": max(0.0, whole - sum(parts.values()))}
        looks = {"gradient": "gradient", "clipped gradient": "gradient"}
        drawn = [(looks.get(name, name), ms, _part_look(name)) for name, ms in parts.items()]
        rows.append(Row(f"{side} step", f"{whole:.3g} ms", drawn))
        lines += [
            (f"{side} step", name, f"{ms:.3g}", f"{ms / whole:.0%}" if whole else "")
            for name, ms in parts.items()
        ]
        lines.append((f"{side} step", "whole", f"{whole:.3g}", ""))
    plot = bar_plot("Time of a training step, by part", rows, Axis("Milliseconds per step"))
    return markup.figures([(plot, _ratio(timing))]) + markup.table(
        ("", "Part", "ms", "Share"), lines
    )


def _ratio(timing) -> str:
    private, baseline = (fields.side_of(timing, side).get("step_ms") for side in SIDES)
    said = f"Steps of {timing['batch']:,.0f} rows. " if timing.get("batch") else ""
    if private and baseline:
        said += f"A private step takes {private / baseline:.2f} times a baseline step."
    return said


def _part_look(name: str) -> str:
    known = {"noise": "part-2", "optimizer": "part-3", "rest": "part-rest"}
    return known.get(name, "part-1" if "gradient" in name else "part-4")


def clipping(report) -> str:
    """How many gradients the bound cut, over the steps."""
    clipping, figures = report["clipping"], []
    steps = clipping["steps"]
    share = list(zip(steps, clipping["clipped_share"], strict=False))
    axis = Axis("Share of units that were clipped", low=0.0, high=1.0, percent=True)
    plot = line_plot("Share of clipped units", [Series("clipped", share, "private")], STEPS, axis)
    figures.append((plot, ""))
    norms = [Series("mean norm", list(zip(steps, clipping["mean_norm"], strict=False)), "private")]
    bound = clipping.get("clip_norm")
    if isinstance(bound, int | float) and steps:
        ends = [(steps[0], bound), (steps[-1], bound)]
        norms.append(Series(f"clipping norm {bound:g}", ends, "budget"))
    plot = line_plot("Mean gradient norm", norms, STEPS, Axis("Mean gradient norm", low=0.0))
    figures.append((plot, ""))
    if not any(plot for plot, _ in figures):
        return ""
    dropped = clipping.get("dropped") or 0
    said = (
        f"Private: computed on the rows without noise. Units left out as not finite: {dropped:,}."
    )
    return markup.paragraph(said) + markup.figures(figures)


def learning(report) -> str:
    """Losses and scores over the steps."""
    learning = report["learning"]

    def series(pairs_of):
        found = [(side, pairs_of(learning.get(side) or {})) for side in SIDES]
        return [Series(side, pairs, side) for side, pairs in found if pairs]

    def losses(side):
        return list(zip(side.get("steps") or (), side.get("loss") or (), strict=False))

    figures = [(line_plot("Loss over steps", series(losses), STEPS, Axis("Loss")), "")]
    entries = [
        entry for side in learning.values() for entry in (side or {}).get("evaluations") or ()
    ]
    for key in dict.fromkeys(key for entry in entries for key in entry if key != "step"):

        def scores(side, key=key):
            found = side.get("evaluations") or ()
            return [
                (entry.get("step"), entry[key])
                for entry in found
                if fields.is_number(entry.get(key))
            ]

        title = key.replace("_", " ")
        figures.append((line_plot(f"{title} over steps", series(scores), STEPS, Axis(title)), ""))
    private = markup.paragraph("Private: computed on the rows without noise.")
    return private + markup.figures(figures) if any(plot for plot, _ in figures) else ""
