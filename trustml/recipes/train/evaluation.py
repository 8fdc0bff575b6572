"""Evaluates trained models: utility, membership attack, audit and groups."""

import functools
import math
from typing import Any, Literal, NamedTuple

import numpy as np

from trustml.audit import (
    area_under_curve,
    canary_scores,
    loss_threshold_attack,
    one_run_audit,
    unit_losses,
)
from trustml.data.examples import Examples
from trustml.data.tables import Table
from trustml.formatting import plural
from trustml.recipes.train.canaries import TrainingObjective
from trustml.recipes.train.experiment import Experiment
from trustml.report.measured import (
    ArmAttack,
    ArmGroup,
    Arms,
    Attack,
    Bound,
    CanaryAudit,
    Estimate,
    Group,
    RateFound,
    Roc,
)
from trustml.stats import Estimate as StatsEstimate
from trustml.training import FitResult

_CONFIDENCE = 0.95
_HOW = (
    "Attack by the loss: one {unit} is called a member if the model's loss on it is low. Members "
    "and others are {units} of the training part that a fair coin each put in or left out before "
    "the training, so nothing but the training tells them apart. The audited epsilon is a lower "
    "bound by the one-run audit of Steinke, Nasr and Jagielski (2023); a weak attack that finds "
    "nothing proves nothing."
)
_NO_BOUND = (
    "No epsilon is audited: coins put {units} in or left them out, while the claim is about "
    "replacing one."
)
_LABELS = {"classify": "class", "tabular": "class", "nlu": "intent"}
_OFTEN = 3  # mean steps per unit; with it, about 5 % take part in no step
_FEWEST = 10  # members, and others, that the area under a group's curve needs


Pair = tuple[np.ndarray, np.ndarray]  # of members, of others
_Guessed = Literal["both", "members"]


class ArmResult(NamedTuple):
    """One finished training of the private or the baseline arm, with its evaluation. Private."""

    result: FitResult
    metrics: dict[str, Estimate]
    scores: dict[str, float]
    counts: np.ndarray  # `Task.counts` of the evaluated rows
    losses: Pair  # of canary rows
    wrong: Pair  # of mislabelled canary rows
    gradients: Pair  # scores of gradient canaries; empty for the baseline
    guessed: _Guessed  # which gradient canaries the audit guesses


def evaluate(experiment: Experiment, objective: TrainingObjective, result: FitResult) -> ArmResult:
    """Scores of a training on the evaluated part, and the inputs of attacks."""
    task, plan, coins = experiment.task, experiment.plan, experiment.canaries
    params = objective.model(result.params)
    counts = task.counts(params, experiment.evaluated)
    gradients = (np.zeros(0), np.zeros(0))
    if objective.number:
        scores, inside = canary_scores(result.params, plan), coins.gradients.astype(bool)
        gradients = (scores[inside], scores[~inside])
    return ArmResult(
        result,
        reported(task.scoring.estimates(counts, owners_of(experiment.evaluated))),
        task.scoring.scores(counts),
        counts,
        _pair(experiment, params, coins.members, coins.nonmembers),
        _pair(experiment, params, coins.wrong_members, coins.wrong_nonmembers),
        gradients,
        _guessed(experiment),
    )


def _guessed(experiment: Experiment) -> _Guessed:
    """Which gradient canaries the audit guesses.

    A member that was never sampled looks like a canary that was left out; if there are many, only
    members can be guessed. The choice counts all rows, not the members: it must not depend on the
    coins.
    """
    plan, rows = experiment.plan, len(next(iter(experiment.units.values())))
    return "both" if plan.steps * plan.expected_batch >= _OFTEN * rows else "members"


def _pair(experiment: Experiment, params: Any, members: np.ndarray, others: np.ndarray) -> Pair:
    return _losses(experiment, params, members), _losses(experiment, params, others)


def owners_of(examples: Examples) -> np.ndarray | None:
    """The owner of each row; intervals resample owners, whose rows err together."""
    return None if examples.owners is None else np.array(examples.owners)


def _losses(experiment: Experiment, params: Any, rows: np.ndarray) -> np.ndarray:
    """Losses of some units; NaN of a diverged model becomes infinite, since attacks sort losses."""
    if not len(rows):
        return np.zeros(0)
    taken = {name: leaf[rows] for name, leaf in experiment.units.items()}
    losses = unit_losses(experiment.loss, params, taken, batch_size=64)
    return np.where(np.isnan(losses), np.inf, losses)


def utility(experiment: Experiment, params: Any, examples: Examples) -> dict[str, float]:
    """The quick scores on a part of the data."""
    task = experiment.task
    scores = task.scoring.scores(task.counts(params, examples, quick=True))
    return {name: value for name, value in scores.items() if not math.isnan(value)}


def attack_report(experiment: Experiment, arms: Arms[ArmResult], delta: float) -> Attack | None:
    """The membership attack on every arm; None without canaries."""
    members, others = len(experiment.canaries.members), len(experiment.canaries.nonmembers)
    if min(members, others) < 2:
        return None
    adds = experiment.config.adjacency == "add-or-remove-one"
    return Attack(
        how=_how(experiment.unit, adds=adds),
        confidence=_CONFIDENCE,
        members=members,
        nonmembers=others,
        arms=arms.map(lambda arm: _attack(arm, delta, bound=adds)),
    )


