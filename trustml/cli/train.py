"""Train a model privately, beside its non-private baseline."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trustml.cli import flags
from trustml.cli.options import show_json, show_table
from trustml.recipes.settings import Settings, knob, settings
from trustml.recipes.train.config import TrainConfig
from trustml.recipes.yaml_files import read_yaml

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


@settings
class _Call(Settings):
    """What one call takes beside the settings of its run."""

    file: str | None = knob(
        None, "file of your own rows, as --data", "data", metavar="FILE", positional=True
    )
    config: Path | None = knob(None, "YAML file of these settings", "run", metavar="FILE")
    out: Path | None = knob(
        None, "new folder", "run", shown="the next free runs/DATA-N", metavar="FOLDER"
    )
    resume: Path | None = knob(None, "go on with a run", "run", metavar="FOLDER")
    accept_charge: bool = knob(
        False, "let a resumed run take a new key even where that charges much twice", "run"
    )
    quiet: bool = knob(False, "no progress", "run")
    json: bool = knob(False, "print the result as JSON", "run")


def run(arguments: Sequence[str]) -> int:
    """Trains, prints and writes."""
    from trustml.recipes import run as train
    from trustml.report import to_json

    tables = [_Call, TrainConfig]
    options, given = flags.parse(tables, arguments, prog="trustml train", about=_ABOUT)
    call = _Call.from_dict(options, "the flags")
    if call.file is not None:
        if "data" in given:
            raise ValueError(f"`--data` {given['data']} cannot go with {call.file}: give one.")
        given["data"] = call.file
    if call.resume is not None:
        result = _resumed(call.resume, call, given)
    else:
        file = {} if call.config is None else read_yaml(call.config)
        if call.config is not None:  # a wrong name there must not be blamed on the flags
            TrainConfig.from_dict(file, str(call.config))
        written = {**file, **given}
        config = TrainConfig.from_dict(written, "the flags")
        command = shlex.join(["trustml", "train", *arguments])
        result = train(config, call.out, written=written, command=command, quiet=call.quiet)
    if call.json:
        show_json(to_json(result.report))
        return 0
    show(result.report)
    print(f"\nIn {result.folder}: report.html, report.json (private quantities), the weights.")
    return 0


def _resumed(folder: Path, call: _Call, given: dict[str, Any]):
    from trustml.recipes import resume

    for name in ("config", "out"):
        if getattr(call, name) is not None:
            raise ValueError(f"`--{name}` cannot go with `--resume`: the run has its settings.")
    return resume(folder, given, quiet=call.quiet, accept_charge=call.accept_charge)


def show(report: Any) -> None:
    """Prints the table of a report, the promise and the notes."""
    from trustml.report import summary_table

    show_table(*summary_table(report))
    print(report.privacy.statement)
    for note in report.notes:
        print(f"Note: {note}")
