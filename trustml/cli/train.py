"""Train a model privately, beside its non-private baseline."""

from collections.abc import Sequence
from typing import Any

from trustml.cli.options import show_table
from trustml.cli.runs import RunCommand
from trustml.recipes.train.config import TrainConfig

_ABOUT = """\
Trains a model with differential privacy, and the same model without, on the same data; prints
claimed epsilon, utility and step time side by side, and writes a folder with the weights, the
ledger of releases, and the trust report as report.html and report.json. With no arguments it is a
joint intent-and-slot model on a synthetic corpus that the package generates itself.

The tasks: classify, multilabel (several classes a text), regression (a number a text), tabular (a
class for a record of numbers and categories), tag (entities or slots), nlu (intent and slots), qa
(answers in a text), lm (text itself) and seq2seq (text to text). `trustml data list` names the data
sets of each.

Whatever ends a run, `--resume` goes on with it: nothing is spent twice, and the result is the same.

The guarantee covers the private weights and nothing else: metrics, the baseline and the report
are private quantities.

examples:
  trustml train
  trustml train messages.csv --text message --label intent --unit user_id --epsilon 3
  trustml train --data snips --data-dir DATA --epsilon 3 --repeats 3 --seed 0
  trustml train --data snips --data-dir DATA --audit
  trustml train --task classify --data ag_news --data-dir DATA --model bert-base/ --epsilon 8
  trustml train --task lm --data shakespeare_roles --unit role --max-examples-per-unit 4
  trustml train people.csv --task tabular --schema people.toml --epsilon 1
  trustml train reviews.csv --task regression --range 1,5 --label stars
  trustml train --config run.yaml --epsilon 8 --out runs/snips-8
  trustml train --resume runs/snips-8"""


def run(arguments: Sequence[str]) -> int:
    """Trains, prints and writes."""
    from trustml import recipes

    return RunCommand("train", _ABOUT, TrainConfig, recipes.run, recipes.resume, show)(arguments)


def show(report: Any) -> None:
    """Prints the table of a report, the promise and the notes."""
    from trustml.report import summary_table

    show_table(*summary_table(report))
    print(report.privacy.statement)
    for note in report.notes:
        print(f"Note: {note}")
