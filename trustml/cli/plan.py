"""What a budget buys: the noise it takes, and what is promised for it."""

import argparse
import dataclasses
from pathlib import Path

from trustml.cli.options import add_output, count, number, show_json, show_table
from trustml.formatting import round_up
from trustml.plan import AutoPlan
from trustml.recipes.composition import Total, compose
from trustml.recipes.planning import PlanConfig, Planned, Search, plan
from trustml.strict_json import finite

DESCRIPTION = """\
Turns a privacy budget into a plan: the noise to add, the batch to draw, the promise it gives.
That reads no data: every number is public. With --auto batch, steps, noise and learning rate follow
from the budget by published rules, each with its reason. With --search the budget is that of a
private search over settings (Papernot and Steinke 2022), of which one trial follows the plan. With
--ledger it shows instead what runs have spent so far: those on one data set, recognised by a hash
of it, add up. Who knows the whole data set but for a row can try guesses of that row by the
hash."""

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
        totals = compose(chosen.ledger, chosen.delta)
        if chosen.json:
            show_json(finite([total.to_dict() for total in totals]))
        else:
            _show_spent(totals, chosen.delta)
        return 0
    planned = plan(
        PlanConfig(
            **{field.name: getattr(chosen, field.name) for field in dataclasses.fields(PlanConfig)}
        )
    )
    if chosen.json:
        show_json(planned.to_dict())
    else:
        _show(planned)
    return 0


def _show(planned: Planned) -> None:
    auto, search = planned.auto, planned.search
    if auto is not None:
        _show_choices(auto)
    show_table("Plan", ["field", "value"], _plan_rows(planned))
    if search is not None:
        _show_search(search)
        print("One trial by itself:")
    print(planned.statement())
    why = "Why" if search is None else "Why, before the search took its part of the budget"
    for reason in () if auto is None else auto.reasons:
        print(f"{why}: {reason}")


def _plan_rows(planned: Planned) -> list[list[str]]:
    plan, auto = planned.plan, planned.auto
    return [
        ["noise multiplier", f"{plan.noise_multiplier:.4f}"],
        ["noise on the sum (standard deviation)", f"{plan.stddev:.4g}"],
        ["sample rate", f"{plan.sample_rate:.5g}"],
        ["capacity of a padded batch", str(plan.capacity)],
        ["expected batch", f"{plan.expected_batch:g}"],
        ["steps", str(plan.steps)],
        *([] if auto is None else [["peak learning rate", f"{auto.learning_rate:.3g}"]]),
        *(
            [f"epsilon after {steps} steps", _epsilon(value)]
            for steps, value in planned.epsilon_by_steps.items()
        ),
    ]


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


def _show_search(search: Search) -> None:
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
        "they took. Score trials on public data, or pay for the score (`search_cost`)."
    )


def _show_spent(totals: list[Total], delta: float) -> None:
    for total in totals:
        rows = [
            [run.run, f"{run.steps} of {run.planned}", _epsilon(run.epsilon)] for run in total.runs
        ]
        show_table(
            f"Data {total.source[:16]}: epsilon at delta {delta}",
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


def _epsilon(value: float) -> str:
    return round_up(value, places=4)
