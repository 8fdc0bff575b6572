"""A tagger as a white-box attacker sees it: split where words have become vectors."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from trustml.audit.extraction.templates import Template, check_template
from trustml.data.examples import Examples
from trustml.data.tokens import Tokenizer, padded, token_arrays
from trustml.models.joint.char_tagger import CharTagger, char_encode
from trustml.models.joint.crf import crf_loss
from trustml.plan.checks import check_count


class WhiteBox(NamedTuple):
    """Functions of a model for an attack; `loss` of `represent` is the model's loss."""

    represent: Callable[..., Float[Array, "time features"]]  # (params, tokens, chars)
    loss: Callable[..., Float[Array, ""]]  # (params, vectors of words, ids of tags), nats per word


class Target(NamedTuple):
    """A template in the ids of a model: the sentence without its secret, and the candidates."""

    tokens: Int[Array, "prefix ids"]
    chars: Int[Array, "prefix letters"]
    tags: Int[Array, " time"]  # of the whole sentence
    candidate_tokens: Int[Array, "candidate ids"]
    candidate_chars: Int[Array, "candidate letters"]

    @property
    def length(self) -> int:
        """Words of the secret."""
        return self.tags.shape[0] - self.tokens.shape[0]

    @property
    def candidates(self) -> int:
        """Words that may stand at each of its places."""
        return self.candidate_tokens.shape[0]


def open_tagger(*, table_sizes: tuple[int, ...], tags: tuple[str, ...], **sizes: int) -> WhiteBox:
    """The inside of the tagger that `build_char_tagger` builds of the same arguments.

    Dropout is off, as in the model that is used.

    >>> box = open_tagger(table_sizes=(8,), tags=("O", "B-canary"))
    >>> box._fields
    ('represent', 'loss')
    """
    model = CharTagger(tuple(table_sizes), len(tags), **sizes)  # type: ignore[arg-type]

    def represent(params, tokens, chars):
        return model.apply({"params": params}, tokens, chars, method=CharTagger.represent)

    def loss(params, words, tag_ids):
        mask = jnp.ones(words.shape[0], bool)
        scores: Any = model.apply({"params": params}, words, mask, method=CharTagger.score)
        chain = (params["transitions"], params["start"], params["end"])
        return crf_loss(scores, tag_ids, mask, *chain) / words.shape[0]

    return WhiteBox(represent, loss)


def tagged_units(
    examples: Examples, tokenizer: Tokenizer, *, length: int, letters: int
) -> dict[str, np.ndarray]:
    """Rows as units of the tagger.

    Args:
      examples: Of a "tag" or "nlu" task; intents are not read.
      tokenizer: Gives each word its ids.
      length: Words kept of each row.
      letters: Letters kept of each word. With 0 the model reads words alone: each has one letter,
        which is none, and the character CNN answers it with zeros.

    Returns:
      `tokens` int32 [unit, length, ids], `chars` int32 [unit, length, letters], `mask` bool and
      `tags` int32 [unit, length].
    """
    check_count("length", length)
    places = {tag: place for place, tag in enumerate(examples.tags)}
    said = [row.tokens[:length] for row in examples.rows]
    letters_of = functools.cache(lambda word: _spelt([word], letters)[0])
    chars = np.zeros((len(said), length, max(letters, 1)), np.int32)
    for place, words in enumerate(said):
        chars[place, : len(words)] = [letters_of(word) for word in words]
    return {
        **token_arrays(said, tokenizer, length),
        "chars": chars,
        "tags": padded([[places[tag] for tag in row.tags] for row in examples.rows], length),
    }


def attack_target(
    template: Template,
    tokenizer: Tokenizer,
    *,
    tags: tuple[str, ...],
    letters: int,
    candidates: Sequence[str] | None = None,
) -> Target:
    """The target of an attacker who knows the template.

    Args:
      template: Everything of the canary but its secret.
      tokenizer: That of the model.
      tags: Those of the model.
      letters: As in `tagged_units`.
      candidates: Words that may stand at each place of the secret; by default the template's
        vocabulary. Any other list will do, such as every word that the attacker can think of.

    Raises:
      ValueError: The model lacks a tag of the template, or reads two candidates as one: no attack
        on it can tell them apart.
    """
    check_template(template)
    words = tuple(template.vocabulary if candidates is None else candidates)
    check_template(template._replace(vocabulary=words))
    strange = next((tag for tag in template.tags if tag not in tags), None)
    if strange is not None:
        raise ValueError(f"`tags` must hold those of the template, got none that is {strange!r}.")
    parts = (template.prefix, words)
    ids = [token_arrays([part], tokenizer, len(part))["tokens"][0] for part in parts]
    chars = [_spelt(part, letters) for part in parts]
    _check_apart(words, np.concatenate([ids[1], chars[1]], 1))
    places = np.array([tags.index(tag) for tag in template.tags], np.int32)
    return Target(*map(jnp.asarray, (ids[0], chars[0], places, ids[1], chars[1])))


def _spelt(words: Sequence[str], letters: int) -> Int[np.ndarray, "time letters"]:
    """`char_encode`, and one letter that is none where `letters` is 0."""
    if isinstance(letters, bool) or not isinstance(letters, int) or not (letters >= 0):
        raise ValueError(f"`letters` must be a whole number, 0 for words alone, got {letters!r}.")
    return char_encode(words, letters) if letters else np.zeros((len(words), 1), np.int32)


def _check_apart(words, read):
    seen: dict[bytes, str] = {}
    for word, row in zip(words, read, strict=True):
        other = seen.setdefault(row.tobytes(), word)
        if other != word:
            raise ValueError(
                f"`candidates` must differ to the model, got {other!r} and {word!r}, which it "
                "reads alike; leave one out, or use a tokenizer with more ids."
            )


def mixed_loss(
    box: WhiteBox,
    params: PyTree,
    target: Target,
    vectors: tuple[Float[Array, "prefix features"], Float[Array, "candidate features"]],
    weights: Float[Array, "position candidate"],
) -> Float[Array, ""]:
    """The model's loss where each place of the secret holds a mixture of the candidates.

    With one-hot `weights` it is the loss of the sentence with that secret, nats per word.

    Args:
      box: The model.
      params: Its weights.
      target: The sentence.
      vectors: Those of the words before the secret and of the candidates, by `vectors_of`.
      weights: Share of each candidate in each place.
    """
    before, candidates = vectors
    words = jnp.concatenate([before, weights @ candidates])
    return box.loss(params, words, target.tags)


def vectors_of(
    box: WhiteBox, params: PyTree, target: Target
) -> tuple[Float[Array, "prefix features"], Float[Array, "candidate features"]]:
    """Vectors of the words before the secret, and of each candidate."""
    before = box.represent(params, target.tokens, target.chars)
    return before, box.represent(params, target.candidate_tokens, target.candidate_chars)
