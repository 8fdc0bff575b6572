"""Bounded sums: the theorem, the oracle, edges and messages."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import trustml
from trustml.clipping import combine, partition

BATCH = 6
STRATEGIES = ("bookkeeping", "ghost", "vmap")
settings.register_profile("trustml", derandomize=True, deadline=None, max_examples=12)
settings.load_profile("trustml")


def loss(params, unit):
    """A small transformer-like loss: lookups, dots over tokens, normalisation, a tied table."""
    x = params["table"][unit["tokens"]]
    scores = jax.nn.softmax(x @ params["q"] @ x.T, axis=-1)
    x = jnp.tanh(scores @ x @ params["w"] + params["b"][None]) + unit["x"]
    return jnp.mean(jax.nn.logsumexp(x @ params["table"].T, axis=-1))


@functools.lru_cache
def problem(seed):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
    params = {"table": draw(9, 4), "q": draw(4, 4), "w": draw(4, 4), "b": draw(4)}
    units = {"tokens": jnp.asarray(rng.integers(0, 9, (BATCH, 5))), "x": draw(BATCH, 5, 4)}
    return params, units


def l2(tree):
    return float(jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree))))


def distance(one, two):
    return l2(jax.tree.map(jnp.subtract, one, two))


@functools.lru_cache
def gradient(strategy, **options):
    return trustml.clipped_grad(loss, strategy=strategy, **options)


def poison(units, place, kind):
    """Puts a bad value into one unit."""
    value = {"nan": jnp.nan, "inf": jnp.inf, "huge": 1e30, "-inf": -jnp.inf}[kind]
    return {**units, "x": units["x"].at[place, 0, 0].set(value)}


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(
    seed=st.integers(0, 3),
    out=st.integers(0, BATCH - 1),
    kind=st.sampled_from(["", "nan", "inf", "huge", "-inf"]),
)
def test_one_unit_moves_the_sum_by_at_most_the_sensitivity(strategy, seed, out, kind):
    params, units = problem(seed)
    units = poison(units, out, kind) if kind else units
    grad = gradient(strategy, clip_norm=0.3, num_groups=2)
    group = jnp.arange(BATCH) % 2
    with_it, info = grad(params, units, group)
    without, _ = grad(params, units, group.at[out].set(-1))
    assert distance(with_it, without) <= grad.sensitivity * (1 + 1e-6)
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(with_it))
    if kind:
        assert float(info.clip_factor[out]) == 0


@pytest.mark.parametrize("clip_norm", [0.3, 1e9, {"table": 0.2, "q": 0.1, "w": 0.5, "b": 0.05}])
def test_fast_strategies_equal_the_oracle(clip_norm):
    oracle, *others = (
        trustml.clipped_grad(loss, clip_norm=clip_norm, strategy=strategy, num_groups=2)
        for strategy in ("vmap", *STRATEGIES[:2])
    )
    params, whole = problem(1)
    group = jnp.array([0, 1, 0, -1, 1, 1])
    for units in (whole, poison(whole, 2, "nan"), poison(whole, 2, "huge")):
        want, info = oracle(params, units, group)
        for grad in others:
            got, fast = grad(params, units, group)
            assert distance(want, got) <= 1e-5 * l2(want)
            assert_equal_info(fast, info)


def assert_equal_info(fast, info):
    for ours, theirs in zip(jax.tree.leaves(fast.norm), jax.tree.leaves(info.norm), strict=True):
        keep = np.isfinite(theirs)
        np.testing.assert_allclose(ours[keep], theirs[keep], rtol=1e-5)
    for ours, theirs in zip(
        jax.tree.leaves(fast.clip_factor), jax.tree.leaves(info.clip_factor), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    np.testing.assert_allclose(fast.loss, info.loss, rtol=1e-5)


def by_hand(params, units, group, clip_norm, clipping="flat"):
    """The paper's algorithm, one unit at a time, in float64 NumPy."""
    total = jax.tree.map(lambda leaf: np.zeros((2, *leaf.shape)), params)
    for place in range(BATCH):
        unit = jax.tree.map(lambda leaf, place=place: leaf[place], units)
        grad = jax.tree.map(lambda g: np.asarray(g, np.float64), jax.grad(loss)(params, unit))
        norm = np.sqrt(sum(np.sum(leaf**2) for leaf in jax.tree.leaves(grad)))
        factor = clip_norm / (norm + 0.01) if clipping == "automatic" else min(1, clip_norm / norm)
        if group[place] >= 0:
            for whole, part in zip(jax.tree.leaves(total), jax.tree.leaves(grad), strict=True):
                whole[group[place]] += factor * part
    return total


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("clipping", ["flat", "automatic"])
def test_sums_equal_the_algorithm_of_the_paper(strategy, clipping):
    params, units = problem(2)
    group = np.array([0, 1, 0, -1, 1, 1])
    want = by_hand(params, units, group, 0.4, clipping)
    grad = trustml.clipped_grad(
        loss, clip_norm=0.4, strategy=strategy, num_groups=2, clipping=clipping
    )
    got, _ = grad(params, units, jnp.asarray(group))
    assert distance(want, got) <= 1e-5 * l2(want)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_planted_bug_of_clipping_the_mean_is_noticed(strategy):
    # A mean clipped to C has sensitivity up to 2C when a unit is replaced; ours holds 2C, no more.
    params, units = problem(3)
    grad = gradient(strategy, clip_norm=0.3)
    want, _ = grad(params, units)
    mean = jax.grad(lambda p: jnp.mean(jax.vmap(loss, (None, 0))(p, units)))(params)
    wrong, _, _ = trustml.clip(mean, 0.3)
    assert distance(jax.tree.map(lambda leaf: leaf * BATCH, wrong), want) > 0.05 * l2(want)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(
    "physical_batch_size",
    [4, *(pytest.param(size, marks=pytest.mark.slow) for size in (1, 2, 6, 50))],
)
def test_microbatches_change_nothing(strategy, physical_batch_size):
    params, units = problem(1)
    group = jnp.array([0, 1, 0, 1, -1, -1])
    whole, info = gradient(strategy, clip_norm=0.3, num_groups=2)(params, units, group)
    sliced, parts = gradient(
        strategy, clip_norm=0.3, num_groups=2, physical_batch_size=physical_batch_size
    )(params, units, group)
    assert distance(whole, sliced) <= 1e-6 * l2(whole)
    np.testing.assert_allclose(parts.clip_factor, info.clip_factor, rtol=1e-6)


