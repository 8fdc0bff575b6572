"""DP-AdamBC and scale-then-privatise: against arithmetic by hand and one unit at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from trustml import PrivacyPlan, private_step
from trustml.clipping import clipped_grad
from trustml.noise import add_gaussian_noise, key_from_seed
from trustml.training.optimizers import (
    adam_bias_corrected,
    dp_adam_bc,
    scale_by_adam_bias_corrected,
)
from trustml.training.scaling import (
    ScaledLeaf,
    is_scaled,
    relative_scale_of,
    scale_of,
    scaled_loss,
    scaled_params,
    scaled_sums,
    second_moment,
    unscaled,
)

UNITS, CLIP = 10, 0.5


def plan_with(**changes):
    fields = {"clip_norm": CLIP, "noise_multiplier": 2.0, "sample_rate": 0.2, "steps": 8}
    return PrivacyPlan(**{**fields, "expected_batch": 40, **changes})


# DP-AdamBC


def by_hand(gradients, stddev, b1, b2, floor):
    """The directions of all steps, float64."""
    m = v = np.zeros_like(gradients[0])
    for at, g in enumerate(gradients, 1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        yield (m / (1 - b1**at)) / np.sqrt(np.maximum(v / (1 - b2**at) - stddev**2, floor))


@pytest.mark.parametrize(("b1", "b2"), [(0.9, 0.999), (0.0, 0.9), (0.5, 0.5)])
def test_directions_equal_those_by_hand(b1, b2):
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(6, 5)) * [1.0, 1.0, 0.1, 0.5, 2.0]
    rule = scale_by_adam_bias_corrected(0.5, b1=b1, b2=b2, floor=0.01)
    state = rule.init({"w": jnp.zeros(5), "none": None})
    update = jax.jit(rule.update)
    floored = False
    for g, wanted in zip(gradients, by_hand(gradients, 0.5, b1, b2, 0.01), strict=True):
        found, state = update({"w": jnp.asarray(g, jnp.float32), "none": None}, state)
        np.testing.assert_allclose(found["w"], wanted, rtol=2e-4)
        floored |= bool(np.any(state.nu["w"] / (1 - b2 ** int(state.count)) - 0.25 < 0.01))
    assert floored
    assert found["none"] is None


def test_what_is_taken_off_is_what_noise_adds_to_the_second_moment():
    """E[v_hat] = g^2 + stddev^2: neither a stddev that is a tenth off nor its half passes."""
    values, stddev, g = 40_000, 0.3, 0.05
    rule = scale_by_adam_bias_corrected(stddev, b2=0.99, floor=1e-12)
    state, rng = rule.init(jnp.zeros(values)), np.random.default_rng(1)
    update = jax.jit(rule.update)
    for _ in range(60):
        noisy = g + stddev * rng.normal(size=values).astype(np.float32)
        _, state = update(jnp.asarray(noisy), state)
    left = np.asarray(state.nu, np.float64) / (1 - 0.99 ** int(state.count))
    error = 5 * left.std() / np.sqrt(values)
    assert abs(left.mean() - stddev**2 - g**2) < error
    for wrong in (0.9 * stddev, 1.1 * stddev, stddev / 2, 0.0):
        assert abs(left.mean() - wrong**2 - g**2) > 3 * error


@pytest.mark.parametrize("changes", [{}, {"num_microbatches": 4}, {"clip_norm": {"w": CLIP}}])
def test_the_noise_of_a_plan_is_what_its_steps_add(changes):
    """A loss without gradient leaves noise alone: the optimizer must find nothing but its floor."""
    plan, values = plan_with(**changes), 20_000
    step = private_step(lambda params, unit: 0.0 * jnp.sum(params["w"]) + unit, probe(), plan)
    state = step.init({"w": jnp.zeros(values)}, key=0)
    for draw in plan.batches(seed=0):
        state, _ = step.update(state, draw, np.zeros(plan.num_units, np.float32))
    seen = np.asarray(state.opt_state.nu["w"], np.float64) / (1 - 0.999**plan.steps)
    assert dp_variance(plan) == pytest.approx(seen.mean(), rel=0.02)


def probe():
    """Adam's moments, of which only the state is read."""
    return optax.scale_by_adam()


