"""Devices that are offline, drop out, or answer late."""

import math

import numpy as np
import pytest

from trustml.federated.availability import Availability

PLACES = np.arange(50)
STEPS = np.full(50, 4.0)


def answers(availability, round=0, places=PLACES, steps=STEPS, wanted=50, **options):
    return availability.answers(1, round, places, steps, wanted, **options)


def test_everyone_is_there_and_answers_where_nothing_is_set():
    found = answers(Availability())
    assert Availability().available(0, 7, 50).all()
    assert found.answered.all()
    assert found.took.tolist() == [4.0] * 50
    assert found.seconds == 4.0


def test_a_device_is_offline_for_its_part_of_each_day_in_one_stretch():
    away = Availability(offline=0.25, day=24)
    there = np.array([away.available(3, round, 400) for round in range(48)])
    np.testing.assert_array_equal(there[:24], there[24:])  # every day the same
    assert set(there[:24].sum(0).tolist()) == {18}
    turns = (there[:24] != np.roll(there[:24], 1, axis=0)).sum(0)
    assert set(turns.tolist()) == {2}  # it leaves once and comes back once
    # At any time about a quarter is away: binomial, five standard deviations.
    assert np.abs(there.mean(1) - 0.75).max() < 5 * math.sqrt(0.25 * 0.75 / 400)


def test_devices_drop_out_as_often_as_said_and_independently_by_round():
    lossy = Availability(dropout=0.3)
    answered = np.array([answers(lossy, round).answered for round in range(400)])
    assert abs(answered.mean() - 0.7) < 5 * math.sqrt(0.21 / answered.size)
    both = (answered[1:] & answered[:-1]).mean()
    assert abs(both - 0.49) < 5 * math.sqrt(0.25 / answered.size)


def test_a_device_does_the_same_whoever_else_was_asked():
    mixed = Availability(dropout=0.5, speed=1.0)
    whole, some = answers(mixed), answers(mixed, places=PLACES[10:13], steps=STEPS[10:13])
    np.testing.assert_array_equal(whole.answered[10:13], some.answered)
    np.testing.assert_array_equal(whole.took[10:13], some.took)
    np.testing.assert_array_equal(mixed.available(1, 2, 9), mixed.available(1, 2, 50)[:9])


def test_speed_is_lognormal_and_a_devices_own_in_all_rounds():
    slow = Availability(speed=0.5)
    took = slow.durations(0, np.arange(20_000), np.ones(20_000))
    assert np.log(took).mean() == pytest.approx(0, abs=0.02)
    assert np.log(took).std() == pytest.approx(0.5, abs=0.02)
    np.testing.assert_array_equal(answers(slow, 0).took, answers(slow, 9).took)
    np.testing.assert_allclose(slow.durations(0, [3], [8]), 8 * took[3])


def test_the_deadline_ends_a_round_that_lacks_answers():
    steps = np.array([1.0, 2.0, 3.0, 9.0])
    late = Availability(deadline=1.5)
    found = answers(late, places=np.arange(4), steps=steps, wanted=4)
    assert found.answered.tolist() == [True, True, True, False]  # 1.5 times the median of 2.5
    assert found.seconds == 3.75
    of_all = answers(late, places=np.arange(4), steps=steps, wanted=4, median_steps=1.0)
    assert of_all.answered.tolist() == [True, False, False, False]
    assert of_all.seconds == 1.5
    enough = answers(late, places=np.arange(4), steps=steps, wanted=2)
    assert enough.seconds == 2.0


def test_over_selection_takes_the_first_answers():
    steps = np.array([5.0, 1.0, 4.0, 2.0])
    found = answers(Availability(over_select=2.0), places=np.arange(4), steps=steps, wanted=2)
    assert found.answered.tolist() == [False, True, False, True]
    assert found.seconds == 2.0


def test_over_selection_answers_more_rounds_in_less_time():
    plain, over = Availability(speed=1.0, dropout=0.2), Availability(speed=1.0, dropout=0.2)
    rng = np.random.default_rng(0)
    asked = [rng.permutation(200)[:30] for _ in range(50)]
    few = [answers(plain, k, places[:20], np.ones(20), 20) for k, places in enumerate(asked)]
    many = [answers(over, k, places, np.ones(30), 20) for k, places in enumerate(asked)]
    assert np.mean([one.answered.sum() for one in many]) > 19
    assert np.mean([one.answered.sum() for one in few]) < 17
    assert np.mean([one.seconds for one in many]) < np.mean([one.seconds for one in few])


def test_all_may_be_gone_and_nobody_asked():
    none = answers(Availability(deadline=1e-6))
    assert not none.answered.any()
    assert none.seconds == pytest.approx(4e-6)
    gone = [answers(Availability(dropout=0.999), round) for round in range(5)]
    assert min(one.answered.sum() for one in gone) == 0
    assert all(one.seconds == 4.0 for one in gone)
    nobody = answers(Availability(), places=np.zeros(0, int), steps=np.zeros(0))
    assert (nobody.answered.tolist(), nobody.seconds) == ([], 0.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Availability(offline=1.0), "`offline` must be at least 0 and below 1, got 1.0"),
        (lambda: Availability(offline=math.nan), "`offline` must be finite"),
        (lambda: Availability(dropout=-0.1), "`dropout` must be finite and at least 0, got -0.1"),
        (lambda: Availability(day=0), "`day` must be at least 1, got 0"),
        (lambda: Availability(speed=math.inf), "`speed` must be finite and at least 0, got inf"),
        (lambda: Availability(deadline=0), "`deadline` must be finite and above 0, got 0"),
        (lambda: Availability(over_select=0.5), "`over_select` must be .* at least 1, got 0.5"),
        pytest.param(
            lambda: Availability(dropout="x"),
            "`dropout` must be a number, got 'x'",
            marks=pytest.mark.kinds,
        ),
        (lambda: Availability().available(0, -1, 3), "`round` must be at least 0, got -1"),
        (lambda: answers(Availability(), wanted=0), "`wanted` must be at least 1, got 0"),
        (lambda: answers(Availability(), places=[-1], steps=[1]), "`places` must be a vector"),
        (lambda: answers(Availability(), places=[1], steps=[1, 2]), "`steps` must be 1 finite"),
        (lambda: answers(Availability(), places=[1], steps=[math.nan]), "`steps` must be 1 finite"),
    ],
)
def test_messages_name_the_argument_and_the_value(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
