"""What a budget buys: the noise it takes, and what is promised for it."""

import argparse
import math
from pathlib import Path

from trustml.cli.ledgers import compose, upward
from trustml.cli.options import add_output, count, number, show_json, show_table
from trustml.plan import PrivacyPlan

DESCRIPTION = """\
Turns a privacy budget into a plan: the noise to add, the batch to draw, the promise it gives.
That reads no data: every number is public. With --ledger it says instead what runs have spent so
far: those on one data set, which a hash of it tells, add up. Who knows the whole data set but for a
row can try guesses of that row by the hash."""

EXAMPLES = """\
examples:
  trustml plan --num-units 13084 --batch 2048 --steps 200 --epsilon 3 --delta 1e-5
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
    parser.add_argument("--clip-norm", type=number, default=1.0, help="default: %(default)s")
    parser.add_argument("--sampling", default="poisson", help="poisson, truncated_poisson or fixed")
    parser.add_argument("--adjacency", default="add-or-remove-one", help="or replace-one")
    parser.add_argument("--accountant", default="pld", help="pld or rdp")
    parser.add_argument("--unit", default="example", help="what one unit is: utterance, user, ...")
    add_output(parser)


def run(chosen: argparse.Namespace) -> int:
    """Prints the plan, or what was spent."""
    if chosen.ledger:
        return _show_spent(chosen)
    plan = _plan(chosen)
    marks = sorted({max(1, round(plan.steps * part)) for part in (0.1, 0.25, 0.5, 0.75, 1.0)})
    spent = {steps: plan.epsilon(chosen.delta, steps=steps) for steps in marks}
    if chosen.json:
        show_json(
            {
                "plan": plan.to_dict(),
                "delta": chosen.delta,
                "epsilon": spent[plan.steps],
                "epsilon_by_steps": {str(steps): value for steps, value in spent.items()},
                "statement": plan.statement(chosen.delta),
            }
        )
        return 0
    show_table(
        "Plan",
        ["field", "value"],
        [
            ["noise multiplier", f"{plan.noise_multiplier:.4f}"],
            ["noise on the sum (standard deviation)", f"{plan.stddev:.4g}"],
            ["sample rate", f"{plan.sample_rate:.5g}"],
            ["capacity of a padded batch", str(plan.capacity)],
            *([f"epsilon after {steps} steps", f"{value:.4f}"] for steps, value in spent.items()),
        ],
    )
    print(plan.statement(chosen.delta))
    return 0


def _show_spent(chosen) -> int:
    totals = compose(chosen.ledger, chosen.delta)
    if chosen.json:
        show_json([_finite(total._asdict()) for total in totals])
        return 0
    for total in totals:
        rows = [
            [row["run"], f"{row['steps']} of {row['planned']}", upward(row["epsilon"])]
            for row in total.runs
        ]
        show_table(
            f"Data {total.source[:16]}: epsilon at delta {chosen.delta:g}",
            ["run", "steps charged", "epsilon"],
            [*rows, ["together", "", upward(total.epsilon)]],
        )
        for note in total.notes:
            print(f"Note: {note}")
    if len(totals) > 1:
        print(
            "Runs on different data sets are not added: nobody's row counts in two of them, "
            "unless it lies in both."
        )
    return 0


def _finite(value):
    """For JSON, which has no infinity: null."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if value == math.inf else value


def _plan(chosen) -> PrivacyPlan:
    for name in ("num_units", "batch", "steps"):
        if getattr(chosen, name) is None:
            raise ValueError(
                f"`--{name.replace('_', '-')}` must be given to make a plan, got none."
            )
    if chosen.epsilon is None and chosen.noise_multiplier is None:
        raise ValueError("`--epsilon` or `--noise-multiplier` must be given, got neither.")
    common = {
        "steps": chosen.steps,
        "clip_norm": chosen.clip_norm,
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
