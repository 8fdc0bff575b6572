"""GPT-2 and DistilGPT-2: decoders with pre-norm layers (Radford et al. 2019)."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from trustml.models.transformers.activations import ACTIVATIONS
from trustml.models.transformers.attention import Attention, causal
from trustml.models.transformers.config import ModelConfig
from trustml.models.transformers.layers import (
    Dense,
    Norm,
    Options,
    Stack,
    Table,
    dropped,
)


class DecoderLayer(nn.Module):
    """Self-attention and a two-layer network, each after a norm and with a residual sum."""

    config: ModelConfig
    options: Options

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "time features"],
        allowed: Bool[Array, "time key"],
        score_scale: Float[Array, ""] | None = None,
    ) -> tuple[Float[Array, "time features"], None]:
        """Applies the layer."""
        config, options = self.config, self.options
        scale, eps = config.initializer_range, config.layer_norm_eps
        # GPT-2's initial scale: the residual stream sums two terms per layer, and its variance
        # must not grow with the depth.
        last = float(scale / np.sqrt(2 * config.num_layers))
        attention = Attention(config.num_heads, options, scale, True, last, name="attention")
        normed = Norm(eps, options, name="attention_norm")(x)
        read = attention(normed, allowed, score_scale=score_scale)
        x = x + dropped(self, read)
        y = Norm(eps, options, name="output_norm")(x)
        y = ACTIVATIONS[config.activation](
            Dense(config.intermediate_size, options, scale, name="up")(y)
        )
        return x + dropped(self, Dense(config.hidden_size, options, last, name="down")(y)), None


class Gpt2(nn.Module):
    """A causal decoder: states [time, features], each from the tokens up to its own."""

    config: ModelConfig
    options: Options

    @nn.compact
    def __call__(self, unit, at=None, allowed=None):
        """States, and None, of one unit with `ids` and `mask`.

        With a `cache` (see `Attention`) `at` gives the tokens' positions, and `allowed` which
        positions of the cache they read.
        """
        config, options = self.config, self.options
        scale, width, time = config.initializer_range, config.hidden_size, unit["ids"].shape[0]
        x = Table(config.vocab_size, width, scale, name="word")(unit["ids"])
        positions = Table(config.max_positions, width, scale, name="position")
        x = x + (positions.first(time) if at is None else positions(at))
        x = dropped(self, x.astype(options.dtype))
        stack = Stack(DecoderLayer, config.num_layers, config, options, name="decoder")
        if allowed is None:
            allowed = causal(time) & unit["mask"][None, :]
        x = stack(x, allowed, per_layer=_score_scales(config))
        return Norm(config.layer_norm_eps, options, name="norm")(x), None


def _score_scales(config: ModelConfig) -> tuple[Float[Array, " layer"], ...]:
    """The factor of each layer's attention scores; none if all are 1 / sqrt(width)."""
    if config.scale_attn_weights and not config.scale_attn_by_inverse_layer_idx:
        return ()
    width = config.hidden_size // config.num_heads
    scales = np.full(config.num_layers, width**-0.5 if config.scale_attn_weights else 1.0)
    if config.scale_attn_by_inverse_layer_idx:
        scales /= np.arange(1, config.num_layers + 1)
    return (jnp.asarray(scales, jnp.float32),)
