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
    text: str | None = knob(None, "column to read", metavar="COLUMN", shown="that of the run")
    question: str | None = knob(
        None, "column with the question, for qa", metavar="COLUMN", shown="question"
    )
    keep: tuple[str, ...] = knob(
        (),
        "columns to copy into the output, with commas between; one with the name of a prediction "
        "becomes input_NAME",
        metavar="COLUMN,...",
        commas=True,
    )
    batch: int = knob(BATCH, "rows that are predicted at a time", least=1)
    repeat: int = knob(1, "which of several repeats of the run")
    skip_bad_rows: bool = knob(
        False,
        "write an empty prediction for a row that cannot be read; by default it ends the command",
    )
