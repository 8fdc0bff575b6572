"""How well a joint model does: accuracy of intents, entities of slots, and how sure that is.

Entities count as the CoNLL script counts them: one is right if its slot, start and end are, and an
`I-` that continues nothing starts an entity.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, Shaped

Entity = tuple[str, int, int]  # slot, first token, last token
Count = float | np.number  # sums of NumPy's are its own kind


class Scores(NamedTuple):
    """Utility of a joint model. Computed on private data it is itself private."""

    intent_accuracy: float
    slot_precision: float
    slot_recall: float
    slot_f1: float


class Interval(NamedTuple):
    """A confidence interval."""

    low: Any  # a number, or a list of them
    high: Any


def entities(tags: Sequence[str]) -> list[Entity]:
    """The entities in a sequence of BIO tags.

    >>> entities(["B-city", "I-city", "O", "I-year", "B-year"])
    [('city', 0, 1), ('year', 3, 3), ('year', 4, 4)]
    """
    found: list[Entity] = []
    slot, start = "", 0
    for place, tag in enumerate([*tags, "O"]):
        mark, _, name = tag.partition("-")
        if mark == "I" and name == slot:
            continue
        if slot:
            found.append((slot, start, place - 1))
        slot, start = ("", 0) if mark == "O" else (name, place)
    return found


def slot_scores(
    truth: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]
) -> tuple[float, float, float]:
    """Precision, recall and F1 over all entities; each is 0 where it has no denominator.

    Raises:
      ValueError: Numbers of sequences or of tags that do not match.
    """
    _same_length("predicted", predicted, truth)
    return ratios(*entity_counts(truth, predicted).sum(axis=0))


def joint_scores(
    intents: Sequence[str],
    predicted_intents: Sequence[str],
    tags: Sequence[Sequence[str]],
    predicted_tags: Sequence[Sequence[str]],
) -> Scores:
    """Intent accuracy and slot scores of one set of predictions."""
    _same_length("predicted_intents", predicted_intents, intents)
    if not len(intents):
        raise ValueError("`intents` must not be empty.")
    right = sum(a == b for a, b in zip(intents, predicted_intents, strict=True))
    return Scores(right / len(intents), *slot_scores(tags, predicted_tags))


def wilson_interval(right: int, total: int, *, z: float = 1.959964) -> Interval:
    """Wilson's interval for a proportion of `right` in `total`; 95 % by default.

    >>> [round(bound, 3) for bound in wilson_interval(9, 10)]
    [0.596, 0.982]
    """
    if not (total > 0 and 0 <= right <= total):
        raise ValueError(f"`right` must be from 0 to `total` > 0, got {right} of {total}.")
    rate, spread = right / total, z * z / total
    centre = rate + spread / 2
    half = z * math.sqrt(rate * (1 - rate) / total + spread / (4 * total))
    return Interval((centre - half) / (1 + spread), (centre + half) / (1 + spread))


def bootstrap(
    rows: Shaped[np.ndarray, "unit ..."],
    statistic: Callable[[np.ndarray], Any],
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of a statistic, resampling whole units.

    Args:
      rows: A value, or a row of counts, for each unit.
      statistic: Rows drawn with replacement, as many as there are, to a number, such as `np.mean`
        of values or a ratio of sums of counts; or to several numbers, whose bounds are then lists.
      resamples: Times that rows are drawn.
      level: Share of the statistics that the interval holds.
      seed: Of the draws.

    Raises:
      ValueError: An option out of range, or no rows.

    >>> [round(bound, 2) for bound in bootstrap(np.array([0.0, 1.0] * 50), np.mean)]
    [0.4, 0.6]
    """
    rows = np.asarray(rows)
    if not (0 < level < 1 and resamples > 0 and len(rows)):
        raise ValueError(
            f"`level` must be in (0, 1), `resamples` positive and `rows` not empty, "
            f"got {level!r}, {resamples!r} and {len(rows)} rows."
        )
    draws = np.random.default_rng(seed).integers(len(rows), size=(resamples, len(rows)))
    found = [statistic(rows[draw]) for draw in draws]
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return Interval(low.tolist(), high.tolist())


def entity_counts(
    truth: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]
) -> Int[np.ndarray, "row 3"]:
    """Per sequence of tags: entities right, predicted, true."""
    rows = []
    for place, (true_tags, guess) in enumerate(zip(truth, predicted, strict=True)):
        _same_length(f"predicted[{place}]", guess, true_tags)
        wanted, given = set(entities(true_tags)), set(entities(guess))
        rows.append((len(wanted & given), len(given), len(wanted)))
    return np.array(rows, np.int64).reshape(-1, 3)


def ratios(right: Count, given: Count, wanted: Count) -> tuple[float, float, float]:
    """Precision, recall and F1 of counts; each is 0 where it has no denominator."""
    precision = float(right / given) if given else 0.0
    recall = float(right / wanted) if wanted else 0.0
    both = precision + recall
    return precision, recall, 2 * precision * recall / both if both else 0.0


def _same_length(name: str, values, other) -> None:
    if len(values) != len(other):
        raise ValueError(f"`{name}` must have {len(other)} entries, got {len(values)}.")
