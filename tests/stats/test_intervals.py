"""Intervals of rates and means against scipy, tables and simulations."""

import math

import numpy as np
import pytest
from scipy import stats

from trustml.stats import (
    Estimate,
    clopper_pearson,
    interval_name,
    mean_estimate,
    rate_at_least,
    rate_at_most,
    wilson_interval,
)

COUNTS = [(0, 7), (7, 7), (3, 10), (1, 1000), (60, 20_000)]


@pytest.mark.parametrize(("hits", "trials"), COUNTS)
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_rates_have_scipys_intervals(hits, trials, confidence):
    oracle = stats.binomtest(hits, trials).proportion_ci
    exact = clopper_pearson(hits, trials, confidence)
    assert exact.value == hits / trials
    assert exact[1:3] == pytest.approx(oracle(confidence, "exact"), abs=1e-9)
    assert exact.interval == interval_name("Clopper-Pearson", confidence)
    z = stats.norm.ppf((1 + confidence) / 2)
    wilson = wilson_interval(hits / trials, trials, z)
    assert wilson == pytest.approx(oracle(confidence, "wilson"), rel=1e-9, abs=1e-16)


def test_wilsons_interval_is_of_95_percent_and_stays_in_the_range_of_a_rate():
    assert stats.norm.cdf(1.959964) - stats.norm.cdf(-1.959964) == pytest.approx(0.95, abs=1e-7)
    assert wilson_interval(0.3, 10) == pytest.approx(wilson_interval(0.3, 10, 1.959964), rel=1e-15)
    assert wilson_interval(0.0, 13)[0] == 0.0
    assert wilson_interval(1.0, 13)[1] == 1.0
    low, high = wilson_interval(0.123, 10)  # an area under a curve is no count over ten
    assert 0 < low < 0.123 < high < 0.5


def test_wilsons_interval_covers_nineteen_times_in_twenty():
    right = np.random.default_rng(1).binomial(50, 0.9, size=2000)
    covered = [low <= 0.9 <= high for low, high in (wilson_interval(k / 50, 50) for k in right)]
    assert 0.93 < np.mean(covered) < 0.99


@pytest.mark.parametrize(("events", "trials"), [(0, 7), (1, 7), (6, 7), (7, 7), (30, 1000)])
@pytest.mark.parametrize("level", [0.4, 0.025, 1e-6])
def test_rates_are_those_at_which_the_binomial_tail_is_the_level(events, trials, level):
    low, high = float(rate_at_least(events, trials, level)), rate_at_most(events, trials, level)
    if events == 0:
        assert low == 0.0
    else:
        assert stats.binom.sf(events - 1, trials, low) == pytest.approx(level, rel=1e-6)
    if events == trials:
        assert high == 1.0
    else:
        assert stats.binom.cdf(events, trials, float(high)) == pytest.approx(level, rel=1e-6)


@pytest.mark.parametrize(("runs", "point"), [(2, 12.706), (10, 2.262), (11, 2.228), (31, 2.042)])
def test_a_mean_has_students_interval_of_its_number_of_runs(runs, point):
    # Two-sided 95 % points as tables of the distribution have them, to three decimals.
    values = [float(number) for number in range(runs)]
    mean = sum(values) / runs
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / (runs - 1) / runs)
    estimate = mean_estimate(values)
    assert (estimate.high - mean) / spread == pytest.approx(point, abs=5e-4)
    assert (mean - estimate.low) / spread == pytest.approx(point, abs=5e-4)
    assert estimate.interval == f"Student's t over {runs} runs"


def test_an_estimate_is_mapped_end_by_end():
    doubled = Estimate(0.5, 0.25, 1.0, "Wilson, 95 %").map(lambda rate: 1 - 1 / (1 + rate))
    assert doubled[:3] == pytest.approx((1 / 3, 0.2, 0.5))
    assert doubled.interval == "Wilson, 95 %"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: clopper_pearson(3, 2), "`successes` must be from 0 to `trials` .2., got 3"),
        (lambda: clopper_pearson(0, 0), "`trials` must be at least 1, got 0"),
        (lambda: clopper_pearson(0, 1, 95), "`confidence` must be in .0, 1., such as 0.95, got 95"),
        (lambda: wilson_interval(0.5, 0), "`trials` must be at least 1, got 0"),
        (lambda: wilson_interval(1.5, 2), "`rate` must be in .0, 1., got 1.5"),
        (lambda: wilson_interval(math.nan, 2), "`rate` must be in .0, 1., got nan"),
        (lambda: mean_estimate([0.5]), "`values` must hold at least two runs, got 1"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
