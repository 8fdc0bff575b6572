"""A tagger that reads words and their letters: character CNN, BiLSTM, CRF (Ma and Hovy, 2016).

Parikh, Dupuy and Gupta (ACL 2022) extracted canaries from such taggers. From its letters a model
can tag a word that it never saw.
"""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from trustml.models.joint.crf import crf_decode, crf_loss
from trustml.models.joint.decoding import allowed_transitions
from trustml.models.joint.encoders import Lstm, TokenEmbedding, normalized
from trustml.models.network import Network

_BYTES = 257  # byte values plus one; 0 is padding
_FORBIDDEN = -1e9


def char_encode(words: Sequence[str], letters: int) -> Int[np.ndarray, "time letters"]:
    """The first `letters` UTF-8 bytes of each word, each plus one; 0 after the end of a word.

    >>> char_encode(["at", "d"], 3).tolist()
    [[98, 117, 0], [101, 0, 0]]

    Raises:
      ValueError: `letters` is not positive.
    """
    if not letters > 0:
        raise ValueError(f"`letters` must be positive, got {letters!r}.")
    codes_of_words = np.zeros((len(words), letters), np.int32)
    for row, word in zip(codes_of_words, words, strict=True):
        codes = np.frombuffer(word.encode()[:letters], np.uint8)
        row[: len(codes)] = codes.astype(np.int32) + 1
    return codes_of_words


class CharacterCnn(nn.Module):
    """One vector per word: the highest output of each filter over the word's windows of letters."""

    features: int = 50
    embedding: int = 50
    reach: int = 1  # letters on each side of a window
    dropout: float = 0.0

    @nn.compact
    def __call__(self, chars: Int[Array, "time letters"]) -> Float[Array, "time features"]:
        """Reads each word by itself; a word without letters gives zeros."""
        start = nn.initializers.normal(1.0)
        table = self.param("table", start, (_BYTES, self.embedding), jnp.float32)
        letters, keep = chars.shape[1], (chars > 0).astype(jnp.float32)[..., None]
        # Padding gets an id outside of the table: it reads zeros and its gradient is dropped.
        ids = jnp.where(chars > 0, chars, _BYTES)
        x = table.at[ids].get(mode="fill", fill_value=0.0)
        x = nn.Dropout(self.dropout, deterministic=not self.dropout)(x)
        padded = jnp.pad(x, ((0, 0), (self.reach, self.reach), (0, 0)))
        shifts = range(2 * self.reach + 1)
        window = jnp.concatenate([padded[:, shift : shift + letters] for shift in shifts], -1)
        answers = nn.Dense(self.features)(window)
        # Not `max`, as in nlu.py: its gradient compares floats for equality.
        highest = jnp.argmax(jnp.where(keep > 0, answers, -jnp.inf), 1)
        chosen = jax.nn.one_hot(highest, letters, axis=1, dtype=answers.dtype)
        return jnp.tanh((answers * chosen * keep).sum(1))


