"""Gradient canaries: exact, harmless, of the stated law, and carried through a run that ends."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from trustml.audit import area_under_curve, one_run_audit
from trustml.audit.canaries import canary_optimizer, canary_trainable, make_canaries
from trustml.audit.canary_scores import (
    audit_canaries,
    canary_records,
    canary_scores,
    poisson_scores,
    shuffled_scores,
    spread_scores,
)
from trustml.clipping import clipped_grad
from trustml.plan import PrivacyPlan
from trustml.training import fit, private_step

CLIP, WORDS, WIDTH = 0.5, 11, 4


def weights(seed=0):
    rng = np.random.default_rng(seed)
    table, w = 0.5 * rng.normal(size=(WORDS, WIDTH)), 0.5 * rng.normal(size=(WIDTH, 3))
    return {
        "table": jnp.asarray(table, jnp.float32),
        "w": jnp.asarray(w, jnp.float32),
        "b": jnp.zeros(3),
    }


def data(units=12, seed=0, on_device=False):
    rng = np.random.default_rng(seed)
    rows = {
        "words": rng.integers(0, WORDS, (units, 5)).astype(np.int32),
        "y": rng.integers(0, 3, units).astype(np.int32),
    }
    return jax.tree.map(jnp.asarray, rows) if on_device else rows


def logits(params, unit):
    hidden = jnp.tanh(jnp.take(params["table"], unit["words"], axis=0))
    # A mean over the words that are not word 0: 0 / 0 where all are.
    mask = (unit["words"] > 0).astype(jnp.float32)
    return (mask @ hidden / jnp.sum(mask)) @ params["w"] + params["b"]


def loss(params, unit):
    return -jnp.take(jax.nn.log_softmax(logits(params, unit)), unit["y"])


def with_key(params, unit, key):
    kept = jax.random.bernoulli(key, 0.5, (3,)).astype(jnp.float32)
    return -jnp.take(jax.nn.log_softmax(logits(params, unit) * kept), unit["y"])


def with_key_and_aux(params, unit, key):
    return with_key(params, unit, key), unit["y"]


def line(params, unit):
    """What trains quickly: a linear model of one word."""
    x = unit["words"].astype(jnp.float32) / WORDS
    return 0.5 * (jnp.dot(x, params["w"]) + params["b"] - unit["y"].astype(jnp.float32)) ** 2


def line_with_key(params, unit, key):
    return line(params, unit) * jax.random.bernoulli(key).astype(jnp.float32)


def line_weights():
    return {"w": jnp.zeros(5), "b": jnp.zeros(())}


def in_bfloat16(params, unit):
    return loss(params, unit).astype(jnp.bfloat16)


def canaries(loss_fn=loss, number=40, size=10 * CLIP, units=None, seed=3, **options):
    units = data() if units is None else units
    params = line_weights() if loss_fn in (line, line_with_key) else weights()
    options |= {"number": number, "size": size, "rng": np.random.default_rng(seed)}
    return make_canaries(loss_fn, params, units, **options)


def row_of(units, row):
    return {name: leaf[row] for name, leaf in units.items()}


def plan_of(made, **changes):
    fields = {"clip_norm": CLIP, "noise_multiplier": 2.0, "sample_rate": 0.5, "steps": 6}
    fields |= changes
    batch = fields["sample_rate"] * made.num_units
    return PrivacyPlan(**fields, expected_batch=batch, num_units=made.num_units)


def trained(made, plan, optimizer=None, records=0, seed=0, **options):
    optimizer = optax.sgd(0.1) if optimizer is None else optimizer
    optimizer = canary_optimizer(optimizer, records=records)
    step = private_step(made.loss, optimizer, plan, **options)
    state = step.init(made.params, key=seed)
    for draw in plan.batches(seed=seed):
        state, _ = step.update(state, draw, made.units)
    return state


# --- Sums ---


@pytest.mark.parametrize(
    ("loss_fn", "strategy"),
    [
        (loss, "bookkeeping"),
        (loss, "ghost"),
        pytest.param(with_key_and_aux, "bookkeeping", marks=pytest.mark.slow),
        pytest.param(in_bfloat16, "bookkeeping", marks=pytest.mark.slow),
    ],
)
def test_sums_are_those_without_canaries_and_one_bound_at_each(loss_fn, strategy):
    made, key = canaries(loss_fn), jax.random.key(0) if loss_fn is with_key_and_aux else None
    options = {"clip_norm": CLIP, "strategy": strategy, "has_aux": loss_fn is with_key_and_aux}
    with jax.numpy_dtype_promotion("standard"):  # of the loss in bfloat16 with a float32 model
        grad = clipped_grad(made.loss, **options)
        sums, info = grad(made.params, made.units, None, key)
        want, wanted_info = clipped_grad(loss_fn, **options)(weights(), data(), None, key)
    for name, leaf in want.items():
        np.testing.assert_allclose(sums["model"][name], leaf, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(sums["canaries"], CLIP * made.included, rtol=2e-6, atol=0)
    np.testing.assert_allclose(info.norm[12:], 10 * CLIP, rtol=1e-6)
    np.testing.assert_allclose(info.norm[:12], wanted_info.norm, rtol=1e-5, atol=1e-6)
    if loss_fn is with_key_and_aux:
        np.testing.assert_array_equal(info.aux[:12], data()["y"])


def test_a_canary_adds_nothing_to_the_model_and_a_unit_nothing_to_the_canaries():
    made = canaries()
    grad = clipped_grad(made.loss, clip_norm=CLIP)
    real = np.asarray(made.units["canary"]) < 0
    of_canaries, _ = grad(made.params, made.units, np.where(real, -1, 0))
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(of_canaries["model"]))
    of_units, _ = grad(made.params, made.units, np.where(real, 0, -1))
    assert not np.any(of_units["canaries"])
    assert not any(row.fallback for row in grad.explain(made.params, made.units))


def test_a_unit_without_a_gradient_is_dropped_and_takes_no_canary_along():
    units = data()
    units["words"][5] = 0
    made = canaries(units=units)
    sums, _ = clipped_grad(made.loss, clip_norm=CLIP)(made.params, made.units)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(sums))
    np.testing.assert_allclose(sums["canaries"], CLIP * made.included, rtol=2e-6, atol=0)
    # As `template` it would silence every canary: so no row of the data may be it.
    silent = canaries(units=units, template=row_of(units, 5))
    sums, _ = clipped_grad(silent.loss, clip_norm=CLIP)(silent.params, silent.units)
    assert not np.any(sums["canaries"])


def test_no_row_of_the_data_stands_for_canaries():
    units = data()
    units["words"][:] = 0  # no row has a finite gradient
    made = canaries(units=units)
    sums, info = clipped_grad(made.loss, clip_norm=CLIP)(made.params, made.units)
    np.testing.assert_allclose(sums["canaries"], CLIP * made.included, rtol=2e-6, atol=0)
    kept = np.asarray(info.clip_factor)
    assert kept.tolist() == [0.0] * 12 + [pytest.approx(0.1, rel=1e-5)] * int(made.included.sum())
    with pytest.raises(ValueError, match="`template` must be given"):
        canaries(lambda params, unit: loss(params, unit) / 0.0)


@pytest.mark.parametrize("on_device", [False, True])
def test_units_keep_their_kind_and_canaries_are_copies(on_device):
    made = canaries(units=data(on_device=on_device), template=row_of(data(seed=9), 2))
    for name, leaf in data().items():
        found = made.units["unit"][name]
        assert isinstance(found, jax.Array if on_device else np.ndarray)
        assert found.dtype == leaf.dtype
        np.testing.assert_array_equal(found[:12], leaf)
        copies = np.repeat(data(seed=9)[name][2:3], made.included.sum(), axis=0)
        np.testing.assert_array_equal(found[12:], copies)
    assert made.num_units == 12 + made.included.sum() == len(made.units["unit"]["y"])
    np.testing.assert_array_equal(made.units["canary"][12:], np.flatnonzero(made.included))


def test_coins_are_fair_and_of_the_generator():
    made = canaries(number=10_000)
    assert abs(made.included.mean() - 0.5) < 5 * 0.5 / 100
    np.testing.assert_array_equal(made.included, canaries(number=10_000).included)
    assert np.any(made.included != canaries(number=10_000, seed=4).included)


# --- Training ---


def test_without_noise_the_model_is_that_of_training_without_canaries():
    made = canaries(line)
    plan = plan_of(made, sample_rate=1.0, noise_multiplier=0.0)
    state = trained(made, plan, optax.sgd(0.1 * made.num_units / 12))
    plain_plan = PrivacyPlan(
        clip_norm=CLIP, noise_multiplier=0.0, sample_rate=1.0, steps=6, expected_batch=12
    )
    step = private_step(line, optax.sgd(0.1), plain_plan)
    plain = step.init(line_weights(), key=0)
    for draw in plain_plan.batches():
        plain, _ = step.update(plain, draw, data())
    for name, leaf in plain.params.items():
        np.testing.assert_allclose(state.params["model"][name], leaf, rtol=1e-4, atol=1e-6)
        assert np.any(leaf)
    np.testing.assert_allclose(canary_scores(state.params, plan), 6.0 * made.included, rtol=1e-5)


def test_records_say_which_canary_each_draw_took():
    made = canaries(line)
    plan = plan_of(made, noise_multiplier=0.0)
    state = trained(made, plan, optax.adam(0.1), records=plan.steps)
    found = canary_records(state.opt_state, plan)
    want = np.zeros((plan.steps, 40))
    for draw in plan.batches(seed=0):
        taken = made.units["canary"][draw.indices[draw.group == 0]]
        want[draw.step, taken[taken >= 0]] = 1.0
    assert 0 < want.sum() < want.size
    np.testing.assert_allclose(found, want, rtol=2e-6, atol=0)
    np.testing.assert_allclose(canary_scores(state.params, plan), want.sum(0), rtol=1e-5)


def law_holds(made, state, plan):
    """Scores of those left out are normal noise of all steps; of members, that and their steps."""
    scores, noise = canary_scores(state.params, plan), plan.noise_multiplier**2 * plan.steps
    rate = plan.sample_rate
    for who, mean, variance in (
        (~made.included, 0.0, noise),
        (made.included, plan.steps * rate, noise + plan.steps * rate * (1 - rate)),
    ):
        error = math.sqrt(variance / who.sum())
        if abs(scores[who].mean() - mean) > 5 * error:
            return False
        if abs(scores[who].std() / math.sqrt(variance) - 1) > 5 / math.sqrt(2 * who.sum()):
            return False
    return True


def test_scores_have_the_stated_law():
    made = canaries(line, number=3000, size=1000 * CLIP)
    plan = plan_of(made, steps=5)
    assert law_holds(made, trained(made, plan), plan)


def test_the_law_notices_half_the_noise_and_a_bound_that_is_not_there():
    made = canaries(line, number=3000)
    plan = plan_of(made, steps=5)
    assert not law_holds(made, trained(made, plan_of(made, steps=5, noise_multiplier=1.0)), plan)
    loose = plan_of(made, steps=5, clip_norm=2 * CLIP, noise_multiplier=1.0)
    assert loose.stddev == plan.stddev
    assert not law_holds(made, trained(made, loose), plan)


@pytest.mark.slow
def test_a_run_that_was_paused_ends_as_one_that_was_not(tmp_path):
    made = canaries(line)
    plan = plan_of(made)
    step = private_step(made.loss, canary_optimizer(optax.adam(0.1), records=6), plan)
    run = functools.partial(fit, step, made.params, made.units, seed=1, progress=False)
    whole = run()
    asked = itertools.count(1)
    with pytest.raises(KeyboardInterrupt):
        run(out=tmp_path / "run", pause=lambda: next(asked) == 3)
    again = run(out=tmp_path / "run", resume=True)
    for one, other in zip(
        *(jax.tree.leaves(found.params) for found in (whole, again)), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    records = [canary_records(found.state.opt_state, plan) for found in (whole, again)]
    np.testing.assert_array_equal(*records)
    np.testing.assert_allclose(records[0].sum(0), canary_scores(whole.params, plan), atol=1e-4)


def test_frozen_weights_stay_frozen():
    made = canaries(line)
    trainable = canary_trainable(lambda name: name != "b")
    params = trained(made, plan_of(made), trainable=trainable).params
    assert params["model"]["b"] == 0.0
    assert np.all(params["model"]["w"])
    assert np.all(params["canaries"])
    assert canary_trainable({"w": True}) == {"model": {"w": True}, "canaries": True}
    assert canary_trainable(None) is None


def test_bounds_of_their_own_are_what_canaries_are_measured_in():
    made = canaries(line_with_key)
    bounds = {"model": {"w": 0.2, "b": 0.3}, "canaries": 0.25}
    plan = plan_of(made, clip_norm=bounds, sample_rate=1.0, noise_multiplier=0.0)
    state = trained(made, plan)
    np.testing.assert_allclose(canary_scores(state.params, plan), 6.0 * made.included, rtol=1e-5)


def test_the_optimizer_sees_the_model_as_it_is():
    """Masks of the model's own structure fit; an optimizer that reads losses is still refused."""
    made = canaries(line)
    decayed = optax.adamw(0.1, weight_decay=0.1, mask={"w": True, "b": False})
    trained(made, plan_of(made), decayed)
    step = private_step(made.loss, canary_optimizer(optax.polyak_sgd()), plan_of(made))
    with pytest.raises(ValueError, match="`optimizer` must not need the value of the loss"):
        step.init(made.params)


