"""Rank correlation against scipy's, and intervals that cover."""

import itertools

import numpy as np
import pytest
from scipy import stats

from trustml.stats import rank_correlation


@pytest.mark.parametrize("ties", [False, True])
def test_a_test_within_one_stratum_is_scipys_exact_one(ties):
    rng = np.random.default_rng(1)
    claimed, measured = np.array([0.5, 1, 1, 3, 3, 8.0, 8.5]), rng.normal(size=7)
    measured = np.round(measured, 0) if ties else measured
    one = rank_correlation(claimed, measured, np.zeros(7, np.int64))
    oracle = stats.permutation_test(
        (measured,),
        lambda x: stats.spearmanr(claimed, x).statistic,
        permutation_type="pairings",
        n_resamples=np.inf,
        vectorized=False,
    )
    null = np.abs(oracle.null_distribution)
    assert one.exact
    assert one.spearman == pytest.approx(oracle.statistic)
    assert one.p == pytest.approx(np.mean(null >= abs(oracle.statistic) - 1e-9))
    assert np.mean(null <= one.by_chance + 1e-9) >= 0.95
    assert one.low < one.spearman < one.high


def test_orders_are_shuffled_within_strata_alone():
    claimed, strata = np.array([1.0, 2, 3, 8, 9, 10]), np.array([0, 0, 0, 1, 1, 1])
    measured = np.array([2.0, 1, 3, 20, 30, 10])
    one = rank_correlation(claimed, measured, strata)
    every = [
        stats.spearmanr(claimed, [*first, *last]).statistic
        for first in itertools.permutations(measured[:3])
        for last in itertools.permutations(measured[3:])
    ]
    assert one.p == pytest.approx(np.mean(np.abs(every) >= abs(one.spearman) - 1e-9))
    # The strata differ, which shuffling across them takes for a relation.
    across = rank_correlation(claimed, measured, np.zeros(6, np.int64))
    assert across.p < 0.2 < one.p


def test_many_cells_are_shuffled_by_drawn_orders():
    claimed = np.arange(1.0, 16.0)
    one = rank_correlation(claimed, np.roll(claimed, 5), np.zeros(15, np.int64))
    assert not one.exact
    reference = stats.spearmanr(claimed, np.roll(claimed, 5)).pvalue
    assert one.p == pytest.approx(reference, abs=0.02)
    perfect = rank_correlation(claimed, claimed, np.zeros(15, np.int64))
    assert 0 < perfect.p < 1e-3
    assert perfect.low < perfect.high < 1


@pytest.mark.parametrize(
    ("claimed", "measured", "note"),
    [
        (np.arange(4.0), np.arange(4.0), "fewer than 5 cells"),
        (np.zeros(0), np.zeros(0), "fewer than 5 cells"),
        (np.ones(6), np.arange(6.0), "all cells claim the same"),
        (np.arange(6.0), np.zeros(6), "it is 0 in all cells"),
    ],
)
def test_what_cannot_be_known_is_none_with_a_note(claimed, measured, note):
    one = rank_correlation(claimed, measured, np.zeros(len(claimed), np.int64))
    assert one.spearman is one.low is one.p is one.kendall is None
    assert note in one.note


@pytest.mark.parametrize(("slope", "size"), [(0.0, 5), (0.6, 8), (0.9, 8), (0.9, 16)])
def test_intervals_hold_the_true_coefficient(slope, size):
    rng = np.random.default_rng(7)
    true = 6 / np.pi * np.arcsin(slope / 2)  # Pearson's 1907 relation for normal pairs
    held = 0
    for _ in range(300):
        x = rng.normal(size=size)
        y = slope * x + np.sqrt(1 - slope**2) * rng.normal(size=size)
        low, high = _interval_of(x, y)
        held += low <= true <= high
    assert held >= 0.915 * 300  # 94 % less two standard errors


def _interval_of(x, y):
    one = rank_correlation(x, y, np.arange(len(x)))  # one order within such strata: fast
    return one.low, one.high
