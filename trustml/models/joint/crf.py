"""A linear-chain conditional random field over the tags of one unit (Lafferty et al., 2001).

The score of a sequence sums its tags' scores, its transitions, its start and its end. Its
likelihood is the softmax of that over all sequences. Everything is float32: sums of many scores
lose digits in bfloat16.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from trustml.models.joint.decoding import best_path


def crf_loss(
    scores: Float[Array, "time tag"],
    tags: Int[Array, " time"],
    mask: Bool[Array, " time"],
    transitions: Float[Array, "tag tag"],
    start: Float[Array, " tag"],
    end: Float[Array, " tag"],
) -> Float[Array, ""]:
    """Negative log-likelihood of the tags, nats; 0 where everything is masked.

    Args:
      scores: Score of each tag at each position.
      tags: The true tags.
      mask: True for words; padding comes last.
      transitions: `transitions[a, b]` is the score of tag `b` after tag `a`.
      start: Score of each tag as the first.
      end: Score of each tag as the last.
    """
    scores, transitions, start, end = (
        array.astype(jnp.float32) for array in (scores, transitions, start, end)
    )
    total = _log_partition(scores, mask, transitions, start, end)
    true = _path_score(scores, tags, mask, transitions, start, end)
    return jnp.where(mask[0], total - true, 0.0)


def crf_decode(
    scores: Float[Array, "time tag"],
    mask: Bool[Array, " time"],
    transitions: Float[Array, "tag tag"],
    start: Float[Array, " tag"],
    end: Float[Array, " tag"],
) -> Int[Array, " time"]:
    """The most likely tags; 0 where `mask` is false. Arguments as those of `crf_loss`."""
    return best_path(scores, mask, transitions, start, end)


def _log_partition(scores, mask, transitions, start, end):
    """Log of the sum over all sequences of exp(score), by the forward algorithm."""

    def forward(total, entry):
        score, kept = entry
        new = jax.nn.logsumexp(total[:, None] + transitions, axis=0) + score
        return jnp.where(kept, new, total), None

    last, _ = jax.lax.scan(forward, scores[0] + start, (scores[1:], mask[1:]))
    return jax.nn.logsumexp(last + end)


def _path_score(scores, tags, mask, transitions, start, end):
    # Products with one-hot rows: the gradient of a gather is a scatter, slow under `vmap`.
    keep = mask.astype(jnp.float32)
    chosen = jax.nn.one_hot(tags, scores.shape[1], dtype=jnp.float32) * keep[:, None]
    moves = ((chosen[:-1] @ transitions) * chosen[1:]).sum()
    # Only the last token has mask 1 and a next mask of 0.
    last = chosen * (keep - jnp.append(keep[1:], 0.0))[:, None]
    return (scores * chosen).sum() + moves + (start * chosen[0]).sum() + (last @ end).sum()
