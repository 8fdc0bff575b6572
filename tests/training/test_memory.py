"""How many units fit: the search, and what a step makes of its answer."""

import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import trustml
from trustml.clipping import tuning
from trustml.training import memory, read_ledger, summarize
from trustml.training.memory import (
    _control_group_limits,
    _memory_limit,
    largest_physical_batch,
)

WIDTH, UNITS = 64, 200
LIMIT = 400_000  # bytes: more than 16 units of this problem take, and less than 32


def plan():
    return trustml.PrivacyPlan(
        clip_norm=0.5, noise_multiplier=1.0, sample_rate=0.2, steps=4, expected_batch=40
    )


def params():
    rng = np.random.default_rng(0)
    return {
        "a": jnp.asarray(rng.normal(size=(WIDTH, WIDTH)) / 8, jnp.float32),
        "b": jnp.asarray(rng.normal(size=WIDTH), jnp.float32),
    }


def data():
    return {"x": np.random.default_rng(1).normal(size=(UNITS, WIDTH)).astype(np.float32)}


def loss(params, unit):
    return jnp.square(jnp.dot(jnp.tanh(params["a"] @ unit["x"]), params["b"]))


def private_step(physical_batch_size, loss=loss):
    # One gradient a unit: the strategy whose memory grows with the micro-batch most plainly.
    return trustml.private_step(
        loss, optax.sgd(0.1), plan(), strategy="vmap", physical_batch_size=physical_batch_size
    )


def fit(step, **options):
    return trustml.fit(step, params(), data(), seed=0, progress=False, **options)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(memory, "_memory_limit", lambda: LIMIT)


# --- The search ---


class Compiler:
    """Compiles nothing, and says that `needed(units)` bytes are needed."""

    def __init__(self, needed, capacity):
        self._needed, self._capacity, self.asked = needed, capacity, []

    def __call__(self, physical_batch_size):
        self.asked.append(physical_batch_size)
        size = int(self._needed(physical_batch_size or self._capacity))
        analysis = types.SimpleNamespace(temp_size_in_bytes=size)
        return types.SimpleNamespace(
            memory_analysis=lambda: analysis, physical_batch_size=physical_batch_size
        )


def found(needed, limit, capacity=1000):
    compiler = Compiler(needed, capacity)
    physical_batch_size, program = largest_physical_batch(compiler, capacity, limit)
    assert program.physical_batch_size == physical_batch_size
    assert len(compiler.asked) == len(set(compiler.asked)) <= 1 + capacity.bit_length()
    return physical_batch_size


@pytest.mark.parametrize("base", [0, 300])
@pytest.mark.parametrize("slope", [1, 7])
@pytest.mark.parametrize("limit", [400, 999, 1024, 1500, 3000, 6999])
def test_the_largest_power_of_two_that_fits_is_found(base, slope, limit):
    def needed(units):
        return base + slope * units

    fitting = [1 << power for power in range(11) if needed(1 << power) <= limit]
    expected = None if needed(1000) <= limit else max(fitting)
    assert found(needed, limit) == expected


def test_what_fits_whole_is_not_sliced():
    compiler = Compiler(lambda units: units, 1000)
    assert largest_physical_batch(compiler, 1000, 1000)[0] is None
    assert compiler.asked == [None]


@pytest.mark.parametrize(
    "needed",
    [
        lambda units: units**2,
        lambda units: 100 * units**0.5,
        lambda units: 5000 if units > 3 else 10,
        lambda units: 2000 + (units % 7) * 500 if units > 1 else 0,
    ],
)
def test_memory_that_is_not_linear_ends_in_something_that_fits(needed):
    physical_batch_size = found(needed, 1000)
    assert needed(physical_batch_size) <= 1000
    assert physical_batch_size & (physical_batch_size - 1) == 0


