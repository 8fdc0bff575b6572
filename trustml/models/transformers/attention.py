"""Attention over one sequence, with a cache of keys and values for generation."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from trustml.models.transformers.layers import Dense, Options, dropped


class Attention(nn.Module):
    """Multi-head attention; `fused` computes queries, keys and values in one product.

    With a mutable collection `cache` it keeps keys and values for later calls. Self-attention keeps
    one per column of `allowed` and appends new ones. Cross-attention keeps those of `memory` from
    the first call.
    """

    heads: int
    options: Options
    scale: float = 0.02
    fused: bool = False
    output_scale: float | None = None  # initial scale of the output; `scale` by default

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "time features"],
        allowed: Bool[Array, "#time key"],
        memory: Float[Array, "key features"] | None = None,
        score_scale: Float[Array, ""] | None = None,
    ) -> Float[Array, "time features"]:
        """Attends to `memory`, or to `x` itself, where `allowed`; `attend` explains the scale."""
        features = x.shape[-1]
        make = lambda name, size: Dense(size, self.options, self.scale, name=name)  # noqa: E731
        k: Any = None
        v: Any = None
        if self.fused:
            q, k, v = jnp.split(make("qkv", 3 * features)(x), 3, -1)
        elif memory is not None and self.has_variable("cache", "keys"):
            q = make("query", features)(x)
        else:
            source = x if memory is None else memory
            q = make("query", features)(x)
            k, v = make("key", features)(source), make("value", features)(source)
        if self.is_mutable_collection("cache") and not self.is_initializing():
            k, v = kv_cache(self, k, v, allowed if memory is None else None)
        q, k, v = self.split(q), self.split(k), self.split(v)
        read = attend(q, k, v, allowed, lambda weights: dropped(self, weights), score_scale)
        scale = self.scale if self.output_scale is None else self.output_scale
        return Dense(features, self.options, scale, name="output")(read)

    def split(self, y: Float[Array, "time features"]) -> Float[Array, "time head width"]:
        """Splits features into heads."""
        return y.reshape(y.shape[0], self.heads, -1)


def attend(queries, keys, values, allowed, drop=lambda weights: weights, scale=None):
    """Softmax attention: queries [time, head, width], keys and values [key, head, width].

    With fewer heads of keys, consecutive heads of queries share one. Scores and softmax are
    float32; scores are multiplied by `scale`, by default 1 / sqrt(width).
    """
    time, heads, width = queries.shape
    queries = queries.reshape(time, keys.shape[1], heads // keys.shape[1], width)
    scores = jnp.einsum("qhgd,khd->hgqk", queries, keys, preferred_element_type=jnp.float32)
    scores = scores * (np.float32(width**-0.5) if scale is None else scale)
    # Masked before the softmax, so that the weights of allowed keys sum to 1. The least float, not
    # -inf: a query of padding alone then reads the mean of all keys, where -inf would give NaN.
    least = jnp.finfo(jnp.float32).min
    weights = nn.softmax(jnp.where(jnp.broadcast_to(allowed, scores.shape), scores, least))
    read = jnp.einsum("hgqk,khd->qhgd", drop(weights).astype(values.dtype), values)
    return read.reshape(time, -1)


def kv_cache(module: nn.Module, keys, values, allowed):
    """All keys and values of an attention: those in its collection `cache` and new ones.

    Without `allowed` the cache holds those of the first call.
    """
    cached = []
    for name, new in (("keys", keys), ("values", values)):
        if allowed is None:
            entry = module.variable("cache", name, lambda y=new: y)
        else:
            shape, dtype = (allowed.shape[1], *new.shape[1:]), new.dtype
            entry = module.variable("cache", name, jnp.zeros, shape, dtype)
            # The first query reads itself last, so its row of `allowed` gives its position.
            position = allowed.shape[1] - 1 - jnp.argmax(allowed[0, ::-1]).astype(jnp.int32)
            entry.value = jax.lax.dynamic_update_slice_in_dim(entry.value, new, position, 0)
        cached.append(entry.value)
    return cached


def causal(time: int) -> Bool[Array, "time time"]:
    """Which positions each one attends to: itself and earlier ones.

    >>> causal(2).tolist()
    [[True, False], [True, True]]
    """
    return jnp.tril(jnp.ones((time, time), bool))
