"""Features of the words of a text by a frozen encoder, and a linear head that tags each of them.

A middle layer tags better than the last one (bench/accuracy.py has the case). The head reads a word
with its two neighbours, since the beginning of an entity differs from its inside by what is before.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from trustml.models.features import NORM, unit_vectors
from trustml.models.joint.decoding import allowed_transitions, viterbi
from trustml.models.network import Network, cross_entropy, masked_mean
from trustml.models.pretrained.sentence import Progress, SentenceEncoder, TokenStates

_NEIGHBOUR = 0.5  # norm of a neighbour's vector beside the word's own
_OUTSIDE = 3.0  # first score of "O" over the other tags: in most texts, most words are outside


@dataclasses.dataclass(frozen=True)
class WordFeatures:
    """Maps texts in words to one vector of norm 1 for each word: the state of its first token.

    Args:
      encoder: The frozen encoder.
      layer: Layer of the states, 0 for the embeddings.
    """

    encoder: SentenceEncoder
    layer: int

    @property
    def width(self) -> int:
        """Numbers of a word."""
        return self.encoder.config.hidden_size

    @property
    def fingerprint(self) -> str:
        """Differs where features of the same words may."""
        return f"words {self.layer} {self.encoder.fingerprint}"

    def __call__(
        self, rows: Sequence[Sequence[str]], progress: Progress | None = None
    ) -> TokenStates:
        """The vectors of the words of all rows, float16; private if the rows are.

        Guarantee:
          The vectors of a row depend on that row and on public weights alone.

        Args:
          rows: Texts in words. Words beyond the tokens that the encoder reads get no vector.
          progress: Called with the rows done and all rows.
        """
        found = self.encoder.states(rows, layer=self.layer, first_only=True, progress=progress)
        # Half the memory, which rows of words fill soon: 24 KB for 32 words of 384 numbers.
        return found._replace(values=unit_vectors(found.values).astype(np.float16))


def placed(
    states: TokenStates, first: int, last: int, length: int
) -> Float[np.ndarray, "row length width"]:
    """The vectors of the rows from `first` up to `last`, at the places of their words.

    >>> row, word = np.array([0, 1, 1]), np.array([0, 0, 2])
    >>> states = TokenStates(np.ones((3, 1), np.float32), row, word, np.ones(3, bool))
    >>> placed(states, 1, 2, 3).tolist()
    [[[1.0], [0.0], [1.0]]]

    Args:
      states: Of `WordFeatures`.
      first: The first row.
      last: The row behind the last one.
      length: Words of a row; later ones are left out, and zeros stand for absent ones.
    """
    array = np.zeros((last - first, length, states.values.shape[1]), states.values.dtype)
    some = slice(*np.searchsorted(states.row, [first, last]))
    row, word, values = states.row[some] - first, states.word[some], states.values[some]
    kept = word < length
    array[row[kept], word[kept]] = values[kept]
    return array


def build_tag_head(width: int, tags: tuple[str, ...]) -> Network:
    """A linear head that tags words by vectors that were computed before; it starts from zeros.

    A unit's loss is the mean over its words, so texts of any length have one weight. The first
    bias favours "O" by a public constant.

    >>> head = build_tag_head(3, ("O", "B-x", "I-x"))
    >>> params = head.init(jax.random.key(0))
    >>> head.predict(params, {"features": jnp.ones((1, 2, 3)), "mask": jnp.ones((1, 2), bool)})
    Array([[0, 0]], dtype=int32)

    Args:
      width: Numbers of a word.
      tags: The BIO tags, "O" first.
    """
    allowed = allowed_transitions(tags)

    def init(key):
        del key
        bias = jnp.zeros(len(tags)).at[0].set(_OUTSIDE)
        return {"head": {"kernel": jnp.zeros((width, 3, len(tags))), "bias": bias}}

    def logits(params, unit):
        vectors = unit["features"].astype(jnp.float32)
        # A product before the shift: a window of three vectors would take three times the memory.
        each = jnp.einsum("tw,wnk->tnk", vectors, params["head"]["kernel"])
        sums = each[:, 1] + _NEIGHBOUR * (_before(each[:, 0]) + _behind(each[:, 2]))
        # The window has the norm `NORM`, at the ends of a text too.
        own = jnp.square(vectors).sum(-1)
        squares = own + _NEIGHBOUR**2 * (_before(own) + _behind(own))
        scale = NORM / jnp.sqrt(jnp.maximum(squares, 1e-6))
        return sums * scale[:, None] + params["head"]["bias"][None, :]

    def loss(params, unit):
        return masked_mean(cross_entropy(logits(params, unit), unit["tags"]), unit["mask"])

    def predict(params, units):
        one = lambda unit: viterbi(logits(params, unit), unit["mask"], allowed)  # noqa: E731
        return jax.vmap(one)({"features": units["features"], "mask": units["mask"]})

    return Network(init, loss, jax.jit(predict), logits)


def _before(values):
    """Of each word, what the word before it has; zeros for the first."""
    return jnp.zeros_like(values).at[1:].set(values[:-1])


def _behind(values):
    """Of each word, what the word behind it has; zeros for the last."""
    return jnp.zeros_like(values).at[:-1].set(values[1:])
