"""Prediction sensitivity: how far a score moves when the input does, group by group."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from numpy.typing import ArrayLike

from trustml.clipping import bounded_sum
from trustml.fairness.gaps import GroupComparison, check_groups, compare_means

_NO_BOUND = {"sensitivity": float("inf"), "units": float("inf")}


class SensitivityResult(NamedTuple):
    """Sensitivities and how groups compare. Private: computed from units, without noise."""

    mean: Float[np.ndarray, " group"]
    units: Int[np.ndarray, " group"]  # that the mean is over
    per_unit: Float[np.ndarray, " unit"]  # NaN where a unit was dropped
    comparison: GroupComparison
    not_finite: int  # units of a group that were dropped because their gradient is not finite


def prediction_sensitivity(
    score_fn: Callable,
    params: Any,
    features: Any,
    units: Any,
    *,
    group: ArrayLike,
    names: Sequence[str],
    class_weights: ArrayLike | None = None,
    position_weights: ArrayLike | None = None,
    physical_batch_size: int | None = None,
    confidence: float = 0.95,
) -> SensitivityResult:
    """Mean norm of the gradient of a score by the input, for each group, and the gaps.

    For scores f_k and an input of positions t, a unit's sensitivity is

        P = sum_k w_k sum_t v_t || d f_k / d x_t ||_2 ,

    and without position weights sum_k w_k || d f_k / d x ||_2 over the whole input. Groups with a
    large P are those whose predictions hang on details of their words; with weights v on what
    gives a protected attribute away, P says how far the prediction depends on that.

    >>> found = prediction_sensitivity(
    ...     lambda w, x, unit: w * x * unit, jnp.float32(2.0), np.ones(4, np.float32),
    ...     np.array([1.0, 1.0, 3.0, 3.0], np.float32), group=[0, 0, 1, 1], names=("a", "b"),
    ... )
    >>> found.mean.tolist()
    [2.0, 6.0]

    Args:
      score_fn: `score_fn(params, features, unit)`, a scalar or a vector of classes, or a loss, for
        one unit. For token ids see `shifted_score`, with zeros for features.
      params: The weights.
      features: Pytree of floating arrays, leading axis = unit: what is differentiated. With
        position weights, one array whose second axis is the position.
      units: Pytree of everything else, leading axis = unit; what was said, lengths, labels.
      group: Index into `names`; -1 leaves a unit out.
      names: Of the protected groups.
      class_weights: w [class], not negative; by default 1 for every class of a vector score.
      position_weights: v [unit, position], not negative.
      physical_batch_size: Units computed at a time.
      confidence: Of the gaps together, as in `compare_means`, which takes `per_unit` for a
        comparison with other options.

    Returns:
      A `SensitivityResult`.

    Raises:
      ValueError: Weights that are negative or do not fit, or a group of fewer than two units.

    References:
      Krishna et al., Measuring Fairness of Text Classifiers via Prediction Sensitivity, 2022; the
      weights here are a definition of ours in their sense, with l2 norms within a position.
    """
    classes = _checked_weights("class_weights", class_weights, 1)
    positions = _checked_weights("position_weights", position_weights, 2)
    member = check_groups(group, names)
    total = bounded_sum(
        _unit_sensitivity(score_fn),
        clip_norm=_NO_BOUND,
        num_groups=len(names),
        physical_batch_size=physical_batch_size,
    )
    weights = None if classes is None else jnp.asarray(classes, jnp.float32)
    rows = (features, units, positions)
    sums, info = total((params, weights), rows, member)
    used = np.asarray(info.clip_factor["sensitivity"]) > 0
    per_unit = np.where(used, np.asarray(info.norm["sensitivity"], np.float64), np.nan)
    seen = np.where(used, member, -1)
    counts = np.asarray(sums["units"]).round().astype(np.int64)
    compared = compare_means(per_unit, seen, names=names, confidence=confidence)
    mean = np.asarray(sums["sensitivity"], np.float64) / counts
    return SensitivityResult(mean, counts, per_unit, compared, int(((member >= 0) & ~used).sum()))


def _unit_sensitivity(score_fn):
    """`f` for `bounded_sum`: a unit's sensitivity, and a one that counts it."""

    def f(params_and_weights, row):
        (params, class_weights), (features, unit, positions) = params_and_weights, row

        def score(features):
            return jnp.atleast_1d(score_fn(params, features, unit))

        jacobian = jax.jacrev(score)(features)
        norms = _norms(jacobian, positions)
        weights = jnp.ones_like(norms) if class_weights is None else class_weights
        if weights.shape != norms.shape:
            raise ValueError(
                f"`class_weights` must have one entry per class of the score, {norms.shape[0]}, "
                f"got {weights.shape[0]}."
            )
        return {"sensitivity": jnp.sum(weights * norms), "units": jnp.ones(())}

    return f


def _norms(jacobian, positions) -> Float[Array, " class"]:
    """Norm of each class's gradient: of the whole input, or weighted by position."""
    leaves = [leaf.astype(jnp.float32) for leaf in jax.tree.leaves(jacobian)]
    if positions is None:
        return jnp.sqrt(sum(_squares(leaf, 1) for leaf in leaves))
    if len(leaves) != 1 or leaves[0].shape[1:2] != positions.shape:
        raise ValueError(
            "`position_weights` must have one entry per position, the second axis of one array of "
            f"features, got {positions.shape[0]} for {[leaf.shape[1:] for leaf in leaves]}."
        )
    (leaf,) = leaves
    per_position = jnp.sqrt(_squares(leaf, 2))
    return per_position @ positions


def _squares(leaf, first):
    return jnp.sum(jnp.square(leaf), tuple(range(first, leaf.ndim)))


def _checked_weights(name, weights, rank):
    if weights is None:
        return None
    weights = np.asarray(weights, np.float32)
    if weights.ndim != rank or not (np.isfinite(weights) & (weights >= 0)).all():
        axes = {1: "[class]", 2: "[unit, position]"}[rank]
        raise ValueError(
            f"`{name}` must be finite and not negative, of shape {axes}, got shape "
            f"{weights.shape} with values from {weights.min(initial=0):g} to "
            f"{weights.max(initial=0):g}."
        )
    return weights
