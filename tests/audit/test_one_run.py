"""The one-run audit: published values, a bound that holds, and a detector that sees a wrong one."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trustml.audit import (
    gaussian_epsilon,
    one_run_audit,
    one_run_epsilon,
    one_run_gaussian_epsilon,
    one_run_p_value,
)

AUDITS = 1000
# Rates of exceeding, at most 5 % in truth, stay below with probability 0.999.
MOST = 0.05 + 3.1 * math.sqrt(0.05 * 0.95 / AUDITS)


@pytest.mark.parametrize(
    ("canaries", "guesses", "correct", "delta", "epsilon"),
    [
        # Computed with jax_privacy's one-run test at 95 %.
        (1000, 1000, 600, 1e-5, 0.29723),
        (1000, 1000, 750, 1e-5, 0.97637),
        (1000, 100, 100, 1e-5, 3.46538),
        (1000, 100, 99, 1e-5, 3.00283),
        (1000, 1000, 1000, 1e-5, 5.78228),
        (10_000, 1000, 1000, 1e-5, 5.52935),
        (1000, 100, 100, 0.0, 3.49297),
        (132, 132, 86, 0.0, 0.31220),
    ],
)
def test_epsilon_equals_the_published_value(canaries, guesses, correct, delta, epsilon):
    found = one_run_epsilon(guesses, correct, canaries=canaries, delta=delta)
    assert found == pytest.approx(epsilon, abs=1e-5)
    # Below the bound the test refutes, above it does not.
    for step, refuted in ((-1e-6, True), (1e-6, False)):
        p_value = one_run_p_value(
            guesses, correct, canaries=canaries, epsilon=found + step, delta=delta
        )
        assert (p_value <= 0.05) is refuted
        assert p_value == pytest.approx(0.05, abs=1e-4)


@pytest.mark.parametrize("guesses", [1, 5, 100])
def test_all_right_without_delta_has_a_closed_form(guesses):
    rate = 0.05 ** (1 / guesses)
    want = max(0.0, math.log(rate / (1 - rate)))
    assert one_run_epsilon(guesses, guesses, canaries=200, delta=0.0) == pytest.approx(want)


def by_definition(guesses, correct, canaries, epsilon, delta):
    rate = math.exp(epsilon) / (1 + math.exp(epsilon))

    def tail(least):
        return math.fsum(
            math.comb(guesses, count) * rate**count * (1 - rate) ** (guesses - count)
            for count in range(least, guesses + 1)
        )

    base = tail(correct)
    lifts = [(tail(correct - more) - base) / more for more in range(1, correct + 1)]
    return min(1.0, base + 2 * canaries * delta * max([0.0, *lifts]))


@given(
    st.integers(1, 40),
    st.floats(0, 1),
    st.integers(0, 60),
    st.floats(0, 5),
    st.sampled_from([0.0, 1e-6, 1e-3, 0.1]),
)
@settings(derandomize=True, deadline=None)
def test_the_p_value_is_that_of_the_theorem(guesses, part, unguessed, epsilon, delta):
    canaries, correct = guesses + unguessed, round(part * guesses)
    found = one_run_p_value(guesses, correct, canaries=canaries, epsilon=epsilon, delta=delta)
    want = by_definition(guesses, correct, canaries, epsilon, delta)
    assert found == pytest.approx(want, rel=1e-9, abs=1e-12)


def test_more_correct_guesses_refute_more_and_more_delta_less():
    for guesses, delta in ((50, 0.0), (50, 1e-4), (1000, 1e-5)):
        counts = range(0, guesses + 1, guesses // 50)
        found = [one_run_epsilon(guesses, right, canaries=1000, delta=delta) for right in counts]
        assert found == sorted(found)
        assert found[0] == found[len(found) // 2] == 0.0 < found[-1]
    deltas = [0.0, 1e-6, 1e-4, 1e-3]
    by_delta = [one_run_epsilon(100, 90, canaries=1000, delta=delta) for delta in deltas]
    assert by_delta == sorted(by_delta, reverse=True)
    assert by_delta[-1] < by_delta[0]
    by_confidence = [
        one_run_epsilon(100, 90, canaries=100, delta=0.0, confidence=sure)
        for sure in (0.5, 0.9, 0.999)
    ]
    assert by_confidence == sorted(by_confidence, reverse=True)
    assert one_run_p_value(10, 10, canaries=10, epsilon=math.inf, delta=0.0) == 1.0


def audit(scores, member, **options):
    return one_run_audit(scores[member], scores[~member], **{"delta": 0.0, **options})


def uncorrected(scores, member, corrected):
    """The planted error: the best of many tests, each as if it were the only one."""
    numbers = [corrected.canaries, *(2**power for power in range(4, 9))]
    return max(audit(scores, member, guesses=[number]).epsilon for number in numbers)


@pytest.fixture(scope="module")
def nulls():
    """Bounds from scores that know nothing, corrected and not."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(AUDITS):
        member, scores = rng.random(300) < 0.5, rng.normal(size=300)
        corrected = audit(scores, member)
        found.append((corrected.epsilon, uncorrected(scores, member, corrected)))
    return np.array(found)


