"""The bootstrap: the draws of a seed, coverage, pigeonholes."""

import numpy as np
import pytest

from trustml.stats import percentile_estimate, pigeonhole_counts, resample


def test_a_seed_draws_these_samples():
    # Numbers of reports rest on this order: one row of indices after the other.
    rows = np.arange(7.0)
    draws = np.random.default_rng(3).integers(7, size=(5, 7))
    found = resample(rows, lambda part: part, resamples=5, rng=np.random.default_rng(3))
    np.testing.assert_array_equal(found, draws)
    lone = pigeonhole_counts((3, 4), np.random.default_rng(3))
    rng = np.random.default_rng(3)
    targets, units = rng.multinomial(3, [1 / 3] * 3), rng.multinomial(4, [1 / 4] * 4)
    np.testing.assert_array_equal(lone, targets[:, None] * units)


def test_rows_stay_whole_and_a_statistic_may_have_several_numbers():
    rows = np.array([[1.0, 2.0], [3.0, 6.0], [5.0, 10.0]])
    sums = resample(rows, lambda part: part.sum(0), resamples=50, rng=np.random.default_rng(0))
    assert sums.shape == (50, 2)
    np.testing.assert_allclose(sums[:, 1], 2 * sums[:, 0])
    assert sums[:, 0].std() > 0


def interval(values, confidence=0.95, seed=0):
    rng = np.random.default_rng(seed)
    means = resample(values, np.mean, resamples=300, rng=rng)
    return percentile_estimate(float(values.mean()), means, confidence)


def test_the_bootstrap_of_a_mean_covers_nineteen_times_in_twenty():
    draw = np.random.default_rng(0)
    covered = 0
    for seed in range(300):
        estimate = interval(draw.exponential(size=80), seed=seed)
        covered += estimate.low <= 1.0 <= estimate.high
    assert 0.88 < covered / 300 < 0.98


def test_an_interval_repeats_for_a_seed_and_grows_with_the_confidence():
    values = np.random.default_rng(1).normal(size=100)
    found, wider = interval(values, seed=3), interval(values, 0.99, seed=3)
    assert found == interval(values, seed=3)
    assert found != interval(values, seed=4)
    assert wider.low < found.low < found.value < found.high < wider.high
    assert (found.interval, wider.interval) == ("bootstrap, 95 %", "bootstrap, 99 %")


def test_rows_and_columns_are_drawn_apart():
    counts = pigeonhole_counts((4, 5), np.random.default_rng(0))
    assert counts.sum() == 20
    assert np.linalg.matrix_rank(counts) == 1


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda rng: resample(np.zeros(0), np.mean, resamples=9, rng=rng), "`rows` must not be"),
        (lambda rng: resample(np.zeros(3), np.mean, resamples=0, rng=rng), "`resamples` must be"),
        (lambda rng: percentile_estimate(0.0, np.zeros(3), 1.0), "`confidence` must be"),
    ],
)
def test_bad_input_is_refused_by_name(call, name):
    with pytest.raises(ValueError, match=name):
        call(np.random.default_rng(0))
