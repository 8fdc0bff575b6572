"""Bounds: from per-unit norms to the factors that keep every unit within its bound."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Room of sixteen float32 roundings below the bound, for those of the quotient and of its product
# with each value: scaled to the bound itself, half of all units would exceed it by a rounding.
_MARGIN = 1 - 2.0**-20

# AUTO-S stabiliser: Bu et al., Automatic Clipping, 2023, equation (4.1) and their default.
_STABILISER = 0.01

CLIPPINGS = ("flat", "automatic", "automatic_v")


class Bounds(NamedTuple):
    """Clip norms of a tree: which bound covers which leaf.

    A single float covers the whole tree; a pytree prefix gives every subtree a bound of its own.
    """

    values: tuple  # floats, or scalars of a running program where bounds adapt
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
    return Bounds(tuple(values), tuple(of_leaf), structure)


def layer_bounds(tree, total: float, *, depth: int | None = None, by: str = "equal"):
    """Bounds for each layer or block that add, in squares, up to one bound of the whole.

    >>> bounds = layer_bounds({"a": {"w": jnp.zeros(3)}, "b": {"w": jnp.zeros(9)}}, 2.0, by="size")
    >>> bounds["a"]["w"], round(bounds["b"]["w"], 4)
    (1.0, 1.7321)

    Args:
      tree: The trained parameters, or their shapes.
      total: L2 bound of the whole.
      depth: Names after which a block ends: 1 gives every top-level subtree one bound, None every
        array.
      by: "equal" shares of the squared bound, or shares in proportion to "size".

    Returns:
      A pytree prefix of `tree`, for `clip_norm`.

    Raises:
      ValueError: An argument is out of range.

    References:
      He et al., Exploring the Limits of Differentially Private Deep Learning with Group-wise
      Clipping, 2023: fixed bounds by group do worse than flat ones, adaptive ones (`clip_quantile`)
      as well or better.
    """
    check_clip_norm(total)
    if by not in ("equal", "size"):
        raise ValueError(f"`by` must be 'equal' or 'size', got {by!r}.")
    if depth is not None and not depth >= 1:
        raise ValueError(f"`depth` must be at least 1, or None for every array, got {depth!r}.")
    paths = jax.tree_util.tree_leaves_with_path(tree)
    blocks: dict = {}
    for path, leaf in paths:
        blocks.setdefault(path[:depth], []).append(math.prod(jnp.shape(leaf)))
    if not blocks:
        raise ValueError("`tree` must hold at least one array, got none.")
    weight = {block: sum(sizes) if by == "size" else 1 for block, sizes in blocks.items()}
    share = {block: total * math.sqrt(w / sum(weight.values())) for block, w in weight.items()}
    if depth is None:
        return jax.tree.unflatten(jax.tree.structure(tree), [share[path] for path, _ in paths])
    return jax.tree_util.tree_map_with_path(
        lambda path, _: share[path[:depth]], tree, is_leaf=_at_depth(tree, depth)
    )


def _at_depth(tree, depth):
    """Whether a node is a block: those `depth` names below the top, and arrays above them."""
    nodes = [tree]
    for _ in range(depth):
        nodes = [below for node in nodes for below in _children(node)]
    chosen = {id(node) for node in nodes}
    return lambda node: id(node) in chosen


def _children(node):
    return jax.tree.leaves(node, is_leaf=lambda at: at is not node)


def clip_factor(norm: Float[Array, "..."], max_norm, clipping: str = "flat"):
    """Factor that brings a value of l2 norm `norm` within `max_norm`; 0 if `norm` is not finite.

    `flat` gives min(1, C / norm) (Abadi et al. 2016), `automatic` C / (norm + 0.01) (AUTO-S, Bu et
    al. 2023), `automatic_v` C / norm (AUTO-V; 0 if `norm` is below 1e-10). All leave a relative
    margin of 2^-20 for the rounding of the scaled value.
    """
    if clipping == "automatic":
        factor = _MARGIN * max_norm / (norm + _STABILISER)
    elif clipping == "automatic_v":
        # Squares below 2^-126 are lost: of smaller norms up to 1e12 values might hide any part.
        factor = jnp.where(norm > 1e-10, _MARGIN * max_norm / jnp.maximum(norm, 1e-10), 0.0)
    elif not isinstance(max_norm, jax.Array) and math.isinf(max_norm):
        factor = jnp.ones_like(norm)
    else:
        # A norm of zero is within any bound; the division never sees it: 0 / 0
        # would be NaN, which `minimum` hands on.
        factor = jnp.minimum(1.0, _MARGIN * max_norm / jnp.maximum(norm, 1e-30))
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
