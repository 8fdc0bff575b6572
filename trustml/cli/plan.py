"""What a budget buys: the noise it takes, and what is promised for it."""

import argparse
import math
from pathlib import Path
from typing import NamedTuple

from trustml.cli.options import add_output, count, number, show_json, show_table
from trustml.formatting import round_up
from trustml.plan import (
    AutoPlan,
    PrivacyPlan,
    Trials,
    auto_plan,
    calibrate_search,
    search_cost,
)
from trustml.plan.search import SearchCost
from trustml.recipes.composition import compose
from trustml.recipes.waiting import waiting

DESCRIPTION = """\
Turns a privacy budget into a plan: the noise to add, the batch to draw, the promise it gives.
That reads no data: every number is public. With --auto batch, steps, noise and learning rate follow
from the budget by published rules, each with its reason. With --search the budget is that of a
private search over settings (Papernot and Steinke 2022), of which one trial follows the plan. With
--ledger it says instead what runs have spent so
far: those on one data set, which a hash of it tells, add up. Who knows the whole data set but for a
row can try guesses of that row by the hash."""

EXAMPLES = """\
examples:
  trustml plan --num-units 13084 --batch 2048 --steps 200 --epsilon 3 --delta 1e-5
  trustml plan --auto --num-units 13084 --epsilon 3 --epochs 25 --parameters 300000
  trustml plan --auto --num-units 13084 --epsilon 3 --search 10
  trustml plan --num-units 60000 --batch 256 --steps 14040 --noise-multiplier 1.1 --delta 1e-5
  trustml plan --ledger runs/snips-1 runs/snips-2"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `trustml plan`."""
    parser.add_argument("--num-units", type=count, help="units in the data, public")
    parser.add_argument("--batch", type=count, help="units per step on average")
    parser.add_argument("--steps", type=count, help="steps of the run")
    parser.add_argument("--delta", type=number, default=1e-5, help="default: %(default)s")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--epsilon", type=number, help="the budget to stay within")
    budget.add_argument("--noise-multiplier", type=number, help="the noise, instead of a budget")
    budget.add_argument(
        "--ledger",
        type=Path,
        nargs="+",
        metavar="FOLDER",
        help="runs whose spending to add up, instead of a plan",
    )
    words = "default: 1; with --auto, automatic clipping, which has none"
    parser.add_argument("--clip-norm", type=number, help=words)
    parser.add_argument("--sampling", default="poisson", help="poisson, truncated_poisson or fixed")
    parser.add_argument("--adjacency", default="add-or-remove-one", help="or replace-one")
    parser.add_argument("--accountant", default="pld", help="pld or rdp")
    parser.add_argument("--unit", default="example", help="what one unit is: utterance, user, ...")
    _add_auto(parser.add_argument_group("by rules"))
    _add_search(parser.add_argument_group("search"))
    add_output(parser)


def _add_auto(group) -> None:
    group.add_argument("--auto", action="store_true", help="choose batch, steps and the rest")
    words = "compute: units processed over units there are; default: 20"
    group.add_argument("--epochs", type=number, help=words)
    group.add_argument("--parameters", type=count, help="trained values, at most")
    group.add_argument("--tokens-per-unit", type=number, help="of a language model, to judge it")
    group.add_argument("--pretrained", action="store_true", help="weights come from elsewhere")


def _add_search(group) -> None:
    words = "trials on average of a private search that keeps the budget; how many is secret"
    group.add_argument("--search", type=number, metavar="MEAN", help=words)
    words = "law of their number: 1 geometric (default), 0 logarithmic, inf Poisson"
    group.add_argument("--search-shape", type=float, metavar="ETA", help=words)


