"""Signals of a classifier: numbers that differ between members and others."""

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike


def logit_confidence(logits: ArrayLike, labels: ArrayLike) -> Float[np.ndarray, "..."]:
    """LiRA's signal: log p_y - log of the sum of all other classes' p, higher where surer.

    Near a normal law over trainings, which the probability and the loss are not. The softmax's
    normaliser cancels, so that nothing is lost where p_y rounds to 1.

    >>> logit_confidence([[2.0, 0.0, 0.0], [0.0, 900.0, 0.0]], [0, 1]).round(3).tolist()
    [1.307, 899.307]

    Args:
      logits: Scores of the classes, [..., class], of two classes or more; softmax is taken of them.
      labels: The true class, integers that broadcast to the other axes, such as [unit].

    Returns:
      Float64 [...]. Private.

    Raises:
      ValueError: Fewer than two classes, a label out of range, or a score that is not finite.

    References:
      Carlini et al., Membership Inference Attacks From First Principles, 2022.
    """
    logits, labels = _checked(logits, labels)
    others = np.where(np.arange(logits.shape[-1]) == labels[..., None], -np.inf, logits)
    return _of_class(logits, labels) - _log_sum(others)


def true_class_probability(logits: ArrayLike, labels: ArrayLike) -> Float[np.ndarray, "..."]:
    """The softmax probability of the true class: RMIA's signal.

    >>> true_class_probability([[0.0, 0.0]], [1]).tolist()
    [0.5]

    Args:
      logits: As for `logit_confidence`.
      labels: As for `logit_confidence`.
    """
    return np.exp(-class_loss(logits, labels))


def class_loss(logits: ArrayLike, labels: ArrayLike) -> Float[np.ndarray, "..."]:
    """Cross-entropy of the true class, nats; lower where surer.

    >>> class_loss([[0.0, 0.0]], [1]).round(4).tolist()
    [0.6931]

    Args:
      logits: As for `logit_confidence`.
      labels: As for `logit_confidence`.
    """
    logits, labels = _checked(logits, labels)
    return _log_sum(logits) - _of_class(logits, labels)


def over_words(
    values: ArrayLike, mask: ArrayLike, how: Literal["mean", "sum"] = "mean"
) -> Float[np.ndarray, "..."]:
    """One number a sequence, of a tagger's number for each word.

    >>> over_words([[1.0, 3.0, 9.0]], [[True, True, False]]).tolist()
    [2.0]

    Args:
      values: A signal of each word, [..., word], such as a `class_loss`.
      mask: Which words there are, truth values that broadcast to `values`.
      how: Over the words there are.

    Raises:
      ValueError: A sequence without a word, or another `how`.
    """
    values, mask = np.asarray(values, np.float64), np.asarray(mask)
    if how not in ("mean", "sum"):
        raise ValueError(f"`how` must be 'mean' or 'sum', got {how!r}.")
    mask = check_mask(mask, values.shape)
    total = np.where(mask, values, 0.0).sum(-1)
    return total / mask.sum(-1) if how == "mean" else total


def check_mask(mask: ArrayLike | None, shape: tuple[int, ...]) -> Bool[np.ndarray, "..."]:
    """`mask` at full `shape`; None is all. Refuses a sequence of which nothing is left."""
    mask = np.asarray(True if mask is None else mask)
    if mask.dtype != bool:
        raise ValueError(f"`mask` must hold truth values, got {mask.dtype}.")
    try:
        whole = np.broadcast_to(mask, shape)
    except ValueError:
        raise ValueError(f"`mask` must broadcast to {shape}, got {mask.shape}.") from None
    if not shape or not whole.any(-1).all():
        raise ValueError("`mask` must leave something of every sequence, got one without any.")
    return whole


def _checked(
    logits: ArrayLike, labels: ArrayLike
) -> tuple[Float[np.ndarray, "*rows class"], Int[np.ndarray, "*rows"]]:
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    if logits.ndim < 1 or logits.shape[-1] < 2:
        raise ValueError(f"`logits` must score two classes or more, got shape {logits.shape}.")
    if not np.isfinite(logits).all():
        place = tuple(map(int, np.argwhere(~np.isfinite(logits))[0]))
        raise ValueError(f"`logits` must be finite, got {logits[place]} at {place}.")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"`labels` must be integers, got {labels.dtype}.")
    try:
        labels = np.broadcast_to(labels, logits.shape[:-1])
    except ValueError:
        raise ValueError(
            f"`labels` must broadcast to {logits.shape[:-1]}, got {labels.shape}."
        ) from None
    classes = logits.shape[-1]
    if labels.size and not (labels.min() >= 0 and labels.max() < classes):
        raise ValueError(
            f"`labels` must be from 0 to {classes - 1}, got {labels.min()} to {labels.max()}."
        )
    return logits, labels


def _of_class(logits, labels):
    return np.take_along_axis(logits, labels[..., None], -1)[..., 0]


def _log_sum(logits):
    most = logits.max(-1, keepdims=True)
    return np.log(np.exp(logits - most).sum(-1)) + most[..., 0]
