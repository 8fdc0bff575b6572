"""Correlated noise against dense algebra, brute force over patterns, and published losses."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trustml.noise import gaussian_like, key_from_seed
from trustml.noise.correlated import CorrelatedState, correlated_noise
from trustml.noise.matrix_factorization import KINDS, Strategy, best_strategy
from trustml.noise.matrix_factorization import optimise as optimisers

KEY = key_from_seed(0)
SMALL = {  # one of each kind, none of them special
    "independent": Strategy("independent"),
    "tree": Strategy("tree"),
    "toeplitz": Strategy("toeplitz"),
    "banded": Strategy("banded", (0.75, 0.5, 0.25)),
    "blt": Strategy("blt", (0.25, 0.125), (0.5, 0.25)),
}


def dense(strategy, steps):
    """B and C, with B from C by dense algebra."""
    c = strategy.matrix(steps)
    return np.tril(np.ones((steps, steps))) @ np.linalg.inv(c), c


def patterns(steps, participations, apart, first=0):
    yield ()
    if participations:
        for step in range(first, steps):
            for rest in patterns(steps, participations - 1, apart, step + apart):
                yield (step, *rest)


def brute_sensitivity(c, participations, apart):
    """Over all patterns; contributions in one direction are the worst, since C is not negative."""
    gram = c.T @ c
    assert (gram >= 0).all()
    found = (gram[np.ix_(one, one)].sum() for one in patterns(len(c), participations, apart))
    return math.sqrt(max(found))


# --- Descriptions ---


def test_there_is_one_of_each_kind():
    assert set(SMALL) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_c_is_what_the_coefficients_say(kind):
    strategy, steps = SMALL[kind], 13
    c = strategy.matrix(steps)
    assert (np.diag(c) == 1).all()
    assert (c >= 0).all()
    assert (np.triu(c, 1) == 0).all()
    if kind == "tree":
        with pytest.raises(ValueError, match="no coefficients"):
            strategy.coefficients(steps)
        return
    inverse = np.linalg.inv(c)[:, 0]
    np.testing.assert_allclose(strategy.inverse_coefficients(steps), inverse, atol=1e-14)
    np.testing.assert_allclose(strategy.coefficients(steps), c[:, 0], atol=1e-14)
    assert (np.diff(c[:, 0]) <= 0).all()


def test_a_blt_has_the_coefficients_of_its_definition():
    """c_k = sum of s_j d_j^(k-1), the form in the papers, with d and s by eigenvalues."""
    strategy = SMALL["blt"]
    weights, decays = np.array(strategy.weights), np.array(strategy.decays)
    values, vectors = np.linalg.eig(np.diag(decays) + np.outer(np.ones(2), weights))
    scales = (weights @ vectors) * np.linalg.solve(vectors, np.ones(2))
    assert (scales > 0).all()
    want = [1.0, *((scales * values**k).sum() for k in range(11))]
    np.testing.assert_allclose(strategy.coefficients(12), want, atol=1e-14)


def test_the_tree_has_the_nodes_of_binary_aggregation():
    """Row t of C is the node that ends at t; a prefix is the sum of its binary digits' nodes."""
    b, c = dense(Strategy("tree"), 16)
    assert set(np.unique(b)) == {0.0, 1.0}
    assert b.sum(1).tolist() == [bin(t).count("1") for t in range(1, 17)]
    assert c.sum(1).tolist() == [t & -t for t in range(1, 17)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_strategy_survives_json(kind):
    fields = json.loads(json.dumps(dataclasses.asdict(SMALL[kind])))
    assert Strategy.from_dict(fields) == SMALL[kind]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("honaker",), "`kind` must be one of"),
        (("tree", (0.5,)), "`weights` are of 'banded' and 'blt'"),
        (("banded", (0.5, 0.6)), "must not be negative, nor grow"),
        (("banded", (1.5,)), "must not be negative, nor grow"),
        (("banded", (-0.5,)), "must not be negative, nor grow"),
        (("banded", (math.nan,)), "must not be negative, nor grow"),
        (("banded", (0.5,), (0.5,)), "`decays` are of 'blt' alone"),
        (("blt",), "one each for every buffer, got 0 and 0"),
        (("blt", (0.5,), (0.5, 0.25)), "one each for every buffer, got 1 and 2"),
        (("blt", (0.5,), (1.0,)), r"must be in \[0, 1\)"),
        (("blt", (0.5,), (0.75,)), "whose sum is 2"),  # C would grow: its sensitivity too
        (("blt", (-0.1,), (0.5,)), "must not be negative"),
        (("blt", (0.1, math.nan), (0.5, 0.2)), "must not be negative"),
    ],
)
def test_numbers_that_make_no_strategy_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Strategy(*arguments)


