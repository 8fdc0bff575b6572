import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import trustml
from trustml import noise
from trustml.noise import key_from_seed
from trustml.sampling import Draw
from trustml.training import StepMetrics, TrainStep

UNITS, CLIP = 60, 0.5


def plan(**changes):
    fields = {
        "clip_norm": CLIP,
        "noise_multiplier": 2.0,
        "sample_rate": 0.2,
        "steps": 8,
        "expected_batch": 12,
    }
    return trustml.PrivacyPlan(**{**fields, **changes})


def data(dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(UNITS, 3)).astype(dtype)
    return {"x": x, "y": (x @ np.array([1.0, -2.0, 0.5], dtype)).astype(dtype)}


def params():
    return {"w": jnp.zeros(3), "b": jnp.zeros(())}


def loss(params, unit):
    return 0.5 * (jnp.dot(unit["x"], params["w"]) + params["b"] - unit["y"]) ** 2


def oracle_sum(params, rows, clip_norm):
    """Clipped gradients one unit at a time, float64."""
    w, b = (np.asarray(params[name], np.float64) for name in ("w", "b"))
    total_w, total_b = np.zeros(3), 0.0
    for x, y in zip(rows["x"].astype(np.float64), rows["y"].astype(np.float64), strict=True):
        error = x @ w + b - y
        norm = np.hypot(np.linalg.norm(error * x), error)
        factor = min(1.0, clip_norm / norm) if norm else 1.0
        total_w, total_b = total_w + factor * error * x, total_b + factor * error
    return {"w": total_w, "b": total_b}


def rows_of(draw, units):
    taken = draw.indices[draw.group == 0]
    return {name: leaf[taken] for name, leaf in units.items()}


def run(step, units, steps=None, seed=0):
    state, metrics = step.init(params(), key=seed), []
    for draw in step.plan.batches(seed=seed):
        if draw.step == steps:
            break
        state, found = step.update(state, draw, units)
        metrics.append(found)
    return state, metrics


def test_a_step_equals_the_one_computed_by_hand():
    units, key = data(), key_from_seed(3)
    each = plan()
    step = trustml.private_step(loss, optax.sgd(0.1), each)
    state = step.init(params(), key=key)
    by_hand = {name: np.asarray(leaf, np.float64) for name, leaf in params().items()}
    for draw in each.batches(seed=1):
        sums = oracle_sum(by_hand, rows_of(draw, units), CLIP)
        normals = noise.gaussian_like(params(), key, jnp.uint32(draw.step))
        for name in by_hand:
            noisy = sums[name] + 2.0 * CLIP * np.asarray(normals[name], np.float64)
            by_hand[name] = by_hand[name] - 0.1 * noisy / 12
        state, _ = step.update(state, draw, units)
        for name in by_hand:
            np.testing.assert_allclose(state.params[name], by_hand[name], rtol=1e-4, atol=1e-6)
    assert int(state.step) == each.steps


@pytest.mark.parametrize("physical_batch_size", [None, 5])
def test_the_baseline_is_plain_optax_on_the_same_draws(physical_batch_size, relaxed_promotion):
    units, each = data(), plan()
    step = trustml.baseline_step(
        loss, optax.adam(0.05), each, physical_batch_size=physical_batch_size
    )
    state, _ = run(step, units)
    plain, optimizer = params(), optax.adam(0.05)
    opt_state = optimizer.init(plain)
    for draw in each.batches(seed=0):
        rows = rows_of(draw, units)
        grads = jax.grad(lambda p, r: jax.vmap(loss, (None, 0))(p, r).sum() / 12)(plain, rows)
        updates, opt_state = optimizer.update(grads, opt_state, plain)
        plain = optax.apply_updates(plain, updates)
    for name in plain:
        np.testing.assert_allclose(state.params[name], plain[name], rtol=1e-4, atol=1e-6)


# --- Detectors ---


def divides_by_the_public_batch(make_step):
    """Steps of draws of different sizes differ by the sums alone."""
    units, each = data(), plan(noise_multiplier=0.0, clip_norm=1e6)
    step = make_step(each)
    for draw in each.batches(seed=2):
        state = step.init(params())
        at = draw._replace(step=0)
        at.plan = draw.plan
        state, _ = step.update(state, at, units)
        expected = -oracle_sum(params(), rows_of(draw, units), 1e6)["w"] / 12
        if not np.allclose(state.params["w"], expected, rtol=1e-4, atol=1e-6):
            return False
    return True


