"""Mechanisms after DP-SGD: what plans promise for them is what steps carry out."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from trustml import noise, sampling
from trustml.accounting import Accounting, SampledGaussian
from trustml.noise.correlated import correlated_noise
from trustml.noise.discrete import MOST_DISTANCE, as_private_as
from trustml.plan import PrivacyPlan, composed_epsilon, releases
from trustml.training import fit, private_step, privatizer, timing
from trustml.training.microbatch_means import as_units, mean_loss

ROWS = 96
DATA = {
    "x": np.random.default_rng(0).normal(size=(ROWS, 5)).astype(np.float32),
    "y": (np.arange(ROWS) % 3).astype(np.int32),
}


def loss(params, unit):
    logits = jnp.tanh(unit["x"] @ params["w"]) @ params["v"]
    return -jax.nn.log_softmax(logits)[unit["y"]]


def start():
    keys = jax.random.split(jax.random.key(1))
    return {"w": jax.random.normal(keys[0], (5, 4)), "v": jax.random.normal(keys[1], (4, 3))}


def plan(**changes):
    fields = {
        "clip_norm": 1.0,
        "noise_multiplier": 1.0,
        "sample_rate": 0.25,
        "steps": 8,
        "expected_batch": 24,
        "num_units": ROWS,
    }
    return PrivacyPlan(**{**fields, **changes})


def run(each, steps=None, step_of=private_step):
    """The weights after some steps of plain SGD with rate 1, and the draws."""
    step = step_of(loss, optax.sgd(1.0), each)
    state = step.init(start(), key=3)
    for draw in list(each.batches(seed=5))[:steps]:
        state, metrics = step.update(state, draw, DATA)
    return state, metrics


# --- eDP-SGD: micro-batches, decay ---


@pytest.mark.parametrize(
    ("batch", "noise_multiplier", "decay", "each_unit", "means"),
    [
        (64, 1.0, 1.0, 1.861, 12.813),
        (64, 2.0, 0.9, 1.891, 14.293),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                (256, 1.0, 1.0, 4.348, 22.42),
                (256, 2.0, 0.9, 4.212, 21.94),
                (64, 1.0, 0.9, 14.293, 104.3),
                (256, 1.0, 0.9, 21.94, 122.96),
            )
        ),
    ],
)
def test_epsilons_of_the_published_settings(batch, noise_multiplier, decay, each_unit, means):
    # ATIS has 4,478 utterances; computed with dp_accounting, event by event.
    fields = {
        "clip_norm": 1.0,
        "noise_multiplier": noise_multiplier,
        "noise_decay": decay,
        "sample_rate": batch / 4478,
        "steps": 10 * math.ceil(4478 / batch),
        "expected_batch": batch,
        "num_units": 4478,
    }
    delta = 1 / (2 * 4478)
    exact, averaged = PrivacyPlan(**fields), PrivacyPlan(**fields, num_microbatches=8)
    for found, expected in ((exact, each_unit), (averaged, means)):
        # Without what overflow and tails add: at epsilon 100 that is more than delta.
        run = releases.releases(found, found.steps)
        assert Accounting().epsilon(run, delta=delta) == pytest.approx(expected, rel=2e-3)
    assert averaged.sensitivity == 2 * exact.sensitivity
    assert averaged.stddev == exact.stddev


@pytest.mark.slow
def test_noise_that_decays_is_calibrated_to_the_budget():
    found = PrivacyPlan.calibrate(
        epsilon=3.0,
        delta=1e-5,
        num_units=1000,
        expected_batch=100,
        steps=25,
        clip_norm=1.0,
        noise_decay=0.8,
        num_microbatches=4,
    )
    assert 2.99 < found.epsilon(delta=1e-5) <= 3.0
    assert found.stddev_at(25) == pytest.approx(found.stddev * 0.8**2)
    assert found.remaining_steps(epsilon=3.0, delta=1e-5, done=20) == 5
    assert "times 0.8 from epoch to epoch" in found.statement(delta=1e-5)
    assert "4 micro-batches" in found.statement(delta=1e-5)


def test_the_noise_of_a_step_is_that_of_its_epoch():
    quiet = plan(noise_multiplier=0.0, noise_decay=0.5)
    loud = plan(noise_multiplier=1e4, noise_decay=0.5)
    # Noise of 1e4 hides the gradients; each step moves the weights by its own noise / 24.
    step = private_step(loss, optax.sgd(1.0), loud)
    state = step.init(start(), key=3)
    before = state.params["w"]
    spread = []
    for draw in loud.batches(seed=5):
        before = np.asarray(state.params["w"], np.float64)
        normal = noise.gaussian_like(state.params, state.key, state.step)["w"]
        state, _ = step.update(state, draw, DATA)
        moved = before - np.asarray(state.params["w"], np.float64)
        spread.append(np.median(moved / np.asarray(normal)) * 24)
    expected = [1e4] * 4 + [5e3] * 4
    np.testing.assert_allclose(spread, expected, rtol=0.02)
    assert quiet.epsilon(delta=1e-5) == math.inf


def definition(each, draw, params):
    """The means of micro-batches, each bounded, by a loop over rows in NumPy."""
    grads = jax.vmap(jax.grad(loss), (None, 0))(params, DATA)
    wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), grads)
    total = jax.tree.map(lambda leaf: np.zeros(leaf.shape), params)
    for part in draw.indices.reshape(each.num_microbatches, -1):
        rows = part[part >= 0]
        if not len(rows):
            continue
        mean = jax.tree.map(lambda leaf, rows=rows: leaf[rows].mean(0), wide)
        norm = math.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(mean)))
        factor = min(1.0, each.clip_norm / norm)
        total = jax.tree.map(lambda t, m, f=factor: t + f * m, total, mean)
    return total


def test_steps_bound_the_means_of_microbatches():
    each = plan(clip_norm=0.3, noise_multiplier=0.0, num_microbatches=4)
    draw = next(each.batches(seed=5))
    state, metrics = run(each, steps=1)
    expected = definition(each, draw, start())
    for name, leaf in start().items():
        moved = np.asarray(leaf, np.float64) - np.asarray(state.params[name], np.float64)
        np.testing.assert_allclose(moved * 4, expected[name], atol=2e-6)
    assert int(metrics.batch_size) == (draw.indices >= 0).sum()


@pytest.mark.parametrize(
    "fields",
    [
        {"num_microbatches": 4},
        pytest.param({"clip_quantile": 0.5}, marks=pytest.mark.slow),
        pytest.param({"noise": "discrete_gaussian", "dimension": 100.0}, marks=pytest.mark.slow),
    ],
    ids=["means", "adaptive bounds", "discrete noise"],
)
def test_the_step_of_a_run_is_timed_without_compiling_it_again(fields):
    traced = []
    counted = lambda params, unit: traced.append(1) or loss(params, unit)  # noqa: E731
    chosen = plan(steps=2, **fields)
    step = private_step(counted, optax.sgd(0.1), chosen)
    step.update(step.init(start(), key=3), next(chosen.batches(seed=5)), DATA)
    before = len(traced)
    found = timing.time_steps(step, start(), DATA)
    assert len(traced) == before > 0
    whole, parts = found.pop("private")
    assert not found
    remainder = max(0.0, whole - parts["noise"] - parts["optimizer"])
    assert parts.pop("clipped gradient") == pytest.approx(remainder)
    assert min(whole, *parts.values()) > 0


@pytest.mark.parametrize(("enough", "timed"), [(60.0, 4), (0.0, 1)])
def test_slow_steps_are_timed_on_fewer_draws(enough, timed, monkeypatch):
    counts = []
    monkeypatch.setattr(timing, "_ENOUGH", enough)
    monkeypatch.setattr(
        timing.statistics, "median", lambda values: float(counts.append(len(values)) or 1)
    )
    chosen = plan(steps=5)
    timing.time_steps(private_step(loss, optax.sgd(0.1), chosen), start(), DATA)
    assert set(counts) == {timed}  # the first of several draws is left out


def test_one_row_moves_the_sum_of_means_by_more_than_the_bound_and_at_most_twice():
    each = plan(clip_norm=0.1, noise_multiplier=0.0, num_microbatches=4)
    rows = {"g": jnp.asarray([[1.0], [0.0], [-3.0], [0.0]] + [[0.0]] * 4)}
    grad = jax.grad(lambda w, unit: mean_loss(lambda w, u: w @ u["g"], has_aux=False)(w, unit)[0])

    def total(group):
        (units, present), owner = as_units(rows, jnp.asarray(group), 2)
        means = jax.vmap(grad, (None, 0))(jnp.zeros(1), (units, present))
        norms = jnp.abs(means)
        return jnp.where(owner[:, None] >= 0, means * jnp.minimum(1.0, 0.1 / norms), 0.0).sum()

    with_row, without = total([0, 0, 0, 0, -1, -1, -1, -1]), total([0, 0, -1, 0, -1, -1, -1, -1])
    moved = abs(float(with_row - without))
    assert each.clip_bound < moved <= each.sensitivity + 1e-6


def test_a_row_that_is_not_finite_spoils_its_own_micro_batch_alone():
    each = plan(noise_multiplier=0.0, num_microbatches=4, steps=1)
    draw = next(each.batches(seed=0))
    place = int(draw.indices.reshape(4, -1)[1, 0])
    for bad in (place, 0):  # padding is gathered from row 0
        broken = {**DATA, "x": DATA["x"].copy()}
        broken["x"][bad] = np.nan
        step = private_step(loss, optax.sgd(1.0), each)
        state, metrics = step.update(step.init(start(), key=3), draw, broken)
        owners = {i for i, part in enumerate(draw.indices.reshape(4, -1)) if bad in part}
        assert np.isfinite(np.asarray(state.params["w"])).all()
        assert int(metrics.dropped) == len(owners)


# --- Adaptive bounds ---


def test_adaptive_bounds_reach_the_quantile_and_cost_what_the_plan_says():
    fields = {"clip_quantile": 0.5, "noise_multiplier": 0.5, "clip_norm": 20.0, "steps": 60}
    each = plan(**fields, sample_rate=1.0, expected_batch=ROWS)
    state, metrics = run(each)
    step = private_step(loss, optax.sgd(0.0), each)
    frozen = step.init(start(), key=3)
    for draw in each.batches(seed=5):
        frozen, metrics = step.update(frozen, draw, DATA)
    assert abs(float(metrics.clipped) - 0.5) < 0.15  # noise on 96 rows
    grads = jax.vmap(jax.grad(loss), (None, 0))(start(), DATA)
    norms = np.sqrt(sum((np.asarray(g) ** 2).reshape(ROWS, -1).sum(1) for g in grads.values()))
    assert float(frozen.mechanism.clip) == pytest.approx(np.median(norms), rel=0.3)
    # Andrew et al., theorem 1: the pair of releases costs what one of multiplier z costs.
    z, count = each.stddev / each.clip_bound, 2 * ROWS / 20
    assert z**-2 + count**-2 == pytest.approx(0.5**-2)
    assert np.isfinite(np.asarray(state.params["w"])).all()


def test_adaptive_bounds_for_each_layer_have_a_count_each():
    each = plan(clip_quantile=0.7, clip_norm={"w": 1.0, "v": 2.0}, sample_rate=1.0,
                expected_batch=ROWS, steps=3)  # fmt: skip
    state, _ = run(each)
    clip = state.mechanism.clip
    assert set(clip) == {"w", "v"}
    assert all(float(clip[name]) != each.clip_norm[name] for name in clip)
    assert (each.stddev / each.clip_bound) ** -2 + 2 * (2 * ROWS / 20) ** -2 == pytest.approx(1.0)


def test_noise_follows_the_bound_as_it_adapts():
    each = plan(clip_quantile=0.5, noise_multiplier=0.05, sample_rate=1.0, expected_batch=ROWS)
    step = private_step(loss, optax.sgd(1.0), each)
    state = step.init(start(), key=3)
    small = state._replace(mechanism=state.mechanism._replace(clip=jnp.float32(1e-6)))
    draw = next(each.batches(seed=5))
    before = np.asarray(state.params["w"])
    after, _ = step.update(small, draw, DATA)
    assert np.abs(np.asarray(after.params["w"]) - before).max() < 1e-5


# --- Samplers ---


def test_plans_and_samplers_know_the_same_names():
    assert tuple(releases.SAMPLINGS) == sampling.SAMPLINGS


def draws_of(each, steps):
    return [
        set(draw.indices[draw.indices >= 0].tolist()) for draw in list(each.batches(seed=2))[:steps]
    ]


def test_a_unit_of_a_cycle_takes_part_only_when_its_group_has_its_turn():
    each = plan(sampling="cyclic_poisson", cycle_length=2, steps=200)
    turns = draws_of(each, 200)
    even, odd = set().union(*turns[::2]), set().union(*turns[1::2])
    assert not even & odd
    assert len(even | odd) == ROWS
    assert abs(np.mean([len(turn) for turn in turns]) - 24) < 2.5
    ((step, count),) = releases.releases(each, 199)
    assert (step.sample_rate, count) == (0.5, 100)


def test_a_whole_cycle_is_one_full_participation():
    each = plan(sampling="cyclic_poisson", cycle_length=4, steps=12)
    turns = draws_of(each, 12)
    assert turns[0] == turns[4] == turns[8]
    assert sum(map(len, turns[:4])) == ROWS
    three = Accounting().epsilon(
        [(SampledGaussian(sampling="poisson", noise_multiplier=1.0, sample_rate=1.0), 3)],
        delta=1e-5,
    )
    assert each.epsilon(delta=1e-5) == pytest.approx(three, rel=1e-4)


@pytest.mark.parametrize("kind", ["balls_in_bins", "shuffled"])
def test_every_unit_takes_part_once_an_epoch_and_nothing_is_amplified(kind):
    adjacency = "replace-one" if kind == "shuffled" else "add-or-remove-one"
    each = plan(sampling=kind, adjacency=adjacency)
    turns = draws_of(each, 8)
    for epoch in (turns[:4], turns[4:]):
        assert sum(map(len, epoch)) == ROWS == len(set().union(*epoch))
    assert turns[0] != turns[4]
    whole = plan(sample_rate=1.0, expected_batch=ROWS, steps=2, adjacency=adjacency)
    assert each.epsilon(delta=1e-5) == pytest.approx(whole.epsilon(delta=1e-5), rel=1e-4)
    assert each.epsilon(delta=1e-5) > 1.15 * plan(adjacency=adjacency).epsilon(delta=1e-5)


def test_shuffling_costs_at_least_its_published_lower_bound():
    # Chua et al. 2024: one epoch of 1,000 steps at sigma 0.5 is not better than epsilon 10.997.
    fields = {"noise_multiplier": 0.5, "sample_rate": 1e-3, "steps": 1000, "expected_batch": 1.0}
    each = plan(**fields, num_units=1000, sampling="balls_in_bins")
    assert each.epsilon(delta=1e-6) >= 10.99


# --- Correlated noise ---


@pytest.mark.parametrize(
    ("kind", "memory"),
    [
        ("blt", 2),
        *(
            pytest.param(kind, memory, marks=pytest.mark.slow)
            for kind, memory in (("tree", 0), ("toeplitz", 0), ("banded", 2))
        ),
    ],
)
def test_steps_add_the_noise_of_the_strategy(kind, memory):
    each = plan(noise=kind, noise_memory=memory, sampling="cyclic_poisson", cycle_length=4,
                noise_multiplier=3e3)  # fmt: skip
    state, _ = run(each)
    quiet, _ = run(dataclasses.replace(each, noise="independent", noise_memory=0,
                                       noise_multiplier=0.0))  # fmt: skip
    stream = correlated_noise(each.strategy, each.stddev, steps=each.steps)
    carried, total = stream.init(start()), jax.tree.map(jnp.zeros_like, start())
    for at in range(8):
        found, carried = stream.update(state.key, jnp.int32(at), carried, start())
        total = jax.tree.map(jnp.add, total, found)
    moved = np.asarray(state.params["w"] - start()["w"], np.float64)
    np.testing.assert_allclose(moved, -np.asarray(total["w"]) / 24, rtol=0.05, atol=3.0)
    assert np.isfinite(np.asarray(quiet.params["w"])).all()
    scale = each.strategy.sensitivity(8, **releases.participation(each))
    assert each.stddev == pytest.approx(3e3 * scale)
    assert f"{kind} factorisation" in each.statement(delta=1e-5)


def test_correlated_noise_costs_one_release_and_banded_is_amplified():
    fields = {"sampling": "cyclic_poisson", "cycle_length": 4, "noise_multiplier": 2.0, "steps": 40}
    once = Accounting().epsilon(
        [(SampledGaussian(sampling="poisson", noise_multiplier=2.0, sample_rate=1.0), 1)],
        delta=1e-5,
    )
    for kind, memory in (("tree", 0), ("toeplitz", 0), ("blt", 2)):
        each = plan(noise=kind, noise_memory=memory, **fields)
        assert each.epsilon(delta=1e-5) == pytest.approx(once, abs=1e-5)
        assert each.epsilon(delta=1e-5, steps=3) == pytest.approx(once, abs=1e-5)
        assert each.stddev > 2.0
    banded = plan(noise="banded", noise_memory=3, **{**fields, "sample_rate": 0.05,
                  "expected_batch": 4.8})  # fmt: skip
    ((step, count),) = releases.releases(banded, 40)
    assert (round(step.sample_rate, 6), count, step.noise_multiplier) == (0.2, 10, 2.0)


@pytest.mark.parametrize(
    ("kind", "memory"),
    [
        ("blt", 2),
        pytest.param("banded", 3, marks=pytest.mark.slow),
        pytest.param("tree", 0, marks=pytest.mark.slow),
    ],
)
def test_noise_is_caught_up_to_the_bit(kind, memory):
    fields = {
        "sampling": "cyclic_poisson",
        "cycle_length": 4,
        "noise": kind,
        "noise_memory": memory,
    }
    step = private_step(loss, optax.adam(1e-2), plan(**fields, steps=40))
    state = step.init(start(), key=1)
    for number, draw in enumerate(step.plan.batches(seed=2), 1):
        state, _ = step.update(state, draw, DATA)
        if number in (7, 25, 40):
            bare = state._replace(mechanism=privatizer.begin(step.plan, state.params))
            found = step.restore_noise_state(bare).mechanism.noise
            for one, two in zip(
                jax.tree.leaves(found), jax.tree.leaves(state.mechanism.noise), strict=True
            ):
                np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("kind", ["tree", "toeplitz", "blt", "banded"])
def test_correlated_noise_promises_nothing_beyond_its_plan(kind):
    memory = {"blt": 2, "banded": 3}.get(kind, 0)
    fields = {
        "sampling": "cyclic_poisson",
        "cycle_length": 4,
        "noise": kind,
        "noise_memory": memory,
    }
    each = plan(**fields, noise_multiplier=4.0)
    for ask in (each.statement, each.epsilon, lambda delta, steps: each.delta(1.0, steps=steps)):
        with pytest.raises(ValueError, match="`steps` must be at most the plan's 8"):
            ask(1e-5, steps=9)
    assert each.remaining_steps(epsilon=5.0, delta=1e-5, done=3) == 5
    assert each.remaining_steps(epsilon=5.0, delta=1e-5, done=8) == 0


@pytest.mark.slow
def test_a_run_with_correlated_noise_resumes_with_the_same_bits(tmp_path):
    fields = {"sampling": "cyclic_poisson", "cycle_length": 4, "noise": "blt", "noise_memory": 2}
    each = plan(**fields)

    def training(out, pause=None):
        step = private_step(loss, optax.adam(1e-2), each)
        return fit(step, start(), DATA, out=tmp_path / out, seed=1, progress=False, pause=pause,
                   keep=True, resume=True)  # fmt: skip

    whole = training("whole")
    seen = []

    def stop():
        seen.append(1)
        return len(seen) > 3

    with pytest.raises(KeyboardInterrupt):
        training("cut", stop)
    held = "".join(path.name for path in (tmp_path / "cut" / "checkpoints").rglob("*"))
    assert "buffers" not in held
    again = training("cut")
    for name in ("w", "v"):
        np.testing.assert_array_equal(whole.params[name], again.params[name])


def test_a_run_whose_steps_hang_together_takes_no_new_key(tmp_path):
    each = plan(sampling="cyclic_poisson", cycle_length=4, noise="blt", noise_memory=2)
    seen = []

    def stop():
        seen.append(1)
        return len(seen) > 3

    def training(strategy, pause=None):
        step = private_step(loss, optax.adam(1e-2), each, strategy=strategy)
        return fit(step, start(), DATA, out=tmp_path / "run", seed=1, progress=False, pause=pause,
                   resume=True)  # fmt: skip

    with pytest.raises(KeyboardInterrupt):
        training("auto", stop)
    with pytest.raises(ValueError, match="no new key can take over"):
        training("vmap")


# --- What does not go together ---


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"noise_decay": 1.5}, "`noise_decay` must be in"),
        ({"noise_decay": math.nan}, "`noise_decay` must be in"),
        ({"noise_decay": 0.9, "sampling": "balls_in_bins"}, "`noise_decay`=0.9 needs"),
        ({"num_microbatches": -1}, "`num_microbatches` must be"),
        ({"num_microbatches": 30}, "at most `expected_batch`"),
        ({"num_microbatches": 4, "adjacency": "replace-one"}, "needs `sampling`='poisson'"),
        ({"num_microbatches": 4, "capacity": 33}, "multiple of `num_microbatches`"),
        ({"clip_quantile": 1.0}, "`clip_quantile` must be in"),
        ({"clip_quantile": 0.5, "clipping": "automatic"}, "needs `clipping`='flat'"),
        ({"clip_quantile": 0.5, "noise_multiplier": 9.0}, "too small for adaptive bounds"),
        ({"cycle_length": 2}, "of `sampling`='cyclic_poisson' alone"),
        ({"cycle_length": 5, "sampling": "cyclic_poisson"}, "a group is smaller than its batch"),
        ({"noise": "pink"}, "`noise` must be one of"),
        ({"noise": "tree"}, "needs `sampling`='cyclic_poisson'"),
        ({"noise_memory": 3}, "is of correlated noise"),
        (
            {"noise": "banded", "noise_memory": 4, "cycle_length": 4, "sampling": "cyclic_poisson"},
            "must be from 1 to 3",
        ),
        (
            {"noise": "blt", "noise_memory": 0, "cycle_length": 4, "sampling": "cyclic_poisson"},
            "must be from 1 to 10",
        ),
        ({"sampling": "shuffled"}, "says nothing of `sampling`='shuffled'"),
    ],
)
def test_fields_that_do_not_go_together_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        plan(**changes)


def test_what_a_step_cannot_do_yet_is_refused():
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("data",))
    with pytest.raises(NotImplementedError, match="`mesh` needs a plan"):
        private_step(loss, optax.sgd(0.1), plan(num_microbatches=4), mesh=mesh)
    with pytest.raises(ValueError, match="`physical_batch_size` must be None"):
        private_step(loss, optax.sgd(0.1), plan(num_microbatches=4), physical_batch_size=8)


def test_runs_compose_with_the_noise_of_each_epoch():
    each = plan(noise_decay=0.5)
    twice = composed_epsilon([(each, 8), (each, 8)], delta=1e-5)
    by_hand = Accounting().epsilon(
        [
            (SampledGaussian(sampling="poisson", noise_multiplier=1.0, sample_rate=0.25), 8),
            (SampledGaussian(sampling="poisson", noise_multiplier=0.5, sample_rate=0.25), 8),
        ],
        delta=1e-5,
        distance=2 * each._distance(8),
    )
    # The accountants' steps carry sizes that Poisson sampling does not read.
    assert twice == pytest.approx(by_hand, rel=1e-6)


# Noise on a grid


def on_grid(**changes):
    return plan(noise="discrete_gaussian", dimension=100.0, **changes)


def test_rounding_to_the_grid_is_paid_for_and_within_a_hundredth():
    grid, plain = on_grid(), plan()
    assert plain.sensitivity < grid.sensitivity <= 1.01 * plain.sensitivity
    assert plain.epsilon(1e-5) < grid.epsilon(1e-5) < 1.02 * plain.epsilon(1e-5)
    assert on_grid(num_microbatches=4).sensitivity > 2 * grid.clip_bound
    assert math.log2(grid.grid_spacing).is_integer()
    assert plan().grid_spacing == 0


def test_what_grid_noise_is_accounted_as_is_what_a_step_adds():
    chosen = on_grid(noise_multiplier=3.0, steps=1)
    law = as_private_as(chosen.stddev / chosen.grid_spacing)
    assert law.gaussian_stddev * chosen.grid_spacing >= chosen.stddev
    multiplier = releases.releases(chosen, 1)[0][0].noise_multiplier
    assert multiplier * chosen.sensitivity == pytest.approx(chosen.stddev)
    assert law.distance <= MOST_DISTANCE
    still = lambda params, unit: 0.0 * jnp.sum(params)  # noqa: E731
    # A divisor that is a power of two: the weights then show the sum as it was.
    exact = {"sample_rate": 1 / 3, "expected_batch": 32, "noise_multiplier": 3.0, "steps": 1}
    wide = plan(noise="discrete_gaussian", dimension=4096.0, **exact)
    step = private_step(still, optax.sgd(1.0), wide)
    state, _ = step.update(step.init(jnp.zeros(4096), key=0), next(wide.batches(seed=0)), DATA)
    noisy = -np.asarray(state.params, np.float64) * wide.divisor
    steps = noisy / wide.grid_spacing
    np.testing.assert_array_equal(steps, np.round(steps))
    assert noisy.std() == pytest.approx(wide.stddev, rel=0.06)  # 5 sigma


@pytest.mark.parametrize("meshed", [False, True])
def test_steps_add_grid_noise_to_the_rounded_sums(meshed):
    chosen = on_grid(noise_multiplier=0.02, steps=1)  # little noise shows the sum
    mesh = jax.make_mesh((1,), ("data",)) if meshed else None
    step, plain = (
        private_step(loss, optax.sgd(1.0), one, mesh=mesh)
        for one in (chosen, dataclasses.replace(chosen, noise="independent"))
    )
    state, wanted = (
        one.update(one.init(start(), key=0), next(one.plan.batches(seed=0)), DATA)[0]
        for one in (step, plain)
    )
    for one, two in zip(jax.tree.leaves(state.params), jax.tree.leaves(wanted.params), strict=True):
        apart = np.abs(np.asarray(one - two, np.float64)) * chosen.divisor
        assert apart.max() < 12 * chosen.stddev + chosen.grid_spacing
        assert apart.max() > 0


def test_a_plan_for_fewer_values_than_are_trained_is_refused():
    chosen = on_grid(steps=1)
    step = private_step(loss, optax.sgd(1.0), dataclasses.replace(chosen, dimension=31.0))
    with pytest.raises(ValueError, match="at most the plan's `dimension` of trained values, 31"):
        step.init(start())
    assert private_step(loss, optax.sgd(1.0), chosen).init(start()).mechanism is not None


def test_the_statement_of_grid_noise_drops_the_lattice():
    said = on_grid().statement(1e-5)
    assert "discrete Gaussian noise on a grid" in said
    assert "attacks on lattices find" in said
    assert "Attacks on the lattice of floating-point noise" not in said
    assert "Attacks on the lattice of floating-point noise" in plan().statement(1e-5)
