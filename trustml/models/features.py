"""Features of texts by a frozen encoder, as a small head under a fixed bound learns best from.

A bound on a row's gradient bounds the product of the row's features and its error, so all rows get
one norm. Several layers are joined; bench/accuracy.py measures the middle and the last one. Words
are tagged by the middle layer alone, `trustml.models.word_features`.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from trustml.models.network import Network
from trustml.models.pretrained.sentence import Progress, SentenceEncoder
from trustml.models.transformers.problem_types import classification

NORM = 28.0  # of a row's features; one learning rate then suits every width


@dataclasses.dataclass(frozen=True)
class TextFeatures:
    """Maps texts to features by means over the tokens of several layers.

    Args:
      encoder: The frozen encoder.
      layers: Layers whose means are joined, 0 for the embeddings.
      max_length: Tokens beyond which a text is cut.
    """

    encoder: SentenceEncoder
    layers: tuple[int, ...]
    max_length: int

    @property
    def width(self) -> int:
        """Number of features."""
        return len(self.layers) * self.encoder.config.hidden_size

    @property
    def fingerprint(self) -> str:
        """Differs where features of the same texts may."""
        return f"texts {self.layers} {self.max_length} {self.encoder.fingerprint}"

    def __call__(
        self, texts: Sequence[str], progress: Progress | None = None
    ) -> Float[np.ndarray, "row feature"]:
        """The features of each text, each row of norm `NORM`; private if the texts are.

        Guarantee:
          A row's features depend on that row and on public weights alone, in real arithmetic: how
          far a batch is padded may move their last digits.

        Args:
          texts: Texts.
          progress: Called with the rows done and all rows.
        """
        means = self.encoder.embed(
            texts, layers=self.layers, max_length=self.max_length, progress=progress
        )
        joined = unit_vectors(means) / np.float32(np.sqrt(len(self.layers)))
        return np.float32(NORM) * joined.reshape(len(texts), -1)

    def of_tokens(self, unit: dict[str, Any]) -> Float[jax.Array, " feature"]:
        """The features of one text, by JAX alone: for gradients and export.

        Args:
          unit: `ids` int32 [time] and `mask` bool [time].
        """
        means = self.encoder.layer_means(unit, self.layers)
        # The root of a bounded square: the gradient of a norm is not a number at zero, where a unit
        # of padding is.
        squares = jnp.square(means).sum(-1, keepdims=True)
        joined = means * jax.lax.rsqrt(jnp.maximum(squares, 1e-12))
        return (NORM / len(self.layers) ** 0.5) * joined.reshape(-1)


def unit_vectors(vectors: Float[np.ndarray, "*rows width"]) -> Float[np.ndarray, "*rows width"]:
    """The vectors with norm 1; zeros stay zeros.

    >>> unit_vectors(np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(norms, np.float32(1e-6))


def build_feature_head(width: int, outputs: int, problem_type: str) -> Network:
    """A linear head on features that were computed before; it starts from zeros.

    >>> head = build_feature_head(3, 2, "single_label_classification")
    >>> params = head.init(jax.random.key(0))
    >>> unit = {"features": jnp.ones(3), "label": jnp.int32(1)}
    >>> round(float(head.loss(params, unit)), 4), params["head"]["kernel"].shape
    (0.6931, (3, 2))

    Args:
      width: Features of a unit.
      outputs: Scores: one a class, or one for a number.
      problem_type: One of `problem_types.PROBLEM_TYPES`.
    """
    loss_of, predict_of = classification(problem_type, outputs)

    def init(key):
        del key
        return {"head": {"kernel": jnp.zeros((width, outputs)), "bias": jnp.zeros(outputs)}}

    def logits(params, unit):
        return unit["features"] @ params["head"]["kernel"] + params["head"]["bias"]

    def loss(params, unit):
        # A unit of padding has no features at all, while those of a text have a norm.
        masked = {**unit, "mask": unit["features"] != 0}
        return loss_of(logits(params, unit), masked, params)

    def predict(params, units):
        one = lambda unit: predict_of(logits(params, unit), unit, params)  # noqa: E731
        return jax.vmap(one)({"features": units["features"]})

    return Network(init, loss, jax.jit(predict), logits)