def test_microbatches_of_padding_are_not_computed():
    ran = []

    def watched(w, x):
        jax.debug.callback(lambda x: ran.append(float(x)), x)
        return w * x

    grad = trustml.clipped_grad(watched, clip_norm=1.0, strategy="vmap", physical_batch_size=2)
    units = jnp.arange(8.0)
    jax.block_until_ready(grad(jnp.array(1.0), units, jnp.array([0, 0, 0, -1, -1, -1, -1, -1])))
    jax.effects_barrier()
    assert set(ran) == {0.0, 1.0, 2.0, 3.0}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_unit_keys_do_not_depend_on_microbatches(strategy):
    def noisy(w, x, key):
        return jnp.sum(w * x * jax.random.bernoulli(key, 0.5, x.shape).astype(x.dtype))

    params, units = jnp.ones(8), jnp.ones((BATCH, 8))
    key = jax.random.key(3)
    build = functools.partial(trustml.clipped_grad, noisy, clip_norm=1e9, strategy=strategy)
    whole, _ = build()(params, units, key=key)
    sliced, _ = build(physical_batch_size=2)(params, units, key=key)
    np.testing.assert_allclose(whole, sliced)
    assert len(set(np.asarray(whole).tolist())) > 1


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_dropped_units_give_nothing_and_an_empty_batch_gives_zero(strategy):
    params, units = problem(0)
    grad = gradient(strategy, clip_norm=0.3)
    sums, info = grad(params, units, jnp.full(BATCH, -1))
    assert l2(sums) == 0
    assert not np.any(info.clip_factor)
    assert info.norm.shape == (BATCH,)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_all_units_bad_gives_zero(strategy):
    params, units = problem(0)
    units = {**units, "x": jnp.full_like(units["x"], jnp.nan)}
    sums, _ = gradient(strategy, clip_norm=0.3)(params, units)
    assert l2(sums) == 0


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_infinite_bound_gives_the_plain_sum(strategy):
    params, units = problem(0)
    want = jax.grad(lambda p: jnp.sum(jax.vmap(loss, (None, 0))(p, units)))(params)
    got, _ = trustml.clipped_grad(loss, clip_norm=float("inf"), strategy=strategy)(params, units)
    assert distance(want, got) <= 1e-5 * l2(want)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_frozen_leaves_are_arguments_and_have_no_sum(strategy):
    params, units = problem(0)
    params = {**params, "count": jnp.arange(3)}
    grad = trustml.clipped_grad(
        loss, clip_norm=1.0, strategy=strategy, trainable=lambda name: name != "table"
    )
    sums, _ = grad(params, units)
    assert sums["table"] is None
    assert sums["count"] is None
    changed, _ = grad({**params, "table": 2 * params["table"]}, units)
    assert distance(sums, changed) > 1e-3


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_aux_is_stacked_over_units(strategy):
    params, units = problem(0)
    grad = trustml.clipped_grad(
        lambda p, u: (loss(p, u), {"first": u["x"][0], "of": p["b"]}),
        clip_norm=1.0,
        strategy=strategy,
        has_aux=True,
    )
    _, info = grad(params, units)
    np.testing.assert_allclose(info.aux["first"], units["x"][:, 0])
    assert info.aux["of"].shape == (BATCH, 4)


