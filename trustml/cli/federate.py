"""Train across clients, beside central training on the same rows."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from trustml.cli import flags
from trustml.cli.options import show_json, show_table
from trustml.recipes.federate.config import FederateConfig
from trustml.recipes.settings import Settings, knob, settings
from trustml.recipes.yaml_files import read_yaml

_ABOUT = """\
Trains a model across simulated clients, each with rows of its own, and the same model centrally on
the pooled rows. Prints rounds, bytes, examples, accuracy, its spread over clients, the lowest tenth
and the gap to central training, and writes a folder with the weights, the ledger, the settings and
the report as report.html and report.json.

Clients are natural where the data say whose the rows are; of your own file `--unit COLUMN` says it.
Else `--partition` makes artificial ones. `trustml data list` names the data sets.

With `--epsilon` the model is private for one client with all its rows: clients are drawn by Poisson
sampling, their updates bounded, and noise added to the sum. The guarantee covers the weights and
nothing else: metrics and the report are private quantities. Without it nothing is promised.

Whatever ends a run, `--resume` goes on with it: the result is the same.

examples:
  trustml federate --data shakespeare_roles --rounds 60 --clients-per-round 20 --selection log
  trustml federate --data hwu64 --partition label:alpha=0.5 --clients 100
  trustml federate --data hwu64 --partition label:alpha=0.1 --clients 100 --algorithm scaffold
  trustml federate messages.csv --text message --label intent --unit user_id
  trustml federate messages.csv --text message --label intent --partition iid --clients 50
  trustml federate --data shakespeare_roles --epsilon 8 --clients-per-round 100 --out runs/private
  trustml federate --resume runs/private"""


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
    from trustml.recipes.federate.run import federate
    from trustml.report import to_json

    tables = [_Call, FederateConfig]
    options, given = flags.parse(tables, arguments, prog="trustml federate", about=_ABOUT)
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
            FederateConfig.from_dict(file, str(call.config))
        written = {**file, **given}
        config = FederateConfig.from_dict(written, "the flags")
        command = shlex.join(["trustml", "federate", *arguments])
        result = federate(config, call.out, written=written, command=command, quiet=call.quiet)
    if call.json:
        show_json(to_json(result.report))
        return 0
    _show(result.report)
    print(f"\nIn {result.folder}: report.html, report.json (private quantities), the weights.")
    return 0


def _resumed(folder: Path, call: _Call, given):
    from trustml.recipes.federate.run import resume_federation

    for name in ("config", "out"):
        if getattr(call, name) is not None:
            raise ValueError(f"`--{name}` cannot go with `--resume`: the run has its settings.")
    return resume_federation(folder, given, quiet=call.quiet, accept_charge=call.accept_charge)


def _show(report) -> None:
    """Prints both models, what the rounds cost, the promise and the notes."""
    from trustml.report.federated_table import cost_table, model_table, period_table

    show_table(*model_table(report))
    show_table(*cost_table(report))
    periods = period_table(report)
    if periods is not None:
        show_table(*periods)
    print(report.privacy.statement)
    for note in report.notes:
        print(f"Note: {note}")
