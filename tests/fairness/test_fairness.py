import itertools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trustml.fairness import (
    accuracy_by_group,
    compare_means,
    prediction_sensitivity,
    shifted_score,
)

NAMES = ("left", "right")
FAST = {"resamples": 800}


def squared(weights, x, unit):
    """Gradient by x: 2 (w.x) w, so the norm is 2 |w.x| |w|."""
    return unit["weight"] * jnp.dot(weights, x) ** 2


def problem(size=8, dim=3, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(size, dim)).astype(np.float32)
    return jnp.array([1.0, -2.0, 0.5]), x, {"weight": np.ones(size, np.float32)}


def test_the_gap_is_the_one_computed_by_hand():
    weights, x, units = problem()
    group = np.array([0, 1, 0, 1, 1, 0, -1, 1])
    found = prediction_sensitivity(squared, weights, x, units, group=group, names=NAMES)
    by_hand = 2 * np.abs(x @ np.asarray(weights)) * np.linalg.norm(weights)
    means = [by_hand[group == index].mean() for index in (0, 1)]
    np.testing.assert_allclose(found.mean, means, rtol=1e-5)
    np.testing.assert_allclose(found.per_unit[group >= 0], by_hand[group >= 0], rtol=1e-5)
    assert math.isnan(found.per_unit[6])
    assert found.units.tolist() == [3, 4]
    gap = found.comparison.largest
    assert gap.value == pytest.approx(means[0] - means[1], rel=1e-5)
    assert gap.low <= gap.value <= gap.high
    assert (gap.first, gap.second) == NAMES
    assert found.comparison.left_out == 1


def test_a_gradient_that_is_not_finite_is_dropped_and_counted():
    weights, x, units = problem()
    units["weight"][2] = np.nan
    group = np.arange(8) % 2
    found = prediction_sensitivity(squared, weights, x, units, group=group, names=NAMES)
    assert (found.not_finite, found.units.tolist()) == (1, [3, 4])
    assert np.isfinite(found.mean).all()
    assert math.isnan(found.per_unit[2])


def linear(matrix, x, unit):
    del unit
    return matrix @ x


def sensitivity(matrix, x, **options):
    group = np.arange(len(x)) % 2
    none = np.zeros(len(x), np.float32)
    found = prediction_sensitivity(linear, matrix, x, none, group=group, names=NAMES, **options)
    return found.per_unit


def test_a_linear_score_and_one_position_give_the_weight_itself():
    _, x, _ = problem(4)
    matrix = jnp.array([[1.0, -2.0, 3.0], [-4.0, 5.0, -6.0]])
    for k, p in itertools.product(range(2), range(3)):
        one_class, one_position = np.eye(2)[k], np.tile(np.eye(3)[p], (4, 1))
        found = sensitivity(matrix, x, class_weights=one_class, position_weights=one_position)
        np.testing.assert_allclose(found, abs(float(matrix[k, p])), rtol=1e-6)


def test_sensitivity_is_linear_in_class_weights_and_blind_to_ignored_positions():
    _, x, _ = problem(4)
    matrix = jnp.array([[1.0, 0.0, 3.0], [-4.0, 0.0, -6.0]])
    whole = [np.hypot(1, 3), np.hypot(4, 6)]
    np.testing.assert_allclose(sensitivity(matrix, x), sum(whole), rtol=1e-6)
    weighted = sensitivity(matrix, x, class_weights=[2.0, 0.5])
    np.testing.assert_allclose(weighted, 2 * whole[0] + whole[1] / 2, rtol=1e-6)
    ignored = np.tile(np.eye(3)[1], (4, 1))
    assert (sensitivity(matrix, x, position_weights=ignored) == 0).all()


