"""The sequence of tags with the best score, under BIO's rules or under learned scores of moves."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

_FORBIDDEN = -1e9  # finite: -inf plus an infinite score of a diverged model is NaN


def allowed_transitions(tags: tuple[str, ...]) -> Bool[np.ndarray, "tag tag"]:
    """Whether tag `b` may follow tag `a`.

    >>> allowed_transitions(("O", "B-x", "I-x"))[:, 2].tolist()
    [False, True, True]
    """
    follows = [[b[:2] != "I-" or a[2:] == b[2:] for b in tags] for a in tags]
    return np.array(follows)


def viterbi(
    scores: Float[Array, "time tag"],
    mask: Bool[Array, " time"],
    allowed: Bool[np.ndarray, "tag tag"],
) -> Int[Array, " time"]:
    """The allowed sequence of tags with the highest sum of scores; 0 where `mask` is false.

    `mask` must be true first and false after: padding comes last.
    """
    moves = jnp.where(allowed, 0.0, _FORBIDDEN).astype(jnp.float32)
    # As if an "O" came before the first token: no sequence may begin with an `I-`.
    return best_path(scores, mask, moves, moves[0], jnp.zeros_like(moves[0]))


def best_path(
    scores: Float[Array, "time tag"],
    mask: Bool[Array, " time"],
    moves: Float[Array, "tag tag"],
    start: Float[Array, " tag"],
    end: Float[Array, " tag"],
) -> Int[Array, " time"]:
    """The tags with the highest sum of scores, transitions, start and end; 0 for padding.

    `moves[a, b]` scores tag `b` after tag `a`. `mask` must be true first and false after.
    """

    def forward(best, entry):
        score, kept = entry
        through = best[:, None] + moves
        came_from = jnp.argmax(through, 0)
        new = jnp.where(kept, jnp.max(through, 0) + score, best)
        return new, jnp.where(kept, came_from, jnp.arange(best.shape[0]))

    last, origins = jax.lax.scan(forward, scores[0] + start, (scores[1:], mask[1:]))

    def backward(tag, origin):
        return origin[tag], tag

    first_tag, rest = jax.lax.scan(backward, jnp.argmax(last + end), origins, reverse=True)
    path = jnp.concatenate([first_tag[None], rest])
    return jnp.where(mask, path, 0).astype(jnp.int32)
