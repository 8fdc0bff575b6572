"""What training and evaluation need of a model, and the losses that its heads share.

Every function reads one unit without a batch axis; `jax.vmap` makes batches. Scores and sums are
float32.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

Unit = dict[str, Any]  # arrays of JAX or NumPy


class Network(NamedTuple):
    """A model as plain functions; with dropout the loss takes a key as its third argument."""

    init: Callable[[Array], Any]  # key -> params
    loss: Callable[..., Float[Array, ""]]  # (params, one unit)
    predict: Callable[[Any, Unit], Any]  # (params, units), leading axis = unit
    logits: Callable[[Any, Unit], Any]  # (params, one unit)


def cross_entropy(
    scores: Float[Array, "*rows label"], labels: Int[Array, "*rows"]
) -> Float[Array, "*rows"]:
    """Cross-entropy of a few classes, nats."""
    # A product with a one-hot row: the gradient of a gather is a scatter, slow under `vmap`.
    chosen = jax.nn.one_hot(labels, scores.shape[-1], dtype=scores.dtype)
    return -(jax.nn.log_softmax(scores) * chosen).sum(-1)


def token_loss(
    scores: Float[Array, "time vocabulary"], ids: Int[Array, " time"]
) -> Float[Array, " time"]:
    """Cross-entropy of one id per position out of a large vocabulary, nats."""
    columns = jax.lax.broadcasted_iota(ids.dtype, scores.shape, 1)
    # A masked sum, not a gather: its gradient is a select, which fuses, and not a scatter. Nor a
    # one-hot product: that would hold a second array of the vocabulary's size.
    chosen = jnp.where(columns == ids[:, None], scores, 0.0).sum(-1)
    return jax.nn.logsumexp(scores, axis=-1) - chosen


def masked_mean(values: Float[Array, " time"], mask: Bool[Array, " time"]) -> Float[Array, ""]:
    """The mean over the positions of `mask`; 0 if the mask is empty.

    >>> float(masked_mean(jnp.array([1.0, 3.0, 8.0]), jnp.array([True, True, False])))
    2.0
    """
    keep = mask.astype(values.dtype)
    return (values * keep).sum() / jnp.maximum(keep.sum(), 1.0)