class CharTagger(nn.Module):
    """Scores of the tags of each word, and the parameters of a CRF over them."""

    sizes: tuple[int, ...]
    tags: int
    features: int = 200  # of both directions together
    embedding: int = 100
    char_features: int = 50
    char_embedding: int = 50
    dropout: float = 0.0

    def setup(self):
        """Names the parts."""
        self.words = TokenEmbedding(self.sizes, self.embedding)
        self.letters = CharacterCnn(self.char_features, self.char_embedding, dropout=self.dropout)
        self.forwards = Lstm(self.features // 2)
        self.backwards = Lstm(self.features // 2, reverse=True)
        self.tag_head = nn.Dense(self.tags)
        self.drop = nn.Dropout(self.dropout, deterministic=not self.dropout)
        start = nn.initializers.normal(0.1)
        self.transitions = self.param("transitions", start, (self.tags, self.tags), jnp.float32)
        self.start = self.param("start", start, (self.tags,), jnp.float32)
        self.end = self.param("end", start, (self.tags,), jnp.float32)

    def represent(
        self, tokens: Int[Array, "time ids"], chars: Int[Array, "time letters"]
    ) -> Float[Array, "time features"]:
        """The LSTM's input for each word; an extraction attack mixes those of candidate words."""
        return jnp.concatenate([normalized(self.words(tokens)), self.letters(chars)], -1)

    def score(
        self, words: Float[Array, "time features"], mask: Bool[Array, " time"]
    ) -> Float[Array, "time tag"]:
        """Scores of the tags of words, from their vectors by `represent`."""
        keep = mask.astype(jnp.float32)
        x = self.drop(words)
        states = jnp.concatenate([way(x, keep) for way in (self.forwards, self.backwards)], -1)
        return self.tag_head(self.drop(states))

    def __call__(self, tokens, chars, mask):
        """Scores of the tags of each word."""
        return self.score(self.represent(tokens, chars), mask)


def build_char_tagger(
    *,
    table_sizes: tuple[int, ...],
    tags: tuple[str, ...],
    dropout: float = 0.0,
    **sizes: int,
) -> Network:
    """The tagger as a network.

    A unit is `tokens` int32 [time, ids], `chars` int32 [time, letters], `mask` bool [time] and
    `tags` int32 [time]. The loss is the CRF's negative log-likelihood per word, nats.
    Predictions are the most likely tags that BIO allows.

    >>> sizes = {"features": 4, "embedding": 4}
    >>> tagger = build_char_tagger(table_sizes=(8,), tags=("O", "B-x", "I-x"), **sizes)
    >>> jax.eval_shape(tagger.init, jax.random.key(0))["transitions"].shape
    (3, 3)

    Args:
      table_sizes: Number of values of each id of a token (`Tokenizer.sizes`).
      tags: The BIO tags, "O" first.
      dropout: Dropout rate of the letters' vectors and of the LSTM's inputs and outputs. If it is
        positive, the loss takes a key.
      **sizes: `features`, `embedding`, `char_features` and `char_embedding` of `CharTagger`.

    Raises:
      ValueError: No tags, or a size or a share out of range.
    """
    if not tags or tags[0] != "O":
        raise ValueError(f"`tags` must begin with 'O', got {tags!r}.")
    for name, value in sizes.items():
        if not (isinstance(value, int) and value > 0 and (name != "features" or value % 2 == 0)):
            kind = "a positive even" if name == "features" else "a positive"
            raise ValueError(f"`{name}` must be {kind} integer, got {value!r}.")
    if not 0 <= dropout < 1:
        raise ValueError(f"`dropout` must be in [0, 1), got {dropout!r}.")
    make = functools.partial(CharTagger, tuple(table_sizes), len(tags), **sizes)  # type: ignore[arg-type]
    return _network(make(dropout=dropout), make(dropout=0.0), allowed_transitions(tags))


def _network(training: CharTagger, model: CharTagger, allowed: np.ndarray) -> Network:
    # Only predictions obey BIO: the loss must score every sequence of tags, as training labels
    # need not obey it.
    moves = np.where(allowed, 0.0, _FORBIDDEN).astype(np.float32)

    def init(key):
        tokens = jnp.zeros((4, len(model.sizes)), jnp.int32)
        return model.init(key, tokens, jnp.ones((4, 4), jnp.int32), jnp.ones(4, bool))["params"]

    def logits(params, unit):
        return model.apply({"params": params}, unit["tokens"], unit["chars"], unit["mask"])

    def nll(params, unit, scores):
        chain = (params["transitions"], params["start"], params["end"])
        words = jnp.maximum(unit["mask"].astype(jnp.float32).sum(), 1.0)
        return crf_loss(scores, unit["tags"], unit["mask"], *chain) / words

    def loss(params, unit):
        return nll(params, unit, logits(params, unit))

    def loss_with_dropout(params, unit, key):
        inputs = (unit["tokens"], unit["chars"], unit["mask"])
        return nll(params, unit, training.apply({"params": params}, *inputs, rngs={"dropout": key}))

    def predict(params, units):
        def one(unit):
            chain = (params["transitions"] + moves, params["start"] + moves[0], params["end"])
            return crf_decode(logits(params, unit), unit["mask"], *chain)

        return jax.vmap(one)({name: units[name] for name in ("tokens", "chars", "mask")})

    return Network(init, loss_with_dropout if training.dropout else loss, jax.jit(predict), logits)
