"""Every secret scored by its loss, and what a guess is worth."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from trustml.audit.extraction.white_box import Target, WhiteBox, mixed_loss, vectors_of
from trustml.plan.checks import check_count

_MOST = 10**6
_TOGETHER = 4096


class Recovery(NamedTuple):
    """How near guesses of one secret came, and what a guess without a model is worth."""

    accuracy: float  # share of guesses that are right in every place
    hamming: float  # mean share of places that are wrong
    chance_accuracy: float
    chance_hamming: float


def score_guesses(
    codes: Int[np.ndarray, "guess position"], secret: tuple[int, ...], *, candidates: int
) -> Recovery:
    """Compares guesses with the secret.

    >>> score_guesses(np.array([[1, 2], [1, 0]]), (1, 2), candidates=10)
    Recovery(accuracy=0.5, hamming=0.25, chance_accuracy=0.01, chance_hamming=0.9)

    Args:
      codes: Guesses, as places among the candidates.
      secret: The truth, likewise.
      candidates: Words that may stand at each place.

    Raises:
      ValueError: There is no guess, the lengths differ, or a place is no candidate's.
    """
    check_count("candidates", candidates)
    codes, truth = np.asarray(codes), np.asarray(secret)
    if not len(codes) or codes.shape[1:] != truth.shape:
        raise ValueError(
            f"`codes` must be guesses of {truth.size} places each, got shape {codes.shape}."
        )
    every = np.concatenate([codes, truth[None]])
    if not ((every >= 0) & (every < candidates)).all():
        raise ValueError(f"`codes` and `secret` must be from 0 to {candidates - 1}.")
    wrong = codes != truth[None]
    return Recovery(
        float((~wrong.any(1)).mean()),
        float(wrong.mean()),
        float(candidates) ** -truth.size,
        1 - 1 / candidates,
    )


def all_codes(length: int, candidates: int) -> Int[np.ndarray, "code position"]:
    """Every code, in the order of counting: code number k has the digits of k.

    >>> all_codes(2, 3).tolist()
    [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2], [2, 0], [2, 1], [2, 2]]

    Raises:
      ValueError: There are more than a million.
    """
    check_count("length", length)
    check_count("candidates", candidates)
    if candidates**length > _MOST:
        raise ValueError(
            f"`length` must leave at most {_MOST} codes, got {candidates}**{length}; score a "
            "sample of codes with `score_codes`, or use `invert_model`."
        )
    places = np.indices((candidates,) * length, np.int32)
    return places.reshape(length, -1).T


def code_number(code: tuple[int, ...], candidates: int) -> int:
    """The row of a code in `all_codes`.

    >>> code_number((1, 2), 10)
    12
    """
    return functools.reduce(lambda number, place: number * candidates + int(place), code, 0)


def score_codes(
    params: PyTree, box: WhiteBox, target: Target, codes: Int[np.ndarray, "code position"]
) -> Float[np.ndarray, " code"]:
    """The model's loss of the canary with each code, nats per word.

    Over `all_codes` the lowest is the attack of an adversary who can try every code: no search
    among codes by this loss does better. The losses are also what exposure is computed from.

    >>> target = Target(
    ...     tokens=jnp.zeros((1, 1), jnp.int32), chars=jnp.zeros((1, 1), jnp.int32),
    ...     tags=jnp.zeros(2, jnp.int32),
    ...     candidate_tokens=jnp.array([[1], [2]]), candidate_chars=jnp.zeros((2, 1), jnp.int32),
    ... )
    >>> box = WhiteBox(  # a model that likes token 2
    ...     represent=lambda params, tokens, chars: tokens.astype(jnp.float32),
    ...     loss=lambda params, words, tags: (words[-1, 0] - 2.0) ** 2,
    ... )
    >>> score_codes(None, box, target, all_codes(1, 2)).tolist()
    [1.0, 0.0]

    Args:
      params: Weights of the trained model.
      box: Its inside, see `open_tagger`.
      target: What the attacker knows, see `attack_target`.
      codes: Places among the candidates.

    Raises:
      ValueError: Codes of another length, or a place that is no candidate's.
    """
    codes = np.asarray(codes, np.int32)
    if codes.ndim != 2 or codes.shape[1] != target.length:
        raise ValueError(f"`codes` must have {target.length} places each, got shape {codes.shape}.")
    if not ((codes >= 0) & (codes < target.candidates)).all():
        raise ValueError(f"`codes` must be from 0 to {target.candidates - 1}.")
    return np.asarray(_scored(box, params, target, jnp.asarray(codes)))


@functools.partial(jax.jit, static_argnames="box")
def _scored(box, params, target, codes: Int[Array, "code position"]):
    vectors = vectors_of(box, params, target)

    def loss(code):
        weights = jax.nn.one_hot(code, target.candidates, dtype=jnp.float32)
        return mixed_loss(box, params, target, vectors, weights)

    return jax.lax.map(loss, codes, batch_size=min(_TOGETHER, len(codes)))
