"""Targets of tasks with one output for a whole text: one class, several classes, or a number."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from trustml.data.examples import Examples
from trustml.models.transformers.problem_types import MULTIPLE, REGRESSION, SINGLE

# The problem type of each such task, by which `classification` chooses loss and prediction.
PROBLEM_TYPES = {"classify": SINGLE, "multilabel": MULTIPLE, "regression": REGRESSION}


def num_outputs(schema: Examples) -> int:
    """Number of scores of a head: one a class, or one for a number.

    >>> from trustml.data.unlabelled import schema_of
    >>> num_outputs(schema_of("classify", labels=["bad", "good"]))
    2
    """
    return 1 if schema.task == "regression" else len(schema.labels)


def label_array(
    examples: Examples,
) -> Int[np.ndarray, " row"] | Float[np.ndarray, "row class"] | Float[np.ndarray, " row"]:
    """The array `label` of the losses of `trustml.models.transformers.problem_types`.

    >>> from trustml.data.rows import Rated
    >>> rows = (Rated("good", 3.75), Rated("superb", 9.0))
    >>> train = Examples(name="demo", split="train", task="regression", rows=rows, unit="review",
    ...                  value_range=(0, 5))
    >>> label_array(train).tolist()
    [0.5, 1.0]

    Args:
      examples: Of a task in `PROBLEM_TYPES`.

    Returns:
      classify: int32 [row]. multilabel: float32 [row, class], 0 or 1. regression: float32 [row],
      clipped to the public range and scaled to [-1, 1] by it, never by the rows.
    """
    if examples.task == "regression":
        low, high = _range_of(examples)
        values = np.array([row.value for row in examples.rows], np.float64)
        return (2 * (np.clip(values, low, high) - low) / (high - low) - 1).astype(np.float32)
    index_of = {label: index for index, label in enumerate(examples.labels)}
    if examples.task == "classify":
        return np.array([index_of[row.label] for row in examples.rows], np.int32)
    several = np.zeros((len(examples), len(index_of)), np.float32)
    for row, each in zip(several, examples.rows, strict=True):
        row[[index_of[label] for label in each.labels]] = 1.0
    return several


def read_labels(schema: Examples, predicted: np.ndarray) -> Any:
    """Predictions as the scoring of the task takes them.

    >>> from trustml.data.unlabelled import schema_of
    >>> read_labels(schema_of("classify", labels=["bad", "good"]), np.array([1, 0]))
    ['good', 'bad']

    Args:
      schema: Any part of the data; its rows are not read.
      predicted: Of the `predict` of `classification`, one a row.

    Returns:
      classify: a class a row. multilabel: the classes, and truth values [row, class]. regression:
      float64 [row], in the unit of the data and within the public range.
    """
    if schema.task == "regression":
        return unscaled(np.asarray(predicted, np.float64).reshape(-1), *_range_of(schema))
    if schema.task == "classify":
        return [schema.labels[index] for index in np.asarray(predicted)]
    several: Bool[np.ndarray, "row class"] = np.asarray(predicted)
    return schema.labels, several


def unscaled(scores: Any, low: float, high: float, array_module: Any = np) -> Any:
    """Numbers within a public range from scores in [-1, 1]; NaN gives its middle.

    >>> unscaled(np.array([0.0, 9.0, np.nan]), 0.0, 5.0).tolist()
    [2.5, 5.0, 2.5]

    Args:
      scores: An array.
      low: Lower end of the range.
      high: Upper end of the range.
      array_module: NumPy, or `jax.numpy` for its arrays.
    """
    scores = array_module.where(array_module.isnan(scores), 0.0, scores)  # a model that diverged
    return low + (array_module.clip(scores, -1.0, 1.0) + 1.0) / 2.0 * (high - low)


def _range_of(examples: Examples) -> tuple[float, float]:
    assert examples.value_range is not None  # `Examples` has checked it
    return examples.value_range
