"""First mistakes: what is refused of a loss and of data, in one line with the way out."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import trustml

WIDTH = 3


def plan(size, **fields):
    fields = {
        "sample_rate": 0.5,
        "steps": 4,
        "expected_batch": size / 2,
        "num_units": size,
    } | fields
    return trustml.PrivacyPlan(clip_norm=1.0, noise_multiplier=1.0, **fields)


def linear(w, unit):
    return jnp.square(jnp.dot(unit["x"], w) - unit["y"])


def columns(size=6):
    rng = np.random.default_rng(0)
    return {"x": rng.normal(size=(size, WIDTH)).astype(np.float32), "y": np.ones(size, np.float32)}


def said_by(call, kind=Exception):
    """The message, which must be one line."""
    with pytest.raises(kind) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    return text


WAYS = ["clipped_grad", "private_step", "baseline_step"]


def run(way, loss, params, units):
    """One call of each thing that takes a loss."""
    if way == "clipped_grad":
        return trustml.clipped_grad(loss, clip_norm=1.0)(params, units)
    made = plan(len(jax.tree.leaves(units)[0]))
    step = getattr(trustml, way)(loss, optax.sgd(0.1), made)
    return step.update(step.init(params, key=0), next(made.batches(seed=0)), units)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [str, object])
def test_a_column_of_words_is_named(way, kind):
    units = {**columns(), "job": np.array(["a", "b", "c", "a", "b", "c"], kind)}
    text = said_by(lambda: run(way, linear, jnp.zeros(WIDTH), units), TypeError)
    assert re.search(
        r"`units` must hold numbers, got (strings|objects) at \['job'\]\. Encode", text
    )


@pytest.mark.parametrize("way", WAYS)
def test_columns_of_keys_are_data_too(way):
    units = {**columns(), "key": jax.random.split(jax.random.key(0), 6)}

    def loss(w, unit):
        return linear(w, unit) * jax.random.uniform(unit["key"])

    run(way, loss, jnp.zeros(WIDTH), units)


@pytest.mark.parametrize("way", WAYS)
def test_columns_of_other_lengths_are_named(way):
    units = {**columns(), "z": np.ones(5, np.float32)}
    text = said_by(lambda: run(way, linear, jnp.zeros(WIDTH), units), ValueError)
    assert "6 at ['x'], 6 at ['y'], 5 at ['z']" in text


def batched(w, unit):
    return jnp.mean(jnp.sum(unit["x"] * w, axis=1) - unit["y"])


@pytest.mark.parametrize("way", WAYS)
def test_a_loss_of_a_batch_is_told_to_take_one_unit(way, relaxed_promotion):
    text = said_by(lambda: run(way, batched, jnp.zeros(WIDTH), columns()), TypeError)
    assert text.startswith("`loss_fn` must take one unit, without a batch axis, got a loss that")
    wrapped = re.search(r"`(lambda .*)`\.", text)[1]
    loss = eval(wrapped, {"jax": jax, "loss_fn": batched})  # the way out that it names
    run(way, loss, jnp.zeros(WIDTH), columns())


def test_other_errors_of_a_loss_stay_what_they_are():
    def broken(w, unit):
        raise KeyError("label")

    with pytest.raises(KeyError, match="label"):
        run("clipped_grad", broken, jnp.zeros(WIDTH), columns())
    with pytest.raises(ZeroDivisionError):
        run("clipped_grad", lambda w, unit: w.sum() / 0 * (1 // 0), jnp.zeros(WIDTH), columns())


class Linen(nn.Module):
    norm: type
    frozen: bool = False

    @nn.compact
    def __call__(self, x):
        options = {"use_running_average": self.frozen} if self.norm is nn.BatchNorm else {}
        return nn.Dense(1)(self.norm(**options)(nn.Dense(4)(x)))


def linen(norm, frozen=False):
    """A network whose loss drops the statistics that it updated."""
    network = Linen(norm, frozen)
    variables = network.init(jax.random.key(0), jnp.ones((1, WIDTH)))

    def loss(params, unit):
        out, _ = network.apply(
            {**variables, "params": params}, unit["x"][None], mutable=["batch_stats"]
        )
        return jnp.square(out[0, 0] - unit["y"])

    return loss, variables["params"]


class Nnx(nnx.Module):
    def __init__(self, norm, rngs):
        self.first, self.norm = nnx.Linear(WIDTH, 4, rngs=rngs), norm(4, rngs=rngs)
        self.last = nnx.Linear(4, 1, rngs=rngs)

    def __call__(self, x):
        return self.last(self.norm(self.first(x)))


def with_nnx(norm):
    graph, params, rest = nnx.split(Nnx(norm, nnx.Rngs(0)), nnx.Param, ...)

    def loss(params, unit):
        out = nnx.merge(graph, params, rest, copy=True)(unit["x"][None])
        return jnp.square(out[0, 0] - unit["y"])

    return loss, params


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "make", [lambda: linen(nn.BatchNorm), lambda: with_nnx(nnx.BatchNorm)], ids=["linen", "nnx"]
)
def test_batch_normalisation_of_one_unit_is_refused(way, make, relaxed_promotion):
    loss, params = make()
    text = said_by(lambda: run(way, loss, params, columns()), ValueError)
    assert text.startswith("`loss_fn` must not normalise over a batch, got BatchNorm in training")
    assert "GroupNorm" in text


def test_batch_normalisation_in_scan_and_remat_is_found_too(relaxed_promotion):
    inner, params = linen(nn.BatchNorm)

    def loss(params, unit):
        step = jax.checkpoint(lambda total, _: (total + inner(params, unit), None))
        return jax.lax.scan(step, jnp.float32(0), None, length=2)[0]

    with pytest.raises(ValueError, match="must not normalise over a batch"):
        trustml.clipped_grad(loss, clip_norm=1.0)(params, columns())


@pytest.mark.parametrize(
    "make",
    [
        lambda: linen(nn.BatchNorm, frozen=True),
        lambda: linen(nn.LayerNorm),
        lambda: with_nnx(nnx.LayerNorm),
    ],
    ids=["frozen", "linen layer", "nnx layer"],
)
def test_other_normalisations_train(make, relaxed_promotion):
    linen(nn.BatchNorm)  # traced before, with the same shapes
    loss, params = make()
    _, info = trustml.clipped_grad(loss, clip_norm=1.0)(params, columns())
    assert float(info.norm.min()) > 1e-3


@pytest.mark.parametrize("build", [trustml.private_step, trustml.baseline_step])
@pytest.mark.parametrize("physical_batch_size", [None, 2])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_rows_that_are_not_drawn_change_nothing(build, physical_batch_size, bad):
    made = plan(12)
    step = build(linear, optax.adam(0.1), made, physical_batch_size=physical_batch_size)
    clean = columns(12)
    states = [step.init(jnp.ones(WIDTH), key=0) for _ in range(2)]
    for draw in made.batches(seed=1):
        drawn = draw.indices[draw.group >= 0]
        assert 0 < len(drawn) < 12
        spoilt = {name: np.full_like(leaf, bad) for name, leaf in clean.items()}
        for name, leaf in clean.items():
            spoilt[name][drawn] = leaf[drawn]
        states[0], want = step.update(states[0], draw, clean)
        states[1], got = step.update(states[1], draw, spoilt)
        np.testing.assert_array_equal(states[0].params, states[1].params)
        assert float(want.loss) == float(got.loss)
    assert np.isfinite(states[0].params).all()


@pytest.mark.parametrize("build", [trustml.private_step, trustml.baseline_step])
def test_a_draw_of_nobody_changes_nothing_whatever_the_data_hold(build):
    made = plan(12, sample_rate=1e-6, expected_batch=12e-6, steps=1)
    step = build(linear, optax.sgd(0.1), made)
    draw = next(made.batches(seed=0))
    assert (draw.group < 0).all()
    units = {name: np.full_like(leaf, np.nan) for name, leaf in columns(12).items()}
    state, metrics = step.update(step.init(jnp.ones(WIDTH), key=0), draw, units)
    assert np.isfinite(state.params).all()
    assert float(metrics.loss) == 0
    if not step.private:
        np.testing.assert_array_equal(state.params, np.ones(WIDTH))