def noise_is_in_the_update(make_step, multiplier=2.0):
    """Every value of the update has the plan's standard deviation over the expected batch."""
    each = plan(steps=1, noise_multiplier=multiplier)
    units = {"x": np.zeros((UNITS, 1), np.float32)}
    step = make_step(lambda p, unit: jnp.sum(p) * unit["x"][0], each)
    state, _ = step.update(step.init(jnp.zeros(40_000)), next(each.batches()), units)
    values = np.asarray(state.params, np.float64) * 12 / (multiplier * CLIP)
    error = 5 / math.sqrt(2 * values.size)
    return abs(values.std() - 1) < error and abs(values.mean()) < 2 * error


def test_the_divisor_is_the_expected_batch():
    assert divides_by_the_public_batch(lambda p: trustml.private_step(loss, optax.sgd(1.0), p))
    assert divides_by_the_public_batch(lambda p: trustml.baseline_step(loss, optax.sgd(1.0), p))


def test_a_divisor_taken_from_the_data_is_noticed():
    def broken(each):
        grad = trustml.clipped_grad(loss, clip_norm=each.clip_norm)

        def sums_of(state, rows, group):
            sums, _ = grad(state.params, rows, group)
            drawn = jnp.sum(group >= 0).astype(jnp.float32)
            nothing = StepMetrics(*jnp.zeros(5))
            return jax.tree.map(lambda leaf: leaf * 12 / drawn, sums), nothing, state.mechanism

        return TrainStep(lambda *_: sums_of, optax.sgd(1.0), each, None, private=True)

    assert not divides_by_the_public_batch(broken)


def test_noise_is_added_at_the_planned_scale():
    assert noise_is_in_the_update(lambda f, p: trustml.private_step(f, optax.sgd(1.0), p))


def test_missing_or_smaller_noise_is_noticed():
    def weaker(f, each):
        scale = optax.chain(optax.scale(0.95), optax.sgd(1.0))
        return trustml.private_step(f, scale, each)

    assert not noise_is_in_the_update(weaker)
    assert not noise_is_in_the_update(lambda f, p: trustml.baseline_step(f, optax.sgd(1.0), p))


def test_noise_of_no_two_steps_is_alike():
    each = plan(steps=4)
    units = {"x": np.zeros((UNITS, 1), np.float32)}
    step = trustml.private_step(lambda p, unit: jnp.sum(p) * unit["x"][0], optax.sgd(1.0), each)
    state, walked = step.init(jnp.zeros(5000)), [np.zeros(5000)]
    for draw in each.batches():
        state, _ = step.update(state, draw, units)
        walked.append(np.asarray(state.params, np.float64))
    moves = np.diff(np.stack(walked), axis=0)
    assert np.abs(np.corrcoef(moves) - np.eye(4)).max() < 6 / math.sqrt(5000)


def test_one_unit_moves_the_sum_by_at_most_the_bound():
    units, each = data(), plan(noise_multiplier=0.0)
    units["x"] = units["x"] * 100
    step = trustml.private_step(loss, optax.sgd(1.0), each)
    draw = next(each.batches(seed=0))
    fewer = draw._replace(group=np.where(np.arange(each.capacity) == 0, -1, draw.group))
    fewer.plan = draw.plan
    moved = [
        step.update(step.init(params()), each_draw, units)[0].params for each_draw in (draw, fewer)
    ]
    gap = jax.tree.map(jnp.subtract, *moved)
    assert 0.4 * CLIP < 12 * float(optax.tree.norm(gap)) <= CLIP * (1 + 1e-5)


# --- Programs ---


def test_one_program_serves_all_draws():
    calls = []

    def counted(params, unit):
        calls.append(0)
        return loss(params, unit)

    for make in (trustml.private_step, trustml.baseline_step):
        step = make(counted, optax.adamw(1e-2), plan())
        state = step.init({"w": np.zeros(3, np.float32), "b": 0.0})
        before = None
        for draw in step.plan.batches():
            state, _ = step.update(state, draw, data())
            before = before or len(calls)
        assert len(calls) == before
        assert step._program._cache_size() == 1


def test_device_and_host_data_agree():
    each = plan()
    step = trustml.private_step(loss, optax.sgd(0.1), each)
    host, _ = run(step, data())
    device, _ = run(step, jax.tree.map(jnp.asarray, data()))
    np.testing.assert_array_equal(host.params["w"], device.params["w"])


