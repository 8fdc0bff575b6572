"""Predict the rows of a file by the private model of a run."""

import sys
from collections.abc import Sequence

from trustml.cli import flags
from trustml.cli.options import Output, show_json
from trustml.formatting import plural
from trustml.recipes.predict.config import PredictConfig
from trustml.recipes.settings import Settings, knob, settings

_ABOUT = """\
Predicts every row of a file by the private model of a finished run, and writes a row for each, in
their order: JSON lines on the terminal, or a file. It needs the run's folder alone, not its data.

Rows are those of any file that `trustml train` reads. The predictions are, by task: classify
or tabular label and probability; multilabel labels and probabilities; regression value; tag tokens
and tags; nlu label, probability, tokens and tags; qa answer; lm log_likelihood, tokens and
perplexity; seq2seq text.

The run's promise covers the private weights, and with them all that the model says, about training
rows too: predictions are post-processing and spend nothing. The baseline is not offered.

examples:
  trustml predict runs/messages-1 new.csv --out predictions.csv --keep id
  trustml predict runs/messages-1 new.jsonl --text message"""


@settings
class _Call(Settings):
    """What one call takes beside its settings."""

    quiet: bool = knob(False, "no progress", "output")


def run(arguments: Sequence[str]) -> int:
    """Writes the predictions, and says where they are."""
    from trustml.recipes.predict.file import predict_file

    tables = [PredictConfig, Output, _Call]
    given, output, call = flags.parse(tables, arguments, prog="trustml predict", about=_ABOUT)
    config = PredictConfig.from_dict(given, "the flags")
    if output.get("json") and config.out is None:
        raise ValueError("`--json` needs `--out`: without it the predictions are printed as JSON.")
    found = predict_file(config, quiet=bool(call.get("quiet")))
    if output.get("json"):
        show_json(found.to_dict())
        return 0
    bad = f", {found.bad_rows} of them without a prediction" if found.bad_rows else ""
    words = f"predict: {found.rows} {'row' if found.rows == 1 else plural('row')}{bad}"
    if config.out is None:
        print(words, file=sys.stderr)
    else:
        promise = found.statement.splitlines()[0]
        print(f"Written to {config.out}: {words.removeprefix('predict: ')}.\n{promise}")
    return 0
