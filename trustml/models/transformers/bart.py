"""BART: an encoder, and a decoder that reads it (Lewis et al. 2019, arXiv:1910.13461)."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from trustml.models.transformers.activations import ACTIVATIONS
from trustml.models.transformers.bert import EncoderLayer
from trustml.models.transformers.config import ModelConfig
from trustml.models.transformers.gpt2 import causal
from trustml.models.transformers.layers import (
    Attention,
    Dense,
    Norm,
    Options,
    Table,
    dropped,
    run_layers,
)

_OFFSET = 2  # rows of BART's position tables that stand before position 0


class CrossAttentionLayer(nn.Module):
    """A decoder's layer: attention to itself, to the encoder, and a two-layer network."""

    config: ModelConfig
    options: Options

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "time features"],
        allowed: Bool[Array, "time key"],
        memory: Float[Array, "source features"],
        memory_mask: Bool[Array, " source"],
    ) -> tuple[Float[Array, "time features"], None]:
        """Applies the layer; nobody reads padding."""
        config, options = self.config, self.options
        scale, eps, heads = config.initializer_range, config.layer_norm_eps, config.decoder_heads
        read = Attention(heads, options, scale, name="attention")(x, allowed)
        x = Norm(eps, options, name="attention_norm")(x + dropped(self, read))
        reader = Attention(heads, options, scale, name="cross_attention")
        read = reader(x, memory_mask[None, :], memory)
        x = Norm(eps, options, name="cross_attention_norm")(x + dropped(self, read))
        y = Dense(config.decoder_intermediate_size, options, scale, name="up")(x)
        y = ACTIVATIONS[config.activation](y)
        y = Dense(config.hidden_size, options, scale, name="down")(y)
        return Norm(eps, options, name="output_norm")(x + dropped(self, y)), None


class Stack(nn.Module):
    """Positions and a first normalisation, then layers: BART's encoder or its decoder."""

    layer: type[nn.Module]
    count: int
    config: ModelConfig
    options: Options

    @nn.compact
    def __call__(self, x, *context, places=None):
        """Applies the side to embedded tokens, which stand at `places`: the first, by default."""
        config, time = self.config, x.shape[0]
        rows, scale = config.max_positions + _OFFSET, config.initializer_range
        table = Table(rows, config.hidden_size, scale, name="position")
        x = x + (table.first(time, _OFFSET) if places is None else table(places + _OFFSET))
        x = Norm(config.layer_norm_eps, self.options, name="norm")(x)
        x = dropped(self, x)
        return run_layers(self.layer, self.count, config, self.options, x, *context)


class Bart(nn.Module):
    """Encoder and decoder: states [target, features], each of the target before its own token."""

    config: ModelConfig
    options: Options

    def setup(self):
        """Makes the shared embedding and the two sides."""
        config, options = self.config, self.options
        scale = config.initializer_range
        self.word = Table(config.vocab_size, config.hidden_size, scale)
        self.encoder = Stack(EncoderLayer, config.num_layers, config, options)
        self.decoder = Stack(CrossAttentionLayer, config.decoder_layers, config, options)

    def __call__(self, unit):
        """Reads one unit with `ids`, `mask`, `target_ids`, `target_mask`; gives states and None."""
        memory = self.encode(unit)
        ids, mask = unit["target_ids"], unit["target_mask"]
        start = jnp.full(1, self.config.decoder_start_id, ids.dtype)
        # The decoder's token t is the target's token t - 1, and is padding where that is.
        shifted = jnp.concatenate([start, ids[:-1]])
        readable = jnp.concatenate([jnp.ones(1, bool), mask[:-1]])
        allowed = causal(ids.shape[0]) & readable[None, :]
        return self.decoder(self.embed(shifted), allowed, memory, unit["mask"]), None

    def go_on(self, ids, places, allowed, memory, mask) -> Float[Array, "time features"]:
        """States of a target's tokens, with a `cache` (see `Attention`) of those before them."""
        return self.decoder(self.embed(ids), allowed, memory, mask, places=places)

    def encode(self, unit) -> Float[Array, "source features"]:
        """States of the source."""
        return self.encoder(self.embed(unit["ids"]), unit["mask"])

    def embed(self, ids: Int[Array, " time"]) -> Float[Array, "time features"]:
        """Vectors of tokens, before positions."""
        factor = np.sqrt(self.config.hidden_size) if self.config.scale_embedding else 1.0
        return self.word(ids) * np.float32(factor)