def test_scores_that_know_nothing_refute_nothing(nulls):
    rate = np.mean(nulls[:, 0] > 0)
    assert 0.01 < rate <= MOST  # neither too often, nor so seldom that the test is idle


def test_a_maximum_without_correction_is_caught(nulls):
    assert np.mean(nulls[:, 1] > 0) > MOST
    assert (nulls[:, 1] >= nulls[:, 0]).all()


def randomised_response(rng, canaries, epsilon):
    """Reports each bit truthfully with the chance that `epsilon` allows: as leaky as can be."""
    member = rng.random(canaries) < 0.5
    truthful = rng.random(canaries) < 1 / (1 + math.exp(-epsilon))
    return np.where(truthful, member, ~member).astype(float), member


@pytest.mark.parametrize("ties", [True, False])
def test_the_bound_stays_below_the_epsilon_of_the_mechanism(ties):
    rng = np.random.default_rng(1)
    over = 0
    for _ in range(AUDITS):
        scores, member = randomised_response(rng, 128, 1.0)
        noise = 0.0 if ties else rng.uniform(0, 0.5, size=128)
        over += audit(scores + noise, member).epsilon > 1.0
    assert over / AUDITS <= MOST


def test_a_wrong_promise_is_refuted_more_often_than_that():
    """The calibration above could fail: a mechanism twice as leaky as promised does."""
    rng = np.random.default_rng(1)
    over = sum(audit(*randomised_response(rng, 1000, 2.0)).epsilon > 1.0 for _ in range(50))
    assert over == 50


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_many_canaries_come_within_reach_of_the_truth(epsilon):
    rng = np.random.default_rng(2)
    found = [audit(*randomised_response(rng, 20_000, epsilon)) for _ in range(3)]
    assert all(0.8 * epsilon < result.epsilon <= epsilon for result in found)
    assert all(result.guesses == result.canaries == 20_000 for result in found)


def test_the_strongest_scores_decide_where_only_they_know_anything():
    rng = np.random.default_rng(3)
    member = rng.random(1000) < 0.5
    known = np.arange(1000) < 64
    scores = np.where(known, np.where(member, 9.0, -9.0), 0.0) + rng.normal(size=1000)
    best = audit(scores, member, delta=1e-5)
    assert best.guesses in (32, 64)
    assert best.correct == best.guesses
    assert best.epsilon > 1.5 > audit(scores, member, guesses=[1000]).epsilon
    each = 1 - 0.05 / 7  # 1000 and 16 to 512
    assert best.epsilon == one_run_epsilon(
        best.guesses, best.correct, canaries=1000, delta=1e-5, confidence=each
    )
    assert (best.confidence, best.method) == (
        0.95,
        "one run, best of 7 numbers of guesses, Bonferroni",
    )


few = st.lists(st.sampled_from([-math.inf, 0.0, 1.0, 2.0]), min_size=1, max_size=3)


@given(few, few, st.data())
@settings(derandomize=True, deadline=None)
def test_no_order_of_the_tied_gives_fewer_correct(member, nonmember, data):
    scores = [*member, *nonmember]
    guesses = data.draw(st.integers(1, len(scores)))
    low = guesses // 2

    def correct(order):
        falling = sorted(range(len(scores)), key=lambda place: (-scores[place], order[place]))
        truth = [place < len(member) for place in falling]
        lowest = truth[len(truth) - low :]
        return sum(truth[: guesses - low]) + low - sum(lowest)

    orders = itertools.permutations(range(len(scores)))
    found = one_run_audit(member, nonmember, delta=0.0, guesses=[guesses])
    assert found.correct == min(correct(order) for order in orders)


