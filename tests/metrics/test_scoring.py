"""Scores of each kind of task from counts that add, and their intervals."""

import math

import numpy as np
import pytest

from trustml.data.rows import Answer, Pair, Question, Text
from trustml.data.synthetic import generate
from trustml.metrics import SCORINGS, joint_scores
from trustml.stats import wilson_interval


def test_the_joint_task_is_scored_as_its_metrics_say():
    rows = generate(train=40, valid=1, test=1).train.rows
    predicted = [(row.intent, row.tags) for row in rows[1:] + rows[:1]]  # everybody's neighbour
    tags = [
        tuple(found[place] if place < len(found) else "O" for place in range(len(row.tags)))
        for row, (_, found) in zip(rows, predicted, strict=True)
    ]
    counts = SCORINGS["nlu"].counts(rows, ([intent for intent, _ in predicted], tags))
    found = SCORINGS["nlu"].scores(counts)
    wanted = joint_scores(
        [r.intent for r in rows], [i for i, _ in predicted], [r.tags for r in rows], tags
    )
    assert found["intent_accuracy"] == wanted.intent_accuracy
    for name in ("precision", "recall", "f1"):
        assert found[f"slot_{name}"] == getattr(wanted, f"slot_{name}")


def test_a_share_has_wilsons_interval_and_owners_a_wider_one():
    rows = [Text("a", "yes")] * 40
    predicted = ["yes"] * 30 + ["no"] * 10
    counts = SCORINGS["classify"].counts(rows, predicted)
    alone = SCORINGS["classify"].estimates(counts)["accuracy"]
    assert (alone.low, alone.high) == wilson_interval(0.75, 40)
    owned = SCORINGS["classify"].estimates(counts, np.arange(40) // 10)["accuracy"]
    assert owned.value == alone.value == 0.75
    assert owned.high - owned.low > 1.5 * (alone.high - alone.low)
    assert "owners" in owned.interval


def test_answers_are_scored_by_the_best_of_their_truths():
    row = Question("Who?", "Ada and Bob", (Answer("Ada", 0), Answer("Bob", 8)), "1")
    counts = SCORINGS["qa"].counts([row, row], ["bob!", "Ada Bob"])
    found = SCORINGS["qa"].scores(counts)
    assert found["exact_match"] == 0.5
    assert found["token_f1"] == pytest.approx((1 + 2 / 3) / 2)


def test_likelihoods_are_added_before_they_are_divided():
    counts = SCORINGS["lm"].counts([None, None], np.array([[6.0, 3.0], [2.0, 5.0]]))
    assert SCORINGS["lm"].scores(counts)["perplexity"] == pytest.approx(math.e)
    lost = SCORINGS["lm"].counts([None], np.array([[math.nan, 3.0]]))
    assert SCORINGS["lm"].scores(lost)["perplexity"] == math.exp(100)


def test_texts_that_were_not_written_are_not_scored():
    rows, likelihoods = [Pair("a", ("b c", "d"))], np.array([[1.0, 1.0]])
    quick = SCORINGS["seq2seq"]
    assert math.isnan(quick.scores(quick.counts(rows, (None, likelihoods)))["rouge_l"])
    assert quick.scores(quick.counts(rows, (["d"], likelihoods)))["rouge_l"] == 1.0


def test_no_rows_have_no_estimate():
    with pytest.raises(ValueError, match="`counts` must have at least one row"):
        SCORINGS["classify"].estimates(np.zeros((0, 2)))
