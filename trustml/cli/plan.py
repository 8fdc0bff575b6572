"""What a budget buys: the noise it takes, and what is promised for it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trustml.cli import flags
from trustml.cli.options import Output, show_json, show_table
from trustml.formatting import round_up
from trustml.plan import AutoPlan
from trustml.recipes.composition import Total, compose
from trustml.recipes.planning import PlanConfig, Planned, Search, plan
from trustml.recipes.settings import knob, settings
from trustml.strict_json import finite

_ABOUT = """\
Turns a privacy budget into a plan: the noise to add, the batch to draw, the promise it gives.
That reads no data: every number is public. With --auto batch, steps, noise and learning rate follow
from the budget by published rules, each with its reason. With --search the budget is that of a
private search over settings (Papernot and Steinke 2022), of which one trial follows the plan. With
--ledger it shows instead what runs have spent so far: those on one data set, recognised by a hash
of it, add up. Who knows the whole data set but for a row can try guesses of that row by the
hash.

examples:
  trustml plan --num-units 13084 --batch 2048 --steps 200 --epsilon 3 --delta 1e-5
  trustml plan --auto --num-units 13084 --epsilon 3 --epochs 25 --parameters 300000
  trustml plan --auto --num-units 13084 --epsilon 3 --search 10
  trustml plan --num-units 60000 --batch 256 --steps 14040 --noise-multiplier 1.1 --delta 1e-5
  trustml plan --num-units 727 --batch 20 --steps 100 --noise-multiplier 1 --activity rows.txt
  trustml plan --ledger runs/snips-1 runs/snips-2"""


@settings
class _Call(Output):
    """What one call takes beside the numbers of its plan."""

    ledger: tuple[Path, ...] = knob(
        (), "runs whose spending to add up, instead of a plan", metavar="FOLDER"
    )


def run(arguments: Sequence[str]) -> int:
    """Prints the plan, or what was spent."""
    given, options = flags.parse([PlanConfig, _Call], arguments, prog="trustml plan", about=_ABOUT)
    call, config = _Call.from_dict(options, "the flags"), PlanConfig.from_dict(given, "the flags")
    if call.ledger:
        return _spent(call, config, given)
    planned = plan(config)
    if call.json:
        show_json(planned.to_dict())
    else:
        _show(planned)
    return 0


def _spent(call: _Call, config: PlanConfig, given: Mapping[str, Any]) -> int:
    fixed = [name for name in ("epsilon", "noise_multiplier") if name in given]
    if fixed:
        flag = fixed[0].replace("_", "-")
        raise ValueError(f"`--{flag}` cannot go with `--ledger`, which plans nothing.")
    totals = compose(call.ledger, config.delta)
    if call.json:
        show_json(finite([total.to_dict() for total in totals]))
    else:
        _show_spent(totals, config.delta)
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
    if planned.selections is not None:
        _show_selections(planned)
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


def _show_selections(planned: Planned) -> None:
    rows = [
        [
            one.selection,
            f"{one.price.rates[-1]:.4g}",
            _epsilon(one.price.claimed),
            _epsilon(one.typical),
        ]
        for one in planned.selections or ()
    ]
    title = "The price of selection, with the same noise"
    show_table(title, ["selection", "largest rate", "epsilon for all", "the median client"], rows)
    print(
        "Who is drawn more often is protected less, and the claim is for all. It holds if activity "
        "is public: a rate shows it."
    )


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
            "These data have different hashes, as one file has with other columns or parts. If the "
            "same people are in them, add them up: epsilon "
            f"{_epsilon(sum(total.epsilon for total in totals))} at delta {len(totals) * delta}."
        )


def _epsilon(value: float) -> str:
    return round_up(value, places=4)
