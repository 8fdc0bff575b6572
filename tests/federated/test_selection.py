"""Who is drawn, how often, and with what weight."""

import itertools
import math
import time

import numpy as np
import pytest

from trustml.federated.selection import (
    choose,
    log,
    parse_selection,
    power,
    proportional,
    top,
    uniform,
)
from trustml.federated.streams import stream

ACTIVITY = np.array([1.0, 2.0, 3.0, 6.0])


def exact_inclusion(weights, number):
    """Probability of each client to be among the first drawn one by one, by all orders."""
    found = np.zeros(len(weights))
    for order in itertools.permutations(range(len(weights)), number):
        left, chance = weights.sum(), 1.0
        for place in order:
            chance *= weights[place] / left
            left -= weights[place]
        found[list(order)] += chance
    return found


def frequencies(selection, number, *, rounds=4000, activity=ACTIVITY, **options):
    found = np.zeros(len(activity))
    for round in range(rounds):
        chosen = choose(selection, activity, number, seed=1, round=round, **options)
        found[chosen.places] += 1
    return found / rounds


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("selection", [uniform(), proportional(), log(), power(0.5)], ids=str)
def test_each_client_is_in_as_often_as_drawing_one_by_one_says(selection, number):
    expected = exact_inclusion(selection.weights(ACTIVITY), number)
    found = frequencies(selection, number)
    # Five standard deviations; the weights' inclusion rates differ by at least twice that.
    np.testing.assert_allclose(found, expected, atol=5 * 0.5 / math.sqrt(4000))


def test_the_frequencies_reject_another_weight():
    found = frequencies(proportional(), 2)
    wrong = exact_inclusion(uniform().weights(ACTIVITY), 2)
    assert np.abs(found - wrong).max() > 5 * 0.5 / math.sqrt(4000)


def test_draws_with_replacement_follow_the_weights():
    counts = np.zeros(4)
    for round in range(500):
        chosen = choose(proportional(replacement=True), ACTIVITY, 40, seed=2, round=round)
        assert chosen.draws == chosen.scale.sum() == 40
        counts[chosen.places] += chosen.scale
    # Counts are binomial: 20,000 draws at 1/12 to 1/2.
    np.testing.assert_allclose(counts / 20_000, ACTIVITY / 12, atol=5 * 0.5 / math.sqrt(20_000))


@pytest.mark.parametrize(
    "selection",
    [
        uniform(unbiased=True),
        uniform(replacement=True, unbiased=True),
        log(replacement=True, unbiased=True),
        power(2, replacement=True, unbiased=True),
        proportional(replacement=True, unbiased=True),
    ],
    ids=lambda selection: f"{selection}, replacement {selection.replacement}",
)
def test_unbiased_updates_are_the_mean_by_activity_on_average(selection):
    updates = np.array([5.0, -1.0, 2.0, 0.5])
    found = []
    for round in range(4000):
        chosen = choose(selection, ACTIVITY, 2, seed=3, round=round)
        found.append((chosen.scale * updates[chosen.places]).sum() / chosen.draws)
    target = (ACTIVITY * updates).sum() / ACTIVITY.sum()
    assert abs(np.mean(found) - target) < 5 * np.std(found) / math.sqrt(len(found)) + 1e-12
    # Without the weights the mean is another one, and the test says so.
    if str(selection) != "proportional":
        plain = (selection.weights(ACTIVITY) * updates).sum() / selection.weights(ACTIVITY).sum()
        assert abs(np.mean(found) - plain) > 5 * np.std(found) / math.sqrt(len(found))


def test_proportional_draws_with_replacement_are_unbiased_as_they_are():
    plain = choose(proportional(replacement=True), ACTIVITY, 9, seed=0, round=0)
    weighted = choose(proportional(replacement=True, unbiased=True), ACTIVITY, 9, seed=0, round=0)
    np.testing.assert_allclose(plain.scale, weighted.scale, rtol=1e-12)


def test_a_round_is_a_function_of_seed_and_round_alone():
    def places(seed, round):
        return choose(log(), np.arange(1, 200), 20, seed=seed, round=round).places.tolist()

    assert places(0, 5) == places(0, 5)
    assert len({tuple(places(seed, round)) for seed in range(3) for round in range(3)}) == 9
    np.random.seed(0)  # noqa: NPY002  # what it must not depend on
    assert places(0, 5) == places(0, 5)


def test_a_clients_noise_does_not_depend_on_how_many_there_are():
    np.testing.assert_array_equal(
        stream(4, 2, "selection").random(10), stream(4, 2, "selection").random(1000)[:10]
    )
    assert (stream(4, 2, "a").random(10) != stream(4, 2, "b").random(10)).all()


