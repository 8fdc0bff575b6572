"""Attack success and lower bounds of epsilon, from membership scores of any model."""

import argparse
from pathlib import Path
from typing import Any

from trustml.cli.options import add_output, number, show_json, show_table
from trustml.formatting import round_down, round_up
from trustml.recipes.scores.audit import (
    HOLDS_FOR,
    PRIOR,
    PRIVATE,
    TRIALS,
    AuditConfig,
    attack_scores,
    audit_scores,
    check_coins,
    compared,
    finite,
)
from trustml.recipes.scores.files import Scores, read_scores

FILE = "audit.json"

DESCRIPTION = """\
Judges an attack on any model by its scores: how well they tell members of the training data from
others, the epsilon that this refutes, and whether that is more than a claim.

FILE is one of
  .csv  with a header: `score` (higher is more like a member), `member` (0, 1, true or false: was
        the row trained on), and if you like `id` (refused where it occurs twice) and columns of
        slices for --by;
  .npz  with arrays [unit] of these names and, to attack with shadow models too,
        `target_scores`  [unit]          what the model under attack says of each unit,
        `shadow_scores`  [shadow, unit]  what each shadow model says of it,
        `shadow_members` [shadow, unit]  whether that shadow was trained on it,
        `population_scores` [other], `population_shadow_scores` [shadow, other] and, if shadows
        were trained on any, `population_shadow_members` [shadow, other]: the same of units that
        the model under attack was not trained on, which RMIA needs.
        These scores are logit-scaled confidences log p - log(1 - p) of the true class, as LiRA
        takes them; RMIA takes the probability p, which follows. LiRA has one variance for all units
        with fewer than 64 shadows.

A bound rests on how rows became members. By default rows are independent trials: a training run
for each score, or a model that treats rows apart. The many rows of one model are not independent;
if a fair coin put each in or left it out, say --one-run, whose bounds need no more. Which of the
two holds cannot be read off the scores. Either way bounds are of epsilon under adding or removing
one row. Thresholds are chosen on the scores and paid for. With several attacks or slices the bounds
that are compared with a claim hold together."""

EXAMPLES = """\
examples:
  trustml audit scores runs.csv --claimed-epsilon 3 --delta 1e-5
  trustml audit scores losses.csv --lower-is-member --one-run --by class --out audit
  trustml audit scores shadows.npz --fpr 0.01 --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `trustml audit scores`."""
    parser.add_argument("file", type=Path, metavar="FILE", help="scores, .csv or .npz")
    lower = "`score` is lower for members, as losses are"
    parser.add_argument("--lower-is-member", action="store_true", help=lower)
    coins = "a fair coin per row decided, in one training run"
    parser.add_argument("--one-run", action="store_true", help=coins)
    parser.add_argument("--delta", type=number, default=1e-5, help="default: %(default)s")
    parser.add_argument("--confidence", type=number, default=0.95, help="default: %(default)s")
    rates = "false positive rates; default: %(default)s"
    parser.add_argument("--fpr", default="0.01,0.001", metavar="RATES", help=rates)
    parser.add_argument("--claimed-epsilon", type=number, help="a claim at --delta, to refute")
    parser.add_argument("--by", metavar="COLUMN", help="judge each slice by itself too")
    parser.add_argument("--out", type=Path, help=f"new or empty folder for {FILE} and audit.html")
    add_output(parser)


def run(chosen: argparse.Namespace) -> int:
    """Audits the scores; a refuted claim is an answer, not a failure."""
    asked = _question(chosen)
    found = read_scores(chosen.file, chosen.by)
    if asked.one_run:
        check_coins(found.member)
    scores, missing = attack_scores(found, lower_is_member=chosen.lower_is_member)
    attacks = audit_scores(found, scores, asked)
    claim = chosen.claimed_epsilon
    verdict = None if claim is None else compared(attacks, asked, claim)
    document = _document(chosen, found, asked, attacks, verdict, missing)
    if chosen.out:
        _write(chosen.out, document, _verdict(asked, document) if verdict else "")
    # A curve has a point for each score: it is in the file alone.
    short = {name: {k: v for k, v in one.items() if k != "roc"} for name, one in attacks.items()}
    if chosen.json:
        show_json(finite({**document, "attacks": short}))
    else:
        _show(chosen, asked, document)
    return 0


