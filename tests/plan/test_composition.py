"""Several runs on the same data, priced as one."""

import dataclasses
import itertools
import math

import pytest

from trustml.accounting import SUPPORTED
from trustml.plan import PrivacyPlan, composed_epsilon

DELTA = 1e-6


def plan(**changes):
    fields = {
        "clip_norm": 1.0,
        "noise_multiplier": 3.0,
        "sample_rate": 0.1,
        "steps": 64,
        "expected_batch": 100,
    }
    return PrivacyPlan(**{**fields, **changes})


def fixed(**changes):
    return plan(**{"sampling": "fixed", "adjacency": "replace-one", "accountant": "rdp", **changes})


def truncated(**changes):
    return plan(**{"sampling": "truncated_poisson", **changes})


def replacing(**changes):
    return plan(**{"adjacency": "replace-one", **changes})


@pytest.mark.parametrize("make", [plan, fixed, truncated, replacing])
def test_one_run_costs_what_its_plan_says(make):
    for steps in (0, 10, 64):
        want = make().epsilon(delta=DELTA, steps=steps)
        assert composed_epsilon([(make(), steps)], delta=DELTA) == want


@pytest.mark.parametrize("make", [plan, fixed])
def test_a_run_in_pieces_is_one_run(make):
    whole = make().epsilon(delta=DELTA, steps=64)
    assert composed_epsilon([(make(), 24), (make(), 40)], delta=DELTA) == whole
    # Apart only in what the accountant does not see.
    other = make(steps=24, capacity=make().capacity)
    assert composed_epsilon([(other, 24), (make(), 40)], delta=DELTA) == whole


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (plan(), plan(noise_multiplier=2.0, sample_rate=0.05, expected_batch=50)),
        (plan(), truncated()),
        (fixed(), fixed(noise_multiplier=6.0)),
        (replacing(), truncated(adjacency="replace-one")),
    ],
)
def test_two_runs_cost_at_least_either_and_at_most_the_sum(one, two):
    both = composed_epsilon([(one, 64), (two, 32)], delta=DELTA)
    alone = [one.epsilon(delta=DELTA, steps=64), two.epsilon(delta=DELTA, steps=32)]
    halves = one.epsilon(delta=DELTA / 2, steps=64) + two.epsilon(delta=DELTA / 2, steps=32)
    assert max(alone) < both < halves
    assert composed_epsilon([(two, 32), (one, 64)], delta=DELTA) == pytest.approx(both, rel=1e-6)


def test_more_runs_cost_more():
    runs = [(plan(noise_multiplier=noise), 16) for noise in (4.0, 3.0, 8.0)]
    costs = [composed_epsilon(runs[:count], delta=DELTA) for count in range(4)]
    assert costs[0] == 0.0
    assert all(less < more for less, more in itertools.pairwise(costs))


def test_gaussian_steps_compose_as_gaussians_do():
    """Steps that everyone joins, of multipliers 5 and 12, are one step of 60 / 13."""
    everyone = {"sample_rate": 1.0, "expected_batch": 100}
    one, two = (plan(noise_multiplier=noise, **everyone) for noise in (5.0, 12.0))
    both = plan(noise_multiplier=60 / 13, **everyone)
    found = composed_epsilon([(one, 1), (two, 1)], delta=DELTA)
    assert found == pytest.approx(both.epsilon(delta=DELTA, steps=1), abs=1e-3)


def test_the_tighter_accountant_is_used_where_it_covers_all():
    loose = plan(accountant="rdp")
    assert composed_epsilon([(loose, 64)], delta=DELTA) == plan().epsilon(delta=DELTA, steps=64)
    assert loose.epsilon(delta=DELTA, steps=64) > plan().epsilon(delta=DELTA, steps=64)


def test_overflow_of_every_run_is_charged():
    # Each takes a part of delta by itself; together they take more.
    tight, roomy = plan(capacity=155), plan()
    alone, twice = (composed_epsilon([(tight, 20)] * runs, delta=1e-5) for runs in (1, 2))
    assert composed_epsilon([(roomy, 20)], delta=1e-5) + 1e-3 < alone
    assert composed_epsilon([(roomy, 40)], delta=1e-5) + 1e-3 < twice < math.inf
    mixed = composed_epsilon([(roomy, 20), (tight, 20)], delta=1e-5)
    assert composed_epsilon([(roomy, 40)], delta=1e-5) < mixed < twice
    cramped = dataclasses.replace(tight, capacity=120)
    assert composed_epsilon([(roomy, 20), (cramped, 20)], delta=1e-5) == math.inf