def _how(unit: str, *, adds: bool) -> str:
    how = _HOW if adds else f"{_HOW.split(' The audited')[0]} {_NO_BOUND}"
    return how.format(unit=unit, units=plural(unit))


def _attack(arm: ArmResult, delta: float, *, bound: bool) -> ArmAttack:
    attack = loss_threshold_attack(*arm.losses, confidence=_CONFIDENCE)
    audits = _audits(arm, delta) if bound else None
    return ArmAttack(
        auc=Estimate(*attack.auc),
        tpr_at_fpr=tuple(
            RateFound(at.rate, at.tpr and Estimate(*at.tpr), at.note) for at in attack.tpr_at_fpr
        ),
        roc=Roc(tuple(attack.roc.fpr.tolist()), tuple(attack.roc.tpr.tolist())),
        epsilon_lower_bound=_best(audits) if audits else None,
        audits=audits,
    )


def _audits(arm: ArmResult, delta: float) -> tuple[CanaryAudit, ...]:
    """A one-run audit by each kind of canary.

    Guarantee:
      All bounds hold together with probability `_CONFIDENCE`: each has an equal share of the error
      (Bonferroni).
    """
    every: dict[str, Pair] = {
        "rows": (-arm.losses[0], -arm.losses[1]),
        "mislabelled rows": (-arm.wrong[0], -arm.wrong[1]),
        "gradients": arm.gradients,
    }
    scores = {kind: pair for kind, pair in every.items() if min(map(len, pair))}
    each = 1 - (1 - _CONFIDENCE) / len(scores)
    guessed: dict[str, _Guessed] = {"gradients": arm.guessed}
    return tuple(
        _audit(kind, pair, delta, each, guessed.get(kind, "both")) for kind, pair in scores.items()
    )


def _best(audits: tuple[CanaryAudit, ...]) -> Bound:
    best = max(audits, key=lambda audit: audit.value)
    method = best.method
    if len(audits) > 1:
        method += f"; the best of {len(audits)}, each at {best.confidence:.1%}: {best.canaries}"
    return Bound(best.value, best.guesses, best.correct, _CONFIDENCE, method)


def _audit(
    kind: str, scores: Pair, delta: float, confidence: float, guessed: _Guessed
) -> CanaryAudit:
    bound = one_run_audit(*scores, delta=delta, confidence=confidence, sides=guessed)
    return CanaryAudit(
        canaries=kind,
        members=len(scores[0]),
        nonmembers=len(scores[1]),
        value=bound.epsilon,
        confidence=bound.confidence,
        guesses=bound.guesses,
        correct=bound.correct,
        method=bound.method,
    )


def groups_report(experiment: Experiment, arms: Arms[ArmResult]) -> tuple[Group, ...]:
    """Utility and attack by protected group, if the data have any, and by class or intent."""
    groups = []
    for kind, names in _kinds(experiment.evaluated).items():
        evaluated_of = _group_of_rows(experiment.evaluated, kind)
        canaries_of = _canaries_by_group(experiment, kind)
        for value, name in enumerate(names):
            rows = np.flatnonzero(evaluated_of == value)
            if len(rows):
                canaries = [np.flatnonzero(of_unit == value) for of_unit in canaries_of]
                of_group = functools.partial(_group, experiment, rows, canaries)
                groups.append(Group(kind, name, len(rows), arms.map(of_group)))
    return tuple(groups)


def _canaries_by_group(experiment: Experiment, kind: str) -> list[np.ndarray]:
    """The group of each canary that was in, and of each that was left out.

    A unit of several rows may have several groups, so it counts in none.
    """
    train, canaries = experiment.parts.train, experiment.canaries
    if experiment.unit != train.unit:
        return [np.zeros(0, int)] * 2
    groups = _group_of_rows(train, kind)
    return [groups[canaries.members], groups[canaries.nonmembers]]


def _kinds(examples: Examples) -> dict[str, tuple[str, ...]]:
    kinds = {"protected group": examples.groups} if len(examples.groups) > 1 else {}
    if examples.task in _LABELS:
        kinds[_LABELS[examples.task]] = examples.labels
    return kinds


def _group_of_rows(examples: Examples, kind: str) -> np.ndarray:
    """The group of every row."""
    if kind == "protected group":
        return np.array(examples.group_of or (0,) * len(examples))
    if isinstance(examples.rows, Table):
        return examples.rows.label_indices(examples.labels)
    indices = {label: index for index, label in enumerate(examples.labels)}
    field = "intent" if examples.task == "nlu" else "label"
    return np.array([indices[getattr(row, field)] for row in examples.rows])


def _group(experiment: Experiment, rows: np.ndarray, canaries, arm: ArmResult) -> ArmGroup:
    members, others = (losses[of] for losses, of in zip(arm.losses, canaries, strict=True))
    area = None
    if min(len(members), len(others)) >= _FEWEST:
        area = Estimate(*area_under_curve(-members, -others, _CONFIDENCE))
    owners = owners_of(experiment.evaluated)
    estimates = experiment.task.scoring.estimates(
        arm.counts[rows], None if owners is None else owners[rows], resamples=300
    )
    return ArmGroup(reported(estimates), area)


def reported(estimates: dict[str, StatsEstimate]) -> dict[str, Estimate]:
    """Estimates as a report holds them."""
    return {name: Estimate(*estimate) for name, estimate in estimates.items()}