@pytest.mark.parametrize("name", ["steps", "participations", "min_separation"])
@pytest.mark.parametrize("call", [Strategy("tree").sensitivity, best_strategy])
def test_counts_below_one_are_refused(name, call):
    counts = {"steps": 4, "participations": 1, "min_separation": 1, name: 0}
    with pytest.raises(ValueError, match=f"`{name}` must be at least 1, got 0"):
        call(**counts, **({"kind": "blt"} if call is best_strategy else {}))


# --- Sensitivity and loss ---


@pytest.mark.parametrize("steps", [1, 5, 8, 12])
@pytest.mark.parametrize("kind", KINDS)
def test_sensitivity_is_the_worst_pattern(kind, steps):
    strategy = SMALL[kind]
    c = strategy.matrix(steps)
    for participations in (1, 2, 3, 4):
        for apart in (1, 2, 3, 5):
            found = strategy.sensitivity(steps, participations, apart)
            exact = brute_sensitivity(c, participations, apart)
            if kind == "tree" and participations > 1:
                assert exact * (1 - 1e-12) <= found <= 1.16 * exact
            else:
                assert found == pytest.approx(exact, rel=1e-12)


def test_a_pattern_that_counts_no_overlap_is_caught():
    """The bug to fear: sqrt(k) times the column, where participations share bands."""
    strategy = SMALL["banded"]
    wrong = math.sqrt(3) * np.linalg.norm(strategy.coefficients(12))
    assert brute_sensitivity(strategy.matrix(12), 3, 2) > 1.2 * wrong
    apart = len(strategy.weights) + 1
    assert strategy.sensitivity(12, 3, apart) == pytest.approx(wrong, rel=1e-12)


def test_no_signs_or_directions_are_worse_than_one_direction():
    rng = np.random.default_rng(0)
    for strategy in SMALL.values():
        c = strategy.matrix(9)[:, [0, 3, 6]]
        for _ in range(200):
            rows = rng.normal(size=(3, 4))
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            assert np.linalg.norm(c @ rows) <= strategy.sensitivity(9, 3, 3) + 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_sensitivity_of_a_part_of_the_run_is_never_larger(kind):
    for pattern in ((1, 1), (3, 4), (50, 7)):
        found = [SMALL[kind].sensitivity(steps, *pattern) for steps in range(1, 60)]
        assert (np.diff(found) >= -1e-12).all()


@pytest.mark.parametrize("steps", [1, 7, 64])
@pytest.mark.parametrize("kind", KINDS)
def test_losses_are_those_of_dense_algebra(kind, steps):
    strategy = SMALL[kind]
    b, c = dense(strategy, steps)
    np.testing.assert_allclose(b @ c, np.tril(np.ones((steps, steps))), atol=1e-12)
    variance = np.linalg.norm(c, axis=0).max() ** 2 * (b**2).sum(1)
    assert strategy.mean_loss(steps) == pytest.approx(variance.mean(), rel=1e-12)
    assert strategy.max_loss(steps) == pytest.approx(variance.max(), rel=1e-12)


@pytest.mark.parametrize(
    ("steps", "squared", "mean", "most"), [(100, 2.531, 5.62, 6.41), (1000, 3.265, 9.62, 10.66)]
)
def test_toeplitz_has_the_losses_known_for_it(steps, squared, mean, most):
    strategy = Strategy("toeplitz")
    assert strategy.sensitivity(steps) ** 2 == pytest.approx(squared, abs=5e-4)
    assert strategy.mean_loss(steps) == pytest.approx(mean, abs=5e-3)
    assert strategy.max_loss(steps) == pytest.approx(most, abs=5e-3)
    plain = Strategy("independent")
    assert (plain.mean_loss(steps), plain.max_loss(steps)) == ((steps + 1) / 2, steps)


