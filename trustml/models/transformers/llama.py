"""Llama and its relatives: decoders with rotary positions, gated layers and grouped queries.

Touvron et al. 2023 (arXiv:2302.13971, arXiv:2307.09288); Mistral (Jiang et al. 2023,
arXiv:2310.06825); Qwen2 (arXiv:2407.10671) and Qwen3 (arXiv:2505.09388); Gemma (arXiv:2403.08295).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from trustml.models.transformers.activations import ACTIVATIONS
from trustml.models.transformers.attention import attend, causal, kv_cache
from trustml.models.transformers.config import ModelConfig
from trustml.models.transformers.layers import Dense, Options, Stack, Table, as_row, dropped
from trustml.models.transformers.rope import rotate, rotation


class RootNorm(nn.Module):
    """Root mean square normalisation with a learned scale, in float32 (arXiv:1910.07467)."""

    eps: float
    options: Options
    centre: float = 0.0  # Gemma stores the scale less one

    @nn.compact
    def __call__(self, x: Float[Array, "*rows features"]) -> Float[Array, "*rows features"]:
        """Normalises the last axis."""
        start = nn.initializers.constant(1.0 - self.centre)
        scale = self.param("scale", start, (x.shape[-1],), jnp.float32)
        y = x.astype(jnp.float32)
        y = y * jax.lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + self.eps)
        return (y * as_row(scale + self.centre, y)).astype(self.options.dtype)


class GroupedAttention(nn.Module):
    """Attention in which groups of query heads share the keys and values of one head.

    Ainslie et al. 2023 (arXiv:2305.13245). With a mutable collection `cache` it keeps keys and
    values as `Attention` does.
    """

    config: ModelConfig
    options: Options

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "time features"],
        allowed: Bool[Array, "time key"],
        angles: tuple[Float[Array, "time pair"], Float[Array, "time pair"]],
    ) -> Float[Array, "time features"]:
        """Attends to `x` itself where `allowed`, with the positions of `angles`."""
        config, biased = self.config, self.config.attention_bias
        width, few = config.head_width, config.num_kv_heads
        q, k, v = (
            self.dense(heads * width, biased, name)(x).reshape(-1, heads, width)
            for name, heads in (("query", config.num_heads), ("key", few), ("value", few))
        )
        if config.model_type == "qwen3":
            q, k = self.norm("query_norm")(q), self.norm("key_norm")(k)
        q, k = rotate(q, *angles), rotate(k, *angles)
        if self.is_mutable_collection("cache") and not self.is_initializing():
            k, v = kv_cache(self, k, v, allowed)
        read = attend(q, k, v, allowed, lambda weights: dropped(self, weights))
        output_bias = biased and config.model_type != "qwen2"
        return self.dense(x.shape[-1], output_bias, "output")(read)

    def dense(self, size: int, bias: bool, name: str) -> Dense:
        """A projection."""
        return Dense(size, self.options, self.config.initializer_range, bias, name=name)

    def norm(self, name: str) -> RootNorm:
        """Qwen3's norm of each head."""
        return RootNorm(self.config.layer_norm_eps, self.options, name=name)


class LlamaLayer(nn.Module):
    """Self-attention and a gated network, each after a norm and with a residual sum."""

    config: ModelConfig
    options: Options

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "time features"],
        allowed: Bool[Array, "time key"],
        angles: tuple[Float[Array, "time pair"], Float[Array, "time pair"]],
    ) -> tuple[Float[Array, "time features"], None]:
        """Applies the layer."""
        config, options = self.config, self.options

        def dense(size, name):
            return Dense(size, options, config.initializer_range, config.mlp_bias, name=name)

        normed = _norm(config, options, "attention_norm")(x)
        read = GroupedAttention(config, options, name="attention")(normed, allowed, angles)
        x = x + dropped(self, read)
        y = _norm(config, options, "output_norm")(x)
        gate = ACTIVATIONS[config.activation](dense(config.intermediate_size, "gate")(y))
        y = gate * dense(config.intermediate_size, "up")(y)
        return x + dropped(self, dense(config.hidden_size, "down")(y)), None


class Llama(nn.Module):
    """A causal decoder: states [time, features], each from the tokens up to its own."""

    config: ModelConfig
    options: Options

    @nn.compact
    def __call__(self, unit, at=None, allowed=None):
        """States, and None, of one unit with `ids` and `mask`; other arguments as `Gpt2`."""
        config, options, time = self.config, self.options, unit["ids"].shape[0]
        table = Table(config.vocab_size, config.hidden_size, config.initializer_range, name="word")
        x = table(unit["ids"]).astype(options.dtype)
        if config.model_type == "gemma":
            x = x * jnp.asarray(np.sqrt(config.hidden_size), x.dtype)
        x = dropped(self, x)
        if allowed is None:
            allowed = causal(time) & unit["mask"][None, :]
        # With a cache the frequencies of "dynamic" would change under the keys that it holds.
        length = time if at is None else 0
        at = jnp.arange(time, dtype=jnp.int32) if at is None else at
        if config.sliding_window is not None:
            keys = jnp.arange(allowed.shape[1], dtype=jnp.int32)
            allowed = allowed & (keys[None, :] > at[:, None] - config.sliding_window)
        angles = rotation(config.rope, config.head_width, at, config.max_positions, length=length)
        stack = Stack(LlamaLayer, config.num_layers, config, options, name="decoder")
        return _norm(config, options, "norm")(stack(x, allowed, angles)), None


def _norm(config: ModelConfig, options: Options, name: str) -> RootNorm:
    centre = 1.0 if config.model_type == "gemma" else 0.0
    return RootNorm(config.layer_norm_eps, options, centre, name=name)
