"""Train across clients, beside central training on the same rows."""

from collections.abc import Sequence

from trustml.cli.options import show_table
from trustml.cli.runs import RunCommand
from trustml.recipes.federate.config import FederateConfig

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


def run(arguments: Sequence[str]) -> int:
    """Trains, prints and writes."""
    from trustml.recipes.federate.run import federate, resume_federation

    command = RunCommand("federate", _ABOUT, FederateConfig, federate, resume_federation, _show)
    return command(arguments)


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
