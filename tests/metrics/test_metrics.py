"""Scores against an independent implementation, and intervals against counts that must cover."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trustml.metrics import joint as metrics

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


def test_the_bootstrap_interval_surrounds_the_score_and_repeats():
    draw = np.random.default_rng(0)
    truth = [["B-a", "O", "B-b"]] * 200
    predicted = [["B-a", "O", "B-b" if draw.random() < 0.7 else "O"] for _ in truth]
    counts = metrics.entity_counts(truth, predicted)

    def f1(rows):
        return metrics.ratios(*rows.sum(0))[2]

    interval = metrics.bootstrap(counts, f1, resamples=200)
    assert interval.low < metrics.slot_scores(truth, predicted)[2] < interval.high
    assert interval.high - interval.low < 0.1
    assert interval == metrics.bootstrap(counts, f1, resamples=200)
    both = metrics.bootstrap(counts, lambda rows: [f1(rows), 1.0], resamples=200)
    assert both == ([interval.low, 1.0], [interval.high, 1.0])


def test_the_wilson_interval_covers_nineteen_times_in_twenty():
    right = np.random.default_rng(1).binomial(50, 0.9, size=2000)
    covered = [low <= 0.9 <= high for low, high in (metrics.wilson_interval(k, 50) for k in right)]
    assert 0.93 < np.mean(covered) < 0.99


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: metrics.slot_scores([["O"]], []), "predicted"),
        (lambda: metrics.slot_scores([["O"]], [["O", "O"]]), r"predicted\[0\]"),
        (lambda: metrics.joint_scores([], [], [], []), "intents"),
        (lambda: metrics.wilson_interval(3, 2), "right"),
    ],
)
def test_bad_input_is_refused_by_name(call, name):
    with pytest.raises(ValueError, match=name):
        call()