# --- Optimised numbers ---


def numerical_slope(loss, at):
    step = 1e-6 * np.eye(len(at))
    return np.array([(loss(at + one)[0] - loss(at - one)[0]) / 2e-6 for one in step])


@pytest.mark.parametrize(
    "loss",
    [
        lambda free: optimisers._banded_loss(free, 30),
        lambda free: optimisers._blt_loss(free - 1, 30, 1, 1),
        lambda free: optimisers._blt_loss(free, 30, 4, 7),  # past the longest time scale
    ],
)
def test_slopes_are_those_of_the_losses(loss):
    at = np.random.default_rng(0).normal(size=6)
    np.testing.assert_allclose(loss(at)[1], numerical_slope(loss, at), rtol=1e-5, atol=1e-7)


def test_a_loss_of_the_optimiser_is_the_one_of_the_strategy():
    found = best_strategy("blt", steps=60, memory=1, participations=4, min_separation=15)
    pole, zero = found.coefficients(3)[2] / found.coefficients(3)[1], found.decays[0]
    gaps = -np.log1p(-np.array([pole, zero]))
    free = np.log([gaps[0] - gaps[1], gaps[1]])
    assert optimisers._blt_loss(free, 60, 4, 15)[0] == pytest.approx(
        math.log(found.mean_loss(60, 4, 15)), abs=1e-6
    )


@pytest.mark.parametrize("steps", [1, 20, 100])
def test_no_neighbour_of_a_banded_optimum_is_better(steps):
    found = best_strategy("banded", steps=steps, memory=min(3, steps - 1))
    rng = np.random.default_rng(0)
    for _ in range(50 if found.weights else 0):
        other = np.minimum.accumulate(found.weights + 0.02 * rng.uniform(-1, 1, 3))
        other = Strategy("banded", tuple(other.tolist()))
        assert other.mean_loss(steps) > found.mean_loss(steps) * (1 - 1e-9)


def test_one_band_is_independent_noise():
    found = best_strategy("banded", steps=50, memory=0)
    assert (found.matrix(50) == np.eye(50)).all()
    assert found.mean_loss(50, 5, 10) == Strategy("independent").mean_loss(50, 5, 10)


@pytest.mark.parametrize("pattern", [(1, 1), (10, 100)])
def test_few_buffers_are_enough(pattern):
    """Two buffers against the unrestricted Toeplitz of least maximal loss."""
    options = {"participations": pattern[0], "min_separation": pattern[1]}
    found = best_strategy("blt", steps=1000, memory=2, **options)
    toeplitz = Strategy("toeplitz")
    assert found.mean_loss(1000, *pattern) < 0.99 * toeplitz.mean_loss(1000, *pattern)
    if pattern == (1, 1):  # of one participation nothing Toeplitz beats it
        ratio = found.max_loss(1000) / toeplitz.max_loss(1000)
        assert 1 <= ratio < 1.1


@pytest.mark.parametrize("memory", [3, 8])
def test_buffers_that_are_not_needed_do_no_harm(memory):
    two, more = (best_strategy("blt", steps=100, memory=count) for count in (2, memory))
    assert more.mean_loss(100) < 1.001 * two.mean_loss(100)
    assert more.memory == memory


@pytest.mark.parametrize("kind", ["banded", "blt"])
def test_the_same_arguments_give_the_same_float32_numbers(kind):
    found, again = (best_strategy(kind, steps=200, memory=3) for _ in range(2))
    assert found == again
    numbers = (*found.weights, *found.decays)
    assert all(float(np.float32(number)) == number for number in numbers)


