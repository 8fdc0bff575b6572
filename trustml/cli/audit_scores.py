"""Attack success and lower bounds of epsilon, from membership scores of any model."""

from collections.abc import Sequence
from pathlib import Path

from trustml.cli import flags
from trustml.cli.options import Output, show_json, show_table
from trustml.formatting import round_down, round_up
from trustml.recipes.scores.audit import FILE, AuditConfig, audit_scores
from trustml.recipes.scores.bounds import HOLDS_FOR, PRIOR, Bound
from trustml.recipes.scores.page import FILE as PAGE
from trustml.recipes.scores.results import AttackResult, ScoresAudit, Success, percent
from trustml.recipes.settings import knob, settings
from trustml.strict_json import finite

_ABOUT = """\
Evaluates an attack on any model by its scores: how well they tell members of the training data from
others, the epsilon that this refutes, and whether that is more than a claim.

FILE is one of
  .csv  with a header: `score` (higher is more like a member), `member` (0, 1, true or false: was
        the row trained on), and if you like `id` (refused where it occurs twice) and columns of
        slices for --by;
  .npz  with arrays [unit] of these names and, to attack with shadow models too,
        `target_scores`  [unit]          scores of the model under attack,
        `shadow_scores`  [shadow, unit]  scores of each shadow model,
        `shadow_members` [shadow, unit]  whether that shadow was trained on the unit,
        `population_scores` [other], `population_shadow_scores` [shadow, other] and, if shadows
        were trained on any, `population_shadow_members` [shadow, other]: the same of units that
        the model under attack was not trained on, which RMIA needs.
        These scores are logit-scaled confidences log p - log(1 - p) of the true class, as LiRA
        takes them; RMIA takes the probability p, which follows. LiRA has one variance for all units
        with fewer than 64 shadows.

A bound rests on how rows became members. By default rows are independent trials: a training run
for each score, or a model that treats rows apart. The many rows of one model are not independent;
if a fair coin put each in or left it out, give --one-run, whose bounds need no more. Which of the
two holds cannot be read off the scores. Either way bounds are of epsilon under adding or removing
one row. Thresholds are chosen on the scores and paid for. With several attacks or slices the bounds
that are compared with a claim hold together.

examples:
  trustml audit scores runs.csv --claimed-epsilon 3 --delta 1e-5
  trustml audit scores losses.csv --lower-is-member --one-run --by class --out audit
  trustml audit scores shadows.npz --fpr 0.01 --json"""


@settings
class _Call(Output):
    """Where one call writes."""

    out: Path | None = knob(
        None, f"new or empty folder for {FILE} and {PAGE}", "output", metavar="FOLDER"
    )


def run(arguments: Sequence[str]) -> int:
    """Audits the scores; a refuted claim is an answer, not a failure."""
    given, options = flags.parse(
        [AuditConfig, _Call], arguments, prog="trustml audit scores", about=_ABOUT
    )
    call, config = _Call.from_dict(options, "the flags"), AuditConfig.from_dict(given, "the flags")
    audit = audit_scores(config, call.out)
    if call.json:  # a curve has a point for each score: it is in the file alone
        show_json(finite(audit.to_dict(curves=False)))
    else:
        _show(audit, config, call.out)
    return 0


def _show(audit: ScoresAudit, config: AuditConfig, out: Path | None) -> None:
    sizes = f"{audit.members:,} members and {audit.nonmembers:,} others"
    title = f"Attacks on {sizes}; {percent(audit.confidence)} intervals; private quantities"
    head = ["attack", "AUC", *(f"TPR at {percent(rate)} FPR" for rate in config.rates)]
    rows = [_success_row(name, one.whole) for name, one in audit.attacks.items()]
    show_table(title, head, rows)
    _show_bounds(audit)
    if config.by is not None:
        _show_slices(config.by, head, audit.attacks)
    if audit.verdict:
        print(audit.verdict)
    print(f"Assumed: {audit.assumed}.")
    for name, why in audit.missing.items():
        print(f"Not made: {name}: {why}.")
    for note in audit.notes:
        print(f"Note: {note}")
    if out:
        print(f"Written to {out}: {FILE}, {PAGE} (private quantities).")


def _success_row(name: str, success: Success) -> list[str]:
    rates = success.result.tpr_at_fpr
    return [
        name,
        _estimate(success.result.auc),
        *(_estimate(at.tpr, 100) if at.tpr else "too few" for at in rates),
    ]


def _show_bounds(audit: ScoresAudit) -> None:
    several = len(audit.attacks) > 1
    if several:  # one a line; JSON has them all
        bounds = [(name, one.whole.bounds[0]) for name, one in audit.attacks.items()]
    else:
        (attack,) = audit.attacks.values()
        bounds = [(one.bound.method, one) for one in attack.whole.bounds]
    rows = [
        [label, _least(one), percent(one.bound.confidence), one.holds_for] for label, one in bounds
    ]
    title = f"Lower bounds of epsilon at delta {audit.delta}"
    show_table(title, ["bound", "at least", "confidence", "holds for"], rows)
    if several:
        print(f"All by: {bounds[0][1].bound.method}. Other bounds: --json.")
    _explain(audit, [one for _, one in bounds])


def _explain(audit: ScoresAudit, bounds: list[Bound]) -> None:
    tested = sum(len(one.compared()) for one in audit.attacks.values())
    if tested > 1:
        print(
            f"The first bound of each attack and those of slices, {tested} in all, hold together "
            f"with {percent(audit.confidence)} confidence; they are compared with a claim."
        )
    elif len(bounds) > 1:
        print("The first is compared with a claim; each holds with its confidence by itself.")
    for kind in dict.fromkeys(one.holds_for for one in bounds):
        if kind in HOLDS_FOR:
            print(f"{kind}: {HOLDS_FOR[kind]}.")
    for note in dict.fromkeys(one.note for one in bounds if one.note):
        print(f"Note: {note}")


def _show_slices(by: str, head: list[str], attacks: dict[str, AttackResult]) -> None:
    sliced = {name: one.slices for name, one in attacks.items() if one.slices is not None}
    rows = [
        [
            *_success_row(f"{part}: {name}" if len(sliced) > 1 else part, one),
            f"{one.result.members}, {one.result.nonmembers}",
            _least(one.bounds[0]),
        ]
        for name, slices in sliced.items()
        for part, one in slices.slices.items()
    ]
    show_table(f"By {by}", [by, *head[1:], "members, others", "epsilon at least"], rows)
    for name, slices in sliced.items():
        print(
            f"Most exposed by {name}: {slices.worst}, AUC {_estimate(slices.worst_result.auc)}, an "
            f"interval that allows for the choice among {len(slices.slices)}."
        )
    left_out = next(iter(sliced.values())).left_out  # whatever the attack
    if left_out:
        print(f"Left out: {'; '.join(f'{name} ({why})' for name, why in left_out.items())}.")


def _least(one: Bound) -> str:
    if one.note:
        return "too few"
    least = round_down(one.bound.epsilon)
    return f"{least} to {round_up(one.bound.upper)}" if one.holds_for == PRIOR else least


def _estimate(estimate, scale: int = 1) -> str:
    digits, sign = (1, "%") if scale == 100 else (3, "")
    value, low, high = (
        f"{scale * end:.{digits}f}" for end in (estimate.value, estimate.low, estimate.high)
    )
    return f"{value}{sign} [{low}, {high}]"
