"""Every attack that a file of scores is enough for."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from trustml.audit.attacks import informia, lira, rmia
from trustml.recipes.scores.files import POPULATION, Scores, ShadowScores

_FEW_SHADOWS = 64  # LiRA's paper advises one variance for all units below


class AttackScores(NamedTuple):
    """Scores by attack, higher for members; and why other attacks are missing."""

    scores: dict[str, Float[np.ndarray, " unit"]]
    missing: dict[str, str]


class _Attack(NamedTuple):
    name: str
    attack: Callable
    arrays: tuple
    options: dict[str, Any]


def attack_scores(given: Scores, *, lower_is_member: bool) -> AttackScores:
    """The file's own score, and with shadow models LiRA and RMIA too.

    Raises:
      ValueError: There are shadows, and no attack can use them.
    """
    scores = {"score": -given.score if lower_is_member else given.score}
    if given.shadows is None:
        return AttackScores(scores, {})
    made, missing = _with_shadows(given.shadows)
    return AttackScores(scores | made, missing)


def _with_shadows(given: ShadowScores) -> AttackScores:
    made, missing = {}, {}
    if given.population is None:
        missing["RMIA"] = f"it needs `{POPULATION[0]}` and `{POPULATION[1]}`, got none"
    for variant in ("online", "offline"):
        for name, attack, arrays, options in (each(given) for each in _ATTACKS):
            try:
                made[f"{name}, {variant}"] = attack(*arrays, variant=variant, **options)
            except ValueError as error:  # kinds and shapes are checked: too few shadows
                why = str(error).rstrip(".").replace("`shadows`", "`shadow_scores`")
                missing[f"{name}, {variant}"] = why
    if not made:
        name, why = next(reversed(missing.items()))
        raise ValueError(
            "`shadow_scores` must be enough for one attack, got none that they are enough for. "
            f"{name}: {why}."
        )
    return AttackScores(made, missing)


def _lira(given: ShadowScores) -> _Attack:
    variance = "global" if len(given.shadows) < _FEW_SHADOWS else "per_example"
    return _on_confidences("LiRA", lira, given, variance=variance)


def _on_confidences(name: str, attack: Callable, given: ShadowScores, **options: Any) -> _Attack:
    """An attack that takes the confidences of target and shadows, and who is a member of which."""
    return _Attack(name, attack, (given.target, given.shadows, given.members), options)


def _rmia(given: ShadowScores) -> _Attack:
    arrays = (_probability(given.target), _probability(given.shadows), given.members)
    if given.population is None:
        return _Attack("RMIA without population", informia, arrays, {})
    options = {
        "population": _probability(given.population),
        "population_shadows": _probability(given.population_shadows),
        "population_membership": given.population_members,
    }
    return _Attack("RMIA", rmia, arrays, options)


def _probability(confidence):
    """The probability p of a logit-scaled confidence log p - log(1 - p)."""
    from scipy.special import expit

    return expit(confidence)


# What `trustml audit scores` runs where there are shadow models. An attack is one more row, such as
# functools.partial(_on_confidences, "its name", its_function).
_ATTACKS: tuple[Callable[[ShadowScores], _Attack], ...] = (_lira, _rmia)