def test_one_compiled_program_serves_all_batches():
    traces = []

    def counted(p, unit):
        traces.append(1)
        return loss(p, unit)

    grad = trustml.clipped_grad(counted, clip_norm=1.0)
    params, units = problem(0)
    grad(params, units)
    first = len(traces)
    grad(params, poison(units, 1, "nan"), jnp.zeros(BATCH, jnp.int32))
    grad(jax.tree.map(jnp.ones_like, params), units, jnp.full(BATCH, -1))
    assert len(traces) == first


def test_any_function_can_be_bounded():
    total = trustml.bounded_sum(lambda p, u: {"a": u * p, "b": u[:2]}, clip_norm=1.0, num_groups=3)
    units = jnp.asarray(np.random.default_rng(0).normal(size=(BATCH, 4)), jnp.float32)
    group = jnp.array([0, 1, 2, 0, 1, -1])
    sums, info = total(jnp.float32(2.0), units, group)
    value = {"a": units * 2, "b": units[:, :2]}
    norm = jnp.sqrt(jnp.sum(value["a"] ** 2, 1) + jnp.sum(value["b"] ** 2, 1))
    np.testing.assert_allclose(info.norm, norm, rtol=1e-6)
    for g in range(3):
        for name in "ab":
            want = sum(
                value[name][i] * min(1.0, 1 / norm[i]) for i in range(BATCH) if group[i] == g
            )
            np.testing.assert_allclose(sums[name][g], want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("value", "norm"),
    [([3.0, 4.0], 5.0), ([0.0, 0.0], 0.0), ([jnp.nan, 1.0], jnp.nan), ([1e30, 0], jnp.inf)],
)
def test_clip_bounds_anything(value, norm):
    clipped, found, factor = trustml.clip({"x": jnp.array(value)}, 1.0)
    np.testing.assert_allclose(found, norm)
    assert l2(clipped) <= 1.0
    assert 0 <= float(factor) <= 1


def test_a_group_known_when_tracing_works_under_jit():
    params, units = problem(0)
    group = np.array([0, -1, 0, 0, 0, 0])
    grad = gradient("bookkeeping", clip_norm=0.3)
    inside = jax.jit(lambda p, u: grad(p, u, jnp.asarray(group))[0])(params, units)
    assert distance(inside, grad(params, units, jnp.asarray(group))[0]) <= 1e-6


