"""The settings of `trustml predict`."""

from pathlib import Path

from trustml.recipes.predict.model import BATCH
from trustml.recipes.predict.writing import FORMATS
from trustml.recipes.settings import REQUIRED, Settings, knob, settings


@settings
class PredictConfig(Settings):
    """A finished run, rows to predict, and where the predictions go.

    >>> PredictConfig(run=Path("runs/messages-1"), file=Path("new.csv")).batch
    256
    """

    run: Path = knob(REQUIRED, "folder of a finished run", metavar="RUN", positional=True)
    file: Path = knob(REQUIRED, "rows; they need no label", metavar="FILE", positional=True)
    out: Path | None = knob(
        None,
        f"new file for the predictions, {' or '.join(FORMATS)}",
        shown="JSON lines on the terminal",
        metavar="FILE",
    )
    text: str | None = knob(
        None, "column to read", metavar="COLUMN", shown="text, tokens, context or source"
    )
    question: str | None = knob(
        None, "column with the question, for qa", metavar="COLUMN", shown="question"
    )
    keep: tuple[str, ...] = knob(
        (),
        "columns to repeat beside the predictions, with commas between; one that is called as a "
        "prediction becomes input_NAME",
        metavar="COLUMN,...",
        commas=True,
    )
    batch: int = knob(BATCH, "rows that are predicted at a time", least=1)
    repeat: int = knob(1, "which of several repeats of the run")
    skip_bad_rows: bool = knob(
        False, "leave the prediction of a row empty that cannot be read; else it ends the command"
    )
