"""The metrics of each kind of task."""

import math

import numpy as np

from trustml.metrics.joint import entity_counts, precision_recall_f1
from trustml.metrics.scoring import Metric, Scoring
from trustml.metrics.text import exact_match, perplexity, rouge_l, token_f1

_DIVERGED = math.exp(100)


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0


def _finite_perplexity(nll: float, tokens: float) -> float:
    """A model that diverged has a number too, which JSON can hold: e^100."""
    value = perplexity(nll, tokens) if tokens else math.inf
    return value if value < _DIVERGED else _DIVERGED  # of NaN too


def _correct(labels, predicted):
    pairs = zip(labels, predicted, strict=True)
    return np.array([(float(label == guess), 1.0) for label, guess in pairs]).reshape(-1, 2)


def _classes(rows, predicted):
    return _correct([row.label for row in rows], predicted)


def _several_classes(rows, predicted):
    """Of (classes, truth values [row, class]): hits, false alarms and misses by class, then exact.

    Columns [3 x class + 2].
    """
    classes, guessed = predicted
    guessed = np.asarray(guessed, bool).reshape(-1, len(classes))
    place = {label: index for index, label in enumerate(classes)}
    truth = np.zeros_like(guessed)
    for row, labels in zip(truth, (row.labels for row in rows), strict=True):
        row[[place[label] for label in labels]] = True
    exact = (truth == guessed).all(1, keepdims=True)
    kinds = (truth & guessed, ~truth & guessed, truth & ~guessed, exact, np.ones_like(exact))
    return np.concatenate(kinds, 1).astype(np.float64)


def _several_classes_values(sums) -> dict[str, float]:
    hits, alarms, misses = sums[:-2].reshape(3, -1)
    by_class = [_f1(*counts) for counts in zip(hits, alarms, misses, strict=True)]
    return {
        "micro_f1": _f1(hits.sum(), alarms.sum(), misses.sum()),
        "macro_f1": float(np.mean(by_class)),
        "all_labels": _ratio(*sums[-2:]),
    }


def _f1(hits: float, alarms: float, misses: float) -> float:
    return _ratio(2 * hits, 2 * hits + alarms + misses)


def _numbers(rows, predicted):
    """Columns: squared and absolute error, the number and its square, and 1."""
    truth = np.array([row.value for row in rows], np.float64)
    errors = np.asarray(predicted, np.float64) - truth
    columns = (np.square(errors), np.abs(errors), truth, np.square(truth), np.ones_like(truth))
    return np.stack(columns, 1)


def _number_values(sums) -> dict[str, float]:
    """Errors in the unit of the numbers; R2 is 0 where they do not differ."""
    squared, absolute, total, squares, count = sums
    spread = squares - total**2 / count
    return {
        "rmse": math.sqrt(squared / count),
        "mae": float(absolute / count),
        "r2": 1 - float(squared / spread) if spread > 1e-12 * squares else 0.0,
    }


def _records(rows, predicted):
    """Of (classes, scores [row, class]): correct, 1, then hits and rows of each class.

    A row whose class is not among the classes is wrong.
    """
    classes, scores = predicted
    truth = rows.label_indices(classes)
    correct = np.asarray(scores).argmax(1) == truth
    of_class = truth[:, None] == np.arange(len(classes))
    columns = (correct[:, None], np.ones((len(truth), 1)), of_class & correct[:, None], of_class)
    return np.concatenate(columns, 1, dtype=np.float64)


def _record_values(sums) -> dict[str, float]:
    hits, rows = sums[2:].reshape(2, -1)
    recalls = hits[rows > 0] / rows[rows > 0]
    balanced = float(recalls.mean()) if len(recalls) else 0.0
    return {"accuracy": _ratio(*sums[:2]), "balanced_accuracy": balanced}


def _entities(rows, predicted):
    return entity_counts([row.tags for row in rows], predicted).astype(np.float64)


def _joint(rows, predicted):
    intents, tags = predicted
    correct = _correct([row.intent for row in rows], intents)
    return np.concatenate([correct, _entities(rows, tags)], 1)


