"""What training and evaluation need of a model, and the losses that its heads share.

Everything is one unit without a batch axis; batches are `jax.vmap`. Scores and sums are float32.
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
    # A product with a one-hot row: a gather's gradient is a scatter, slow per unit.
    chosen = jax.nn.one_hot(labels, scores.shape[-1], dtype=scores.dtype)
    return -(jax.nn.log_softmax(scores) * chosen).sum(-1)


def token_loss(
    scores: Float[Array, "time vocabulary"], ids: Int[Array, " time"]
) -> Float[Array, " time"]:
    """Cross-entropy of one id per position out of a large vocabulary, nats."""
    places = jax.lax.broadcasted_iota(ids.dtype, scores.shape, 1)
    # A sum over one chosen entry: its gradient is a select, which fuses, and no scatter.
    chosen = jnp.where(places == ids[:, None], scores, 0.0).sum(-1)
    return jax.nn.logsumexp(scores, axis=-1) - chosen


def masked_mean(values: Float[Array, " time"], mask: Bool[Array, " time"]) -> Float[Array, ""]:
    """The mean over the positions of `mask`; 0 where there is none."""
    keep = mask.astype(values.dtype)
    return (values * keep).sum() / jnp.maximum(keep.sum(), 1.0)