# --- Scores and audit ---


def density(x, mean, noise):
    return np.exp(-((x - mean) ** 2) / (2 * noise**2))


def test_the_poisson_ratio_is_that_of_the_densities():
    rng = np.random.default_rng(0)
    records, rate, noise = rng.normal(0.5, 1.0, (3, 7)), 0.3, 0.8
    member = (1 - rate) * density(records, 0, noise) + rate * density(records, 1, noise)
    want = np.log(member / density(records, 0, noise)).sum(0)
    found = poisson_scores(records, sample_rate=rate, noise_multiplier=noise)
    np.testing.assert_allclose(found, want, rtol=1e-12)
    whole = poisson_scores(records, sample_rate=1.0, noise_multiplier=noise)
    np.testing.assert_allclose(whole, (records.sum(0) - 1.5) / noise**2, rtol=1e-12)


def test_the_shuffled_ratio_is_that_of_the_densities():
    rng = np.random.default_rng(0)
    records, noise = rng.normal(0.5, 1.0, (6, 7)), 0.8
    total = np.zeros(7)
    for epoch in (records[:3], records[3:]):
        none = density(epoch, 0, noise).prod(0)
        one = [density(epoch, np.eye(3)[:, [step]], noise).prod(0) for step in range(3)]
        total += np.log(np.mean(one, axis=0) / none)
    found = shuffled_scores(records, epoch=3, noise_multiplier=noise)
    np.testing.assert_allclose(found, total, rtol=1e-12)