@pytest.mark.parametrize("make", [trustml.private_step, trustml.baseline_step])
def test_microbatches_change_nothing_beyond_rounding(make):
    def keyed(params, unit, key):
        keep = jax.random.bernoulli(key, 0.5, (3,)).astype(jnp.float32)
        return loss(params, {"x": unit["x"] * keep, "y": unit["y"]})

    whole, _ = run(make(keyed, optax.sgd(0.1), plan()), data())
    sliced, _ = run(make(keyed, optax.sgd(0.1), plan(), physical_batch_size=4), data())
    np.testing.assert_allclose(whole.params["w"], sliced.params["w"], rtol=1e-4, atol=1e-6)


def test_a_gathered_batch_takes_the_place_of_the_data():
    each = plan()
    step = trustml.private_step(loss, optax.sgd(0.1), each)
    first, second = [draw for draw in each.batches(seed=0) if draw.step < 2]
    ahead = step.gather(first, data())
    state, _ = step.update(step.init(params(), key=0), first, ahead)
    same, _ = step.update(step.init(params(), key=0), first, data())
    np.testing.assert_array_equal(state.params["w"], same.params["w"])
    with pytest.raises(ValueError, match=r"`units` must be the batch gathered for `draw`"):
        step.update(state, second, ahead)


def test_runs_repeat_from_a_seed_and_differ_without():
    step = trustml.private_step(loss, optax.sgd(0.1), plan())
    first, second = run(step, data())[0], run(step, data())[0]
    np.testing.assert_array_equal(first.params["w"], second.params["w"])
    fresh = [trustml.fit(step, params(), data(), progress=False).params["w"] for _ in range(2)]
    assert not np.array_equal(*fresh)


def test_initial_weights_and_keys_survive_donation():
    start, key = params(), key_from_seed(0)
    step = trustml.private_step(loss, optax.sgd(0.1), plan())
    state = step.init(start, key=key)
    step.update(state, next(step.plan.batches()), data())
    assert float(start["w"].sum()) == 0.0
    assert key.shape == (8,)
    np.asarray(key)


def test_frozen_and_integer_leaves_stay_as_they_are():
    start = {"w": jnp.zeros(3), "b": jnp.ones(()), "table": jnp.arange(4)}
    step = trustml.private_step(loss, optax.adamw(0.1), plan(), trainable=lambda name: name == "w")
    state = step.init(start)
    for draw in step.plan.batches():
        state, _ = step.update(state, draw, data())
    assert float(state.params["b"]) == 1.0
    np.testing.assert_array_equal(state.params["table"], np.arange(4))
    assert np.abs(np.asarray(state.params["w"])).min() > 0


def test_weights_below_float32_keep_their_dtype_and_train():
    start = {"w": jnp.zeros(3, jnp.bfloat16), "b": jnp.zeros((), jnp.bfloat16)}

    def low(params, unit):
        wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)
        return loss(wide, unit)

    step = trustml.private_step(low, optax.adam(0.1), plan())
    state = step.init(start)
    for draw in step.plan.batches():
        state, _ = step.update(state, draw, data())
    assert state.params["w"].dtype == jnp.bfloat16
    assert step._program._cache_size() == 1


def test_per_layer_bounds_and_automatic_clipping_reach_the_gradient():
    layered = plan(clip_norm={"w": 0.3, "b": 0.4}, noise_multiplier=0.0)
    step = trustml.private_step(loss, optax.sgd(1.0), layered)
    _, metrics = run(step, data(), steps=2)
    assert 0 < float(metrics[0].clipped) <= 1
    automatic = plan(clipping="automatic", noise_multiplier=0.0, clip_norm=1.0)
    step = trustml.private_step(loss, optax.sgd(1.0), automatic)
    _, metrics = run(step, data(), steps=1)
    assert float(metrics[0].norm) > 0


def test_an_empty_draw_still_adds_noise():
    each = plan()
    draw = next(each.batches())
    empty = draw._replace(group=np.full_like(draw.group, -1))
    empty.plan = draw.plan
    step = trustml.private_step(loss, optax.sgd(1.0), each)
    state, metrics = step.update(step.init(params()), empty, data())
    assert np.abs(np.asarray(state.params["w"])).min() > 0
    assert int(metrics.batch_size) == 0
    assert float(metrics.loss) == 0.0