def dp_variance(plan):
    """The variance that `dp_adam_bc` takes off, from what it does to one constant gradient."""
    rule, g = dp_adam_bc(1.0, plan, floor=1e-12), 0.5
    moved, _ = rule.update({"w": jnp.full(1, g)}, rule.init({"w": jnp.zeros(1)}))
    return g**2 - (g / float(moved["w"][0])) ** 2


def test_without_noise_it_is_adam():
    mine = adam_bias_corrected(1e-2, 0.0, floor=1e-20)
    theirs = optax.adam(1e-2, eps=0.0)
    params, rng = {"w": jnp.ones(7)}, np.random.default_rng(2)
    states = [mine.init(params), theirs.init(params)]
    for _ in range(4):
        g = {"w": jnp.asarray(rng.normal(size=7), jnp.float32)}
        one, states[0] = mine.update(g, states[0])
        with jax.numpy_dtype_promotion("standard"):
            other, states[1] = theirs.update(g, states[1])
        np.testing.assert_allclose(one["w"], other["w"], rtol=1e-4)


def test_it_goes_with_schedules_and_decoupled_decay():
    plan = plan_with()
    chain = optax.chain(
        scale_by_adam_bias_corrected(0.01, floor=1e-4),
        optax.add_decayed_weights(0.1),
        optax.scale_by_learning_rate(optax.linear_schedule(1.0, 0.0, 4)),
    )
    loss = lambda params, unit: jnp.vdot(params["w"], unit)  # noqa: E731
    rows = np.random.default_rng(3).normal(size=(plan.num_units, 3)).astype(np.float32)
    for rule in (chain, dp_adam_bc(optax.constant_schedule(0.1), plan)):
        step = private_step(loss, rule, plan)
        state = step.init({"w": jnp.ones(3)}, key=1)
        for draw in plan.batches(seed=1):
            state, _ = step.update(state, draw, rows)
        assert np.all(np.isfinite(state.params["w"]))
        assert np.any(state.params["w"] != 1)


@pytest.mark.parametrize(
    ("named", "changes"),
    [
        ("noise_stddev_of_mean", {"noise_stddev_of_mean": -1.0}),
        ("noise_stddev_of_mean", {"noise_stddev_of_mean": float("nan")}),
        ("b1", {"b1": 1.0}),
        ("b2", {"b2": float("nan")}),
        ("floor", {"floor": 0.0}),
        ("floor", {"floor": float("nan")}),
    ],
)
def test_numbers_out_of_range_are_refused(named, changes):
    with pytest.raises(ValueError, match=f"`{named}`"):
        scale_by_adam_bias_corrected(**{"noise_stddev_of_mean": 0.1, "floor": 1e-4, **changes})


@pytest.mark.parametrize(
    ("named", "changes"),
    [
        ("floor", {"noise_multiplier": 0.0}),
        ("plan", {"noise_decay": 0.5}),
        ("plan", {"clip_quantile": 0.5}),
        ("plan", {"noise": "toeplitz", "sampling": "cyclic_poisson", "cycle_length": 5}),
    ],
)
def test_noise_that_changes_its_size_is_refused(named, changes):
    with pytest.raises(ValueError, match=f"`{named}`"):
        dp_adam_bc(1e-2, plan_with(**changes))


# Scale-then-privatise

ADAPTIVE = {
    "adam": (lambda: optax.adam(1e-2), "nu"),
    "adamw in a chain": (
        lambda: optax.chain(optax.clip(1.0), optax.trace(0.9), optax.adamw(1e-2)),
        "nu",
    ),
    "rmsprop": (lambda: optax.rmsprop(1e-2), "nu"),
    "adagrad": (lambda: optax.adagrad(1e-2), "sum_of_squares"),
    "amsgrad": (lambda: optax.amsgrad(1e-2), "nu_max"),
    "injected": (lambda: optax.inject_hyperparams(optax.adam)(learning_rate=1e-2), "nu"),
    "bias corrected": (lambda: adam_bias_corrected(1e-2, 0.01, floor=1e-4), "nu"),
}


