"""What a trained model is worth and what it gives away: utility, attack, groups."""

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
from trustml.formatting import plural
from trustml.recipes.train.canaries import TrainingObjective
from trustml.recipes.train.experiment import Experiment
from trustml.stats import Estimate
from trustml.training import FitResult

CONFIDENCE = 0.95
HOW = (
    "Attack by the loss: one {unit} is called a member if the model's loss on it is low. Members "
    "and others are {units} of the training part that a fair coin each put in or left out before "
    "the training, so nothing but the training tells them apart. The audited epsilon is a lower "
    "bound by the one-run audit of Steinke, Nasr and Jagielski (2023); a weak attack that finds "
    "nothing proves nothing."
)
NO_BOUND = (
    "No epsilon is audited: coins put {units} in or left them out, while the claim is about "
    "replacing one."
)
_LABELS = {"classify": "class", "nlu": "intent"}
_OFTEN = 3  # steps that a unit takes part in, so that hardly any takes part in none
_FEWEST = 10  # canaries of each kind that the area under a group's curve needs


Pair = tuple[np.ndarray, np.ndarray]  # of members, of others
Guessed = Literal["both", "members"]


class ArmResult(NamedTuple):
    """One finished training, private or not, and what was found. Private."""

    result: FitResult
    metrics: dict[str, Estimate]
    scores: dict[str, float]
    counts: np.ndarray  # of the judged rows, as their scoring counts
    losses: Pair  # of rows that coins put in or left out
    wrong: Pair  # of mislabelled ones
    gradients: Pair  # scores of gradient canaries; none of the baseline
    guessed: Guessed  # of gradient canaries, which ones the audit guesses


def evaluate(experiment: Experiment, objective: TrainingObjective, result: FitResult) -> ArmResult:
    """Scores a training on the evaluated part, and takes what attacks read."""
    task, evaluated, coins = experiment.task, experiment.evaluated, experiment.canaries
    plan, params = experiment.plan, objective.model(result.params)
    counts = task.counts(params, evaluated)
    gradients = (np.zeros(0), np.zeros(0))
    # Who took part in no step looks like who was left out: then only members can be told. All
    # rows count, not those that are in: how many coins fell must not choose the attack.
    often = plan.steps * plan.expected_batch >= _OFTEN * len(next(iter(experiment.units.values())))
    guessed: Guessed = "both" if often else "members"
    if objective.number:
        scores, inside = canary_scores(result.params, plan), coins.gradients.astype(bool)
        gradients = (scores[inside], scores[~inside])
    return ArmResult(
        result,
        task.scoring.estimates(counts, _owners(experiment, evaluated)),
        task.scoring.scores(counts),
        counts,
        _pair(experiment, params, coins.members, coins.nonmembers),
        _pair(experiment, params, coins.wrong_members, coins.wrong_nonmembers),
        gradients,
        guessed,
    )


def _pair(experiment: Experiment, params: Any, members: np.ndarray, others: np.ndarray) -> Pair:
    return _losses(experiment, params, members), _losses(experiment, params, others)


def _owners(experiment: Experiment, judged: Examples) -> np.ndarray | None:
    """Rows that share an owner err together: intervals resample owners."""
    return None if judged.owners is None else np.array(judged.owners)


def _losses(experiment: Experiment, params: Any, rows: np.ndarray) -> np.ndarray:
    """Losses of some units; of a model that diverged they are infinite, which orders them."""
    if not len(rows):
        return np.zeros(0)
    taken = {name: leaf[rows] for name, leaf in experiment.units.items()}
    losses = unit_losses(experiment.loss, params, taken, batch_size=64)
    return np.where(np.isnan(losses), np.inf, losses)


def utility(experiment: Experiment, params: Any, examples: Examples) -> dict[str, float]:
    """The scores on a part of the data that do not take long."""
    found = experiment.task.scoring.scores(experiment.task.counts(params, examples, quick=True))
    return {name: value for name, value in found.items() if not math.isnan(value)}


def attack_report(experiment: Experiment, sides: dict[str, ArmResult], delta: float) -> dict | None:
    """The membership attack on every side; None without canaries."""
    members, others = len(experiment.canaries.members), len(experiment.canaries.nonmembers)
    if min(members, others) < 2:
        return None
    adds = experiment.config.adjacency == "add-or-remove-one"
    return {
        "how": _how(experiment.unit, adds=adds),
        "confidence": CONFIDENCE,
        "members": members,
        "nonmembers": others,
        "sides": {name: _attack(side, delta, bound=adds) for name, side in sides.items()},
    }


