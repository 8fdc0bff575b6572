"""From squared norms to the weights of a sum in which no unit exceeds its bound."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from trustml.clipping.bounds import Bounds, clip_factor


class Bounding(NamedTuple):
    """The bounds of one batch, and where its units go."""

    bounds: Bounds
    clipping: str
    group: Int[Array, " unit"]  # -1 drops the unit
    num_groups: int

    @property
    def num_bounds(self) -> int:
        """How many bounds there are; each covers leaves of its own."""
        return len(self.bounds.values)

    @property
    def of_leaf(self) -> tuple[int, ...]:
        """The bound of each leaf."""
        return self.bounds.of_leaf

    def norms(self, squares: list) -> Float[Array, "bound unit"]:
        """Norms under each bound, from squared norms per leaf."""
        blank = jnp.zeros(self.group.shape, jnp.float32)
        totals = [blank] * self.num_bounds
        for square, owner in zip(squares, self.of_leaf, strict=True):
            totals[owner] = totals[owner] + square
        return jnp.sqrt(jnp.stack(totals))

    def finite(self, norms: Float[Array, "bound unit"]) -> Bool[Array, " unit"]:
        """Whether each unit may enter a sum."""
        return jnp.all(jnp.isfinite(norms), axis=0)

    def factors(self, norms: Float[Array, "bound unit"]) -> Float[Array, "bound unit"]:
        """Factors that bring units within their bounds; 0 for padding and what is not finite."""
        present = self.finite(norms) & (self.group >= 0)
        rows = [
            clip_factor(norm, value, self.clipping)
            for norm, value in zip(norms, self.bounds.values, strict=True)
        ]
        return jnp.where(present[None], jnp.stack(rows), 0.0)

    def exceeding(self, norms, factors) -> Bool[Array, " unit"]:
        """Whether each unit exceeds a bound in spite of these factors."""
        limits = jnp.stack([jnp.asarray(value, jnp.float32) for value in self.bounds.values])
        # Of a norm that is NaN no comparison holds.
        within = (factors == 0) | (factors * norms <= limits[:, None])
        return ~jnp.all(within, axis=0)

    def weights(self, factors: Float[Array, "bound unit"]) -> Float[Array, "bound group unit"]:
        """The weight of each unit in the sum of each group."""
        # Group -1 gives a column of zeros.
        member = jax.nn.one_hot(self.group, self.num_groups, axis=0, dtype=jnp.float32)
        return factors[:, None] * member[None]