def _question(chosen) -> AuditConfig:
    if not (0 <= chosen.delta < 1):
        raise ValueError(f"`--delta` must be in [0, 1), got {chosen.delta}.")
    if not (0 < chosen.confidence < 1):
        raise ValueError(
            f"`--confidence` must be in (0, 1), such as 0.95, got {chosen.confidence}."
        )
    claim = chosen.claimed_epsilon
    if claim is not None and not (0 <= claim < float("inf")):
        raise ValueError(f"`--claimed-epsilon` must be finite and 0 or more, got {claim}.")
    out = chosen.out
    if out and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"`--out` must be a new or empty folder, got {out}.")
    return AuditConfig(chosen.delta, chosen.confidence, _rates(chosen.fpr), chosen.one_run)


def _rates(text: str) -> tuple[float, ...]:
    rates = []
    for part in text.split(","):
        try:
            rate = float(part)
        except ValueError:
            rate = -1.0
        if not (0 < rate < 1):
            raise ValueError(f"`--fpr` must be rates in (0, 1), commas between, got {part!r}.")
        rates.append(rate)
    return tuple(dict.fromkeys(rates))


def _document(
    chosen, found: Scores, asked: AuditConfig, attacks, verdict, missing
) -> dict[str, Any]:
    trials = "one run" if asked.one_run else "independent"
    members, others = int(found.member.sum()), int((~found.member).sum())
    return {
        "private": PRIVATE,
        "file": str(chosen.file),
        "members": members,
        "nonmembers": others,
        "trials": trials,
        "assumed": TRIALS[trials],
        "delta": asked.delta,
        "confidence": asked.confidence,
        "claim": verdict,
        "refuted": None if verdict is None else verdict["refuted"],
        "attacks": attacks,
        "missing": missing,
        "notes": _notes(chosen, found, asked, verdict, members, others),
    }


def _notes(chosen, found: Scores, asked, verdict, members: int, others: int) -> list[str]:
    notes = []
    low = [rate for rate in asked.rates if rate * others < 1 - 1e-9]
    if low:
        listed = ", ".join(f"{rate:g}" for rate in low)
        notes.append(
            f"A false positive rate of {listed} cannot be told with {others} non-members; the "
            f"smallest that can is {1 / others:.3g}."
        )
    if asked.one_run and members == others:
        notes.append(
            "There are as many members as others. If that was arranged, the bounds are void."
        )
    if verdict and verdict["largest_that_could_be_shown"] <= verdict["epsilon"]:
        notes.append(
            "So few rows could not refute the claim if no guess were wrong: the most that they "
            f"can show is {verdict['largest_that_could_be_shown']:.3g}."
        )
    if chosen.lower_is_member:
        notes.append("Thresholds of `score` are of minus the score: lower was said to be a member.")
    if (given := found.shadows) and given.shadows.min() >= 0 and given.shadows.max() <= 1:
        notes.append("`shadow_scores` look like probabilities; they should be log p - log(1 - p).")
    if found.unread:
        notes.append(f"Not read: {', '.join(found.unread)}.")
    return notes


def _write(out: Path, document: dict[str, Any], verdict: str) -> None:
    from trustml.recipes.scores import page as audit_page
    from trustml.report import write_json, write_text

    out.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_json(out / FILE, finite(document), mode=0o600)
    write_text(out / audit_page.FILE, audit_page.page(document, verdict), mode=0o600)


def _show(chosen, asked: AuditConfig, document) -> None:
    attacks = document["attacks"]
    sizes = f"{document['members']:,} members and {document['nonmembers']:,} others"
    title = f"Attacks on {sizes}; {_percent(asked.confidence)} intervals; private quantities"
    head = ["attack", "AUC", *(f"TPR at {_percent(rate)} FPR" for rate in asked.rates)]
    show_table(title, head, [_success_row(name, one) for name, one in attacks.items()])
    _show_bounds(asked, attacks)
    if chosen.by is not None:
        _show_slices(chosen.by, head, attacks)
    if document["claim"]:
        print(_verdict(asked, document))
    print(f"Assumed: {document['assumed']}.")
    for name, why in document["missing"].items():
        print(f"Not made: {name}: {why}.")
    for note in document["notes"]:
        print(f"Note: {note}")
    if chosen.out:
        print(f"Written to {chosen.out}: {FILE}, audit.html (private quantities).")