class Tagger(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        return nn.Dense(2)(jnp.tanh(nn.Embed(6, 4)(tokens)).sum(0))


def test_a_shift_of_the_embedding_has_the_gradient_of_the_embedding():
    network, tokens = Tagger(), jnp.array([1, 5, 2])
    params = network.init(jax.random.key(0), tokens)
    score = shifted_score(lambda params, unit: network.apply(params, unit)[0], nn.Embed)
    shift = jnp.zeros((3, 4))
    found = jax.jit(jax.grad(score, argnums=1))(params, shift, tokens)
    inner = params["params"]
    embedded = inner["Embed_0"]["embedding"][tokens]
    by_hand = (1 - jnp.tanh(embedded) ** 2) * inner["Dense_0"]["kernel"][:, 0][None, :]
    np.testing.assert_allclose(found, by_hand, rtol=1e-5)
    assert score(params, shift, tokens) == network.apply(params, tokens)[0]
    blind = shifted_score(lambda params, unit: network.apply(params, unit)[0], nn.Conv)
    with pytest.raises(ValueError, match="`module` must be a layer of the network, got Conv"):
        blind(params, shift, tokens)
    with pytest.raises(TypeError, match="`module` must be a flax"):
        shifted_score(lambda params, unit: 0.0, "Embed")


def test_bootstrap_intervals_cover_the_true_gap_about_as_often_as_they_say():
    rng = np.random.default_rng(3)
    group = np.repeat([0, 1, 2], [60, 80, 50])
    truth = np.array([0.0, 0.5, 0.5])
    covered = 0
    for seed in range(100):
        values = truth[group] + rng.exponential(1.0, len(group))
        found = compare_means(values, group, names="abc", confidence=0.9, **FAST, seed=seed)
        covered += all(
            gap.low <= truth["abc".index(gap.first)] - truth["abc".index(gap.second)] <= gap.high
            for gap in found.gaps
        )
    # All three at once: 90 are promised; 100 draws stay above 80 with probability 0.999.
    assert covered >= 81
    assert len(found.gaps) == 3


def test_accuracy_per_group_and_its_interval_are_those_of_the_paper():
    # Newcombe 1998, table II, method 10: 56/70 against 48/80, difference 0.2, 0.0524 to 0.3339.
    right = np.concatenate([np.arange(70) < 56, np.arange(80) < 48])
    group = np.repeat([0, 1], [70, 80])
    found = accuracy_by_group(right, np.ones(150, bool), group, names=NAMES)
    assert [mean.value for mean in found.groups] == pytest.approx([0.8, 0.6])
    gap = found.largest
    assert (gap.value, gap.low, gap.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
    # The same table: 10/10 against 0/10 keeps doubt, 0.6075 to 1.
    right, group = np.repeat([True, False], 10), np.repeat([0, 1], 10)
    gap = accuracy_by_group(right, np.ones(20, bool), group, names=NAMES).largest
    assert (gap.low, gap.high) == pytest.approx((0.6075, 1.0), abs=5e-5)


def test_words_serve_as_labels():
    found = accuracy_by_group(["x", "y", "x", "x"], ["x", "y", "y", "x"], [0, 0, 1, 1], names=NAMES)
    assert [mean.value for mean in found.groups] == [1.0, 0.5]


@pytest.mark.parametrize("groups", [2, 3, 4, 10, 50])
def test_by_default_many_groups_are_compared(groups):
    rng = np.random.default_rng(groups)
    group = np.repeat(np.arange(groups), 30)
    names = [f"group {place}" for place in range(groups)]
    values = rng.normal(size=group.size) + (group == 1)
    found = compare_means(values, group, names=names)
    assert len(found.gaps) == groups * (groups - 1) // 2
    assert "group 1" in (found.largest.first, found.largest.second)
    right = accuracy_by_group(values > 0.5, np.ones(group.size, bool), group, names=names)
    assert len(right.groups) == groups


@pytest.mark.slow
def test_gaps_of_many_groups_hold_together_as_often_as_they_say():
    rng = np.random.default_rng(5)
    group, names = np.repeat(np.arange(8), 60), [str(place) for place in range(8)]
    covered = 0
    for seed in range(100):
        values = rng.normal(size=group.size)
        found = compare_means(values, group, names=names, confidence=0.9, **FAST, seed=seed)
        covered += all(gap.low <= 0 <= gap.high for gap in found.gaps)
    # 90 are promised; 100 draws stay within 80 to 98 with probability 0.99. Bonferroni gave 97.
    assert 80 <= covered <= 98


@pytest.mark.parametrize("size", [1e300, 1e-300, 1.7e308])
def test_values_of_any_size_are_compared(size):
    plain = compare_means([1.0, 2.0, -1.0, 0.5], TWO, names=NAMES)
    found = compare_means(size / 2 * np.array([1.0, 2.0, -1.0, 0.5]), TWO, names=NAMES)
    for one, other in zip(found.largest[2:], plain.largest[2:], strict=True):
        assert one == pytest.approx(size / 2 * other, rel=1e-12)


@pytest.mark.parametrize("kind", [np.asarray, lambda labels: np.asarray(labels, object)])
def test_words_against_numbers_are_refused_and_not_counted_as_wrong(kind):
    with pytest.raises(TypeError, match=r"`predicted` must hold .* words, got numbers"):
        accuracy_by_group(kind([0, 1, 0, 1]), kind(["no", "yes", "no", "yes"]), TWO, names=NAMES)
    with pytest.raises(TypeError, match=r"`predicted` must hold .* numbers, got words"):
        accuracy_by_group(kind(["0", "1", "0", "1"]), kind([0, 1, 0, 1]), TWO, names=NAMES)
    found = accuracy_by_group(kind([0, 1, 0, 1]), np.array([0.0, 1.0, 0.0, 1.0]), TWO, names=NAMES)
    assert [mean.value for mean in found.groups] == [1.0, 1.0]


TWO = np.array([0, 0, 1, 1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compare_means(np.ones(3), TWO, names=NAMES), "`values` must hold one entry"),
        (lambda: compare_means(np.ones(4), TWO * 1.0, names=NAMES), "`group` must be an integer"),
        (lambda: compare_means(np.ones(4), TWO, names=("a",)), "`names` must name at least two"),
        (
            lambda: compare_means(np.ones(4), TWO, names=("a", "a")),
            "`names` must name each group once, got 'a' more than once",
        ),
        (lambda: compare_means(np.ones(4), TWO + 1, names=NAMES), "must stay below 2 .* got 2"),
        (lambda: compare_means(np.ones(4), [0, 0, 0, 1], names=NAMES), "two units of 'right' .1.,"),
        (lambda: compare_means([1, 1, 1, math.nan], TWO, names=NAMES), "`values` must be finite"),
        (lambda: compare_means(np.ones(4), TWO, names=NAMES, confidence=1.0), "`confidence` must"),
        (
            lambda: compare_means(np.ones(4), TWO, names=NAMES, resamples=9),
            "at least 400, .* got 9.$",
        ),
        (lambda: accuracy_by_group([1], [1, 2], TWO, names=NAMES), "`predicted` must have the"),
        (lambda: sensitivity(jnp.eye(3), np.ones((4, 3)), class_weights=[-1.0]), "`class_weights`"),
        (lambda: sensitivity(jnp.eye(3), np.ones((4, 3)), class_weights=[1.0]), "class .* got 1"),
        (
            lambda: sensitivity(jnp.eye(3), np.ones((4, 3)), position_weights=np.ones((4, 2))),
            "`position_weights` must have one entry per position",
        ),
    ],
)
def test_messages_name_the_argument_and_the_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()