def test_each_score_is_the_strongest_where_it_belongs():
    """By the area under the curve, on records of the mechanism that it describes."""
    rng = np.random.default_rng(0)
    noise, steps, size = 0.35, 12, 4000

    def noises():
        return noise * rng.normal(size=(steps, size))

    poisson = noises() + (rng.random((steps, size)) < 1 / steps)
    once = noises()
    once[rng.integers(0, steps, size), np.arange(size)] += 1
    scores = {
        "sum": lambda records: records.sum(0),
        "poisson": lambda records: poisson_scores(
            records, sample_rate=1 / steps, noise_multiplier=noise
        ),
        "shuffled": lambda records: shuffled_scores(records, epoch=steps, noise_multiplier=noise),
    }
    others = noises()
    for records, best in ((poisson, "poisson"), (once, "shuffled")):
        area = {
            name: area_under_curve(score(records), score(others)).value
            for name, score in scores.items()
        }
        assert area[best] == max(area.values())
        assert area[best] > area["sum"] + 0.02
    same = np.repeat(rng.normal(size=(1, size)), steps, axis=0)
    taken = same + (rng.random((steps, size)) < 0.5)
    assert area_under_curve(spread_scores(taken), spread_scores(same)).value > 0.99


def test_an_audit_is_the_one_run_audit_of_those_in_and_those_out():
    rng = np.random.default_rng(0)
    included = rng.random(400) < 0.5
    scores = 3.0 * included + rng.normal(size=400)
    found = audit_canaries(scores, included, delta=1e-5, confidence=0.9, sides="members")
    want = one_run_audit(
        scores[included], scores[~included], delta=1e-5, confidence=0.9, sides="members"
    )
    assert found == want
    assert found.epsilon > 0.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: canaries(number=0), "`number` must be at least 1, got 0"),
        (lambda: canaries(size=0.0), "`size` must be positive and finite, got 0.0"),
        (lambda: canaries(size=math.nan), "`size` must be positive and finite, got nan"),
        (lambda: canaries(template=data()), "`template` must be one unit, of .* got"),
        (lambda: canaries(units={"a": np.zeros(3), "b": np.zeros(2)}), "`units` must be a pytree"),
        (lambda: canary_optimizer(optax.sgd(1.0), records=-1), "`records` must be .* got -1"),
        (lambda: scores_of(rate=0.0), "`sample_rate` must be in .0, 1., got 0.0"),
        (lambda: scores_of(rate=math.nan), "`sample_rate` must be in .0, 1., got nan"),
        (lambda: scores_of(noise=0.0), "`noise_multiplier` must be positive and finite, got 0.0"),
        (
            lambda: shuffled_scores(np.zeros((5, 2)), epoch=2, noise_multiplier=1.0),
            "`records` must hold whole epochs of 2 steps, got 5",
        ),
    ],
)
def test_messages_name_the_argument_and_the_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def scores_of(rate=0.5, noise=1.0):
    return poisson_scores(np.zeros((2, 3)), sample_rate=rate, noise_multiplier=noise)


@pytest.mark.kinds
@pytest.mark.parametrize("included", [np.array([0, 1]), np.ones(3, bool)])
def test_coins_that_fit_no_score_are_refused(included):
    message = r"`included` must hold a truth value for each of the 2 scores, got (int64|bool) of"
    with pytest.raises(ValueError, match=message):
        audit_canaries(np.zeros(2), included, delta=0.0)


def test_records_that_were_not_kept_are_refused():
    made = canaries(line)
    state = canary_optimizer(optax.sgd(1.0)).init(made.params)._replace(step=jnp.int32(6))
    with pytest.raises(ValueError, match="`state` must hold a record of each of its 6 steps, got"):
        canary_records(state, plan_of(made))
