"""BERT, DistilBERT and RoBERTa: encoders with post-norm layers.

Devlin et al. 2018 (arXiv:1810.04805), Sanh et al. 2019 (arXiv:1910.01108), Liu et al. 2019
(arXiv:1907.11692).
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from trustml.models.transformers.activations import ACTIVATIONS
from trustml.models.transformers.attention import Attention
from trustml.models.transformers.config import ModelConfig
from trustml.models.transformers.layers import (
    Dense,
    Norm,
    Options,
    Stack,
    Table,
    dropped,
)


class EncoderLayer(nn.Module):
    """Self-attention and a two-layer network, each with a residual sum and then a norm."""

    config: ModelConfig
    options: Options

    @nn.compact
    def __call__(
        self, x: Float[Array, "time features"], mask: Bool[Array, " time"]
    ) -> tuple[Float[Array, "time features"], None]:
        """Applies the layer; no token attends to padding."""
        config, options = self.config, self.options
        scale, eps = config.initializer_range, config.layer_norm_eps
        read = Attention(config.num_heads, options, scale, name="attention")(x, mask[None, :])
        x = Norm(eps, options, name="attention_norm")(x + dropped(self, read))
        y = Dense(config.intermediate_size, options, scale, name="up")(x)
        y = ACTIVATIONS[config.activation](y)
        y = Dense(config.hidden_size, options, scale, name="down")(y)
        return Norm(eps, options, name="output_norm")(x + dropped(self, y)), None


class BertEmbeddings(nn.Module):
    """The sum of a token's, a position's and a segment's vector, with a norm."""

    config: ModelConfig
    options: Options

    @nn.compact
    def __call__(self, unit):
        """Embeds `ids`, with `types` if the model has segments; all are 0 by default."""
        config, time = self.config, unit["ids"].shape[0]
        scale, width = config.initializer_range, config.hidden_size
        x = Table(config.vocab_size, width, scale, name="word")(unit["ids"])
        if config.type_vocab_size:
            table = Table(config.type_vocab_size, width, scale, name="type")
            x = x + (table(unit["types"]) if "types" in unit else table.first(1))
        # RoBERTa numbers positions from its padding id plus one, as fairseq did. transformers
        # skips padding in that count; here it comes last, so the positions of tokens agree.
        offset = (config.pad_id or 0) + 1 if config.model_type == "roberta" else 0
        x = x + Table(config.max_positions, width, scale, name="position").first(time, offset)
        return dropped(self, Norm(config.layer_norm_eps, self.options, name="norm")(x))


class Bert(nn.Module):
    """An encoder: states [time, features] and, with `pool`, BERT's pooled first state."""

    config: ModelConfig
    options: Options
    pool: bool = False

    @nn.compact
    def __call__(self, unit):
        """Encodes one unit with `ids`, `mask` and optional `types`."""
        config, options = self.config, self.options
        x = BertEmbeddings(config, options, name="embeddings")(unit)
        stack = Stack(EncoderLayer, config.num_layers, config, options, name="encoder")
        states = stack(x, unit["mask"])
        if not self.pool:
            return states, None
        pooler = Dense(config.hidden_size, options, config.initializer_range, name="pooler")
        return states, jnp.tanh(pooler(states[0]))
