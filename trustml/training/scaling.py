"""Scale-then-privatise: gradients divided by an optimizer's second moments before they are bounded.

A loss of `base + scale * w` has, at `w = 0`, the scaled gradient: so every way to clip serves, and
none knows of scales. The order in a step, `private_step(..., scale_by=scale_of)`: `scale_of` the
optimizer's state, `clipped_grad` of `scaled_loss` at `scaled_params`, `scaled_sums`, noise,
`unscaled`, the division, the optimizer.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import PyTree
from optax.tree_utils import NamedTupleKey, tree_get_all_with_path

from trustml.clipping import partition
from trustml.plan.checks import check_positive

# Names of second moments in the states of optax; the first that a state has is its scaling.
_MOMENTS = ("nu_max", "nu", "sum_of_squares")
_FIELD = "scaled_at"  # of `ScaledLeaf`


def second_moment(opt_state: PyTree) -> PyTree:
    """The second moments that an adaptive optimizer keeps, wherever in a chain they are.

    Args:
      opt_state: State of an optax optimizer: Adam, AdamW, AMSGrad, RMSProp, AdaGrad, DP-AdamBC and
        others that name theirs `nu`, `nu_max` or `sum_of_squares`, in any chain or wrapper.

    Returns:
      A tree like the trained weights.

    Raises:
      ValueError: The state holds none, or several.
    """
    # Weights may have such names too; a field of a state is no key of a dictionary.
    of_state = lambda path, _: isinstance(path[-1], NamedTupleKey)  # noqa: E731
    for name in _MOMENTS:
        found = tree_get_all_with_path(opt_state, name, filtering=of_state)
        if len(found) > 1:
            raise ValueError(
                f"`opt_state` must hold one second moment, got {len(found)} named `{name}`: give "
                "the scale of your choice in place of `scale_of`."
            )
        if found:
            return found[0][1]
    raise ValueError(
        "`opt_state` must be of an adaptive optimizer that keeps second moments (`optax.adam`, "
        f"`optax.rmsprop`, `optax.adagrad`, ...), got {type(opt_state).__name__} without any."
    )


def scale_of(opt_state: PyTree, *, eps: float = 1e-8, eps_root: float = 0.0) -> PyTree:
    """Scales of scale-then-privatise: `1 / (sqrt(nu + eps_root) + eps)`.

    Before the first step all are `1 / eps`. The bound C is one of the scaled gradient: of d values
    that each are near their root mean square the norm is sqrt(d). With C far below it the second
    moments shrink until `eps` is all that counts and the scales are alike; with C far above it the
    noise makes them grow. `relative_scale_of` has no such trap.

    >>> import optax
    >>> optimizer = optax.scale_by_rms(decay=0.0)
    >>> _, state = optimizer.update(jnp.array([0.5, 4.0]), optimizer.init(jnp.zeros(2)))
    >>> scale_of(state).round(3).tolist()
    [2.0, 0.25]

    Args:
      opt_state: State of the optimizer before the step.
      eps: Added to the root, positive. It may be far above Adam's own.
      eps_root: Added below the root, not negative.

    Returns:
      A tree like the trained weights, float32, positive.

    Guarantee:
      A function of the optimizer's state, hence of earlier releases: it costs no privacy.

    Raises:
      ValueError: A number is out of range, or the state holds no second moments.

    References:
      Ganesh, McMahan, Thakurta, On design principles for private adaptive optimizers, 2025, arXiv
      2507.01129, algorithm 8.
    """
    check_positive("eps", eps)
    if not (eps_root >= 0 and math.isfinite(eps_root)):
        raise ValueError(f"`eps_root` must be finite and not negative, got {eps_root!r}.")
    return jax.tree.map(
        lambda nu: 1 / (jnp.sqrt(nu.astype(jnp.float32) + eps_root) + eps),
        second_moment(opt_state),
    )


def relative_scale_of(opt_state: PyTree, *, eps: float = 0.1) -> PyTree:
    """Scales relative to the root r of the mean of all second moments: `r / (sqrt(nu) + eps r)`.

    Where all second moments are alike, or zero, as before the first step, the scales are alike, so
    that the bound C keeps about the meaning that it has without scaling. No scale exceeds
    `1 / eps`. The normalisation is ours.

    >>> import optax
    >>> relative_scale_of(optax.scale_by_rms().init(jnp.zeros(2)), eps=0.25).round(3).tolist()
    [0.800000011920929, 0.800000011920929]

    Args:
      opt_state: State of the optimizer before the step.
      eps: How far below the others a weight's gradients may be for its scale to follow, positive.

    Returns:
      A tree like the trained weights, float32, positive.

    Guarantee:
      As `scale_of`.

    Raises:
      ValueError: `eps` is not positive, or the state holds no second moments.
    """
    check_positive("eps", eps)
    nu = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), second_moment(opt_state))
    leaves = jax.tree.leaves(nu)
    total = sum(jnp.sum(leaf) for leaf in leaves)
    root = jnp.sqrt(total / sum(leaf.size for leaf in leaves))

    def scale(leaf):
        below = jnp.sqrt(leaf) + eps * root
        return jnp.where(below > 0, root / jnp.where(below > 0, below, 1.0), 1 / (1 + eps))

    return jax.tree.map(scale, nu)


class ScaledLeaf(NamedTuple):
    """The weight `base + scale * scaled_at`, whose gradient by `scaled_at` is the scaled one."""

    scaled_at: Any  # zeros
    base: Any
    scale: Any


def scaled_params(params: PyTree, scale: PyTree, trainable: Any = None) -> PyTree:
    """Weights of which `clipped_grad` of `scaled_loss` bounds the scaled gradients.

    >>> import jax.numpy as jnp
    >>> from trustml.clipping import clipped_grad
    >>> loss = scaled_loss(lambda w, x: jnp.vdot(w, x))
    >>> grad = clipped_grad(loss, clip_norm=5.0, trainable=is_scaled)
    >>> at = scaled_params(jnp.zeros(2), jnp.array([1.0, 10.0]))
    >>> sums, _ = grad(at, jnp.array([[3.0, 0.4], [6.0, 0.8]]))  # scaled: (3, 4) and (6, 8)
    >>> [round(value, 3) for value in scaled_sums(sums).tolist()]
    [6.0, 8.0]

    Args:
      params: The weights; their own gradients would be those of the loss.
      scale: Of the trained weights, positive, None in place of the others: `scale_of`.
      trainable: Which weights are trained, see `clipped_grad`; there, say `is_scaled` instead.

    Returns:
      A tree like `params` with a `ScaledLeaf` in place of every trained weight, so that bounds per
      layer still fit.

    Raises:
      ValueError: `scale` is not shaped like the trained weights, or a weight has a name of ours.
    """
    trained, _ = partition(params, trainable)
    paths, _ = jax.tree_util.tree_flatten_with_path(params)
    if any(is_scaled(jax.tree_util.keystr(path, simple=True, separator="/")) for path, _ in paths):
        raise ValueError(f"`params` must not hold a weight named {_FIELD!r}, got one.")
    shapes = [[leaf.shape for leaf in jax.tree.leaves(tree)] for tree in (trained, scale)]
    wanted, given = (jax.tree.structure(tree) for tree in (trained, scale))
    if shapes[0] != shapes[1] or wanted != given:  # type: ignore[operator]
        raise ValueError(
            f"`scale` must be shaped like the trained weights, {wanted} of {shapes[0]}, got "
            f"{given} of {shapes[1]}."
        )

    def lift(leaf, base, by):
        return leaf if base is None else ScaledLeaf(jnp.zeros(base.shape, jnp.float32), base, by)

    return jax.tree.map(lift, params, trained, scale)


def scaled_loss(loss_fn: Callable) -> Callable:
    """`loss_fn` of the weights of `scaled_params`."""

    def value(leaf):
        if not isinstance(leaf, ScaledLeaf):
            return leaf
        return leaf.base + (leaf.scale * leaf.scaled_at).astype(leaf.base.dtype)

    def loss(params, *unit):
        return loss_fn(jax.tree.map(value, params, is_leaf=_is_leaf), *unit)

    return loss


def is_scaled(name: str) -> bool:
    """Whether a leaf of `scaled_params` is differentiated: `trainable` of `clipped_grad`."""
    return name.rpartition("/")[2] == _FIELD


def scaled_sums(sums: PyTree) -> PyTree:
    """The sums of `clipped_grad` on `scaled_params`, shaped like the trained weights."""
    return jax.tree.map(
        lambda leaf: leaf.scaled_at if _is_leaf(leaf) else leaf, sums, is_leaf=_is_leaf
    )


def unscaled(noisy: PyTree, scale: PyTree) -> PyTree:
    """Noisy sums of scaled gradients, as sums of gradients: what the optimizer reads."""
    return jax.tree.map(jnp.divide, noisy, scale)


class Scaling:
    """The part of a step that `scale_by` adds: none where it is None."""

    def __init__(self, scale_by: Callable | None, trainable: Any):
        self._scale_by, self._trainable = scale_by, trainable
        self.trainable = trainable if scale_by is None else is_scaled

    def loss(self, loss_fn: Callable) -> Callable:
        """The loss whose gradients are bounded."""
        return loss_fn if self._scale_by is None else scaled_loss(loss_fn)

    def at(self, state: Any) -> tuple[PyTree, Callable]:
        """Weights at which gradients are taken, and the way back for noisy sums."""
        if self._scale_by is None:
            return state.params, lambda noisy: noisy
        scale = self._scale_by(state.opt_state)
        params = scaled_params(state.params, scale, self._trainable)
        return params, lambda noisy: unscaled(noisy, scale)

    def sums(self, sums: PyTree) -> PyTree:
        """Its sums, shaped like the trained weights."""
        return sums if self._scale_by is None else scaled_sums(sums)


def _is_leaf(node) -> bool:
    return isinstance(node, ScaledLeaf)