def network(params, unit):
    hidden = jnp.tanh(params["embedding"][unit["words"]] @ params["w"] + params["b"][None])
    return jnp.sum((jnp.mean(hidden, axis=0) @ params["nu"] - unit["y"]) ** 2)


def made(dtype=jnp.float32):
    """Weights, of which one has the name of a moment, and units with repeated words."""
    keys = jax.random.split(jax.random.key(0), 5)
    sizes = {"embedding": (12, 4), "w": (4, 6), "b": (6,), "nu": (6, 2)}
    params = {
        name: jax.random.normal(key, size).astype(dtype)
        for key, (name, size) in zip(keys, sizes.items(), strict=False)
    }
    words = jax.random.randint(keys[4], (UNITS, 5), 0, 12)
    return params, {"words": words, "y": jnp.ones((UNITS, 2), dtype)}


def warmed(rule, params):
    """The state after two made-up gradients, so that moments differ from weight to weight."""
    rng = np.random.default_rng(4)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        state = rule.init(params)
        for _ in range(2):
            draw = lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) ** 3, jnp.float32)  # noqa: E731
            state = rule.update(jax.tree.map(draw, params), state, params)[1]
    return state


def oracle(params, units, scale, clip_norm):
    """Scaled, clipped and summed one unit at a time, float64; and the scaled norms."""
    grads = jax.vmap(jax.grad(network), in_axes=(None, 0))(params, units)
    scaled = jax.tree.map(
        lambda g, s: np.asarray(g, np.float64) * np.asarray(s)[None], grads, scale
    )
    flat = np.concatenate([leaf.reshape(UNITS, -1) for leaf in jax.tree.leaves(scaled)], axis=1)
    norms = np.linalg.norm(flat, axis=1)
    kept = np.minimum(1.0, clip_norm / norms)
    return jax.tree.map(lambda leaf: np.tensordot(kept, leaf, axes=1), scaled), norms


def scaled_sum(params, units, scale, clip_norm, **options):
    trainable = options.pop("trainable", None)
    grad = clipped_grad(scaled_loss(network), clip_norm=clip_norm, trainable=is_scaled, **options)
    sums, info = grad(scaled_params(params, scale, trainable), units)
    return scaled_sums(sums), info


def close(found, wanted):
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=1e-5 * np.max(np.abs(other)))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if place == 0 else pytest.mark.slow)
        for place, name in enumerate(ADAPTIVE)
    ],
)
def test_scales_come_from_any_chain_that_holds_a_second_moment(name):
    make, field = ADAPTIVE[name]
    params, _ = made()
    rule = make()
    state = warmed(rule, params)
    found = second_moment(state)
    assert jax.tree.structure(found) == jax.tree.structure(params)
    states = [
        leaf
        for leaf in jax.tree.leaves(state, is_leaf=lambda node: hasattr(node, field))
        if hasattr(leaf, field)
    ]
    close(found, getattr(states[0], field))
    close(scale_of(state, eps=1e-3), jax.tree.map(lambda nu: 1 / (np.sqrt(nu) + 1e-3), found))


@pytest.mark.parametrize("strategy", ["auto", "ghost", "vmap"])
@pytest.mark.parametrize("choose", [scale_of, relative_scale_of])
def test_sums_of_scaled_gradients_equal_those_of_one_unit_at_a_time(choose, strategy):
    params, units = made()
    scale = choose(warmed(optax.adam(1e-2), params))
    wanted, norms = oracle(params, units, scale, float("inf"))
    bound = float(np.median(norms))  # some units are bounded, some are not
    wanted, _ = oracle(params, units, scale, bound)
    found, info = scaled_sum(params, units, scale, bound, strategy=strategy)
    np.testing.assert_allclose(info.norm, norms, rtol=2e-4)
    close(found, wanted)
    plain, _ = oracle(params, units, jax.tree.map(jnp.ones_like, params), bound)
    assert not np.allclose(jax.tree.leaves(found)[0], jax.tree.leaves(plain)[0], rtol=0.05)


