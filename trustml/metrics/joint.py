"""Intent accuracy and slot entities of a joint model.

Entities count as the CoNLL script counts them: one is right if its slot, start and end are, and an
`I-` that continues nothing starts an entity.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

_Entity = tuple[str, int, int]  # slot, first token, last token
_Count = float | np.number  # sums of NumPy's are its own kind


class JointScores(NamedTuple):
    """Utility of a joint model; private if the data are."""

    intent_accuracy: float
    slot_precision: float
    slot_recall: float
    slot_f1: float


def entities(tags: Sequence[str]) -> list[_Entity]:
    """The entities in a sequence of BIO tags.

    >>> entities(["B-city", "I-city", "O", "I-year", "B-year"])
    [('city', 0, 1), ('year', 3, 3), ('year', 4, 4)]
    """
    complete: list[_Entity] = []
    slot, start = "", 0
    for position, tag in enumerate([*tags, "O"]):
        mark, _, name = tag.partition("-")
        if mark == "I" and name == slot:
            continue
        if slot:
            complete.append((slot, start, position - 1))
        slot, start = ("", 0) if mark == "O" else (name, position)
    return complete


def slot_scores(
    truth: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]
) -> tuple[float, float, float]:
    """Precision, recall and F1 over all entities; each is 0 where it has no denominator.

    >>> slot_scores([["B-city", "B-year"]], [["B-city", "O"]])
    (1.0, 0.5, 0.6666666666666666)

    Raises:
      ValueError: Numbers of sequences or of tags that do not match.
    """
    _same_length("predicted", predicted, truth)
    return precision_recall_f1(*entity_counts(truth, predicted).sum(axis=0))


def joint_scores(
    intents: Sequence[str],
    predicted_intents: Sequence[str],
    tags: Sequence[Sequence[str]],
    predicted_tags: Sequence[Sequence[str]],
) -> JointScores:
    """Intent accuracy and slot scores of one set of predictions.

    >>> joint_scores(["buy", "sell"], ["buy", "buy"], [["O"], ["B-a"]], [["O"], ["B-a"]])
    JointScores(intent_accuracy=0.5, slot_precision=1.0, slot_recall=1.0, slot_f1=1.0)

    Raises:
      ValueError: Numbers of rows or of tags that do not match, or no rows.
    """
    _same_length("predicted_intents", predicted_intents, intents)
    if not len(intents):
        raise ValueError("`intents` must not be empty.")
    right = sum(a == b for a, b in zip(intents, predicted_intents, strict=True))
    return JointScores(right / len(intents), *slot_scores(tags, predicted_tags))


def entity_counts(
    truth: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]
) -> Int[np.ndarray, "row 3"]:
    """Counts of entities of each sequence: correct, predicted, true. Counts of sequences add.

    >>> entity_counts([["B-city", "B-year"]], [["B-city", "O"]]).tolist()
    [[1, 1, 2]]

    Raises:
      ValueError: Numbers of sequences or of tags that do not match.
    """
    rows = []
    for row, (true_tags, guess) in enumerate(zip(truth, predicted, strict=True)):
        _same_length(f"predicted[{row}]", guess, true_tags)
        wanted, given = set(entities(true_tags)), set(entities(guess))
        rows.append((len(wanted & given), len(given), len(wanted)))
    return np.array(rows, np.int64).reshape(-1, 3)


def precision_recall_f1(
    correct: _Count, predicted: _Count, true: _Count
) -> tuple[float, float, float]:
    """Precision, recall and F1 of counts; each is 0 where it has no denominator.

    >>> precision_recall_f1(1, 1, 3)
    (1.0, 0.3333333333333333, 0.5)
    """
    precision = float(correct / predicted) if predicted else 0.0
    recall = float(correct / true) if true else 0.0
    both = precision + recall
    return precision, recall, 2 * precision * recall / both if both else 0.0


def _same_length(name: str, values, other) -> None:
    if len(values) != len(other):
        raise ValueError(f"`{name}` must have {len(other)} entries, got {len(values)}.")
