"""Bounds: from per-unit norms to the factors that keep every unit within its bound."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# A factor below one leaves this much room, so that rounding in `factor * value` stays within.
MARGIN = 1 - 2.0**-20

# AUTO-S stabiliser: Bu et al., Automatic Clipping, 2023, equation (4.1) and their default.
STABILISER = 0.01

CLIPPINGS = ("flat", "automatic")


class Bounds(NamedTuple):
    """Clip norms of a tree: which bound covers which leaf.

    A single float covers the whole tree; a pytree prefix gives every subtree a bound of its own.
    """

    values: tuple[float, ...]
    of_leaf: tuple[int, ...]
    structure: Any  # of the prefix, to shape `UnitInfo.norm`

    @property
    def sensitivity(self) -> float:
        """L2 norm that one unit can reach over all bounds together."""
        return math.hypot(*self.values)

    def shape_like_prefix(self, rows):
        """Puts one entry per bound into the structure of the prefix."""
        return jax.tree.unflatten(self.structure, list(rows))


def check_clip_norm(clip_norm) -> None:
    """Refuses a clip norm that is not a positive number or a tree of them.

    Raises:
      ValueError: A value is zero, negative or NaN; infinity is allowed here, noise refuses it.
      TypeError: A leaf is not a number.
    """
    leaves = jax.tree.leaves(clip_norm)
    if not leaves:
        raise ValueError("`clip_norm` must hold at least one number, got an empty tree.")
    for value in leaves:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(
                f"`clip_norm` must be a float or a pytree prefix of floats, got {value!r}."
            )
        if not value > 0:
            raise ValueError(f"`clip_norm` must be positive, got {value!r}.")


def bounds_for(clip_norm, tree) -> Bounds:
    """Spreads `clip_norm`, a float or a pytree prefix of `tree`, over the leaves of `tree`."""
    values, structure = jax.tree.flatten(clip_norm)
    try:
        subtrees = structure.flatten_up_to(tree)
    except ValueError as error:
        raise ValueError(
            "`clip_norm` must be a float or a pytree prefix of the trained parameters, "
            f"got a tree that does not fit them: {error}"
        ) from None
    of_leaf = [
        index
        for index, subtree in enumerate(subtrees)
        for _ in range(len(jax.tree.leaves(subtree)))
    ]
    return Bounds(tuple(map(float, values)), tuple(of_leaf), structure)


def clip_factor(norm: Float[Array, "..."], max_norm: float, clipping: str = "flat"):
    """Factor that brings a value of l2 norm `norm` within `max_norm`; 0 if `norm` is not finite.

    `flat` gives min(1, C / norm) (Abadi et al. 2016), `automatic` C / (norm + 0.01) (AUTO-S, Bu et
    al. 2023). Both leave a relative margin of 2^-20 for the rounding of the scaled value.
    """
    if clipping == "automatic":
        factor = MARGIN * max_norm / (norm + STABILISER)
    elif math.isinf(max_norm):
        factor = jnp.ones_like(norm)
    else:
        # A norm of zero is within any bound; the division never sees it.
        factor = jnp.minimum(1.0, MARGIN * max_norm / jnp.maximum(norm, 1e-30))
    return jnp.where(jnp.isfinite(norm), factor, 0.0)


def clip(tree, max_norm: float):
    """Scales `tree` to an l2 norm of at most `max_norm`; a tree that is not finite becomes zero.

    >>> clipped, norm, factor = clip({"w": jnp.array([3.0, 4.0])}, 1.0)
    >>> float(norm), round(float(factor), 4)
    (5.0, 0.2)

    Args:
      tree: Pytree of arrays of any floating dtype; the norm is over all leaves together.
      max_norm: Positive bound; infinity only replaces trees that are not finite by zero.

    Returns:
      `(clipped, norm, factor)`: the tree in float32, its norm before, the factor applied.

    Guarantee:
      The l2 norm of `clipped` is at most `max_norm`, whatever `tree` holds, NaN included.
    """
    check_clip_norm(max_norm)
    wide = jax.tree.map(lambda leaf: jnp.asarray(leaf).astype(jnp.float32), tree)
    norm = jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(wide)))
    factor = clip_factor(norm, max_norm)
    # where, not a product: 0 * NaN is NaN.
    clipped = jax.tree.map(lambda leaf: jnp.where(factor > 0, leaf * factor, 0.0), wide)
    return clipped, norm, factor