@pytest.mark.parametrize("sides", ["members", "nonmembers"])
def test_guesses_of_one_kind_read_one_end_of_the_scores(sides):
    rng = np.random.default_rng(4)
    member = rng.random(400) < 0.5
    known = np.arange(400) < 100
    scores = np.where(known & member, 9.0, 0.0) + rng.normal(size=400)
    if sides == "nonmembers":  # the mirror: only non-members tell
        member, scores = ~member, -scores
    found = audit(scores, member, guesses=[32], sides=sides)
    assert (found.correct, found.canaries) == (32, 400)
    assert found.epsilon == found.ceiling
    assert found.ceiling == one_run_epsilon(32, 32, canaries=400, delta=0.0, confidence=0.95)
    assert sides in found.method
    assert audit(scores, member, guesses=[32]).correct < 32


def test_a_gaussian_promise_is_tested_with_the_same_guesses():
    rng = np.random.default_rng(6)
    member = rng.random(500) < 0.5
    scores = 2.0 * member + rng.normal(size=500)
    found = audit(scores, member, delta=1e-5, guesses=[100, 500], promise="gaussian")
    assert found.epsilon == one_run_gaussian_epsilon(
        found.guesses, found.correct, canaries=500, delta=1e-5, confidence=0.975
    )
    assert audit(scores, member, delta=1e-5, guesses=[100, 500]).epsilon < found.epsilon
    assert found.epsilon <= gaussian_epsilon(2.0, 1e-5)
    assert "gaussian" in found.method


def test_so_few_guesses_that_they_can_show_nothing_say_so():
    found = one_run_audit([2.0, 3.0], [0.0, 1.0], delta=0.0)
    assert (found.epsilon, found.ceiling, found.correct) == (0.0, 0.0, 4)


def test_scores_that_are_all_equal_refute_nothing():
    found = one_run_audit(np.zeros(500), np.zeros(500), delta=0.0)
    assert (found.epsilon, found.correct) == (0.0, 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: audit_of([], [1.0]), "`member_scores` must be a vector of at least 1"),
        (lambda: audit_of([1.0], []), "`nonmember_scores` must be a vector of at least 1"),
        (lambda: audit_of([1.0, math.nan], [1.0]), "`member_scores` must not hold NaN"),
        (lambda: audit_of([1.0], [math.nan]), "`nonmember_scores` must not hold NaN"),
        (lambda: audit_of([1.0], [2.0], guesses=[2, 3]), "`guesses` must be from 1 to `can.*got 3"),
        (lambda: audit_of([1.0], [2.0], guesses=[0]), "`guesses` must be from 1 .*got 0"),
        (lambda: audit_of([1.0], [2.0], guesses=[]), "`guesses` must hold at least one"),
        (lambda: audit_of([1.0], [2.0], delta=math.nan), "`delta` must be in .0, 1., got nan"),
        (
            lambda: audit_of([1.0], [2.0], promise="gaussian"),
            "`delta` must be in .0, 1., got 0.0: a Gaussian",
        ),
        (lambda: audit_of([1.0], [2.0], delta=1.0), "`delta` must be in .0, 1., got 1.0"),
        (lambda: audit_of([1.0], [2.0], confidence=math.nan), "`confidence` must be in"),
        (lambda: one_run_epsilon(5, 6, canaries=9, delta=0.0), "`correct` must .*`guesses` .5."),
        (lambda: one_run_epsilon(5, 5, canaries=4, delta=0.0), "`guesses` must .*`canaries` .4."),
        (lambda: one_run_epsilon(5, 5, canaries=0, delta=0.0), "`canaries` must be at least 1"),
        (
            lambda: one_run_p_value(5, 5, canaries=5, epsilon=math.nan, delta=0.0),
            "`epsilon` must not be negative, got nan",
        ),
    ],
)
def test_messages_name_the_argument_and_the_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def audit_of(member, nonmember, **options):
    return one_run_audit(member, nonmember, **{"delta": 0.0, **options})


@pytest.mark.kinds
def test_counts_must_be_integers():
    with pytest.raises(TypeError, match=r"`guesses` must be an integer, got 1.5"):
        audit_of([1.0], [2.0], guesses=[1.5])
    with pytest.raises(TypeError, match="`correct` must be an integer, got True"):
        one_run_p_value(5, True, canaries=5, epsilon=0.0, delta=0.0)
    with pytest.raises(ValueError, match=r"`sides` must be any of both, .*, got 'left'"):
        audit_of([1.0], [2.0], sides="left")
    with pytest.raises(ValueError, match=r"`promise` must be any of .*, got 'pure'"):
        audit_of([1.0], [2.0], promise="pure")
