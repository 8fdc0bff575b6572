"""Private histograms, held against the exact laws of their outputs on neighbouring data."""

import dataclasses
import math

import numpy as np
import pytest

from trustml.noise import key_from_seed
from trustml.plan import Charge, HistogramPlan, PrivacyPlan
from trustml.plan.charges import epsilon_with

ROWS, EPSILON, DELTA = 3, 1.0, 1e-3


def plan_of(**changes):
    fields = {"num_histograms": 2, "num_open": 1, "rows_per_unit": ROWS}
    return HistogramPlan.calibrate(epsilon=EPSILON, delta=DELTA, **{**fields, **changes})


def law(plan):
    """Probabilities of the noise of one count, on steps of its grid."""
    stddev = plan._law.stddev
    x = np.arange(-int(14 * stddev), int(14 * stddev) + 1)
    weights = np.exp(-0.5 * (x / stddev) ** 2)
    return x, weights / weights.sum()


def shifted(probabilities, steps):
    return np.concatenate([np.zeros(steps), probabilities])[: len(probabilities)]


def divergence(one, other, shown=0.0):
    """The hockey-stick divergence both ways, the larger: `shown` is what only `one` gives out."""
    forth = np.maximum(0, (1 - shown) * one - math.exp(EPSILON) * other).sum() + shown
    back = np.maximum(0, other - math.exp(EPSILON) * (1 - shown) * one).sum()
    return max(forth, back)


def delta_of_a_new_value(plan, rows=ROWS):
    """All rows of a unit have one value that nobody else has, and one bin of a fixed histogram."""
    x, noise = law(plan)
    moved = rows * plan._grid
    shown = noise[x + moved >= plan.threshold * plan._grid].sum()
    return divergence(shifted(noise, moved), noise, shown)


def delta_of_known_values(plan, rows=ROWS):
    """The same rows in bins that others have too, of two fixed histograms.

    The ratio of the two laws depends on the sum of both counts alone.
    """
    _, noise = law(plan)
    both = np.convolve(noise, noise)
    return divergence(shifted(both, 2 * rows * plan._grid), both)


def test_the_outputs_for_two_neighbours_are_as_near_as_promised():
    plan = plan_of()
    assert delta_of_a_new_value(plan) <= plan.delta == DELTA
    assert delta_of_known_values(plan) <= plan.delta
    fixed = plan_of(num_open=0)
    # No noise is wasted: what is promised is nearly reached.
    assert 0.7 * DELTA < delta_of_known_values(fixed) <= DELTA


def test_a_threshold_that_delta_does_not_pay_for_is_caught():
    class Low(HistogramPlan):
        threshold = ROWS + 1

    fields = dataclasses.asdict(plan_of())
    assert delta_of_a_new_value(Low(**fields)) > 100 * DELTA


def test_a_sensitivity_for_one_row_where_units_have_several_is_caught():
    plan = plan_of(rows_per_unit=1)
    assert delta_of_known_values(plan, rows=1) <= DELTA
    assert delta_of_known_values(plan, rows=ROWS) > 10 * DELTA
    assert delta_of_a_new_value(plan, rows=ROWS) > DELTA


def test_replacing_one_moves_more_than_removing_one():
    plan, other = plan_of(), plan_of(adjacency="replace-one")
    assert other.sensitivity == pytest.approx(math.sqrt(2) * plan.sensitivity)
    assert other.stddev > 1.3 * plan.stddev
    assert other.threshold > plan.threshold


@pytest.mark.parametrize("epsilon", [0.05, 8.0])
def test_the_noise_has_the_size_that_was_accounted(epsilon):
    plan = HistogramPlan.calibrate(epsilon=epsilon, delta=1e-6, num_histograms=3, num_open=0)
    key, size = key_from_seed(1), 20_000
    noise = plan.noisy_counts(np.full(size, 7), key, 0) - 7
    deviation = math.sqrt(2 / size)  # of the variance of normals
    assert abs(noise.var() / plan.stddev**2 - 1) < 5 * deviation
    assert abs(noise.mean()) < 5 * plan.stddev / math.sqrt(size)
    assert not np.array_equal(noise, plan.noisy_counts(np.full(size, 7), key, 1) - 7)
    assert 0.99 * epsilon < plan.epsilon <= epsilon


def test_values_show_from_the_threshold_on():
    plan = plan_of()
    far = 8 * plan.stddev
    counts = {"often": int(plan.threshold + far), "rare": int(plan.threshold - far), "none": 0}
    assert plan.released_values(counts, key_from_seed(0), 0) == ("often",)
    assert plan.released_values({}, key_from_seed(0), 1) == ()
    with pytest.raises(ValueError, match="`number` must be below 2, got 2"):
        plan.noisy_counts(np.zeros(3, int), key_from_seed(0), 2)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"num_histograms": 0}, "`num_histograms`"),
        ({"num_open": 3}, "`num_open` must be from 0 to 2, got 3"),
        ({"rows_per_unit": 0}, "`rows_per_unit`"),
    ],
)
def test_numbers_out_of_range_are_refused(fields, problem):
    with pytest.raises(ValueError, match=problem):
        plan_of(**fields)


def test_charges_add_up_in_epsilon_and_in_delta():
    plan = PrivacyPlan(
        clip_norm=1.0, noise_multiplier=4.0, sample_rate=0.1, steps=20, expected_batch=10
    )
    charge = Charge("schema", 0.25, 1e-6, "noisy histograms of age")
    alone, together = plan.epsilon(9e-6), epsilon_with(plan, [charge], 1e-5)
    assert together == 0.25 + alone
    assert epsilon_with(plan, [], 1e-5) == plan.epsilon(1e-5)
    statement = plan.statement(1e-5, charges=[charge])
    assert f"Promise: ({together:.2f}"[:13] in statement
    assert "Released before: the schema, by noisy histograms of age: epsilon 0.25" in statement
    with pytest.raises(ValueError, match="`delta` must be above 1e-06, which the schema alone"):
        epsilon_with(plan, [charge], 1e-6)
