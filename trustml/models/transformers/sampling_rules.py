"""The choice of the next token: the best, or a draw with temperature, top-k and top-p."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

_METHODS = ("greedy", "sample")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingRule:
    """A rule that chooses the token of one position.

    "greedy" takes the best token. "sample" divides scores by `temperature` and keeps the `top_k`
    best (0: all). Of these it keeps the fewest with probability `top_p`, and draws one. Tokens that
    tie with the last one are kept too.
    """

    method: str = "greedy"
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self):
        if self.method not in _METHODS:
            methods = ", ".join(_METHODS)
            raise ValueError(f"`method` must be one of {methods}, got {self.method!r}.")
        if not 0 < self.temperature < math.inf:
            raise ValueError(
                f"`temperature` must be positive and finite, got {self.temperature!r}; "
                f'for the best token take method="greedy".'
            )
        if type(self.top_k) is not int or self.top_k < 0:
            raise ValueError(f"`top_k` must be an integer, 0 for all tokens, got {self.top_k!r}.")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"`top_p` must be in (0, 1], got {self.top_p!r}.")
        changed = (self.temperature, self.top_k, self.top_p) != (1.0, 0, 1.0)
        if self.method == "greedy" and changed:
            raise ValueError(
                "`temperature`, `top_k` and `top_p` change nothing with method='greedy': take "
                "method='sample'."
            )

    def choose(self, key: Array, scores: Float[Array, " token"]) -> Int[Array, ""]:
        """The next token of one sequence."""
        if self.method == "greedy":
            return jnp.argmax(scores).astype(jnp.int32)
        return jax.random.categorical(key, self.kept(scores)).astype(jnp.int32)

    def kept(self, scores: Float[Array, " token"]) -> Float[Array, " token"]:
        """Scores over the temperature; -inf for tokens that are not kept."""
        scores = scores / jnp.float32(self.temperature)
        if 0 < self.top_k < scores.shape[0]:
            scores = top_k(scores, self.top_k)
        return top_p(scores, self.top_p) if self.top_p < 1 else scores


def top_k(scores: Float[Array, " token"], count: int) -> Float[Array, " token"]:
    """Keeps the `count` best scores, and those that tie with the last; others become -inf."""
    least = jax.lax.top_k(scores, count)[0][-1]
    return jnp.where(scores >= least, scores, -jnp.inf)


def top_p(scores: Float[Array, " token"], share: float) -> Float[Array, " token"]:
    """Keeps the fewest best scores whose softmax holds `share`, at least one; others are -inf."""
    falling = jnp.sort(scores, descending=True)
    chances = jax.nn.softmax(falling)
    # The sum before each token, without itself: the token that reaches the share is kept.
    needed = jnp.cumsum(chances) - chances < share
    least = jnp.min(jnp.where(needed, falling, jnp.inf))
    return jnp.where(scores >= least, scores, -jnp.inf)
