"""Predictions from file to file, a batch at a time."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from trustml.data.files import columns_of, read_rows
from trustml.recipes.predict.config import PredictConfig
from trustml.recipes.predict.inputs import choose_columns, read_input
from trustml.recipes.predict.model import TrainedModel, batches, load_model
from trustml.recipes.predict.outputs import OUTPUTS
from trustml.recipes.predict.writing import check_out, open_out
from trustml.recipes.waiting import row_bar

_INPUT = "input_"  # before a kept column that is called as a prediction


class PredictedFile(NamedTuple):
    """What was predicted, and what is promised for the model."""

    rows: int
    bad_rows: int  # whose prediction is empty
    columns: tuple[str, ...]
    out: Path | None
    statement: str

    def to_dict(self) -> dict[str, Any]:
        """The document that `trustml predict --json` prints."""
        return {
            "rows": self.rows,
            "bad_rows": self.bad_rows,
            "columns": list(self.columns),
            "out": None if self.out is None else str(self.out),
            "statement": self.statement,
        }


class _Row(NamedTuple):
    """A row of the file: what the model reads of it, None if it cannot, and the kept columns."""

    read: tuple[Any, ...] | None
    kept: dict[str, Any]


def predict_file(
    config: PredictConfig, *, terminal: TextIO | None = None, quiet: bool = False
) -> PredictedFile:
    """Writes a prediction for every row of a file, in the file's order.

    Memory holds one batch of rows. The predictions cost no budget: see `load_model`.

    >>> predict_file(PredictConfig(run=Path("nowhere"), file=Path("new.csv")))
    Traceback (most recent call last):
    ...
    trustml.data.errors.DataError: new.csv must be a file, got none of that name.

    Args:
      config: The run, the rows, and where the predictions go.
      terminal: What takes JSON lines where no file is given; by default standard output.
      quiet: Whether to show no progress.

    Raises:
      ValueError: The run has not ended or is damaged, a column is missing, or a row cannot be
        read; nothing was written.
      OSError: The file for predictions is there already, or its folder is not.
    """
    if config.out is not None:
        check_out(config.out)
    names = columns_of(config.file)
    model = load_model(config.run, repeat=config.repeat)
    reader = _reader(config, model, names)
    predicted = OUTPUTS[model.task.kind].columns
    kept = _kept_names(config.keep, names, predicted)
    columns = (*kept.values(), *predicted)
    mode = config.file.stat().st_mode & 0o666  # predictions are as private as their rows
    done = bad = 0
    with (
        row_bar("predict", quiet=quiet or config.out is None) as show,
        open_out(config.out, columns, terminal or sys.stdout, mode=mode) as put,
    ):
        for part in batches(reader, config.batch):
            for row in _predicted(model, part, kept, predicted):
                put(row)
            done, bad = done + len(part), bad + sum(row.read is None for row in part)
            show(done, None)
    return PredictedFile(done, bad, columns, config.out, model.statement)


def _kept_names(
    keep: Sequence[str], names: Sequence[str], predicted: Sequence[str]
) -> dict[str, str]:
    """The name that each kept column has in the output."""
    for name in keep:
        if name not in names:
            raise ValueError(f"`--keep` must name columns of {', '.join(names)}, got {name!r}.")
    kept = {name: f"{_INPUT}{name}" if name in predicted else name for name in keep}
    twice = [name for name in kept if list(kept.values()).count(kept[name]) > 1]
    if twice:
        raise ValueError(
            f"`--keep` must give names that differ, got {' and '.join(twice)}, which are both "
            f"{kept[twice[0]]!r} beside the predictions. Leave one out."
        )
    return kept


def _reader(config: PredictConfig, model: TrainedModel, names: Sequence[str]) -> Iterator[_Row]:
    """Each row of the file; with `skip_bad_rows`, those that cannot be read too."""
    schema, keep = model.schema, config.keep
    text = config.text or (model.text if model.text in names else None)
    columns = choose_columns(schema, names, {"text": text, "question": config.question})
    bad: list[str] = []
    skip = config.skip_bad_rows
    for where, row in read_rows(config.file, on_bad_row=bad.append if skip else None):
        yield from (_Row(None, {}) for _ in bad)  # the rows before this one
        bad.clear()
        kept = {name: row.get(name) for name in keep}
        try:
            yield _Row(read_input(schema, row, columns, where), kept)
        except ValueError:
            if not skip:
                raise
            yield _Row(None, kept)
    yield from (_Row(None, {}) for _ in bad)


def _predicted(
    model: TrainedModel, part: Sequence[_Row], kept: dict[str, str], predicted: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Kept columns and predictions of a batch by name; None where a row could not be read."""
    inputs = [row.read for row in part if row.read is not None]
    found = iter(model.predict_inputs(inputs) if inputs else ())
    for row in part:
        values = [None] * len(predicted) if row.read is None else next(found)
        copied = {name: row.kept.get(column) for column, name in kept.items()}
        yield copied | dict(zip(predicted, values, strict=True))
