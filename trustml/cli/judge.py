"""What a trained model is worth and what it gives away: utility, attack, groups."""

from typing import Any, NamedTuple

import numpy as np

from trustml.audit import (
    area_under_curve,
    loss_threshold_attack,
    one_run_audit,
    unit_losses,
)
from trustml.cli.setting import Setting
from trustml.data.corpus import Corpus
from trustml.models.evaluation import Predictions, predict
from trustml.models.metrics import bootstrap_slot_f1, joint_scores, wilson_interval
from trustml.report import Estimate
from trustml.training import FitResult

CONFIDENCE = 0.95
METRICS = [
    {"name": "intent_accuracy", "label": "Intent accuracy", "percent": True},
    {"name": "slot_f1", "label": "Slot F1", "percent": False},
]
HOW = (
    "Attack by the loss: a row is called a member if the model's loss on it is low. Members and "
    "others are rows of the training part that a fair coin each put in or left out before the "
    "training, so nothing but the training tells them apart. The audited epsilon is a lower bound "
    "by the one-run audit of Steinke, Nasr and Jagielski (2023); a weak attack that finds nothing "
    "proves nothing."
)
NO_BOUND = (
    "No epsilon is audited: coins put rows in or left them out, while the claim is about replacing "
    "one."
)
_FEWEST = 10  # canaries of each kind that the area under a group's curve needs


class Side(NamedTuple):
    """One finished training, private or not, and what was found. Private."""

    result: FitResult
    metrics: dict[str, Estimate]
    scores: dict[str, float]
    predictions: Predictions
    losses: tuple[np.ndarray, np.ndarray]  # of the canaries: members, others


def judge(setting: Setting, result: FitResult) -> Side:
    """Scores a training on the judged part, and takes the losses that attacks read."""
    corpus, found = setting.judged, predictions(setting, result.params, setting.judged)
    every = np.arange(len(corpus))
    scores = _scores(corpus, found, every)
    members, others = (_losses(setting, result.params, rows) for rows in setting.canaries)
    return Side(
        result, _estimates(corpus, found, every), scores._asdict(), found, (members, others)
    )


def _losses(setting: Setting, params: Any, rows: np.ndarray) -> np.ndarray:
    """Losses of some rows; of a model that diverged they are infinite, which orders them."""
    if not len(rows):
        return np.zeros(0)
    taken = {name: leaf[rows] for name, leaf in setting.rows.items()}
    losses = unit_losses(setting.network.loss, params, taken)
    return np.where(np.isnan(losses), np.inf, losses)


def predictions(setting: Setting, params: Any, corpus: Corpus) -> Predictions:
    """What the network says of every row."""
    preset = setting.preset
    return predict(
        setting.network, params, corpus, preset.tokenizer(), max_length=preset.evaluation_length
    )


def utility(setting: Setting, params: Any, corpus: Corpus):
    """The scores on a corpus."""
    return _scores(corpus, predictions(setting, params, corpus), np.arange(len(corpus)))


def attack_report(setting: Setting, sides: dict[str, Side], delta: float) -> dict | None:
    """The membership attack on every side; None without canaries."""
    members, others = map(len, setting.canaries)
    if min(members, others) < 2:
        return None
    adds = setting.config.adjacency == "add-or-remove-one"
    return {
        "how": HOW if adds else f"{HOW.split(' The audited')[0]} {NO_BOUND}",
        "confidence": CONFIDENCE,
        "members": members,
        "nonmembers": others,
        "sides": {name: _attack(side, delta, bound=adds) for name, side in sides.items()},
    }


def _attack(side: Side, delta: float, *, bound: bool) -> dict:
    found = loss_threshold_attack(*side.losses, confidence=CONFIDENCE)
    return {
        "auc": _plain(found.auc, "DeLong, 95 %"),
        "tpr_at_fpr": [
            {
                "rate": low.rate,
                "tpr": None if low.tpr is None else _plain(low.tpr, "Clopper-Pearson, 95 %"),
                "note": low.note,
            }
            for low in found.tpr_at_fpr
        ],
        "roc": {"fpr": found.roc.fpr.tolist(), "tpr": found.roc.tpr.tolist()},
        "epsilon_lower_bound": _audit(side, delta) if bound else None,
    }


def _audit(side: Side, delta: float) -> dict:
    found = one_run_audit(*(-losses for losses in side.losses), delta=delta, confidence=CONFIDENCE)
    return {
        "value": found.epsilon,
        "confidence": found.confidence,
        "guesses": found.guesses,
        "correct": found.correct,
        "method": found.method,
    }


def groups_report(setting: Setting, sides: dict[str, Side]) -> list[dict]:
    """Utility and attack by protected group, where the data know any, and by intent."""
    said, trained = setting.judged.utterances, setting.train_corpus.utterances
    intents: list[tuple[Any, str]] = [(name, name) for name in setting.judged.intents]
    kinds = [("intent", "intent", intents)]
    if len(setting.judged.groups) > 1:
        kinds.insert(0, ("protected group", "group", list(enumerate(setting.judged.groups))))
    rows = []
    for kind, field, names in kinds:
        for value, name in names:
            judged = np.flatnonzero([getattr(row, field) == value for row in said])
            of_canaries = [
                np.flatnonzero([getattr(trained[row], field) == value for row in part])
                for part in setting.canaries
            ]
            if len(judged):
                found = {side: _group(setting, sides[side], judged, of_canaries) for side in sides}
                rows.append({"by": kind, "name": name, "judged": len(judged), "sides": found})
    return rows


def _group(setting, side: Side, judged, of_canaries) -> dict:
    members, others = (losses[rows] for losses, rows in zip(side.losses, of_canaries, strict=True))
    area = None
    if min(len(members), len(others)) >= _FEWEST:
        area = _plain(area_under_curve(-members, -others, CONFIDENCE), "DeLong, 95 %")
    metrics = _estimates(setting.judged, side.predictions, judged, resamples=300)
    return {
        "metrics": {name: found._asdict() for name, found in metrics.items()},
        "attack_auc": area,
    }


def _scores(corpus, found, rows):
    said = [corpus.utterances[row] for row in rows]
    return joint_scores(
        [row.intent for row in said],
        [found.intents[row] for row in rows],
        [row.tags for row in said],
        [found.tags[row] for row in rows],
    )


def _estimates(corpus, found, rows, resamples: int = 1000) -> dict[str, Estimate]:
    scores = _scores(corpus, found, rows)
    right = round(scores.intent_accuracy * len(rows))
    tags = [corpus.utterances[row].tags for row in rows]
    f1 = bootstrap_slot_f1(tags, [found.tags[row] for row in rows], resamples=resamples)
    accuracy = wilson_interval(right, len(rows))
    return {
        "intent_accuracy": Estimate(scores.intent_accuracy, *accuracy, "Wilson, 95 %"),
        "slot_f1": Estimate(scores.slot_f1, *f1, "bootstrap, 95 %"),
    }


def _plain(estimate, interval: str) -> dict:
    return Estimate(estimate.value, estimate.low, estimate.high, interval)._asdict()
