"""Losses and predictions of a classifier by its problem type, as transformers chooses them.

A unit's `label` is the integer of one class, or a number per class. By default one class means
regression, an integer label means one class out of several, and any other label means several
classes at once.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from trustml.models.network import cross_entropy

PROBLEM_TYPES = ("single_label_classification", "multi_label_classification", "regression")
SINGLE, MULTIPLE, REGRESSION = PROBLEM_TYPES


def classification(problem_type: str | None, classes: int) -> tuple[Callable, Callable]:
    """The loss and the prediction of a classifier, both of `(scores, unit, head params)`.

    Predictions are the best class, one truth value per class, or, in regression, the scores.
    """

    def loss(scores, unit, params):
        kind = problem_type_of(problem_type, classes, unit["label"])
        return _LOSSES[kind](scores, unit, params)

    def predict(scores, unit, params):
        kind = problem_type_of(problem_type, classes, unit.get("label"))
        return _PREDICTIONS[kind](scores, unit, params)

    return loss, predict


def problem_type_of(problem_type: str | None, classes: int, label=None) -> str:
    """The problem type; if the configuration has none, it follows from classes and label."""
    if problem_type is not None:
        return problem_type
    if classes == 1:
        return REGRESSION
    # Predictions have no label: then several classes at once need an explicit type.
    if label is None or jnp.issubdtype(jnp.asarray(label).dtype, jnp.integer):
        return SINGLE
    return MULTIPLE


def class_loss(scores, unit, params):
    """Cross-entropy of one class; 0 for a unit of padding alone.

    Raises:
      ValueError: A label that is not an integer.
    """
    label = jnp.asarray(unit["label"])
    if label.shape or not jnp.issubdtype(label.dtype, jnp.integer):
        raise ValueError(
            f"`label` must be the integer of one class for {SINGLE}, got {label.dtype} of shape "
            f"{list(label.shape)}; `problem_type` of config.json selects other problems."
        )
    return jnp.where(unit["mask"].any(), cross_entropy(scores, label), 0.0)


def best_class(scores, unit, params):
    """The best class."""
    return jnp.argmax(scores).astype(jnp.int32)


def _multiple_loss(scores, unit, params):
    """Mean binary cross-entropy over the classes; 0 for a unit of padding alone."""
    targets = _numbers(scores, unit, MULTIPLE)
    losses = jax.nn.softplus(scores) - targets * scores
    return jnp.where(unit["mask"].any(), losses.mean(), 0.0)


def _square_loss(scores, unit, params):
    """Mean squared error over the numbers; 0 for a unit of padding alone."""
    losses = jnp.square(scores - _numbers(scores, unit, REGRESSION))
    return jnp.where(unit["mask"].any(), losses.mean(), 0.0)


def _numbers(scores, unit, kind: str):
    label = jnp.asarray(unit["label"], jnp.float32)
    label = label[None] if label.shape == () and scores.shape == (1,) else label
    if label.shape != scores.shape:
        raise ValueError(
            f"`label` must have a number per class, shape {list(scores.shape)}, for {kind}, got "
            f"shape {list(label.shape)}; `problem_type` of config.json selects other problems."
        )
    return label


_LOSSES = {SINGLE: class_loss, MULTIPLE: _multiple_loss, REGRESSION: _square_loss}
_PREDICTIONS = {
    SINGLE: best_class,
    MULTIPLE: lambda scores, unit, params: scores > 0,
    REGRESSION: lambda scores, unit, params: scores,
}