def _answers(rows, predicted):
    counts = []
    for row, answer in zip(rows, predicted, strict=True):
        truths = [truth.text for truth in row.answers]
        counts.append((float(exact_match(answer, truths)), token_f1(answer, truths), 1.0))
    return np.array(counts).reshape(-1, 3)


def _likelihoods(rows, predicted):
    """Negative log-likelihood, tokens, and tokens that the model held for the likeliest."""
    del rows
    return np.asarray(predicted, np.float64).reshape(-1, 3)


def _generated(rows, predicted):
    """Of `(texts, likelihoods)`; without texts, which take a while to write, ROUGE-L is nan."""
    texts, likelihoods = predicted
    if texts is None:
        overlap = np.full((len(rows), 1), math.nan)
    else:
        pairs = zip(rows, texts, strict=True)
        overlap = np.array([[rouge_l(text, row.targets)] for row, text in pairs])
    tokens = _likelihoods(rows, likelihoods)[:, :2]
    return np.concatenate([overlap, np.ones((len(rows), 1)), tokens], 1)


def _entity_values(prefix: str, sums) -> dict[str, float]:
    names = (f"{prefix}_{name}" for name in ("precision", "recall", "f1"))
    return dict(zip(names, precision_recall_f1(*sums), strict=True))


# Of the model's own tokens: models with other vocabularies cannot be compared by it.
_PERPLEXITY = Metric("perplexity", "Perplexity per token", lower_is_better=True)

SCORINGS: dict[str, Scoring] = {
    "classify": Scoring(
        (Metric("accuracy", "Accuracy", percent=True),),
        _classes,
        lambda sums: {"accuracy": _ratio(*sums)},
        {"accuracy": (0, 1)},
    ),
    "multilabel": Scoring(
        (
            Metric("micro_f1", "Micro F1"),
            Metric("macro_f1", "Macro F1"),
            Metric("all_labels", "All labels right", percent=True),
        ),
        _several_classes,
        _several_classes_values,
        {"all_labels": (-2, -1)},
    ),
    "regression": Scoring(
        (
            Metric("rmse", "Root mean squared error", lower_is_better=True),
            Metric("mae", "Mean absolute error", lower_is_better=True),
            Metric("r2", "R²"),
        ),
        _numbers,
        _number_values,
        {},
    ),
    "tabular": Scoring(
        (
            Metric("accuracy", "Accuracy", percent=True),
            Metric("balanced_accuracy", "Balanced accuracy", percent=True),
        ),
        _records,
        _record_values,
        {"accuracy": (0, 1)},
    ),
    "tag": Scoring(
        (Metric("entity_f1", "Entity F1"),),
        _entities,
        lambda sums: _entity_values("entity", sums),
        {},
    ),
    "nlu": Scoring(
        (Metric("intent_accuracy", "Intent accuracy", percent=True), Metric("slot_f1", "Slot F1")),
        _joint,
        lambda sums: {"intent_accuracy": _ratio(*sums[:2]), **_entity_values("slot", sums[2:])},
        {"intent_accuracy": (0, 1)},
    ),
    "qa": Scoring(
        (Metric("exact_match", "Exact match", percent=True), Metric("token_f1", "Token F1")),
        _answers,
        lambda sums: {"exact_match": _ratio(sums[0], sums[2]), "token_f1": _ratio(*sums[1:])},
        {"exact_match": (0, 2)},
    ),
    "lm": Scoring(
        (_PERPLEXITY, Metric("accuracy", "Accuracy of the next token", percent=True)),
        _likelihoods,
        lambda sums: {
            "perplexity": _finite_perplexity(*sums[:2]),
            "accuracy": _ratio(sums[2], sums[1]),
        },
        {},
    ),
    "seq2seq": Scoring(
        (Metric("rouge_l", "ROUGE-L"), _PERPLEXITY),
        _generated,
        lambda sums: {
            "rouge_l": _ratio(*sums[:2]),
            "perplexity": _finite_perplexity(*sums[2:]),
        },
        {},
    ),
}
