"""The calibrated loss: a low loss tells little where models without the unit have one, too."""

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from trustml.audit.attacks.checks import check_enough, check_reference


def calibrated_loss(
    target: ArrayLike, shadows: ArrayLike, membership: ArrayLike
) -> Float[np.ndarray, " unit"]:
    """How far the loss lies below that of models which were trained without the unit.

    >>> members = [[False, False], [False, True]]
    >>> calibrated_loss([1.0, 1.0], [[3.0, 1.5], [5.0, 9.0]], members).tolist()
    [3.0, 0.5]

    Args:
      target: Losses of the model under attack, [unit].
      shadows: Losses of shadow models, [model, unit].
      membership: Who trained which shadow, truth values [model, unit].

    Returns:
      Float64 [unit], the mean loss without the unit less the target's; higher is more like a
      member. Private.

    Raises:
      ValueError: Shapes that do not go together, a loss that is not finite, or a unit that all
        shadows were trained with.

    References:
      Watson, Guo, Cormode and Sablayrolles, On the Importance of Difficulty Calibration in
      Membership Inference Attacks, 2022.
    """
    found = check_reference(target, shadows, membership)
    check_enough(~found.membership, 1, "trained without")
    return mean_of(found.shadows, ~found.membership) - found.target


def mean_of(
    values: Float[np.ndarray, "model unit"], taken: Bool[np.ndarray, "model unit"]
) -> Float[np.ndarray, " unit"]:
    """The mean of each unit over the models that count for it."""
    return np.mean(values, axis=0, where=taken)