@pytest.mark.parametrize("needed", [lambda units: 2**21, lambda units: 2**21 * units])
@pytest.mark.parametrize("capacity", [1, 2, 1000])
def test_one_unit_that_does_not_fit_is_refused(needed, capacity):
    with pytest.raises(ValueError, match="`physical_batch_size` cannot be found") as caught:
        largest_physical_batch(Compiler(needed, capacity), capacity, 2**20)
    assert "one unit at a time takes 2 MiB of 1 MiB" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_limit_is_a_part_of_the_machine():
    assert 2**20 < _memory_limit() == _memory_limit()


def test_the_limit_is_a_part_of_the_device_where_it_says_what_it_has(monkeypatch):
    device = types.SimpleNamespace(memory_stats=lambda: {"bytes_limit": 2**30, "bytes_in_use": 7})
    monkeypatch.setattr(memory.jax, "devices", lambda: [device])
    assert _memory_limit() == 2**29


def _groups(folder, listing: str, limits: dict[str, str]):
    """Files of control groups as Linux shows them; the process is where `listing` says."""
    (folder / "listing").write_text(listing)
    for name, text in limits.items():
        path = folder / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return sorted(_control_group_limits(folder / "root", folder / "listing"))


@pytest.mark.parametrize(
    ("listing", "limits", "found"),
    [
        # In a container, the process is at the root of what it sees.
        ("0::/\n", {"memory.max": "1073741824\n"}, [2**30]),
        ("0::/\n", {"memory.max": "max\n"}, []),
        ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": "5\n"}, [5]),
        ("0::/a/b\n", {"a/b/memory.max": "7\n", "a/memory.max": "5\n"}, [5, 7]),
        # Version 1; the path is the host's, which the container does not have.
        (
            "5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n",
            {"memory/memory.limit_in_bytes": "9\n", "cpu/memory.limit_in_bytes": "1\n"},
            [9],
        ),
        ("", {}, []),
    ],
)
def test_limits_of_control_groups_are_read(tmp_path, listing, limits, found):
    assert _groups(tmp_path, listing, limits) == found


def test_a_container_lowers_the_limit(monkeypatch):
    alone = _memory_limit()
    monkeypatch.setattr(memory, "_control_group_limits", lambda: iter([2**30, 2**40]))
    assert _memory_limit() == min(alone, 2**29)


def test_another_system_has_no_control_groups(tmp_path):
    assert list(_control_group_limits(tmp_path, tmp_path / "none")) == []


def test_more_than_enough_is_not_tried():
    compiler = Compiler(lambda units: units, 1000)
    assert largest_physical_batch(compiler, 1000, 5000, most=256)[0] == 256
    assert compiler.asked == [256]
    for capacity, limit, expected in ((200, 5000, None), (1000, 100, 64), (1000, 256, 256)):
        compiler = Compiler(lambda units: units, capacity)
        assert largest_physical_batch(compiler, capacity, limit, most=256)[0] == expected


def test_how_many_units_are_enough_follows_what_a_unit_computes():
    def of_width(width, layers=1, loop=None):
        weights = jax.ShapeDtypeStruct((1000, width), jnp.float32)

        def loss(w, x):
            states = jnp.zeros(width)
            if loop is None:
                for _ in range(layers):
                    states = jnp.tanh(states)
            else:
                body = loop(lambda s, _: (jnp.tanh(s), None))
                states, _ = jax.lax.scan(body, states, length=layers)
            return jnp.sum(states) + jnp.sum(w[:1] * x)

        return memory.enough_units(10**6, loss, weights, jax.ShapeDtypeStruct((), jnp.float32))

    assert of_width(8) == 256
    assert of_width(10**4, 10**2) == 64  # 4 MB each, 40 MB of weights
    assert of_width(10**4, 10**2, lambda f: f) == of_width(10**4, 10**2, jax.checkpoint) == 64
    assert of_width(10**4, 10**3) == 4
    assert of_width(10**5, 10**5) == 1
    keyed = lambda w, x: jnp.sum(jax.random.normal(jax.random.key(0), (10**6,)) * w * x)  # noqa: E731
    one = jax.ShapeDtypeStruct((), jnp.float32)
    assert 1 <= memory.enough_units(256, keyed, one, one) < 32