def run(chosen: argparse.Namespace) -> int:
    """Prints the plan, or what was spent."""
    if chosen.ledger:
        return _show_spent(chosen)
    with waiting("plan: accounting, which takes some seconds for a large plan"):
        auto = _auto(chosen) if chosen.auto else None
        plan = _plan(chosen) if auto is None else auto.plan
        search = _search(chosen, plan)
        if search is not None:
            plan = search.plan
        marks = sorted({max(1, round(plan.steps * part)) for part in (0.1, 0.25, 0.5, 0.75, 1.0)})
        method = plan.accounted_by(chosen.delta)
        large = method != plan.accountant.upper()  # then what is shown on the way is coarser still
        spent = {
            steps: plan.epsilon(chosen.delta, steps=steps, coarse=large and steps < plan.steps)
            for steps in marks
        }
    if chosen.json:
        show_json(
            {
                "plan": plan.to_dict(),
                "delta": chosen.delta,
                "epsilon": _finite(spent[plan.steps]),
                "accounted_by": method,
                "epsilon_by_steps": {str(steps): _finite(value) for steps, value in spent.items()},
                "statement": plan.statement(chosen.delta),
                **({} if auto is None else {"auto": _described(auto)}),
                **({} if search is None else {"search": _finite(search.cost._asdict())}),
            }
        )
        return 0
    if auto is not None:
        _show_choices(auto)
    show_table(
        "Plan",
        ["field", "value"],
        [
            ["noise multiplier", f"{plan.noise_multiplier:.4f}"],
            ["noise on the sum (standard deviation)", f"{plan.stddev:.4g}"],
            ["sample rate", f"{plan.sample_rate:.5g}"],
            ["capacity of a padded batch", str(plan.capacity)],
            ["expected batch", f"{plan.expected_batch:g}"],
            ["steps", str(plan.steps)],
            *([] if auto is None else [["peak learning rate", f"{auto.learning_rate:.3g}"]]),
            *([f"epsilon after {steps} steps", _epsilon(value)] for steps, value in spent.items()),
        ],
    )
    if search is not None:
        _show_search(search)
        print("One trial by itself:")
    print(plan.statement(chosen.delta))
    why = "Why" if search is None else "Why, before the search took its part of the budget"
    for reason in () if auto is None else auto.reasons:
        print(f"{why}: {reason}")
    return 0


def _auto(chosen) -> AutoPlan:
    """The plan by rules."""
    fixed = ("batch", "steps", "noise_multiplier")
    for name in fixed:
        if getattr(chosen, name) is not None:
            raise ValueError(f"`--{name.replace('_', '-')}` cannot go with `--auto`: it follows.")
    for name, plain in (("sampling", "poisson"), ("adjacency", "add-or-remove-one")):
        if getattr(chosen, name) != plain:
            raise ValueError(
                f"`--{name}` must be {plain} with `--auto`, whose rules are for that, got "
                f"{getattr(chosen, name)}."
            )
    for name in ("num_units", "epsilon"):
        if getattr(chosen, name) is None:
            raise ValueError(f"`--{name.replace('_', '-')}` must be given with `--auto`, got none.")
    return auto_plan(
        chosen.num_units,
        chosen.epsilon,
        chosen.delta,
        epochs=20.0 if chosen.epochs is None else chosen.epochs,
        parameters=chosen.parameters,
        tokens_per_unit=chosen.tokens_per_unit,
        pretrained=chosen.pretrained,
        clip_norm=chosen.clip_norm,
        unit=chosen.unit,
    )


def _described(auto: AutoPlan) -> dict:
    return {
        "learning_rate": auto.learning_rate,
        "optimizer": auto.optimizer,
        "reasons": list(auto.reasons),
        "choices": [choice._asdict() for choice in auto.choices],
    }


def _show_choices(auto: AutoPlan) -> None:
    taken = auto.plan.expected_batch
    rows = [
        [
            f"{choice.expected_batch}{' (taken)' if choice.expected_batch == taken else ''}",
            str(choice.steps),
            f"{choice.noise_multiplier:.3f}",
            f"{choice.cumulative_noise:.2f}",
        ]
        for choice in auto.choices
    ]
    head = ["batch", "steps", "noise multiplier", "noise over the run"]
    show_table("Ways to spend the compute", head, rows)


