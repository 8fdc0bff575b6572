"""How each kind of task is judged: what counts of one row, and what sums of counts say.

Every metric is a function of sums over rows, so a resample, a group of rows, and a whole part are
judged by one rule.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from trustml.metrics.joint import bootstrap, entity_counts, ratios, wilson_interval
from trustml.metrics.text import exact_match, perplexity, rouge_l, token_f1

_DIVERGED = math.exp(100)


class Metric(NamedTuple):
    """A figure that is shown.

    Attributes:
      name: Its key.
      label: What people read.
      percent: Whether it is a share that is shown in percent.
      lower_is_better: True of perplexities.
    """

    name: str
    label: str
    percent: bool = False
    lower_is_better: bool = False


class Judged(NamedTuple):
    """A figure and its interval."""

    value: float
    low: float
    high: float
    interval: str  # how it was found


class Scoring(NamedTuple):
    """How one kind of task is judged.

    Attributes:
      metrics: Those that are shown, the headline first.
      counts: (rows of the data, predictions) to float64 [row, count].
      values: Sums of counts to every figure by name, shown or not.
      shares: Of metrics that are plain shares of rows: the places of their two counts.
    """

    metrics: tuple[Metric, ...]
    counts: Callable[[Sequence[Any], Any], np.ndarray]
    values: Callable[[np.ndarray], dict[str, float]]
    shares: dict[str, tuple[int, int]]

    def scores(self, counts: Float[np.ndarray, "row count"]) -> dict[str, float]:
        """Every figure of these rows."""
        return self.values(counts.sum(0))

    def estimates(
        self,
        counts: Float[np.ndarray, "row count"],
        owners: np.ndarray | None = None,
        *,
        resamples: int = 1000,
        seed: int = 0,
    ) -> dict[str, Judged]:
        """The metrics that are shown, with 95 % intervals.

        Args:
          counts: One row of counts for each row of the data.
          owners: A number a row; rows with one number share a person or document and are resampled
            together. None: each row by itself.
          resamples: Of the bootstrap.
          seed: Of the bootstrap.

        Raises:
          ValueError: There are no rows.
        """
        if not len(counts):
            raise ValueError("`counts` must have at least one row, got none.")
        values = self.scores(counts)
        whole = _by_owner(counts, owners)
        plain = self.shares if owners is None else {}
        names = [metric.name for metric in self.metrics if metric.name not in plain]
        drawn = {}
        if names:
            bounds = bootstrap(whole, self._several(names), resamples=resamples, seed=seed)
            drawn = dict(zip(names, zip(*bounds, strict=True), strict=True))
        found = {}
        for metric in self.metrics:
            if metric.name in drawn:
                low, high = drawn[metric.name]
                how = "bootstrap, 95 %" if owners is None else "bootstrap of owners, 95 %"
            else:
                right, total = (counts[:, place].sum() for place in plain[metric.name])
                low, high = wilson_interval(round(right), round(total))
                how = "Wilson, 95 %"
            found[metric.name] = Judged(values[metric.name], low, high, how)
        return found

    def _several(self, names: list[str]) -> Callable[[np.ndarray], list[float]]:
        def statistic(rows):
            values = self.values(rows.sum(0))
            return [values[name] for name in names]

        return statistic


def _by_owner(counts, owners):
    if owners is None:
        return counts
    _, places = np.unique(owners, return_inverse=True)
    sums = np.zeros((places.max() + 1, counts.shape[1]))
    np.add.at(sums, places, counts)
    return sums


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0


def _perplexity(nll: float, tokens: float) -> float:
    """A model that diverged has a number too, which JSON can hold: e^100."""
    found = perplexity(nll, tokens) if tokens else math.inf
    return found if found < _DIVERGED else _DIVERGED  # of NaN too


def _right(rows, predicted, label=lambda row: row.label):
    pairs = zip(rows, predicted, strict=True)
    return np.array([(float(label(row) == found), 1.0) for row, found in pairs]).reshape(-1, 2)


def _entities(rows, predicted):
    return entity_counts([row.tags for row in rows], predicted).astype(np.float64)


def _joint(rows, predicted):
    labels, tags = predicted
    right = _right(rows, labels, lambda row: row.intent)
    return np.concatenate([right, _entities(rows, tags)], 1)


def _answers(rows, predicted):
    found = []
    for row, said in zip(rows, predicted, strict=True):
        truths = [answer.text for answer in row.answers]
        exact = max(float(exact_match(said, truth)) for truth in truths)
        found.append((exact, max(token_f1(said, truth) for truth in truths), 1.0))
    return np.array(found).reshape(-1, 3)


def _likelihoods(rows, predicted):
    del rows
    return np.asarray(predicted, np.float64).reshape(-1, 2)


def _written(rows, predicted):
    """Of `(texts, likelihoods)`; without texts, which take a while to write, ROUGE-L is nan."""
    texts, likelihoods = predicted
    if texts is None:
        overlap = np.full((len(rows), 1), math.nan)
    else:
        pairs = zip(rows, texts, strict=True)
        overlap = np.array([[rouge_l(text, row.targets)] for row, text in pairs])
    return np.concatenate([overlap, np.ones((len(rows), 1)), _likelihoods(rows, likelihoods)], 1)


def _entity_values(right, given, wanted) -> dict[str, float]:
    precision, recall, f1 = ratios(right, given, wanted)
    return {"precision": precision, "recall": recall, "f1": f1}


def _joint_values(sums) -> dict[str, float]:
    slots = {f"slot_{name}": value for name, value in _entity_values(*sums[2:]).items()}
    return {"intent_accuracy": _ratio(sums[0], sums[1]), **slots}


# Of the model's own tokens: models with other vocabularies cannot be compared by it.
_PERPLEXITY = Metric("perplexity", "Perplexity per token", lower_is_better=True)

SCORINGS: dict[str, Scoring] = {
    "classify": Scoring(
        (Metric("accuracy", "Accuracy", percent=True),),
        _right,
        lambda sums: {"accuracy": _ratio(*sums)},
        {"accuracy": (0, 1)},
    ),
    "tag": Scoring(
        (Metric("entity_f1", "Entity F1"),),
        _entities,
        lambda sums: {f"entity_{name}": x for name, x in _entity_values(*sums).items()},
        {},
    ),
    "nlu": Scoring(
        (Metric("intent_accuracy", "Intent accuracy", percent=True), Metric("slot_f1", "Slot F1")),
        _joint,
        _joint_values,
        {"intent_accuracy": (0, 1)},
    ),
    "qa": Scoring(
        (Metric("exact_match", "Exact match", percent=True), Metric("token_f1", "Token F1")),
        _answers,
        lambda sums: {"exact_match": _ratio(sums[0], sums[2]), "token_f1": _ratio(*sums[1:])},
        {"exact_match": (0, 2)},
    ),
    "lm": Scoring(
        (_PERPLEXITY,),
        _likelihoods,
        lambda sums: {"perplexity": _perplexity(*sums)},
        {},
    ),
    "seq2seq": Scoring(
        (Metric("rouge_l", "ROUGE-L"), _PERPLEXITY),
        _written,
        lambda sums: {"rouge_l": _ratio(*sums[:2]), "perplexity": _perplexity(*sums[2:])},
        {},
    ),
}
