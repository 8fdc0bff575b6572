import math
from statistics import NormalDist

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trustml.audit import (
    area_under_curve,
    loss_threshold_attack,
    roc_curve,
    unit_losses,
)

few = st.lists(st.integers(0, 5), min_size=2, max_size=12)


@given(few, few)
@settings(derandomize=True, deadline=None)
def test_the_area_counts_pairs_with_ties_as_half(positive, negative):
    pairs = [1.0 if p > n else 0.5 if p == n else 0.0 for p in positive for n in negative]
    found = area_under_curve(positive, negative)
    assert found.value == pytest.approx(sum(pairs) / len(pairs), abs=1e-12)
    assert 0 <= found.low <= found.value <= found.high <= 1
    roc = roc_curve(positive, negative)
    assert np.trapezoid(roc.tpr, roc.fpr) == pytest.approx(found.value, abs=1e-12)


@given(few, few)
@settings(derandomize=True, deadline=None)
def test_the_interval_is_that_of_delong(positive, negative):
    """Structural components one pair at a time, as in the paper."""
    wins = [[(p > n) + 0.5 * (p == n) for n in negative] for p in positive]
    of_positive, of_negative = np.mean(wins, axis=1), np.mean(wins, axis=0)
    variance = of_positive.var(ddof=1) / len(positive) + of_negative.var(ddof=1) / len(negative)
    found = area_under_curve(positive, negative)
    if variance == 0:
        assert found.low < found.value or found.high > found.value
    else:
        reach = 1.959963984540054 * math.sqrt(variance)
        assert found.low == pytest.approx(max(0, found.value - reach), abs=1e-9)
        assert found.high == pytest.approx(min(1, found.value + reach), abs=1e-9)


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.5])
def test_gaussian_losses_give_the_known_area_and_the_interval_covers_it(shift):
    truth = NormalDist().cdf(shift / math.sqrt(2))
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(200):
        member, nonmember = rng.normal(-shift, 1, 150), rng.normal(0, 1, 100)
        found = area_under_curve(-member, -nonmember)
        covered += found.low <= truth <= found.high
    # 190 expected; 200 draws with p = 0.95 stay above 180 with probability 0.999.
    assert covered >= 180
    many = loss_threshold_attack(rng.normal(-shift, 1, 40_000), rng.normal(0, 1, 40_000))
    assert many.auc.value == pytest.approx(truth, abs=0.01)
    best = 2 * NormalDist().cdf(shift / 2) - 1  # the threshold halfway between the means
    assert many.advantage.value == pytest.approx(best, abs=0.02)
    assert many.advantage.low <= best <= many.advantage.high
    assert many.balanced_accuracy.value == pytest.approx((1 + many.advantage.value) / 2)
    at_one_percent = 1 - NormalDist().cdf(NormalDist().inv_cdf(0.99) - shift)
    assert many.tpr_at_fpr[0].tpr.value == pytest.approx(at_one_percent, abs=0.01)


def test_samples_that_do_not_overlap_leave_room_for_doubt():
    found = area_under_curve([2.0, 3.0, 4.0], [0.0, 1.0])
    assert found.value == found.high == 1.0
    z = 1.959963984540054
    assert found.low == pytest.approx(1 / (1 + z**2 / 2))
    assert area_under_curve([0.0, 1.0], [2.0, 3.0]).low == 0.0


def test_a_low_rate_is_reported_at_the_threshold_that_keeps_it():
    # Of 100 non-members one may be accused: the one with a loss of 1.
    nonmember = np.arange(1, 101, dtype=float)
    member = np.array([0.0, 1.0, 1.5, 50.0])
    one, small = loss_threshold_attack(member, nonmember).tpr_at_fpr
    assert one.tpr.value == 0.75
    assert one.fpr.value == 0.01
    assert one.fpr.high > 0.01  # the rate in the population may be higher
    assert small.tpr is None
    assert small.note == "too few: FPR 0.001 needs 1000 non-members, got 100"
    # Ties are taken or left together: two at the lowest loss are above one in a hundred.
    tied = np.concatenate([[1.0], nonmember[:-1]])
    found = loss_threshold_attack([0.0, 1.0], tied).tpr_at_fpr[0]
    assert found.tpr.value == 0.5
    assert found.fpr.value == 0.0


def loss(params, unit):
    hidden = jnp.tanh(unit["x"] @ params["in"])
    return jnp.square(jnp.dot(hidden, params["out"]) - unit["y"])


def rows(seed, size):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(size, 6)).astype(np.float32)
    return {"x": x, "y": rng.normal(size=size).astype(np.float32)}  # noise: only memory helps


@pytest.fixture(scope="module")
def models():
    """A network before and after training far too long on 40 rows of noise."""
    member, keys = rows(0, 40), jax.random.split(jax.random.key(0))
    fresh = {"in": jax.random.normal(keys[0], (6, 64)) / 2, "out": jnp.zeros(64)}
    fresh["out"] = 0.05 * jax.random.normal(keys[1], (64,))

    def mean(params):
        return jnp.mean(jax.vmap(loss, (None, 0))(params, member))

    def descend(params, _):
        return jax.tree.map(lambda p, g: p - 0.05 * g, params, jax.grad(mean)(params)), None

    fitted, _ = jax.jit(lambda params: jax.lax.scan(descend, params, length=1500))(fresh)
    return fresh, fitted


def test_the_attack_sees_an_overfitted_model_and_not_a_fresh_one(models):
    fresh, fitted = models
    member, nonmember = rows(0, 40), rows(1, 400)

    def attack(params):
        return loss_threshold_attack(
            unit_losses(loss, params, member), unit_losses(loss, params, nonmember)
        )

    before, after = attack(fresh), attack(fitted)
    assert before.auc.low <= 0.5 <= before.auc.high
    assert before.advantage.low == 0.0
    assert after.auc.value > 0.8
    assert after.auc.low > 0.6
    assert after.advantage.low > 0.0
    assert (after.members, after.nonmembers) == (40, 400)


def test_unit_losses_are_those_of_one_unit_at_a_time(models):
    fresh, _ = models
    units = rows(2, 7)
    found = unit_losses(loss, fresh, units, batch_size=3)
    one_by_one = [loss(fresh, jax.tree.map(lambda leaf, i=i: leaf[i], units)) for i in range(7)]
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, np.array(one_by_one), rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: loss_threshold_attack([1.0], [1.0, 2.0]), "`member_losses` must be a vector"),
        (lambda: loss_threshold_attack([1.0, 2.0], [[1.0]]), "`nonmember_losses` must be a vec"),
        (lambda: loss_threshold_attack([1.0, math.nan], [1.0, 2.0]), "NaN, got one at 1"),
        (lambda: loss_threshold_attack([1.0, 2.0], [1.0, 2.0], rates=[0.0]), "`rates` must be in"),
        (lambda: loss_threshold_attack([1.0, 2], [1.0, 2], confidence=math.nan), "`confidence`"),
        (lambda: unit_losses(loss, {}, {"x": np.zeros(2)}, batch_size=0), "`batch_size` must"),
        (lambda: unit_losses(loss, {}, {"x": np.zeros(2), "y": np.zeros(3)}), "`units` must"),
    ],
)
def test_messages_name_the_argument_and_the_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_infinite_losses_are_ordered_like_any_other():
    found = loss_threshold_attack([0.0, 1.0], [math.inf, math.inf])
    assert found.auc.value == 1.0