class _Search(NamedTuple):
    plan: PrivacyPlan  # of one trial
    cost: SearchCost
    trials: Trials


def _search(chosen, plan: PrivacyPlan) -> _Search | None:
    """The trial of a search and what all cost; None where no search is asked for."""
    if chosen.search is None:
        if chosen.search_shape is not None:
            raise ValueError(f"`--search-shape` {chosen.search_shape:g} needs `--search`.")
        return None
    trials = Trials(chosen.search, 1.0 if chosen.search_shape is None else chosen.search_shape)
    if chosen.epsilon is not None:
        plan = calibrate_search(plan, epsilon=chosen.epsilon, delta=chosen.delta, trials=trials)
    return _Search(plan, search_cost(plan, delta=chosen.delta, trials=trials), trials)


def _show_search(search: _Search) -> None:
    show_table(
        f"A private search of {search.trials.mean:g} trials on average",
        ["epsilon of", "value"],
        [
            ["one trial", _epsilon(search.cost.one_run)],
            ["the whole", _epsilon(search.cost.epsilon)],
        ],
    )
    print(
        "Publish the best trial alone: neither another one, nor how many there were, nor how long "
        "they took. Trials are scored on public data, or the score is paid for (`search_cost`)."
    )


def _show_spent(chosen) -> int:
    totals = compose(chosen.ledger, chosen.delta)
    if chosen.json:
        show_json([_finite(total._asdict()) for total in totals])
        return 0
    for total in totals:
        rows = [
            [row["run"], f"{row['steps']} of {row['planned']}", _epsilon(row["epsilon"])]
            for row in total.runs
        ]
        show_table(
            f"Data {total.source[:16]}: epsilon at delta {chosen.delta}",
            ["run", "steps charged", "epsilon"],
            [*rows, ["together", "", _epsilon(total.epsilon)]],
        )
        for note in total.notes:
            print(f"Note: {note}")
    if len(totals) > 1:
        print(
            "Runs on different data sets are not added: nobody's row counts in two of them, "
            "unless it lies in both."
        )
    return 0


def _epsilon(value: float) -> str:
    return round_up(value, places=4)


def _finite(value):
    """For JSON, which has no infinity: null."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if value == math.inf else value


def _plan(chosen) -> PrivacyPlan:
    for name in ("epochs", "parameters", "tokens_per_unit"):
        if getattr(chosen, name) is not None:
            raise ValueError(f"`--{name.replace('_', '-')}` needs `--auto`.")
    for name in ("num_units", "batch", "steps"):
        if getattr(chosen, name) is None:
            raise ValueError(
                f"`--{name.replace('_', '-')}` must be given to make a plan, got none."
            )
    if chosen.epsilon is None and chosen.noise_multiplier is None:
        raise ValueError("`--epsilon` or `--noise-multiplier` must be given, got neither.")
    common = {
        "steps": chosen.steps,
        "clip_norm": 1.0 if chosen.clip_norm is None else chosen.clip_norm,
        "expected_batch": chosen.batch,
        "num_units": chosen.num_units,
        "sampling": chosen.sampling,
        "adjacency": chosen.adjacency,
        "accountant": chosen.accountant,
        "unit": chosen.unit,
    }
    if chosen.epsilon is not None:
        return PrivacyPlan.calibrate(epsilon=chosen.epsilon, delta=chosen.delta, **common)
    if chosen.batch > chosen.num_units:
        raise ValueError(
            f"`--batch` must be at most `--num-units` ({chosen.num_units}), got {chosen.batch}."
        )
    return PrivacyPlan(
        noise_multiplier=chosen.noise_multiplier,
        sample_rate=chosen.batch / chosen.num_units,
        **common,
    )
