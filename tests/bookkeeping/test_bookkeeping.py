"""The fast path: exact on every architecture, bounds that hold where float32 cancels."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import trustml
from trustml.bookkeeping import book_keep, cost
from trustml.bookkeeping.gram import squared_norm
from trustml.verify import architectures
from trustml.verify.exactness import compare, definition


def l2(tree):
    return float(jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree))))


def distance(one, two):
    return l2(jax.tree.map(jnp.subtract, one, two))


# Under both strategies.
BOTH = ("mlp", "conv_stride", "tied_embedding", "gru", "weight_norm", "custom_vjp")
# One network a rule and a way into it; the others are slow.
QUICK = (
    *("mlp", "conv_stride", "gru", "weight_norm", "custom_vjp", "per_head_einsum"),
    *("table_used_twice", "weight_slices_overlapping", "shared_weight_with_penalty", "layer_norm"),
    *("conv_groups", "lora", "while_loop", "cond", "user_level_units", "dropout_with_unit_keys"),
    "unused_frozen_and_integer_leaves",
)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name in sorted(architectures.ARCHITECTURES)
    ],
)
def test_every_architecture_equals_the_definition(name):
    if name not in architectures.names():
        pytest.skip("equinox is not installed")
    for row in compare(name, ("bookkeeping", "ghost") if name in BOTH else ("bookkeeping",)):
        assert row.holds, row


@pytest.mark.parametrize("rule", ["gram", "materialise"])
@pytest.mark.parametrize(
    "name",
    [
        *("mlp", "table_used_twice"),
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("shared_weight_with_penalty", "conv_groups", "conv_stride")
        ),
    ],
)
def test_both_rules_are_exact(name, rule):
    case = architectures.ARCHITECTURES[name]()
    want = definition(case)
    batch = len(want.norms)
    halves = lambda trained, frozen, *unit: (case.loss(trained, *unit), None)  # noqa: E731

    @jax.jit
    def run(params, units):
        kept = book_keep(halves, params, None, (units,), rules=(rule,))
        norm = jnp.sqrt(sum(kept.squares))
        weights = jnp.minimum(1.0, want.clip_norm / norm)[None]
        return norm, kept.contract([weights] * len(kept.squares), jnp.ones(batch, bool))

    norm, sums = run(case.params, case.units)
    np.testing.assert_allclose(norm, want.norms, rtol=1e-5)
    assert distance([leaf[0] for leaf in sums], want.sums) <= 1e-5 * l2(want.sums)


@pytest.mark.parametrize(
    "name",
    [
        "conv_groups",
        pytest.param("conv_stride", marks=pytest.mark.slow),
        pytest.param("conv_1d", marks=pytest.mark.slow),
    ],
)
def test_convolutions_a_few_units_at_a_time_are_exact(name, monkeypatch):
    # Real sizes exceed the cache; here the cache is made small: one unit at a time, then two.
    small = dataclasses.replace(cost.machine(), cache=1.0)
    monkeypatch.setitem(cost._MACHINES, jax.default_backend(), small)
    assert cost.units_in_cache(6, 10.0) == 1
    test_both_rules_are_exact(name, "materialise")
    monkeypatch.setitem(
        cost._MACHINES, jax.default_backend(), dataclasses.replace(small, cache=2000.0)
    )
    test_both_rules_are_exact(name, "materialise")


def cancelling(seed, scale, tokens=64, width=32):
    """Tokens of which the second half cancels the first up to `scale`."""
    rng = np.random.default_rng(seed)
    half = tokens // 2
    rows, cols = rng.normal(size=(half, width)), rng.normal(size=(half, width))
    rows = np.concatenate([rows, rows + scale * rng.normal(size=rows.shape)])
    cols = np.concatenate([cols, -cols + scale * rng.normal(size=cols.shape)])
    return rows.astype(np.float32), cols.astype(np.float32)


@pytest.mark.parametrize("scale", [0.0, 1e-7, 1e-5, 1e-4, 1e-3, 1e-2, 1.0])
def test_gram_norms_bound_the_true_ones_where_tokens_cancel(scale):
    pairs = [cancelling(seed, scale) for seed in range(40)]
    rows = jnp.stack([rows for rows, _ in pairs])[:, None]
    cols = jnp.stack([cols for _, cols in pairs])[:, None]
    bound = np.asarray(jax.jit(lambda *pair: squared_norm([pair]))(rows, cols), np.float64)
    true = np.array(
        [np.sum((r.astype(np.float64).T @ c.astype(np.float64)) ** 2) for r, c in pairs]
    )
    assert np.all(bound >= true)
    if scale == 1.0:
        np.testing.assert_allclose(bound, true, rtol=4e-5)


def test_the_planted_bug_of_bare_gram_norms_is_noticed():
    # The rule without its error term: what peers ship. The test above must be able to fail.
    below = 0
    for seed in range(40):
        rows, cols = cancelling(seed, 1e-4)
        bare = float(jnp.sum((rows @ rows.T) * (cols @ cols.T)))
        true = np.sum((rows.astype(np.float64).T @ cols.astype(np.float64)) ** 2)
        below += bare < true * (1 - 1e-3)
    assert below > 0


@pytest.mark.parametrize("strategy", ["bookkeeping", "ghost"])
def test_cancelling_tokens_stay_within_the_bound(strategy):
    rows, cols = cancelling(0, 1e-4)

    def loss(weight, unit):
        return jnp.sum((unit["rows"] @ weight) * unit["cols"])

    units = {"rows": jnp.asarray(rows)[None], "cols": jnp.asarray(cols)[None]}
    grad = trustml.clipped_grad(loss, clip_norm=1e-3, strategy=strategy)
    sums, info = grad(jnp.zeros((32, 32)), units)
    true = np.linalg.norm(rows.astype(np.float64).T @ cols.astype(np.float64))
    assert float(info.norm[0]) >= true
    assert float(info.clip_factor[0]) * true <= 1e-3 * (1 + 1e-6)
    assert l2(sums) <= 1e-3 * (1 + 1e-2)  # the sum's own rounding: tokens cancel in it too


@pytest.mark.parametrize("small", [1e-19, 1e-20, 1e-21])
@pytest.mark.parametrize("tokens", [1, 3])
def test_squares_below_the_normal_range_still_bound(small, tokens):
    # 1e-20 squared is flushed to zero; times a cotangent of 1e18 the gradient is 0.01.
    rows = jnp.full((1, tokens, 8), small)

    def loss(weight, x):
        return 1e18 * jnp.sum(x @ weight)

    grad = trustml.clipped_grad(loss, clip_norm=1e-3)
    sums, _ = grad(jnp.zeros((8, 4)), rows)
    assert l2(sums) <= 1e-3 * (1 + 1e-6)


def test_bfloat16_parameters_are_summed_in_float32():
    def loss(w, x):
        return jnp.sum(jnp.tanh(x @ w).astype(jnp.float32))

    w = jnp.full((8, 4), 0.25, jnp.bfloat16)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(512, 3, 8)), jnp.bfloat16)
    want, info = trustml.clipped_grad(loss, clip_norm=1.0, strategy="vmap")(
        w.astype(jnp.float32), x.astype(jnp.float32)
    )
    for strategy in ("bookkeeping", "ghost"):
        got, fast = trustml.clipped_grad(loss, clip_norm=1.0, strategy=strategy)(w, x)
        assert got.dtype == jnp.float32
        assert distance(want, got) <= 1e-2 * l2(want)
        np.testing.assert_allclose(fast.norm, info.norm, rtol=2e-2)


def test_lookups_outside_the_table_follow_their_mode():
    ids = jnp.array([[0, 3, 7], [2, 2, 9]])
    for mode in ("fill", "clip"):

        def loss(table, row, mode=mode):
            found = jnp.take(table, row, axis=0, mode=mode, fill_value=0.0)
            return jnp.sum(jnp.sin(found))

        table = jnp.arange(20.0).reshape(5, 4)
        want, _ = trustml.clipped_grad(loss, clip_norm=1.0, strategy="vmap")(table, ids)
        got, _ = trustml.clipped_grad(loss, clip_norm=1.0)(table, ids)
        assert distance(want, got) <= 1e-5 * l2(want)


def test_explain_names_rules_and_fallbacks():
    case = architectures.ARCHITECTURES["transformer_scanned"]()
    table = trustml.clipped_grad(case.loss, clip_norm=1.0).explain(case.params, case.units)
    assert not any(row.fallback for row in table)
    assert {row.parameter for row in table} >= {"embedding", "layers/qkv", "head"}
    assert "layers/qkv" in str(table)
    case = architectures.ARCHITECTURES["custom_vjp"]()
    table = trustml.clipped_grad(case.loss, clip_norm=1.0).explain(case.params, case.units)
    assert {row.parameter: row.fallback for row in table} == {"w": True, "v": False}


def test_unused_parameters_are_said_to_be():
    case = architectures.ARCHITECTURES["unused_frozen_and_integer_leaves"]()
    grad = trustml.clipped_grad(case.loss, clip_norm=1.0, **case.options)
    rules = {row.parameter: row.rule for row in grad.explain(case.params, case.units)}
    assert rules["unused"] == "unused"
    assert "frozen" not in rules


def dense_sizes(closed, found=None):
    """Sizes of all arrays in a jaxpr, inner ones included."""
    found = set() if found is None else found
    jaxpr = getattr(closed, "jaxpr", closed)
    for eqn in jaxpr.eqns:
        found |= {int(np.prod(var.aval.shape)) for var in eqn.outvars}
        for value in eqn.params.values():
            if hasattr(getattr(value, "jaxpr", value), "eqns"):
                dense_sizes(value, found)
    return found


def test_no_per_unit_gradient_is_built_where_a_rule_applies():
    def loss(p, x):
        return jnp.sum(jnp.tanh(x @ p["w"]) ** 2)

    params, units = {"w": jnp.ones((64, 96))}, jnp.ones((16, 64))
    build = lambda strategy: jax.make_jaxpr(  # noqa: E731
        trustml.clipped_grad(loss, clip_norm=1.0, strategy=strategy)
    )(params, units)
    per_unit = 16 * 64 * 96
    assert max(dense_sizes(build("vmap"))) >= per_unit
    assert max(dense_sizes(build("bookkeeping"))) < per_unit
