"""Three encoders of an utterance: tokens int32 [time, ids], mask bool [time] to [time, features].

Each reads one utterance without a batch axis and normalises within it only. With a statistic over
the batch, one user's words would change the loss of another's, and clipping would not
bound it.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int


def normalized(x: Float[Array, "time features"]) -> Float[Array, "time features"]:
    """Gives each token's features mean 0 and variance 1.

    There is no learned scale: under noise it costs more than it brings.
    """
    centred = x - x.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + 1e-6)


class TokenEmbedding(nn.Module):
    """The sum of the vectors of a token's ids; id 0 means no id and adds zeros."""

    sizes: tuple[int, ...]
    features: int

    @nn.compact
    def __call__(self, tokens: Int[Array, "time ids"]) -> Float[Array, "time features"]:
        """Embeds each token."""
        start = nn.initializers.normal(1 / np.sqrt(len(self.sizes)))
        total = jnp.zeros((tokens.shape[0], self.features), jnp.float32)
        # A table for each id: norms of per-unit gradients then need no products across ids.
        for column, size in enumerate(self.sizes):
            table = self.param(f"table{column}", start, (size, self.features), jnp.float32)
            # Id 0 is moved outside of the table, not masked afterwards: the gradient with respect
            # to the output is then the same for all tables.
            ids = jnp.where(tokens[:, column] > 0, tokens[:, column], size)
            total += table.at[ids].get(mode="fill", fill_value=0.0)
        return total


class WindowBlock(nn.Module):
    """A convolution over time, written as one product of each window with a matrix."""

    features: int
    reach: int = 1  # tokens on each side
    stride: int = 1  # distance between the tokens of a window

    @nn.compact
    def __call__(self, x: Float[Array, "time in"], keep: Float[Array, " time"]):
        """Applies the block; `keep` is 1 for tokens and 0 for padding."""
        x = x * keep[:, None]
        time, far = x.shape[0], self.reach * self.stride
        # Not `jnp.pad`: the converter to ONNX reads no `pad` of a batch of any size.
        border = jnp.zeros((far, x.shape[1]), x.dtype)
        padded = jnp.concatenate([border, x, border])
        starts = range(0, 2 * far + 1, self.stride)
        window = jnp.concatenate([padded[start : start + time] for start in starts], -1)
        y = nn.gelu(nn.Dense(self.features)(window))
        return normalized(y + x if y.shape == x.shape else y)


class ConvolutionalEncoder(nn.Module):
    """Embeddings, then convolutions of growing stride: quick to train, with or without bounds."""

    sizes: tuple[int, ...]
    features: int = 64
    layers: int = 2
    embedding: int = 64

    @nn.compact
    def __call__(self, tokens, mask):
        """Encodes one utterance."""
        keep = mask.astype(jnp.float32)
        x = normalized(TokenEmbedding(self.sizes, self.embedding)(tokens))
        for layer in range(self.layers):
            x = WindowBlock(self.features, stride=2**layer)(x, keep)
        return x


class Lstm(nn.Module):
    """One direction of an LSTM; padding (`keep` 0) leaves its state unchanged."""

    features: int
    reverse: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "time in"], keep: Float[Array, " time"]):
        """Runs over time."""
        # One product with all inputs before the loop, instead of a small one per step.
        inputs = nn.Dense(4 * self.features)(x)
        start = nn.initializers.orthogonal()
        kernel = self.param("recurrent", start, (self.features, 4 * self.features), jnp.float32)

        def tick(state, entry):
            cell, hidden = state
            gates, kept = entry
            i, f, g, o = jnp.split(gates + hidden @ kernel, 4)
            # A bias of 1 keeps the memory open at first (Jozefowicz et al., 2015).
            new_cell = nn.sigmoid(f + 1.0) * cell + nn.sigmoid(i) * jnp.tanh(g)
            new_hidden = nn.sigmoid(o) * jnp.tanh(new_cell)
            cell = kept * new_cell + (1 - kept) * cell
            hidden = kept * new_hidden + (1 - kept) * hidden
            return (cell, hidden), hidden

        zero = jnp.zeros(self.features, jnp.float32)
        _, states = jax.lax.scan(tick, (zero, zero), (inputs, keep), reverse=self.reverse)
        return states


class BiLstmEncoder(nn.Module):
    """Embeddings, then LSTM layers that read both ways."""

    sizes: tuple[int, ...]
    features: int = 64
    layers: int = 1
    embedding: int = 64

    @nn.compact
    def __call__(self, tokens, mask):
        """Encodes one utterance."""
        keep = mask.astype(jnp.float32)
        x = normalized(TokenEmbedding(self.sizes, self.embedding)(tokens))
        for _ in range(self.layers):
            ways = [Lstm(self.features // 2, reverse=way)(x, keep) for way in (False, True)]
            x = normalized(jnp.concatenate(ways, -1))
        return x


class AttentionBlock(nn.Module):
    """Self-attention and a two-layer network, each with a norm before it and a residual sum."""

    features: int
    heads: int = 4

    @nn.compact
    def __call__(self, x: Float[Array, "time features"], mask: Bool[Array, " time"]):
        """Applies the block; no token attends to padding."""
        time, width = x.shape[0], self.features // self.heads
        queries, keys, values = (
            nn.Dense(self.features, name=name)(y).reshape(time, self.heads, width)
            for y in [normalized(x)]
            for name in ("queries", "keys", "values")
        )
        scores = jnp.einsum("qhd,khd->hqk", queries, keys) / np.float32(np.sqrt(width))
        # Finite, not -inf: a unit of padding alone would give 0/0, and NaN gradients.
        weights = nn.softmax(jnp.where(mask[None, None, :], scores, -1e9))
        read = jnp.einsum("hqk,khd->qhd", weights, values).reshape(time, self.features)
        x = x + nn.Dense(self.features)(read)
        y = nn.gelu(nn.Dense(2 * self.features)(normalized(x)))
        return x + nn.Dense(self.features)(y)


class TransformerEncoder(nn.Module):
    """Embeddings with sinusoidal positions, then attention blocks."""

    sizes: tuple[int, ...]
    features: int = 64
    layers: int = 2
    embedding: int = 64

    @nn.compact
    def __call__(self, tokens, mask):
        """Encodes one utterance."""
        x = normalized(TokenEmbedding(self.sizes, self.embedding)(tokens))
        x = nn.Dense(self.features)(x) + _positions(tokens.shape[0], self.features)
        for _ in range(self.layers):
            x = AttentionBlock(self.features)(x, mask)
        return normalized(x)


def _positions(time: int, features: int) -> np.ndarray:
    # Base 100, not the usual 10,000: utterances are short.
    speed = 100.0 ** -(np.arange(features // 2) / (features // 2))
    angle = np.arange(time)[:, None] * speed[None, :]
    return np.concatenate([np.sin(angle), np.cos(angle)], -1).astype(np.float32)