def test_bounds_per_layer_and_frozen_weights_keep_their_meaning():
    params, units = made()
    bounds = {"embedding": 0.3, "w": 0.2, "b": 0.1, "nu": 0.4}
    scale = relative_scale_of(warmed(optax.adam(1e-2), params))
    found, info = scaled_sum(params, units, scale, bounds)
    assert set(info.norm) == set(bounds)
    for name, bound in bounds.items():
        only = {key: leaf if key == name else jnp.zeros_like(leaf) for key, leaf in scale.items()}
        close(found[name], oracle(params, units, only, bound)[0][name])
    trained = {"w": scale["w"], "b": None, "embedding": None, "nu": None}
    found, _ = scaled_sum(params, units, trained, 0.2, trainable=lambda name: name == "w")
    assert found["b"] is None
    alone = {key: jnp.zeros_like(leaf) for key, leaf in scale.items()} | {"w": scale["w"]}
    close(found["w"], oracle(params, units, alone, 0.2)[0]["w"])


def test_bfloat16_weights_get_float32_sums():
    params, units = made(jnp.bfloat16)
    scale = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 2.0, jnp.float32), params)
    found, _ = scaled_sum(params, units, scale, 1.0)
    grad = clipped_grad(network, clip_norm=0.5)
    wanted, _ = grad(params, units)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert one.dtype == jnp.float32
        np.testing.assert_allclose(one, 2 * other, rtol=0.05, atol=0.05)


def test_one_unit_moves_the_scaled_sum_by_at_most_the_bound():
    params, units = made()
    scale = scale_of(warmed(optax.adam(1e-2), params))
    grad = clipped_grad(scaled_loss(network), clip_norm=CLIP, trainable=is_scaled)
    at, group = scaled_params(params, scale), np.zeros(UNITS, np.int32)
    whole = scaled_sums(grad(at, units, group)[0])
    moved = []
    for out in range(UNITS):
        less = group.copy()
        less[out] = -1
        without = scaled_sums(grad(at, units, less)[0])
        gap = jax.tree.map(jnp.subtract, whole, without)
        moved.append(float(jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(gap)))))
    assert CLIP * 0.999 < max(moved) <= CLIP * (1 + 1e-5)


def test_a_whole_step_gives_the_optimizer_gradients_of_the_right_size():
    """Scale, bound, noise and back: mean and spread as the scales say."""
    params = {"w": jnp.zeros(2)}
    scale, stddev = {"w": jnp.array([1.0, 100.0])}, 0.5
    units = jnp.tile(jnp.array([[0.3, 0.004]]), (UNITS, 1))  # scaled: (0.3, 0.4), of norm CLIP
    loss = scaled_loss(lambda params, unit: jnp.vdot(params["w"], unit))
    grad = clipped_grad(loss, clip_norm=CLIP, trainable=is_scaled)
    sums = scaled_sums(grad(scaled_params(params, scale), units)[0])
    noise, found = add_gaussian_noise(stddev, key_from_seed(0)), []
    state = noise.init(params)
    for _ in range(2_000):
        noisy, state = noise.update(sums, state)
        found.append(np.asarray(unscaled(noisy, scale)["w"]))
    found = np.stack(found)
    wanted, spread = UNITS * np.array([0.3, 0.004]), stddev / np.array([1.0, 100.0])
    assert np.all(np.abs(found.mean(axis=0) - wanted) < 5 * spread / np.sqrt(2_000))
    np.testing.assert_allclose(found.std(axis=0), spread, rtol=0.1)