def test_an_accelerator_takes_all_that_fits(monkeypatch):
    monkeypatch.setattr(memory.jax, "default_backend", lambda: "gpu")
    large = jax.ShapeDtypeStruct((10**9,), jnp.float32)
    assert memory.enough_units(1000, lambda w, x: jnp.sum(w * x), large, large) == 1000


def test_large_units_are_computed_a_few_at_a_time(monkeypatch):
    monkeypatch.setattr(memory, "_SLICE_BYTES", 4 * memory._written(_traced()))
    monkeypatch.setattr(memory, "_READS_OF_WEIGHTS", 0)
    found = private_step("auto")
    fit(found)
    assert found.physical_batch_size == 4


def _traced():
    unit = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), data())
    return jax.make_jaxpr(loss)(params(), unit).jaxpr


# --- In a step ---


def test_a_small_memory_leads_to_slices_and_the_same_result(small):
    sliced = private_step("auto")
    assert sliced.physical_batch_size == "auto"
    result = fit(sliced)
    assert sliced.physical_batch_size == 16
    whole = fit(private_step(None))
    for name, leaf in whole.params.items():
        np.testing.assert_allclose(result.params[name], leaf, rtol=1e-4, atol=1e-6)
    same = fit(private_step(16))
    np.testing.assert_array_equal(result.params["a"], same.params["a"])


def test_a_large_memory_needs_no_slices():
    whole = private_step("auto")
    result = fit(whole)
    assert whole.physical_batch_size is None
    np.testing.assert_array_equal(result.params["a"], fit(private_step(None)).params["a"])


@pytest.mark.slow
def test_a_baseline_is_sliced_alike(monkeypatch):
    monkeypatch.setattr(
        memory, "_memory_limit", lambda: 30_000
    )  # what one unit takes, and half as much
    sliced = trustml.baseline_step(loss, optax.sgd(1e-4), plan(), physical_batch_size="auto")
    result = fit(sliced)
    assert sliced.physical_batch_size == 1
    whole = fit(trustml.baseline_step(loss, optax.sgd(1e-4), plan()))
    np.testing.assert_allclose(result.params["a"], whole.params["a"], rtol=1e-4, atol=1e-6)


