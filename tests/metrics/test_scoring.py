"""Scores of each kind of task from counts that add, and their intervals."""

import math

import numpy as np
import pytest

from trustml.data.rows import Answer, Labelled, Pair, Question, Rated, Record, Text
from trustml.data.synthetic import generate
from trustml.data.tables import NumberColumn, Table, TableSchema
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
    counts = SCORINGS["lm"].counts([None, None], np.array([[6.0, 3.0, 1.0], [2.0, 5.0, 1.0]]))
    assert SCORINGS["lm"].scores(counts)["perplexity"] == pytest.approx(math.e)
    assert SCORINGS["lm"].scores(counts)["accuracy"] == 0.25
    lost = SCORINGS["lm"].counts([None], np.array([[math.nan, 3.0, 0.0]]))
    assert SCORINGS["lm"].scores(lost)["perplexity"] == math.exp(100)


def test_texts_that_were_not_written_are_not_scored():
    rows, likelihoods = [Pair("a", ("b c", "d"))], np.array([[1.0, 1.0, 0.0]])
    quick = SCORINGS["seq2seq"]
    assert math.isnan(quick.scores(quick.counts(rows, (None, likelihoods)))["rouge_l"])
    assert quick.scores(quick.counts(rows, (["d"], likelihoods)))["rouge_l"] == 1.0


def test_no_rows_have_no_estimate():
    with pytest.raises(ValueError, match="`counts` must have at least one row"):
        SCORINGS["classify"].estimates(np.zeros((0, 2)))


def test_several_labels_are_scored_by_their_sums():
    rows = [Labelled("x", ("a", "b")), Labelled("x", ()), Labelled("x", ("a",)), Labelled("x", ())]
    guessed = np.array([[1, 0, 0], [0, 0, 1], [1, 0, 0], [0, 0, 0]], bool)
    scoring = SCORINGS["multilabel"]
    counts = scoring.counts(rows, (("a", "b", "c"), guessed))
    found = scoring.scores(counts)
    # a: 2 hits; b: 1 miss; c: 1 false alarm.
    assert found == {"micro_f1": 4 / 6, "macro_f1": 1 / 3, "all_labels": 0.5}
    np.testing.assert_array_equal(counts[:2].sum(0) + counts[2:].sum(0), counts.sum(0))
    assert scoring.estimates(counts, resamples=20)["all_labels"].interval == "Wilson, 95 %"


def test_numbers_are_scored_by_their_sums():
    rng = np.random.default_rng(0)
    truth = rng.normal(100, 3, 50)
    guess = truth + rng.normal(0, 1, 50)
    counts = SCORINGS["regression"].counts([Rated("x", value) for value in truth], guess)
    found = SCORINGS["regression"].scores(counts)
    assert found["rmse"] == pytest.approx(np.sqrt(np.mean((guess - truth) ** 2)))
    assert found["mae"] == pytest.approx(np.mean(abs(guess - truth)))
    unexplained = np.var(truth - guess) + np.mean(truth - guess) ** 2
    assert found["r2"] == pytest.approx(1 - unexplained / np.var(truth))
    same = SCORINGS["regression"].counts([Rated("x", 4.0)] * 3, [4.0, 5.0, 3.0])
    assert SCORINGS["regression"].scores(same)["r2"] == 0.0


def test_records_are_scored_by_class():
    labels = ["no"] * 8 + ["yes"] * 2 + ["odd"]
    schema = TableSchema(
        columns=(NumberColumn(name="x", low=0, high=1),),
        label="y",
        labels=("no", "yes"),
        learned=True,
    )
    table = Table.of([Record((0.5,), label) for label in labels], schema)
    scores = np.array([[0.9, 0.1]] * 9 + [[0.2, 0.8]] * 2)
    counts = SCORINGS["tabular"].counts(table, (("no", "yes"), scores))
    found = SCORINGS["tabular"].scores(counts)
    assert found["accuracy"] == pytest.approx(9 / 11)  # a class that nobody knows is never right
    assert found["balanced_accuracy"] == pytest.approx((1 + 0.5) / 2)