def test_clip_widens_bfloat16():
    clipped, norm, _ = trustml.clip(jnp.full(4096, 1, jnp.bfloat16), 1e9)
    assert clipped.dtype == jnp.float32
    assert float(norm) == 64.0  # in bfloat16 the sum of squares would stop at 256


def test_partition_and_combine_are_inverse():
    params, _ = problem(0)
    trained, frozen = partition(params, {"table": True, "q": False, "w": True, "b": False})
    assert trained["q"] is None
    assert frozen["table"] is None
    assert distance(combine(trained, frozen), params) == 0


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"clip_norm": 0.0}, ValueError, "`clip_norm` must be positive, got 0.0"),
        ({"clip_norm": float("nan")}, ValueError, "`clip_norm` must be positive, got nan"),
        ({"clip_norm": -1.0}, ValueError, "`clip_norm` must be positive"),
        ({"clip_norm": "1"}, TypeError, "`clip_norm` must be a float"),
        ({"clip_norm": {}}, ValueError, "`clip_norm` must hold at least one number"),
        ({"strategy": "fast"}, ValueError, "`strategy` must be one of"),
        ({"num_groups": 0}, ValueError, "`num_groups` must be a positive integer, got 0"),
        (
            {"physical_batch_size": -2},
            ValueError,
            "`physical_batch_size` must be a positive integer, got -2",
        ),
        ({"clipping": "soft"}, ValueError, "`clipping` must be one of"),
    ],
)
def test_bad_options_are_named(options, error, text):
    with pytest.raises(error, match=text):
        trustml.clipped_grad(loss, **{"clip_norm": 1.0, **options})


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_bad_calls_are_named(strategy):
    params, units = problem(0)
    grad = gradient(strategy, clip_norm=1.0)
    with pytest.raises(ValueError, match="`units` must be a pytree whose leaves share"):
        grad(params, {**units, "x": units["x"][:2]})
    with pytest.raises(ValueError, match="`units` must hold at least one unit"):
        grad(params, jax.tree.map(lambda leaf: leaf[:0], units))
    with pytest.raises(ValueError, match="`group` must be an integer vector of 6"):
        grad(params, units, jnp.zeros(3, jnp.int32))
    with pytest.raises(ValueError, match="`group` must stay below `num_groups` = 1, got 4"):
        grad(params, units, jnp.full(BATCH, 4))
    with pytest.raises(ValueError, match="`trainable` must select at least one"):
        trustml.clipped_grad(loss, clip_norm=1.0, strategy=strategy, trainable=lambda _: False)(
            params, units
        )
    with pytest.raises(ValueError, match="`clip_norm` must be a float or a pytree prefix"):
        trustml.clipped_grad(loss, clip_norm={"nope": 1.0}, strategy=strategy)(params, units)
    for bad, text in (
        (lambda p, u: u["x"] @ p["b"], "floating scalar"),
        (lambda p, u: jnp.sum(u["tokens"]), "floating scalar"),
        (lambda p, u: (loss(p, u), 1), "has_aux=True"),
    ):
        with pytest.raises(TypeError, match=text):
            trustml.clipped_grad(bad, clip_norm=1.0, strategy=strategy)(params, units)


@pytest.mark.parametrize("strategy", ["vmap", "auto", "ghost"])
@pytest.mark.parametrize("size", [1e-19, 3e-20, 1e-15, 1e-9])
def test_what_squares_lose_to_underflow_breaks_no_bound(size, strategy):
    """One value's square is seen, a million others' are not: the norm looks 500 times less."""
    row = np.full((1, 1_000_000), size, np.float32)
    row[0, 0] *= 2
    options = {"clip_norm": 1.0, "clipping": "automatic_v", "strategy": strategy}
    grad = trustml.clipped_grad(jnp.vdot, **options)
    sums, _ = grad(jnp.zeros(1_000_000), row)
    assert np.linalg.norm(np.asarray(sums, np.float64)) <= 1.0
