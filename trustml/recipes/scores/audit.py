"""What scores show: attacks, the epsilon that they refute, and whether that refutes a claim."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np
from jaxtyping import Bool, Float

from trustml.audit import (
    Counts,
    EpsilonBound,
    MembershipResult,
    Split,
    attack_result,
    bayesian_epsilon,
    clopper_pearson,
    epsilon_from_scores,
    one_run_audit,
)
from trustml.audit.attacks import by_slice, informia, lira, rmia
from trustml.recipes.scores.files import POPULATION, Scores, ShadowScores

PRIVATE = "attacks and bounds: measured on who was in the training data"
TRIALS = {
    "independent": (
        "rows are independent trials: each score comes from a training run of its own, or from a "
        "model that treats rows apart. Many rows of one model are not; where a fair coin put each "
        "of them in or out, `--one-run` needs no independence"
    ),
    "one run": (
        "in one training run a fair coin of its own put each row in or left it out, and the scores "
        "have not read the coins. Nothing else is assumed of the training"
    ),
}
ANY, GAUSSIAN, PRIOR = "any training", "Gaussian only", "no guarantee"
HOLDS_FOR = {
    GAUSSIAN: "of a mechanism whose trade-off curve is no Gaussian one it may exceed epsilon",
    PRIOR: "an interval of a posterior, without a guarantee over samples: it refutes nothing",
}
_BESIDE = {"compared": False}
_UNFAIR = 1e-6  # fair coins give what is refused less often
_FEW_SHADOWS = 64  # LiRA's paper advises one variance for all units below


class AuditConfig(NamedTuple):
    """What is asked of the scores."""

    delta: float
    confidence: float
    rates: tuple[float, ...]
    one_run: bool


def attack_scores(
    found: Scores, *, lower_is_member: bool
) -> tuple[dict[str, Float[np.ndarray, " unit"]], dict[str, str]]:
    """Scores of every attack that the file is enough for, and why others are missing.

    Raises:
      ValueError: There are shadows, and no attack can use them.
    """
    scores = {"score": -found.score if lower_is_member else found.score}
    if found.shadows is None:
        return scores, {}
    attacks, missing = _with_shadows(found.shadows)
    return scores | attacks, missing


def _with_shadows(given: ShadowScores):
    few = len(given.shadows) < _FEW_SHADOWS
    signals = (given.target, given.shadows, given.members)
    chances = (_chance(given.target), _chance(given.shadows), given.members)
    of_lira: dict[str, Any] = {"variance": "global" if few else "per_example"}
    made, missing = {}, {}
    if given.population is None:
        name, options = "RMIA without population", {}
        missing["RMIA"] = f"it needs `{POPULATION[0]}` and `{POPULATION[1]}`, got none"
    else:
        name = "RMIA"
        options = {
            "population": _chance(given.population),
            "population_shadows": _chance(given.population_shadows),
            "population_membership": given.population_members,
        }
    ratio: Callable = informia if given.population is None else rmia
    tried: tuple[tuple[Callable, str, tuple, dict[str, Any]], ...] = (
        (lira, "LiRA", signals, of_lira),
        (ratio, name, chances, options),
    )
    for variant in ("online", "offline"):
        for attack, label, arrays, more in tried:
            try:
                made[f"{label}, {variant}"] = attack(*arrays, variant=variant, **more)
            except ValueError as error:  # kinds and shapes are checked: too few shadows
                said = str(error).rstrip(".").replace("`shadows`", "`shadow_scores`")
                missing[f"{label}, {variant}"] = said
    if not made:
        raise ValueError(
            "`shadow_scores` must be enough for one attack, got none that they are enough for. "
            f"{next(reversed(missing))}: {next(reversed(missing.values()))}."
        )
    return made, missing


def _chance(confidence):
    """The probability p of a logit-scaled confidence log p - log(1 - p)."""
    from scipy.special import expit

    return expit(confidence)


def check_coins(member: Bool[np.ndarray, " unit"]) -> None:
    """Refuses members too many or too few for fair coins."""
    members = int(member.sum())
    likely = clopper_pearson(members, len(member), 1 - _UNFAIR)
    if not (likely.low <= 0.5 <= likely.high):
        raise ValueError(
            f"`--one-run` needs rows that fair coins put in or left out, got {members} members of "
            f"{len(member)} rows, which fair coins give with a probability below {_UNFAIR:g}. Give "
            "the rows that coins chose, all of them."
        )


def audit_scores(found: Scores, attacks: dict, asked: AuditConfig) -> dict[str, dict[str, Any]]:
    """Every attack as JSON holds it: success, bounds, slices.

    Bounds for any training hold all at once with the confidence asked for: each is tested at its
    error probability over their number (Bonferroni).
    """
    sliced = {name: _sliced(found, scores, asked) for name, scores in attacks.items()}
    tested = len(attacks) + sum(len(one.slices) for one in sliced.values() if one)
    each = 1 - (1 - asked.confidence) / tested if tested > 1 else asked.confidence
    return {
        name: _attack(found, scores, sliced[name], asked, each) for name, scores in attacks.items()
    }


def _sliced(found: Scores, scores, asked: AuditConfig):
    if found.slices is None:
        return None
    names, places = found.slices
    options: dict[str, Any] = {"rates": asked.rates, "confidence": asked.confidence}
    try:
        return by_slice(scores, found.member, places, names=names, **options)
    except ValueError:  # all else is checked
        raise ValueError(
            "`--by` must name slices of which one has two members and two others, got "
            f"{len(names)} slices that have not."
        ) from None


def _attack(found: Scores, scores, sliced, asked: AuditConfig, each: float) -> dict[str, Any]:
    member = found.member
    sides = scores[member], scores[~member]
    result = attack_result(*sides, rates=asked.rates, confidence=asked.confidence)
    whole = {**_success(result), "bounds": [_main_bound(sides, asked, each)]}
    whole["bounds"] += _other_bounds(sides, asked)
    whole["roc"] = {"fpr": result.roc.fpr.tolist(), "tpr": result.roc.tpr.tolist()}
    if sliced is None or found.slices is None:
        return whole
    slices = {}
    for name, one in sliced.slices.items():
        here = found.slices.places == found.slices.names.index(name)
        bound = _main_bound((scores[here & member], scores[here & ~member]), asked, each)
        slices[name] = {**_success(one), "bounds": [bound]}
    worst = {"slice": sliced.worst, **_success(sliced.worst_result)}
    return {**whole, "slices": slices, "worst_slice": worst, "slices_left_out": sliced.left_out}


def _success(result: MembershipResult) -> dict[str, Any]:
    return {
        "members": result.members,
        "nonmembers": result.nonmembers,
        "confidence": result.confidence,
        "auc": result.auc._asdict(),
        "tpr_at_fpr": [
            {
                "rate": at.rate,
                "tpr": at.tpr and at.tpr._asdict(),
                "fpr": at.fpr and at.fpr._asdict(),
                "note": at.note,
            }
            for at in result.tpr_at_fpr
        ],
        "advantage": result.advantage._asdict(),
        "balanced_accuracy": result.balanced_accuracy._asdict(),
    }


def _main_bound(sides, asked: AuditConfig, confidence: float) -> dict[str, Any]:
    """The bound that is compared with the claim; no other is, so none was picked by its value."""
    make = one_run_audit if asked.one_run else epsilon_from_scores
    found = _bound(ANY, make, *sides, delta=asked.delta, confidence=confidence)
    return {**found, "compared": True}


def _other_bounds(sides, asked: AuditConfig) -> list[dict[str, Any]]:
    """Bounds by other methods, each with its confidence by itself."""
    makes: list[tuple[str, Callable]]
    if asked.one_run:
        makes = [(GAUSSIAN, functools.partial(one_run_audit, promise="gaussian"))]
    else:
        makes = [
            (ANY, functools.partial(epsilon_from_scores, threshold=_split())),
            (GAUSSIAN, functools.partial(epsilon_from_scores, method="gdp")),
            (PRIOR, _posterior),
        ]
    return [
        {**_bound(holds, make, *sides, delta=asked.delta, confidence=asked.confidence), **_BESIDE}
        for holds, make in makes
        if holds != GAUSSIAN or asked.delta > 0  # at 0 a Gaussian mechanism has no finite epsilon
    ]


def _split() -> Split:
    # Any split that has not seen the scores will do; a fixed one gives everybody the same figures.
    return Split(np.random.default_rng(0))


def _posterior(member, nonmember, *, delta: float, confidence: float) -> EpsilonBound:
    """A Bayesian interval of the half of the scores that did not choose the threshold."""
    options: dict[str, Any] = {"delta": delta, "confidence": confidence}
    fixed = epsilon_from_scores(member, nonmember, threshold=_split(), **options)
    found = bayesian_epsilon(cast(Counts, fixed.counts), **options)
    return found._replace(
        method=f"{found.method}; threshold chosen on a random half", threshold=fixed.threshold
    )


def _bound(holds: str, make, *sides, delta: float, confidence: float) -> dict[str, Any]:
    note = ""
    try:
        found = make(*sides, delta=delta, confidence=confidence)
    except ValueError as error:  # scores and numbers are checked: too few rows
        note = str(error)
        found = EpsilonBound(0.0, confidence, "none", sum(map(len, sides)), 0.0)
    values = {**found._asdict(), "counts": found.counts and found.counts._asdict()}
    return {**values, "holds_for": holds, "note": note}


def compared(attacks: dict[str, dict], asked: AuditConfig, claimed: float) -> dict[str, Any]:
    """Whether a bound for any training exceeds the claim, and which does by most."""
    bounds = [
        (bound["epsilon"], f"{name}{f', slice {part}' if part else ''}", bound["ceiling"])
        for name, attack in attacks.items()
        for part, one in [("", attack), *attack.get("slices", {}).items()]
        for bound in one["bounds"]
        if bound["compared"]
    ]
    epsilon, by, _ = max(bounds)
    return {
        "epsilon": claimed,
        "delta": asked.delta,
        "adjacency": "add-or-remove-one",
        "refuted": epsilon > claimed,
        "largest_bound": epsilon,
        "by": by,
        "largest_that_could_be_shown": max(ceiling for *_, ceiling in bounds),
    }


def finite(value: Any) -> Any:
    """For JSON, which has no infinity: null."""
    if isinstance(value, dict):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
