"""Scores of a joint model against an independent implementation."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trustml import metrics

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    seqeval = pytest.importorskip("seqeval.metrics")
    from seqeval.metrics.sequence_labeling import get_entities

TAGS = st.sampled_from(["O", "B-a", "I-a", "B-b", "I-b", "B-long-name", "I-long-name"])


@st.composite
def two_labellings(draw):
    lengths = draw(st.lists(st.integers(1, 8), min_size=1, max_size=6))
    one, other = ([draw(st.lists(TAGS, min_size=n, max_size=n)) for n in lengths] for _ in "ab")
    return one, other


@settings(derandomize=True, deadline=None, max_examples=300)
@given(two_labellings())
def test_scores_equal_those_of_seqeval_on_any_tags_even_malformed(pair):
    truth, predicted = pair
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = [
            score(truth, predicted, zero_division=0)
            for score in (seqeval.precision_score, seqeval.recall_score, seqeval.f1_score)
        ]
    np.testing.assert_allclose(metrics.slot_scores(truth, predicted), expected, atol=1e-12)


@settings(derandomize=True, deadline=None)
@given(st.lists(TAGS, min_size=1, max_size=12))
def test_entities_equal_those_of_seqeval(tags):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert metrics.entities(tags) == get_entities(tags)


def test_perfect_and_empty_predictions():
    truth = [["B-a", "I-a", "O"]]
    assert metrics.slot_scores(truth, truth) == (1.0, 1.0, 1.0)
    assert metrics.slot_scores(truth, [["O", "O", "O"]]) == (0.0, 0.0, 0.0)


def test_joint_scores_count_intents():
    scores = metrics.joint_scores(["x", "y"], ["x", "x"], [["O"], ["B-a"]], [["O"], ["B-a"]])
    assert scores == (0.5, 1.0, 1.0, 1.0)


def test_counts_of_rows_add_up_to_the_scores_of_all():
    truth, predicted = (
        [["B-a", "O", "B-b"]] * 3,
        [["B-a", "O", "O"], ["O"] * 3, ["B-a", "B-b", "O"]],
    )
    counts = metrics.entity_counts(truth, predicted)
    assert counts.tolist() == [[1, 1, 2], [0, 0, 2], [1, 2, 2]]
    assert metrics.precision_recall_f1(*counts.sum(0)) == metrics.slot_scores(truth, predicted)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: metrics.slot_scores([["O"]], []), "predicted"),
        (lambda: metrics.slot_scores([["O"]], [["O", "O"]]), r"predicted\[0\]"),
        (lambda: metrics.joint_scores([], [], [], []), "intents"),
    ],
)
def test_bad_input_is_refused_by_name(call, name):
    with pytest.raises(ValueError, match=name):
        call()