def _how(unit: str, *, adds: bool) -> str:
    how = HOW if adds else f"{HOW.split(' The audited')[0]} {NO_BOUND}"
    return how.format(unit=unit, units=plural(unit))


def _attack(side: ArmResult, delta: float, *, bound: bool) -> dict:
    found = loss_threshold_attack(*side.losses, confidence=CONFIDENCE)
    return {
        "auc": found.auc._asdict(),
        "tpr_at_fpr": [
            {
                "rate": low.rate,
                "tpr": low.tpr and low.tpr._asdict(),
                "note": low.note,
            }
            for low in found.tpr_at_fpr
        ],
        "roc": {"fpr": found.roc.fpr.tolist(), "tpr": found.roc.tpr.tolist()},
        **(_audits(side, delta) if bound else {"epsilon_lower_bound": None}),
    }


def _audits(side: ArmResult, delta: float) -> dict:
    """A one-run audit of each kind of canary, and the best of them.

    Guarantee:
      All bounds hold together with `CONFIDENCE`: each has its share of what may go wrong.
    """
    every: dict[str, Pair] = {
        "rows": (-side.losses[0], -side.losses[1]),
        "mislabelled rows": (-side.wrong[0], -side.wrong[1]),
        "gradients": side.gradients,
    }
    scores = {kind: pair for kind, pair in every.items() if min(map(len, pair))}
    each = 1 - (1 - CONFIDENCE) / len(scores)
    sides: dict[str, Guessed] = {"gradients": side.guessed}
    audits = [
        _audit(kind, pair, delta, each, sides.get(kind, "both")) for kind, pair in scores.items()
    ]
    best = max(audits, key=lambda found: found["value"])
    method = best["method"]
    if len(audits) > 1:
        method += f"; the best of {len(audits)}, each at {each:.1%}: {best['canaries']}"
    keys = ("value", "guesses", "correct")
    bound = {**{key: best[key] for key in keys}, "confidence": CONFIDENCE, "method": method}
    return {"epsilon_lower_bound": bound, "audits": audits}


def _audit(kind: str, scores: Pair, delta: float, confidence: float, sides: Guessed) -> dict:
    found = one_run_audit(*scores, delta=delta, confidence=confidence, sides=sides)
    return {
        "canaries": kind,
        "members": len(scores[0]),
        "nonmembers": len(scores[1]),
        "value": found.epsilon,
        "confidence": found.confidence,
        "guesses": found.guesses,
        "correct": found.correct,
        "method": found.method,
    }


def groups_report(experiment: Experiment, sides: dict[str, ArmResult]) -> list[dict]:
    """Utility and attack by protected group, where the data know any, and by class or intent."""
    rows = []
    for kind, names in _kinds(experiment.evaluated).items():
        judged_of = _members_of(experiment.evaluated, kind)
        trained_of = _members_of(experiment.parts.train, kind)
        by_row = experiment.unit == experiment.parts.train.unit
        for value, name in enumerate(names):
            judged = np.flatnonzero(judged_of == value)
            of_canaries = [
                np.flatnonzero(trained_of[part] == value) if by_row else np.zeros(0, int)
                for part in (experiment.canaries.members, experiment.canaries.nonmembers)
            ]
            if len(judged):
                found = {
                    side: _group(experiment, sides[side], judged, of_canaries) for side in sides
                }
                rows.append({"by": kind, "name": name, "judged": len(judged), "sides": found})
    return rows


def _kinds(examples: Examples) -> dict[str, tuple[str, ...]]:
    kinds = {"protected group": examples.groups} if len(examples.groups) > 1 else {}
    if examples.task in _LABELS:
        kinds[_LABELS[examples.task]] = examples.labels
    return kinds


def _members_of(examples: Examples, kind: str) -> np.ndarray:
    """The group of every row."""
    if kind == "protected group":
        return np.array(examples.group_of or (0,) * len(examples))
    places = {label: place for place, label in enumerate(examples.labels)}
    field = "intent" if examples.task == "nlu" else "label"
    return np.array([places[getattr(row, field)] for row in examples.rows])


def _group(experiment, side: ArmResult, judged, of_canaries) -> dict:
    members, others = (losses[rows] for losses, rows in zip(side.losses, of_canaries, strict=True))
    area = None
    if min(len(members), len(others)) >= _FEWEST:
        area = area_under_curve(-members, -others, CONFIDENCE)._asdict()
    owners = _owners(experiment, experiment.evaluated)
    metrics = experiment.task.scoring.estimates(
        side.counts[judged], None if owners is None else owners[judged], resamples=300
    )
    return {
        "metrics": {name: found._asdict() for name, found in metrics.items()},
        "attack_auc": area,
    }
