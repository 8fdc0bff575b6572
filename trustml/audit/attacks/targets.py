"""Targets of an attack: every shadow in turn, with its members."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from trustml.audit.attacks.checks import check_models


def leave_one_out(
    attack: Callable[..., ArrayLike],
    signals: Any,
    membership: ArrayLike,
    *,
    targets: int | None = None,
) -> Float[np.ndarray, "target unit"]:
    """Attacks each of several models with the others as its shadows.

    K trainings give K attacked models, where attacking one apart from its shadows would take K + 1
    for one. The scores of two targets are not independent: they share units and shadows; see
    `pooled_result`.

    >>> signals = np.array([[1.0, 2.0], [3.0, 5.0], [8.0, 4.0]])
    >>> members = np.array([[True, False], [False, True], [False, False]])
    >>> leave_one_out(lambda own, others, _: own - others.mean(0), signals, members).tolist()
    [[-4.5, -2.5], [-1.5, 2.0], [6.0, 0.5]]

    Args:
      attack: `attack(target, shadows, membership) -> scores [unit]`, such as `lira`.
      signals: What every model says, a leading model axis: an array [model, unit], or a pytree of
        arrays, of which `attack` gets the target's part and the shadows' part.
      membership: Who trained which model, truth values [model, unit]. It must have been drawn for
        each model by itself: where every unit is in exactly half of them, the others tell the
        target's.
      targets: How many are attacked, the first ones; all by default.

    Returns:
      Float64 [target, unit]. Private.

    Raises:
      ValueError: Fewer than two models, arrays of another number of models, or a wrong `targets`.
    """
    membership = np.asarray(membership)
    signals = jax.tree.map(np.asarray, signals)
    models = len(membership)
    check_models(models, 2, "leaving one out")
    sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(signals)}
    if sizes != {(models,)}:
        raise ValueError(
            f"`signals` must have a leading axis of the {models} models, got {sorted(sizes)}."
        )
    number = models if targets is None else targets
    if not (1 <= number <= models):
        raise ValueError(f"`targets` must be from 1 to {models}, got {targets!r}.")

    def one(model):
        own = jax.tree.map(lambda leaf: leaf[model], signals)
        others = jax.tree.map(lambda leaf: np.delete(leaf, model, axis=0), signals)
        return np.asarray(attack(own, others, np.delete(membership, model, axis=0)), np.float64)

    return np.stack([one(model) for model in range(number)])


def split_scores(
    scores: ArrayLike, members: ArrayLike, nonmembers: ArrayLike
) -> tuple[Float[np.ndarray, " member"], Float[np.ndarray, " nonmember"]]:
    """The scores of members and of others, by the numbers of the units.

    >>> [side.tolist() for side in split_scores([0.5, 0.7, 0.9], [2], [0, 1])]
    [[0.9], [0.5, 0.7]]

    Args:
      scores: Of units, [unit].
      members: Numbers of units that the model was trained on.
      nonmembers: Numbers of units that it was not trained on.

    Raises:
      ValueError: A unit is in both sets or twice in one, or there is none of that number.
    """
    scores = np.asarray(scores, np.float64)
    named = {"members": np.asarray(members), "nonmembers": np.asarray(nonmembers)}
    for name, rows in named.items():
        if rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer):
            raise ValueError(
                f"`{name}` must be a vector of unit numbers, got {rows.dtype} of {rows.shape}."
            )
        if rows.size and not (rows.min() >= 0 and rows.max() < len(scores)):
            raise ValueError(
                f"`{name}` must be from 0 to {len(scores) - 1}, got {rows.min()} to {rows.max()}."
            )
        if len(np.unique(rows)) < len(rows):
            raise ValueError(f"`{name}` must name each unit once, got one of them twice.")
    both = np.intersect1d(named["members"], named["nonmembers"])
    if both.size:
        raise ValueError(
            f"`members` and `nonmembers` must not share units, got {both.size} in both, such as "
            f"unit {both[0]}: a unit is a member or it is not."
        )
    return scores[named["members"]], scores[named["nonmembers"]]