def test_units_that_are_not_finite_contribute_nothing():
    units = data()
    units["x"][::2] = np.nan
    step = trustml.private_step(loss, optax.sgd(0.1), plan())
    state, metrics = run(step, units)
    assert np.isfinite(np.asarray(state.params["w"])).all()
    assert sum(int(each.dropped) for each in metrics) > 0


def test_metrics_describe_the_draw():
    units, each = data(), plan()
    step = trustml.private_step(
        lambda p, unit: (loss(p, unit), unit["y"]), optax.sgd(0.1), each, has_aux=True
    )
    draw = next(each.batches(seed=0))
    _, metrics = step.update(step.init(params(), key=0), draw, units)
    rows = rows_of(draw, units)
    assert float(metrics.loss) == pytest.approx(float((rows["y"] ** 2).mean() / 2), rel=1e-5)
    assert int(metrics.batch_size) == len(rows["y"])
    norms = np.abs(rows["y"]) * np.sqrt((rows["x"] ** 2).sum(1) + 1)
    assert float(metrics.norm) == pytest.approx(norms.mean(), rel=1e-4)
    assert float(metrics.clipped) == pytest.approx((norms > CLIP).mean(), abs=1e-6)
    assert metrics.aux.shape == (each.capacity,)


# --- Refusals ---


def test_draws_of_another_plan_or_step_are_refused():
    step = trustml.private_step(loss, optax.sgd(0.1), plan())
    state = step.init(params())
    first, second = [draw for draw in step.plan.batches() if draw.step < 2]
    other = next(plan(noise_multiplier=1.0).batches())
    with pytest.raises(ValueError, match=r"`draw` must come from `batches\(\)` of the step's own"):
        step.update(state, other, data())
    with pytest.raises(ValueError, match=r"`draw` must be that of step 0.*got step 1"):
        step.update(state, second, data())
    with pytest.raises(ValueError, match=r"got one of no plan"):
        step.update(state, Draw(*first), data())
    state, _ = step.update(state, first, data())
    with pytest.raises(ValueError, match=r"`draw` must be that of step 1.*got step 0"):
        step.update(state, first, data())
    step.update(state, second, data())


@pytest.mark.kinds
def test_a_draw_that_is_a_plain_tuple_is_refused():
    step = trustml.private_step(loss, optax.sgd(0.1), plan())
    with pytest.raises(TypeError, match=r"`draw` must come from `plan.batches\(\)`, got tuple"):
        step.update(step.init(params()), tuple(next(step.plan.batches())), data())


def test_steps_beyond_the_plan_are_refused():
    each = plan(steps=1)
    step = trustml.private_step(loss, optax.sgd(0.1), each)
    state, _ = step.update(step.init(params()), next(each.batches()), data())
    with pytest.raises(ValueError, match=r"`draw` must be one of the plan's 1 steps"):
        step.update(state, each.sampler().draw(1), data())


def test_data_of_another_size_is_refused():
    step = trustml.private_step(loss, optax.sgd(0.1), plan())
    fewer = jax.tree.map(lambda leaf: leaf[:-1], data())
    for units in (fewer, {"x": data()["x"], "y": np.float32(0)}, {}):
        with pytest.raises(ValueError, match=r"`units` must hold the whole data, 60 units"):
            step.update(step.init(params()), next(step.plan.batches()), units)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: optax.contrib.reduce_on_plateau(),
        lambda: optax.chain(optax.adam(1e-3), optax.contrib.reduce_on_plateau()),
        lambda: optax.polyak_sgd(),
        lambda: optax.lbfgs(),
    ],
)
@pytest.mark.parametrize("make", [trustml.private_step, trustml.baseline_step])
def test_optimizers_that_need_the_loss_are_refused(make, optimizer):
    with pytest.raises(ValueError, match=r"`optimizer` must not need the value of the loss"):
        make(loss, optimizer(), plan())


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.adamw(1e-2),
        optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(1e-2, momentum=0.9)),
        optax.inject_hyperparams(optax.adam)(learning_rate=1e-2),
        optax.multi_transform({"a": optax.sgd(0.1), "b": optax.adam(0.1)}, {"w": "a", "b": "b"}),
    ],
)
def test_ordinary_optimizers_run(optimizer):
    step = trustml.private_step(loss, optimizer, plan(steps=2))
    state, _ = run(step, data())
    assert np.isfinite(np.asarray(state.params["w"])).all()
    assert step._program._cache_size() == 1


