"""A finished run's private model, ready to predict."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from jaxtyping import Float

from trustml.data.examples import Examples
from trustml.data.unlabelled import unlabelled
from trustml.models.tasks import Task
from trustml.recipes.finished import FinishedRun, finished_run
from trustml.recipes.predict.inputs import Row, read_row
from trustml.recipes.predict.outputs import OUTPUTS, Prediction, probabilities
from trustml.recipes.train.rebuild import rebuild

BATCH = 256  # rows that are predicted at a time
_TEXTS = ("text", "tokens", "source", "context")  # names under which a task reads a text
_FEWEST = 8  # rows of a program, so that a few rows more or less need no other
_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedModel:
    """The private model of a run.

    Args:
      task: The network with its tokenizer.
      params: The private weights.
      schema: The task's labels and slots.
      statement: What is promised for the weights, a "Key: text" on each line.
      text: Name of the column that it was trained on, where a file named one.
    """

    task: Task
    params: Any
    schema: Examples
    statement: str
    text: str | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """Every class, entity kind or intent that it tells apart."""
        return self.schema.labels

    def predict(self, rows: Iterable[Row], *, batch: int = BATCH) -> list[Prediction]:
        """The prediction for each row, in their order.

        Args:
          rows: Each a text, or the words of a sentence (tag, nlu), or values by column: `text`;
            `tokens`; `question` and `context`; `source`; the columns of a table.
          batch: Rows that are predicted at a time.

        Raises:
          ValueError: A row is empty or lacks a column.
        """
        inputs = self._inputs(rows)
        return [one for part in batches(inputs, batch) for one in self.predict_inputs(part)]

    def probabilities(
        self, rows: Iterable[Row], *, batch: int = BATCH
    ) -> Float[np.ndarray, "row label"]:
        """The probability of each of `labels`, for tasks with classes.

        They add up to 1, but for "multilabel", where each label is by itself.

        Raises:
          ValueError: The task has no classes, or a row is empty or lacks a column.
        """
        parts = batches(self._inputs(rows), batch)
        found = [self._padded(part, self._probabilities) for part in parts]
        return np.array([row for part in found for row in part]).reshape(-1, len(self.labels))

    def predict_inputs(self, inputs: Sequence[tuple[Any, ...]]) -> list[Prediction]:
        """The predictions of one batch, from what `read_input` gives of each row."""
        return self._padded(
            inputs, lambda rows: OUTPUTS[self.task.kind].predict(self.task, self.params, rows)
        )

    def _probabilities(self, examples: Examples) -> Sequence[Any]:
        return list(probabilities(self.task, self.params, examples))

    def _inputs(self, rows: Iterable[Row]) -> Iterator[tuple[Any, ...]]:
        for number, row in enumerate(rows, 1):
            yield read_row(self.schema, row, f"row {number}", self.text)

    def _padded(
        self, inputs: Sequence[tuple[Any, ...]], function: Callable[[Examples], Sequence[_T]]
    ) -> list[_T]:
        """`function` of the rows; repeats of the last one give few sizes, so few programs."""
        size = max(_FEWEST, 1 << (len(inputs) - 1).bit_length())
        rows = [*inputs, *[inputs[-1]] * (size - len(inputs))]
        return list(function(unlabelled(self.schema, rows)))[: len(inputs)]


def load_model(run: str | Path, *, repeat: int = 1) -> TrainedModel:
    """The private model of a finished run, without its data.

    >>> load_model("nowhere")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: `RUN` must be a folder of `trustml train` or `trustml.fit`, got nowhere, ...

    Args:
      run: Folder of `trustml train`.
      repeat: Which of several repeats, from 1.

    Guarantee:
      The weights are those that the run's ledger ended with. Whatever the model says, of training
      rows too, is post-processing of them: the run's promise covers it and no budget is spent.
      The baseline, which no promise covers, is not offered.

    Raises:
      ValueError: The run has not ended, is damaged, or its weights are not those it ended with.
    """
    return model_of_run(finished_run(Path(run), repeat))


def model_of_run(run: FinishedRun) -> TrainedModel:
    """As `load_model`, of a run that has been read."""
    task, schema = rebuild(run.network, run.folder)
    like = jax.eval_shape(task.network.init, jax.random.key(0))
    columns = run.resolved["columns"]
    text = next((columns[name] for name in _TEXTS if name in columns), None)
    return TrainedModel(task, run.weights(like), schema, run.report.privacy.statement, text)


def batches(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    """Lists of at most `size` items.

    >>> list(batches("abcde", 2))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    items = iter(items)
    while part := list(islice(items, size)):
        yield part