def test_only_clients_that_are_available_are_drawn():
    there = np.array([True, False, True, False])
    found = frequencies(uniform(), 1, rounds=500, available=there)
    assert found[[1, 3]].tolist() == [0, 0]
    assert abs(found[0] - 0.5) < 0.12
    all_there = choose(uniform(), ACTIVITY, 3, seed=0, round=0, available=there)
    assert all_there.places.tolist() == [0, 2]
    assert all_there.draws == 2  # fewer than asked for: those that are there
    nobody = choose(uniform(), ACTIVITY, 3, seed=0, round=0, available=np.zeros(4, bool))
    assert (nobody.places.tolist(), nobody.scale.tolist(), nobody.draws) == ([], [], 0)


def test_clients_without_rows_are_drawn_by_uniform_alone():
    activity = np.array([0, 0, 5, 1])
    assert frequencies(proportional(), 2, rounds=50, activity=activity).tolist() == [0, 0, 1, 1]
    assert frequencies(uniform(), 2, rounds=200, activity=activity)[:2].min() > 0.3


def test_top_draws_among_the_most_active_alone():
    chosen = choose(top(2), ACTIVITY, 2, seed=0, round=0)
    assert chosen.places.tolist() == [2, 3]
    found = frequencies(top(3), 1, rounds=900)
    assert found[0] == 0
    np.testing.assert_allclose(found[1:], 1 / 3, atol=0.08)


def test_a_hundred_rounds_of_ten_thousand_clients_take_well_below_a_second():
    activity = np.random.default_rng(0).zipf(1.5, 10_000)
    start = time.process_time()
    for round in range(100):
        assert len(choose(log(), activity, 100, seed=0, round=round).places) == 100
    assert time.process_time() - start < 1.0


@pytest.mark.parametrize("word", ["uniform", "proportional", "log", "power:0.123456789", "top:2"])
def test_words_name_selections(word):
    assert str(parse_selection(word)) == word
    assert parse_selection(word, replacement=True).replacement


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: parse_selection("rich"), "`selection` must be one of uniform.* got 'rich'"),
        (lambda: parse_selection("power"), "`selection` must name its exponent, such as power:2"),
        (lambda: parse_selection("power:x"), "must name a number after power:.* got 'x'"),
        (lambda: parse_selection("power:nan"), "`exponent` must be finite.* got nan"),
        (lambda: parse_selection("power:-1"), "`exponent` must be finite.* got -1.0"),
        (lambda: parse_selection("top:2.5"), "must name a number after top:.* got '2.5'"),
        (lambda: parse_selection("top:0"), "`number` must be at least 1, got 0"),
        (lambda: parse_selection("log:2"), "`selection` log takes no number, got 2.0"),
        (lambda: log(unbiased=True), "log without replacement.* Use `replacement=True`"),
        (lambda: parse_selection("top:2", unbiased=True), "`unbiased` must be False for top:2"),
        (lambda: choose(top(9), ACTIVITY, 1, seed=0, round=0), "at most the 4 clients, got 9"),
        (lambda: choose(top(2), ACTIVITY, 3, seed=0, round=0), "at most the 2 clients that top:2"),
        (lambda: choose(uniform(), ACTIVITY, 5, seed=0, round=0), "`number` must be at most the 4"),
        (lambda: choose(uniform(), ACTIVITY, 0, seed=0, round=0), "`number` must be at least 1"),
        (lambda: choose(uniform(), ACTIVITY, 1, seed=0, round=-1), "`round` must be at least 0"),
        (lambda: choose(uniform(), ACTIVITY, 1, seed=-1, round=0), "`seed` must not be negative"),
        (lambda: choose(log(), [0, 0], 1, seed=0, round=0), "must give some client a weight"),
        (lambda: choose(log(), [1, -2], 1, seed=0, round=0), "got -2 for client 1"),
        (lambda: choose(log(), [1, math.nan], 1, seed=0, round=0), "got nan for client 1"),
        (lambda: choose(log(), [], 1, seed=0, round=0), "`activity` must be a vector of numbers"),
        (lambda: choose(power(9), [1e200], 1, seed=0, round=0), "all of them finite"),
        (
            lambda: choose(log(), [1, 2], 1, seed=0, round=0, available=np.ones(3, bool)),
            "`available` must be a boolean vector of length 2",
        ),
    ],
)
def test_messages_name_the_argument_and_the_value(call, message):
    with pytest.raises((ValueError, TypeError), match=message), np.errstate(over="ignore"):
        call()
