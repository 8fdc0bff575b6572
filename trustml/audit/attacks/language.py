"""Scores of texts under a language model: higher is more like a member."""

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from numpy.typing import ArrayLike

from trustml.audit.attacks.signals import check_mask, over_words


class TokenSignals(NamedTuple):
    """Log-probability of each token of a text under a model. Private."""

    log_prob: Float[Array, "*rows time"]  # of the token that came
    mean: Float[Array, "*rows time"]  # of the log-probability of what the model would have said
    std: Float[Array, "*rows time"]


def token_signals(
    logits: Float[Array, "*rows time vocabulary"], tokens: Int[Array, "*rows time"]
) -> TokenSignals:
    """Log-probabilities, and their mean and deviation under the model itself, on the device.

    >>> signals = token_signals(jnp.zeros((1, 4)), jnp.array([2]))  # any of four tokens, as likely
    >>> round(float(signals.log_prob[0]), 4), float(signals.std[0])
    (-1.3863, 0.0)

    Args:
      logits: Scores of the token at each place, given those before it: shifted already.
      tokens: The tokens that came.

    References:
      Zhang et al., Min-K%++: Improved Baseline for Detecting Pre-Training Data, 2024.
    """
    said = jax.nn.log_softmax(logits.astype(jnp.float32))
    chance = jnp.exp(said)
    possible = jnp.where(chance > 0, said, 0.0)  # 0 x -inf, where the model rules a token out
    mean = (chance * possible).sum(-1)
    std = jnp.sqrt((chance * (possible - mean[..., None]) ** 2).sum(-1))
    return TokenSignals(jnp.take_along_axis(said, tokens[..., None], -1)[..., 0], mean, std)


def text_likelihood(
    log_probs: ArrayLike, mask: ArrayLike | None = None
) -> Float[np.ndarray, "..."]:
    """Minus the loss: the mean log-probability of a text's tokens.

    >>> text_likelihood([[-1.0, -3.0, -9.0]], [[True, True, False]]).tolist()
    [-2.0]

    Args:
      log_probs: Of the tokens that came, [..., time].
      mask: Which tokens there are; all by default.
    """
    values = _checked("log_probs", log_probs)
    return over_words(values, check_mask(mask, values.shape))


def zlib_ratio(
    log_probs: ArrayLike, texts: Sequence[bytes], mask: ArrayLike | None = None
) -> Float[np.ndarray, " unit"]:
    """Minus the loss per byte that zlib needs: what is easy for any model counts less.

    >>> round(float(zlib_ratio([[-1.0, -3.0]], [b"aaaaaaaaaaaaaaaa"])[0]), 4)
    -0.1818

    Args:
      log_probs: Of the tokens that came, [unit, time].
      texts: The text of each unit, encoded.
      mask: Which tokens there are; all by default.

    References:
      Carlini et al., Extracting Training Data from Large Language Models, 2021.
    """
    scores = text_likelihood(log_probs, mask)
    if scores.ndim != 1 or len(texts) != len(scores):
        raise ValueError(
            f"`texts` must hold one text for each unit, got {len(texts)} for {scores.shape}."
        )
    if not all(isinstance(text, bytes) for text in texts):
        raise TypeError("`texts` must be bytes, such as `text.encode()`.")
    return scores / np.array([len(zlib.compress(text)) for text in texts])


def min_k(
    log_probs: ArrayLike, mask: ArrayLike | None = None, *, part: float = 0.2
) -> Float[np.ndarray, "..."]:
    """Min-K %: the mean log-probability of the least likely tokens of a text.

    >>> min_k([[-1.0, -4.0, -2.0, -8.0]], part=0.5).tolist()
    [-6.0]

    Args:
      log_probs: Of the tokens that came, [..., time].
      mask: Which tokens there are; all by default.
      part: Of a text's tokens, rounded down, at least one.

    References:
      Shi et al., Detecting Pretraining Data from Large Language Models, 2024.
    """
    if not (0 < part <= 1):
        raise ValueError(f"`part` must be in (0, 1], got {part!r}.")
    values = _checked("log_probs", log_probs)
    mask = check_mask(mask, values.shape)
    rising = np.sort(np.where(mask, values, np.inf), -1)
    # The tolerance is for 0.3 * 10, which is below 3.
    kept = np.maximum(1, np.floor(part * mask.sum(-1) + 1e-9).astype(int))
    return over_words(rising, np.arange(values.shape[-1]) < kept[..., None])


def min_k_plus_plus(
    log_probs: ArrayLike,
    mean: ArrayLike,
    std: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    part: float = 0.2,
) -> Float[np.ndarray, "..."]:
    """Min-K %++: Min-K % of log-probabilities in deviations from what the model would have said.

    >>> min_k_plus_plus([[-1.0, -4.0]], [[-2.0, -2.0]], [[1.0, 0.5]], part=0.5).tolist()
    [-4.0]

    Args:
      log_probs: Of the tokens that came, [..., time]; see `token_signals`.
      mean: Expected log-probability at each place, under the model.
      std: Its standard deviation, positive where there is a token.
      mask: Which tokens there are; all by default.
      part: As for `min_k`.

    References:
      Zhang et al., Min-K%++: Improved Baseline for Detecting Pre-Training Data, 2024.
    """
    values, middle = _checked("log_probs", log_probs), _checked("mean", mean)
    spread = _checked("std", std)
    if not (values.shape == middle.shape == spread.shape):
        raise ValueError(
            f"`mean` and `std` must have the shape of `log_probs`, {values.shape}, got "
            f"{middle.shape} and {spread.shape}."
        )
    there = check_mask(mask, values.shape)
    if not (spread[there] > 0).all():
        raise ValueError(
            f"`std` must be positive where there is a token, got {spread[there].min()}: a model "
            "that is certain has no deviation. Leave the place out by `mask`."
        )
    return min_k((values - middle) / np.where(there, spread, 1.0), there, part=part)


def _checked(name, values):
    values = np.asarray(values, np.float64)
    if values.ndim < 1 or np.isnan(values).any():
        raise ValueError(f"`{name}` must be numbers [..., time], not NaN, got {values.shape}.")
    return values