def test_a_memory_that_is_too_small_is_refused_before_the_first_step(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_memory_limit", lambda: 1000)
    for options in ({}, {"out": tmp_path / "run"}):
        with pytest.raises(ValueError, match="`physical_batch_size` cannot be found"):
            fit(private_step("auto"), **options)
    assert not (tmp_path / "run").exists()


def test_one_program_serves_all_draws_after_the_choice(small):
    traced = []

    def counted(params, unit):
        traced.append(0)
        return loss(params, unit)

    made = private_step("auto", counted)
    state, seen = made.init(params(), key=0), []
    for draw in plan().batches(seed=0):
        state, _ = made.update(state, draw, data())
        seen.append((len(traced), made.physical_batch_size, id(made._program)))
    assert len(seen) == 4
    assert len(set(seen)) == 1


def test_a_choice_is_made_for_the_longest_rows(small, relaxed_promotion):
    """Rows that are cut first must not make room for more than fit uncut."""

    def halved(rows, taken):
        del taken
        return {"x": rows["x"][:, : WIDTH // 2]}

    def of_parts(params, unit):
        width = unit["x"].shape[0]
        return jnp.square(jnp.dot(jnp.tanh(params["a"][:, :width] @ unit["x"]), params["b"]))

    def shortened(size, shorten=halved):
        return trustml.private_step(
            of_parts,
            optax.sgd(0.1),
            plan(),
            strategy="vmap",
            physical_batch_size=size,
            shorten=shorten,
        )

    found, uncut = shortened("auto"), private_auto()
    result = fit(found)
    assert found.physical_batch_size == uncut.physical_batch_size == 16
    same = fit(shortened(16))
    np.testing.assert_array_equal(result.params["a"], same.params["a"])


def test_a_run_in_a_folder_chooses_alike_when_it_is_continued(small, tmp_path):
    whole = fit(private_step("auto"), out=tmp_path / "whole")

    def stop(event):
        if event.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(private_step("auto"), out=tmp_path / "run", checkpoint_every=0, callbacks=[stop])
    result = fit(private_step("auto"), out=tmp_path / "run", resume=True)
    np.testing.assert_array_equal(result.params["a"], whole.params["a"])
    assert len(summarize(read_ledger(tmp_path / "run")).segments) == 1


@pytest.mark.slow
def test_another_choice_is_another_program(small, tmp_path, monkeypatch):
    def stop(event):
        if event.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(private_step("auto"), out=tmp_path, callbacks=[stop])
    monkeypatch.setattr(memory, "_memory_limit", lambda: LIMIT // 2)
    with pytest.raises(ValueError, match=r"these changed: the training step \(.*micro-batch"):
        fit(private_step("auto"), out=tmp_path, resume=True)


# --- A step that does not fit ---


class OutOfMemory:
    """A program whose device has no room for it."""

    def __call__(self, *_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["vmap", "ghost"])
def test_a_step_that_does_not_fit_says_what_would(small, strategy):
    step = trustml.private_step(loss, optax.sgd(0.1), plan(), strategy=strategy)
    state, draw = step.init(params(), key=0), next(plan().batches(seed=0))
    step._program = OutOfMemory()
    with pytest.raises(MemoryError, match="does not fit: the step takes") as caught:
        step.update(state, draw, data())
    said = str(caught.value)
    assert "\n" not in said
    assert '`physical_batch_size="auto"` finds what fits' in said
    assert ('`strategy="ghost"`' in said) == (strategy == "vmap")
    if strategy == "vmap":
        size = int(re.search(r"`physical_batch_size=(\d+)`", said)[1])
        assert size == private_auto().physical_batch_size == 16


def test_a_step_that_fails_while_python_runs_on_says_so_too(small, monkeypatch):
    # Programs are dispatched: what does not fit shows when somebody waits for it.
    step = trustml.private_step(loss, optax.sgd(0.1), plan(), strategy="vmap")
    state, draw = step.init(params(), key=0), next(plan().batches(seed=0))

    def fail(_):
        raise jax.errors.JaxRuntimeError("INTERNAL: Error dispatching: Out of memory allocating 9.")

    with monkeypatch.context() as patched:
        patched.setattr(jax, "block_until_ready", fail)
        with pytest.raises(MemoryError, match="does not fit: the step takes"):
            step.update(state, draw, data())


def private_auto():
    step = private_step("auto")
    step.update(step.init(params(), key=0), next(plan().batches(seed=0)), data())
    return step


def test_other_errors_of_the_device_pass_through():
    step = private_step(None)

    def broken(*_):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    state = step.init(params(), key=0)
    step._program = broken
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        step.update(state, next(plan().batches(seed=0)), data())


# --- A strategy that is measured ---


@pytest.mark.slow
@pytest.mark.parametrize("size", [16, "auto"])
def test_tune_settles_the_strategy_before_the_first_step(size):
    step = trustml.private_step(
        loss, optax.sgd(0.1), plan(), strategy="tune", physical_batch_size=size
    )
    state = step.init(params(), key=0)
    state, _ = step.update(state, next(plan().batches(seed=0)), data())
    assert step.strategy in tuning.CANDIDATES
    fixed = trustml.private_step(
        loss,
        optax.sgd(0.1),
        plan(),
        strategy=step.strategy,
        physical_batch_size=step.physical_batch_size,
    )
    start = fixed.init(params(), key=0)
    assert step.program(state, data()) == fixed.program(start, data())


def test_a_run_in_a_folder_is_not_tuned(tmp_path):
    step = trustml.private_step(loss, optax.sgd(0.1), plan(), strategy="tune")
    with pytest.raises(ValueError, match=r"`strategy` must be settled .* got 'tune'"):
        fit(step, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