@pytest.mark.parametrize("num_microbatches", [0, 4])
def test_a_private_step_scales_before_the_bound_and_unscales_after_the_noise(num_microbatches):
    plan = plan_with(
        num_units=200, num_microbatches=num_microbatches, noise_multiplier=0.5, steps=3
    )
    # A gradient that is the same for all units: its scaled norm exceeds the bound.
    loss = lambda params, unit: jnp.vdot(params["w"], unit)  # noqa: E731
    units = np.tile(np.array([[0.3, 0.04]], np.float32), (200, 1))
    scales = {"w": jnp.array([10.0, 100.0])}  # scaled: (3, 4), of norm 5 = 10 CLIP
    step = private_step(loss, optax.sgd(1.0), plan, scale_by=lambda _: scales)
    still = private_step(loss, optax.sgd(1.0), plan, scale_by=lambda _: {"w": jnp.ones(2)})
    draw = next(iter(plan.batches(seed=0)))
    moved = []
    for one in (step, still):
        state, _ = one.update(one.init({"w": jnp.zeros(2)}, key=0), draw, units)
        moved.append(-np.asarray(state.params["w"]) * plan.divisor)
    drawn = num_microbatches or int((np.asarray(draw.group) >= 0).sum())
    scaled = moved[0] - drawn * np.array([0.03, 0.004])  # a tenth: the bound over their norm
    plain = moved[1] - drawn * np.array([0.3, 0.04])  # within the bound as they are
    np.testing.assert_allclose(scaled * scales["w"], plain, rtol=1e-3, atol=1e-3)
    assert 0 < np.abs(plain).max() < 5 * plan.stddev


def test_scales_are_refused_on_a_mesh():
    mesh = jax.make_mesh((1,), ("data",))
    with pytest.raises(NotImplementedError, match="`scale_by` must be None on a mesh"):
        private_step(network, optax.adam(1e-3), plan_with(), mesh=mesh, scale_by=scale_of)


def test_relative_scales_are_alike_where_moments_are():
    params = {"a": jnp.zeros((3, 2)), "b": jnp.zeros(4)}
    rule = optax.scale_by_adam()
    fresh = relative_scale_of(rule.init(params), eps=0.25)
    alike = relative_scale_of(rule.init(params)._replace(nu=jax.tree.map(lambda x: x + 4, params)),
                              eps=0.25)  # fmt: skip
    for leaf in jax.tree.leaves((fresh, alike)):
        np.testing.assert_allclose(leaf, 0.8, rtol=1e-6)
    nu = {"a": jnp.zeros((3, 2)), "b": jnp.array([0.0, 0.0, 0.0, 9.0])}
    apart = relative_scale_of(rule.init(params)._replace(nu=nu), eps=0.25)
    root = np.sqrt(9 / 10)
    np.testing.assert_allclose(apart["a"], 4.0, rtol=1e-6)  # 1 / eps: no scale is above it
    np.testing.assert_allclose(apart["b"][3], root / (3 + 0.25 * root), rtol=1e-6)


def test_states_without_one_second_moment_are_refused():
    params = {"nu": jnp.zeros(2), "mu": jnp.zeros(2)}
    for rule in (optax.sgd(1e-2), optax.chain(optax.trace(0.9), optax.sgd(1e-2, momentum=0.5))):
        with pytest.raises(ValueError, match="`opt_state` must be of an adaptive optimizer"):
            scale_of(rule.init(params))
    two = optax.chain(optax.scale_by_adam(), optax.scale_by_adam())
    with pytest.raises(ValueError, match="`opt_state` must hold one second moment, got 2"):
        scale_of(two.init(params))


def test_bad_scales_are_refused():
    params = {"w": jnp.zeros(3), "b": jnp.zeros(2)}
    state = optax.scale_by_adam().init(params)
    for eps in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="`eps`"):
            scale_of(state, eps=eps)
        with pytest.raises(ValueError, match="`eps`"):
            relative_scale_of(state, eps=eps)
    with pytest.raises(ValueError, match="`eps_root`"):
        scale_of(state, eps_root=float("nan"))
    for scale in ({"w": jnp.ones(3)}, {"w": jnp.ones(3), "b": jnp.ones(3)}):
        with pytest.raises(ValueError, match="`scale` must be shaped"):
            scaled_params(params, scale)
    taken = {"scaled_at": jnp.zeros(2)}
    with pytest.raises(ValueError, match="`params` must not hold a weight named"):
        scaled_params(taken, taken)
    assert ScaledLeaf._fields == ("scaled_at", "base", "scale")