@pytest.mark.parametrize("make", [plan, fixed])
def test_a_run_without_noise_promises_nothing(make):
    bare = make(noise_multiplier=0.0)
    assert composed_epsilon([(make(), 10), (bare, 1)], delta=DELTA) == math.inf
    alone = make().epsilon(delta=DELTA, steps=10)
    assert composed_epsilon([(make(), 10), (bare, 0)], delta=DELTA) == alone


def test_nothing_carried_out_costs_nothing():
    assert composed_epsilon([], delta=DELTA) == 0.0
    assert composed_epsilon([(plan(), 0), (truncated(), 0)], delta=DELTA) == 0.0


def test_a_run_that_was_never_carried_out_does_not_bind_the_accountant():
    found = composed_epsilon([(fixed(), 10), (replacing(), 0)], delta=DELTA)
    assert found == fixed().epsilon(delta=DELTA, steps=10)


def test_samplings_that_no_accountant_covers_together_are_refused_by_name():
    assert SUPPORTED["poisson", "replace-one"] == ("pld",)
    assert SUPPORTED["fixed", "replace-one"] == ("rdp",)
    with pytest.raises(ValueError, match=r"'fixed', 'poisson'. under 'replace-one'.*add up"):
        composed_epsilon([(replacing(), 10), (fixed(), 10)], delta=DELTA)


def test_rdp_prices_what_pld_does_not_cover(monkeypatch):
    """No pair of samplings needs it today; a table in which one does shows that it would."""
    monkeypatch.setitem(SUPPORTED, ("poisson", "replace-one"), ("pld", "rdp"))
    seen = []

    def epsilon(accounting, run, *, delta, distance):
        seen.append((accounting.accountant, len(run)))
        return 1.0

    monkeypatch.setattr("trustml.plan.composition.Accounting.epsilon", epsilon)
    assert composed_epsilon([(replacing(), 10), (fixed(), 10)], delta=DELTA) == 1.0
    assert seen == [("rdp", 2)]


@pytest.mark.parametrize(
    ("spent", "message"),
    [
        ([(plan(), 5), (fixed(), 5)], "`adjacency`, got 'add-or-remove-one' and 'replace-one'"),
        ([(plan(), 5), (plan(), -1)], "`spent` must not hold negative steps, got -1"),
    ],
)
def test_messages_name_the_argument_and_the_value(spent, message):
    with pytest.raises(ValueError, match=message):
        composed_epsilon(spent, delta=DELTA)


@pytest.mark.parametrize("delta", [0.0, 1.0, math.nan])
def test_a_delta_out_of_range_is_refused(delta):
    for spent in ([], [(plan(), 5)]):
        with pytest.raises(ValueError, match=r"`delta` must be in .0, 1."):
            composed_epsilon(spent, delta=delta)


@pytest.mark.kinds
@pytest.mark.parametrize("steps", [2.5, math.nan, True, None])
def test_steps_must_be_whole(steps):
    with pytest.raises(TypeError, match="`spent` must hold whole numbers of steps"):
        composed_epsilon([(plan(), steps)], delta=DELTA)


def test_units_of_privacy_do_not_mix():
    with pytest.raises(ValueError, match="`spent` must hold plans of one `unit`, got 'user' and"):
        composed_epsilon([(plan(unit="user"), 4), (plan(unit="utterance"), 4)], delta=DELTA)


def test_runs_of_very_different_epsilons_have_a_finite_one_together():
    """Each sampler's overflow is sized for its own epsilon, and weighs e^8 under that of all."""
    shared = {"delta": 1e-5, "num_units": 1000, "expected_batch": 100, "steps": 20}
    plans = [PrivacyPlan.calibrate(epsilon=each, clip_norm=1.0, **shared) for each in (0.5, 8.0)]
    together = composed_epsilon([(one, 20) for one in plans], delta=1e-5)
    alone = [one.epsilon(1e-5) for one in plans]
    assert alone[1] < together < 1.1 * sum(alone)
    assert math.isinf(composed_epsilon([(plan(noise_multiplier=0.0), 1), (plan(), 1)], delta=1e-5))