def _success_row(name: str, one) -> list[str]:
    rates = (_estimate(at["tpr"], 100) if at["tpr"] else "too few" for at in one["tpr_at_fpr"])
    return [name, _estimate(one["auc"]), *rates]


def _show_bounds(asked: AuditConfig, attacks) -> None:
    bounds = [(name, bound) for name, one in attacks.items() for bound in one["bounds"]]
    if len(attacks) > 1:  # one a line; JSON has them all
        bounds = [(name, bound) for name, bound in bounds if bound["compared"]]
        labels = [name for name, _ in bounds]
    else:
        labels = [bound["method"] for _, bound in bounds]
    rows = [
        [label, _least(bound), _percent(bound["confidence"]), bound["holds_for"]]
        for label, (_, bound) in zip(labels, bounds, strict=True)
    ]
    title = f"Lower bounds of epsilon at delta {asked.delta}"
    show_table(title, ["bound", "at least", "confidence", "holds for"], rows)
    if len(attacks) > 1:
        print(f"All by: {bounds[0][1]['method']}. Other bounds: --json.")
    _explain(asked, attacks, [bound for _, bound in bounds])


def _explain(asked: AuditConfig, attacks, bounds) -> None:
    tested = sum(1 + len(one.get("slices", {})) for one in attacks.values())
    if tested > 1:
        print(
            f"The first bound of each attack and those of slices, {tested} in all, hold together "
            f"with {_percent(asked.confidence)} confidence; they are compared with a claim."
        )
    elif len(bounds) > 1:
        print("The first is compared with a claim; each holds with its confidence by itself.")
    for kind in dict.fromkeys(bound["holds_for"] for bound in bounds):
        if kind in HOLDS_FOR:
            print(f"{kind}: {HOLDS_FOR[kind]}.")
    for note in dict.fromkeys(bound["note"] for bound in bounds if bound["note"]):
        print(f"Note: {note}")


def _show_slices(by: str, head, attacks) -> None:
    several = len(attacks) > 1
    rows = []
    for name, attack in attacks.items():
        rows += [
            [
                *_success_row(f"{part}: {name}" if several else part, one),
                f"{one['members']}, {one['nonmembers']}",
                _least(one["bounds"][0]),
            ]
            for part, one in attack["slices"].items()
        ]
    show_table(f"By {by}", [by, *head[1:], "members, others", "epsilon at least"], rows)
    for name, attack in attacks.items():
        worst = attack["worst_slice"]
        print(
            f"Most exposed by {name}: {worst['slice']}, AUC {_estimate(worst['auc'])}, an interval "
            f"that allows for the choice among {len(attack['slices'])}."
        )
    left_out = next(iter(attacks.values()))["slices_left_out"]  # whatever the attack
    if left_out:
        print(f"Left out: {'; '.join(f'{name} ({why})' for name, why in left_out.items())}.")


def _verdict(asked: AuditConfig, document) -> str:
    claim = document["claim"]
    said = (
        f"the claim of epsilon {claim['epsilon']} at delta {claim['delta']} under adding or "
        "removing one row"
    )
    least = round_down(claim["largest_bound"])
    if claim["refuted"]:
        return (
            f"REFUTED: {said} does not hold, with {_percent(asked.confidence)} confidence: epsilon "
            f"is at least {least} (by {claim['by']}), if what is assumed below is so."
        )
    return (
        f"Not refuted: {said}; the largest bound is {least}. That proves no privacy: a stronger "
        "attack may show more."
    )


def _least(bound) -> str:
    if bound["note"]:
        return "too few"
    least = round_down(bound["epsilon"])
    return f"{least} to {round_up(bound['upper'])}" if bound["holds_for"] == PRIOR else least


def _estimate(estimate, scale: int = 1) -> str:
    digits, sign = (1, "%") if scale == 100 else (3, "")
    value, low, high = (f"{scale * estimate[key]:.{digits}f}" for key in ("value", "low", "high"))
    return f"{value}{sign} [{low}, {high}]"


def _percent(share: float) -> str:
    return f"{100 * share:.6g}%"