@pytest.mark.parametrize("steps", [1, 2, 3, 10_000])
def test_any_number_of_steps_has_a_strategy(steps):
    found = best_strategy("blt", steps=steps, memory=3)
    assert found.sensitivity(steps) >= 1
    assert found.mean_loss(steps) <= Strategy("toeplitz").mean_loss(steps) * 1.001


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "tree", "memory": 2}, "`memory` is of 'banded' and 'blt'"),
        ({"kind": "honaker"}, "`kind` must be one of"),
        ({"kind": "blt"}, "`memory` of 'blt' must be from 1 to 10, got 0"),
        ({"kind": "blt", "memory": 11}, "from 1 to 10, got 11"),
        ({"kind": "banded", "memory": -1}, "whole number of copies"),
        ({"kind": "banded", "memory": 20}, "must be below 20"),
        (
            {"kind": "banded", "memory": 5, "participations": 2, "min_separation": 5},
            "must be below 5",
        ),
    ],
)
def test_memory_that_fits_no_strategy_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        best_strategy(**{"steps": 20, **options})


# --- The stream ---

LIKE = {"w": jnp.zeros((3, 5)), "b": jnp.zeros(())}
STREAMED = {
    **SMALL,
    "banded, 1 copy": Strategy("banded", (0.9375,)),
    "banded, 0 copies": Strategy("banded"),
}


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]).astype(np.float64)


def stream(noise, steps, like=LIKE, key=KEY):
    """The noise of all steps [step, value], by one compiled program with a traced step."""
    update = jax.jit(lambda step, state: noise.update(key, step, state, like))
    state, rows = noise.init(like), []
    for step in range(steps):
        found, state = update(jnp.int32(step), state)
        rows.append(flat(found))
    assert update._cache_size() == 1
    return np.stack(rows)


def normals(steps, like=LIKE, key=KEY):
    return np.stack([flat(gaussian_like(like, key, jnp.int32(step))) for step in range(steps)])


@pytest.mark.parametrize("name", STREAMED)
def test_the_stream_is_c_inverse_z(name):
    strategy, steps = STREAMED[name], 37
    found = stream(correlated_noise(strategy, 2.5, steps=steps), steps)
    want = 2.5 * np.linalg.solve(strategy.matrix(steps), normals(steps))
    np.testing.assert_allclose(found, want, atol=2e-5)


@pytest.fixture(scope="module")
def thousand():
    like = jnp.zeros(16)
    return like, normals(1000, like)


@pytest.mark.parametrize(
    ("kind", "memory"),
    [
        ("tree", 0),
        ("blt", 2),
        *(
            pytest.param(kind, memory, marks=pytest.mark.slow)
            for kind, memory in (("banded", 15), ("banded", 63), ("blt", 8))
        ),
    ],
)
def test_rounding_does_not_add_up_over_a_thousand_steps(kind, memory, thousand):
    like, z = thousand
    strategy = best_strategy(kind, steps=1000, memory=memory)
    found = stream(correlated_noise(strategy, 1.0, steps=1000), 1000, like)
    want = np.linalg.solve(strategy.matrix(1000), z)
    errors = np.abs(found - want)
    assert errors.max() < 4e-6
    assert errors[-200:].max() < 4 * errors[:200].max()
    # What training sees is the prefix sum, whose noise is small because steps cancel.
    assert np.abs(np.cumsum(found - want, 0)).max() < 3e-5


def test_toeplitz_draws_again_what_it_does_not_keep(thousand):
    like, z = thousand
    strategy = Strategy("toeplitz")
    noise = correlated_noise(strategy, 1.0, steps=1000)
    state = CorrelatedState(jnp.int32(999), None)
    found, _ = jax.jit(lambda state: noise.update(KEY, jnp.int32(999), state, like))(state)
    want = strategy.inverse_coefficients(1000)[::-1] @ z
    np.testing.assert_allclose(flat(found), want, atol=2e-5)


def has_covariance(rows, strategy):
    """Whether rows [step, value] have covariance C^-1 C^-T, within six standard errors."""
    inverse = np.linalg.inv(strategy.matrix(len(rows)))
    want = inverse @ inverse.T
    variances = np.diag(want)
    error = np.sqrt((np.outer(variances, variances) + want**2) / rows.shape[1])
    return (np.abs(rows @ rows.T / rows.shape[1] - want) < 6 * error).all()


