"""RMIA: is the model's gain on a unit larger than its gain on units that nobody trained on?"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from trustml.audit.attacks.calibrated import mean_of
from trustml.audit.attacks.checks import (
    Reference,
    check_choice,
    check_enough,
    check_models,
    check_reference,
)
from trustml.audit.attacks.targets import leave_one_out
from trustml.audit.roc import area_under_curve

_Variant = Literal["online", "offline"]


def rmia(
    target: ArrayLike,
    shadows: ArrayLike,
    membership: ArrayLike,
    *,
    population: ArrayLike,
    population_shadows: ArrayLike,
    population_membership: ArrayLike | None = None,
    variant: _Variant = "online",
    gamma: float = 1.0,
    a: float = 0.3,
) -> Float[np.ndarray, " unit"]:
    """The part of a population that the unit's likelihood ratio beats by the factor `gamma`.

    For a unit x and a unit z of the population the ratio is [P(x | f) / P(x)] / [P(z | f) / P(z)],
    where P(x | f) is the signal of the model f under attack. P(x) is, online, the mean of the mean
    over shadows with x and the mean over those without; offline, (1 + a) / 2 of the mean without
    plus (1 - a) / 2.

    Scores are multiples of 1 / population: with z units of it no false positive rate below about
    1 / z can be told; `informia` has no such limit. Time and memory grow with the sum of the two
    numbers of units, not with their product: the ratio is at least gamma where P(z | f) / P(z) is
    at most 1 / gamma times that of x, which is a rank.

    >>> rmia(
    ...     [0.8], [[0.6], [0.2]], [[True], [False]],
    ...     population=[0.5, 0.5], population_shadows=[[0.5, 0.2], [0.5, 0.2]],
    ... ).tolist()
    [0.5]

    Args:
      target: Probabilities of the true class by the model under attack, in [0, 1]: [unit], of
        `true_class_probability`.
      shadows: The same of shadow models, [model, unit].
      membership: Who trained which shadow, truth values [model, unit].
      population: As `target`, of units that the model under attack was not trained on and which
        are not among those under attack: [z].
      population_shadows: The same of the shadow models, [model, z].
      population_membership: Who of the population trained which shadow; by default nobody, and
        P(z) has nothing but the mean without.
      variant: "online" needs shadows with and without each unit; "offline" only without.
      gamma: Factor, positive.
      a: Of the offline variant, in [0, 1]; see `tune_a`.

    Returns:
      Float64 [unit] in [0, 1], higher is more like a member. Private.

    Raises:
      ValueError: Too few shadows (online two, offline one), shapes that do not go together, a
        number out of range, or a unit that no shadow gives any probability.

    References:
      Zarifzadeh, Liu and Shokri, Low-Cost High-Power Membership Inference Attacks, 2024.
    """
    if not (gamma > 0):
        raise ValueError(f"`gamma` must be positive, got {gamma!r}.")
    gains = _gains(check_reference(target, shadows, membership), variant, a)
    shape = np.shape(population_shadows)[:2]
    nobody = population_membership is None
    held = np.zeros(shape, bool) if nobody else np.asarray(population_membership)
    others = check_reference(population, population_shadows, held)
    if len(others.shadows) != np.shape(shadows)[0]:
        raise ValueError(
            f"`population_shadows` must be of the {np.shape(shadows)[0]} shadow models, got "
            f"{len(others.shadows)}."
        )
    of_others = np.sort(_gains(others, variant, a, nobody=nobody))
    return np.searchsorted(of_others, gains / gamma, side="right") / len(of_others)


def informia(
    target: ArrayLike,
    shadows: ArrayLike,
    membership: ArrayLike,
    *,
    variant: _Variant = "online",
    a: float = 0.3,
) -> Float[np.ndarray, " unit"]:
    """RMIA without its population: log [P(x | f) / P(x)], a score without steps.

    For one model under attack, RMIA ranks units as this does, but for ties. InfoRMIA's statistic
    adds a divergence of the population, which is the same for all units of that model.

    >>> informia([0.8], [[0.6], [0.2]], [[True], [False]]).round(4).tolist()
    [0.6931]

    Args:
      target: As for `rmia`.
      shadows: As for `rmia`.
      membership: As for `rmia`.
      variant: As for `rmia`.
      a: As for `rmia`.

    Returns:
      Float64 [unit], higher is more like a member. Private.
    """
    gains = _gains(check_reference(target, shadows, membership), variant, a)
    with np.errstate(divide="ignore"):  # a probability of zero is a score of minus infinity
        return np.log(gains)


def tune_a(
    shadows: ArrayLike,
    membership: ArrayLike,
    *,
    grid: Sequence[float] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
) -> float:
    """The `a` by which the offline attack on the shadows themselves has the largest area.

    Each shadow in turn is attacked by the others, since its members are known; the model under
    attack is not touched.

    >>> shadows = np.array([[0.9, 0.8, 0.2, 0.3], [0.3, 0.2, 0.8, 0.9]] * 2)
    >>> tune_a(shadows, shadows > 0.5, grid=(0.2, 0.8))
    0.2

    Args:
      shadows: Probabilities of the true class by shadow models, [model, unit]; two or more.
      membership: Who trained which shadow, truth values [model, unit].
      grid: Values to try, in [0, 1]; of equals the first.

    Raises:
      ValueError: Fewer than two shadows, or a unit that all but one were trained with.
    """
    said, members = np.asarray(shadows, np.float64), np.asarray(membership)
    check_models(len(said), 2, "choosing `a`")
    if not len(grid):
        raise ValueError("`grid` must hold at least one number, got none.")
    _check_chances("shadows", said)

    def without_unit(own, others, who):
        found = check_reference(own, others, who)
        return _evidence(found.shadows, found.membership, "offline", 1.0, nobody=False)

    without = leave_one_out(without_unit, said, members)

    def area(a):
        _check_a(a)
        scores = said / _some(_offline(without, a))
        return np.mean(
            [
                area_under_curve(one[member], one[~member]).value
                for one, member in zip(scores, members, strict=True)
            ]
        )

    return float(max(grid, key=area))


def _gains(found: Reference, variant: str, a: float, *, nobody: bool = False):
    """P(x | f) / P(x) of each unit; `nobody` says that no unit was trained on, by design."""
    check_choice("variant", variant, ("online", "offline"))
    _check_a(a)
    _check_chances("target", found.target)
    _check_chances("shadows", found.shadows)
    return found.target / _some(
        _evidence(found.shadows, found.membership, variant, a, nobody=nobody)
    )


def _evidence(
    shadows: Float[np.ndarray, "model unit"],
    membership: Bool[np.ndarray, "model unit"],
    variant: str,
    a: float,
    *,
    nobody: bool,
) -> Float[np.ndarray, " unit"]:
    """P(x): the probability by models of which half were trained with x."""
    online = variant == "online" and not nobody
    check_models(len(shadows), 2 if online else 1, f"{variant} RMIA")
    check_enough(~membership, 1, "trained without")
    without = mean_of(shadows, ~membership)
    if variant == "offline":
        return _offline(without, a)
    if nobody:
        return without
    check_enough(membership, 1, "trained with")
    return (mean_of(shadows, membership) + without) / 2


def _offline(without, a):
    """P(x), where the probability by models with x is guessed to be a P + 1 - a."""
    return (1 + a) / 2 * without + (1 - a) / 2


def _check_a(a):
    if not (0 <= a <= 1):
        raise ValueError(f"`a` must be in [0, 1], got {a!r}.")


def _check_chances(name, values):
    if not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(
            f"`{name}` must be probabilities in [0, 1], got {values.min()} to {values.max()}."
        )


def _some(evidence):
    """The same, refused where it is nothing."""
    if not (evidence > 0).all():
        place = int(np.argwhere(~(evidence > 0))[0][-1])
        raise ValueError(
            f"`shadows` must give every unit some probability, got 0 from all for unit {place}. "
            "Leave it out."
        )
    return evidence
