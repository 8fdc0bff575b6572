"""BART: an encoder, and a decoder that attends to it (Lewis et al. 2019, arXiv:1910.13461)."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from trustml.models.transformers.activations import ACTIVATIONS
from trustml.models.transformers.attention import Attention, causal
from trustml.models.transformers.bert import EncoderLayer
from trustml.models.transformers.config import ModelConfig
from trustml.models.transformers.layers import (
    Dense,
    Norm,
    Options,
    Table,
    dropped,
    run_layers,
)

# Position 0 is row 2 of BART's tables. fairseq counted positions from its padding id 1 on, and the
# published weights keep those two rows, though nothing reads them.
_OFFSET = 2


class CrossAttentionLayer(nn.Module):
    """A layer of the decoder: self-attention, cross-attention and a two-layer network."""

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
        """Applies the layer; no token attends to padding."""
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
    """Positions and a first norm, then layers: BART's encoder or its decoder."""

    layer: type[nn.Module]
    count: int
    config: ModelConfig
    options: Options

    @nn.compact
    def __call__(self, x, *context, positions=None):
        """Applies the stack to embedded tokens at `positions`, by default 0, 1, ...."""
        config, time = self.config, x.shape[0]
        rows, scale = config.max_positions + _OFFSET, config.initializer_range
        table = Table(rows, config.hidden_size, scale, name="position")
        x = x + (table.first(time, _OFFSET) if positions is None else table(positions + _OFFSET))
        x = Norm(config.layer_norm_eps, self.options, name="norm")(x)
        x = dropped(self, x)
        return run_layers(self.layer, self.count, config, self.options, x, *context)


class Bart(nn.Module):
    """Encoder and decoder: states [target, features], each from the target tokens before it."""

    config: ModelConfig
    options: Options

    def setup(self):
        """Makes the shared word embedding, the encoder and the decoder."""
        config, options = self.config, self.options
        scale = config.initializer_range
        self.word = Table(config.vocab_size, config.hidden_size, scale)
        self.encoder = Stack(EncoderLayer, config.num_layers, config, options)
        self.decoder = Stack(CrossAttentionLayer, config.decoder_layers, config, options)

    def __call__(self, unit):
        """States, and None, of one unit with `ids`, `mask`, `target_ids` and `target_mask`."""
        memory = self.encode(unit)
        ids, mask = unit["target_ids"], unit["target_mask"]
        start = jnp.full(1, self.config.decoder_start_id, ids.dtype)
        # Input t of the decoder is token t - 1 of the target, so state t predicts token t. Its
        # mask moves along.
        shifted = jnp.concatenate([start, ids[:-1]])
        readable = jnp.concatenate([jnp.ones(1, bool), mask[:-1]])
        allowed = causal(ids.shape[0]) & readable[None, :]
        return self.decoder(self.embed(shifted), allowed, memory, unit["mask"]), None

    def decode(self, ids, positions, allowed, memory, mask) -> Float[Array, "time features"]:
        """States of a target's tokens, with a `cache` (see `Attention`) of earlier ones."""
        return self.decoder(self.embed(ids), allowed, memory, mask, positions=positions)

    def encode(self, unit) -> Float[Array, "source features"]:
        """States of the source."""
        return self.encoder(self.embed(unit["ids"]), unit["mask"])

    def embed(self, ids: Int[Array, " time"]) -> Float[Array, "time features"]:
        """Word embeddings of tokens, without positions."""
        factor = np.sqrt(self.config.hidden_size) if self.config.scale_embedding else 1.0
        return self.word(ids) * np.float32(factor)