@pytest.fixture(scope="module")
def many():
    like = jnp.zeros(100_000)
    return {
        kind: stream(correlated_noise(one, 1.0, steps=6), 6, like) for kind, one in SMALL.items()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_the_noise_has_the_covariance_of_its_strategy_and_of_no_other(kind, many):
    accepted = {other for other, one in SMALL.items() if has_covariance(many[kind], one)}
    assert accepted == {kind}
    assert not has_covariance(1.03 * many[kind], SMALL[kind])


def test_independent_noise_is_that_of_gaussian_like_to_the_bit():
    like = jnp.zeros(1000)
    noise = correlated_noise(Strategy("independent"), 1.0, steps=3)
    found, state = noise.update(KEY, jnp.int32(0), noise.init(like), like)
    assert (found == gaussian_like(like, KEY, jnp.int32(0))).all()
    assert state.buffers is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_continued_from_its_state_is_the_same(kind):
    noise = correlated_noise(SMALL[kind], 1.0, steps=12)
    update = jax.jit(lambda step, state: noise.update(KEY, step, state, LIKE))
    state, kept, rows = noise.init(LIKE), None, []
    for step in range(12):
        if step == 7:
            kept = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), state)
        found, state = update(jnp.int32(step), state)
        rows.append(flat(found))
    for step in range(7, 12):
        found, kept = update(jnp.int32(step), kept)
        assert (flat(found) == rows[step]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_has_a_float32_copy_for_each_buffer(kind):
    strategy = SMALL[kind]
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.float32), LIKE)
    noise = correlated_noise(strategy, 1.0, steps=12)
    states = [noise.init(like)]
    states.append(noise.update(KEY, jnp.int32(0), states[0], like)[1])
    for state in states:
        found = [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(state.buffers)]
        shapes = [(strategy.memory, *leaf.shape) for leaf in jax.tree.leaves(LIKE)]
        assert found == ([(shape, jnp.float32) for shape in shapes] if strategy.memory else [])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("step", "at"), [(3, 4), (4, 3), (12, 12), (-1, -1)])
def test_a_step_out_of_turn_has_no_noise_to_use(kind, step, at):
    noise = correlated_noise(SMALL[kind], 1.0, steps=12)
    state = noise.init(LIKE)._replace(step=jnp.int32(at))
    found, _ = noise.update(KEY, jnp.int32(step), state, LIKE)
    assert np.isnan(flat(found)).all()


@pytest.mark.parametrize(
    "kind", ["tree", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("banded", "blt"))]
)
def test_noise_drawn_where_the_weights_lie_is_the_same(kind):
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    like = jnp.zeros((4, 256))
    placed = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    noise = correlated_noise(SMALL[kind], 1.0, steps=4)
    state = other = noise.init(like)
    for step in map(jnp.int32, range(3)):
        found, state = noise.update(KEY, step, state, like)
        again, other = noise.update(KEY, step, other, like, shardings=placed)
    np.testing.assert_allclose(found, again, atol=1e-6)


@pytest.mark.parametrize(
    ("stddev", "steps", "message"),
    [
        (-1.0, 5, "`stddev` must be finite"),
        (math.nan, 5, "`stddev` must be finite"),
        (math.inf, 5, "`stddev` must be finite"),
        (1.0, 0, "`steps` must be from 1"),
        (1.0, 2**31, "`steps` must be from 1"),
    ],
)
def test_noise_of_no_size_or_no_steps_is_refused(stddev, steps, message):
    with pytest.raises(ValueError, match=message):
        correlated_noise(Strategy("tree"), stddev, steps=steps)


# --- What the accountant is told ---


def test_banded_participations_of_one_unit_share_no_row():
    """So that each is a mechanism of its own, whose sensitivity is at most that of one column."""
    strategy, cycle = best_strategy("banded", steps=40, memory=4), 5
    c = strategy.matrix(40)
    for turn in range(cycle):
        columns = c[:, turn::cycle]
        assert (np.count_nonzero(columns, axis=1) <= 1).all()
        assert columns.shape[1] <= math.ceil(40 / cycle)
        assert np.linalg.norm(columns, axis=0).max() <= strategy.sensitivity(40) + 1e-12
    assert (np.count_nonzero(c[:, :: cycle - 1], axis=1) > 1).any()  # one step less is too close