def test_batch_statistics_are_refused_unless_frozen():
    start = {"params": params(), "batch_stats": {"mean": jnp.zeros(3)}}

    def stateful(variables, unit):
        return loss(
            variables["params"], {**unit, "x": unit["x"] - variables["batch_stats"]["mean"]}
        )

    step = trustml.private_step(stateful, optax.sgd(0.1), plan())
    with pytest.raises(ValueError, match=r"`params` must not hold batch statistics.*batch_stats"):
        step.init(start)
    frozen = trustml.private_step(
        stateful, optax.sgd(0.1), plan(), trainable=lambda name: name.startswith("params")
    )
    frozen.update(frozen.init(start), next(plan().batches()), data())


@pytest.mark.kinds
def test_keys_of_jax_are_refused():
    step = trustml.private_step(loss, optax.sgd(0.1), plan())
    with pytest.raises(TypeError, match=r"`key` must be 256 bits"):
        step.init(params(), key=jax.random.key(0))


@pytest.mark.kinds
def test_other_optimizers_are_refused():
    with pytest.raises(TypeError, match=r"`optimizer` must be an optax"):
        trustml.private_step(loss, "adam", plan())


def test_other_slices_are_refused():
    for make in (trustml.private_step, trustml.baseline_step):
        with pytest.raises(ValueError, match=r"`physical_batch_size` must be a positive integer"):
            make(loss, optax.sgd(0.1), plan(), physical_batch_size=-1)


# --- fit ---


def test_fit_equals_the_loop_by_hand():
    step = trustml.private_step(loss, optax.sgd(0.1), plan())
    by_hand, _ = run(step, data(), seed=5)
    result = trustml.fit(step, params(), data(), seed=5, progress=False)
    np.testing.assert_array_equal(result.params["w"], by_hand.params["w"])
    assert result.reproducible
    assert int(result.state.step) == 8


def test_fit_records_everything_as_private(tmp_path, capsys):
    step = trustml.private_step(loss, optax.sgd(0.1), plan())
    seen = []
    result = trustml.fit(
        step,
        params(),
        data(),
        evaluate=lambda p: {"bias": p["b"]},
        evaluate_every=3,
        callbacks=[lambda event: seen.append((event.step, event.draw.step))],
        out=tmp_path / "run",
    )
    text = (tmp_path / "run/metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert lines == result.history
    assert all(line["private"] is True for line in lines)
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 9))
    assert [line["step"] for line in lines if "evaluation" in line] == [3, 6, 8]
    assert seen == [(step + 1, step) for step in range(8)]
    described = json.loads((tmp_path / "run/plan.json").read_text())
    assert trustml.PrivacyPlan.from_dict(described["plan"]) == plan()
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "checkpoints",
        "ledger.jsonl",
        "metrics.jsonl",
        "plan.json",
        "weights.safetensors",
    ]
    shown = capsys.readouterr().err
    assert "step 8/8" in shown
    assert "(private quantities)" in shown


def test_fit_refuses_what_it_cannot_do(tmp_path):
    step = trustml.private_step(loss, optax.sgd(0.1), plan(steps=1))
    with pytest.raises(ValueError, match=r"`out` must name the run's folder to resume it"):
        trustml.fit(step, params(), data(), resume=True)
    with pytest.raises(ValueError, match=r"`checkpoint_every` must not be negative, got -1"):
        trustml.fit(step, params(), data(), out=tmp_path, checkpoint_every=-1)
    with pytest.raises(ValueError, match=r"`evaluate_every` must be at least 1"):
        trustml.fit(step, params(), data(), evaluate_every=0)
    trustml.fit(step, params(), data(), out=tmp_path, progress=False)
    with pytest.raises(FileExistsError, match=r"`out` must be a new folder"):
        trustml.fit(step, params(), data(), out=tmp_path)


def test_fit_learns_and_the_bar_of_a_terminal_closes(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    each = plan(noise_multiplier=0.01, clip_norm=10.0, steps=60)
    result = trustml.fit(
        trustml.private_step(loss, optax.adam(0.1), each), params(), data(), seed=0
    )
    losses = [entry["loss"] for entry in result.history]
    assert np.mean(losses[-10:]) < 0.05 * np.mean(losses[:5])
    assert len(losses) == 60
