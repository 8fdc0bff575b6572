"""Slices of rows of about one length: every unit counts once, whatever it holds."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import trustml
from trustml.clipping.by_length import Cuts, by_length
from trustml.clipping.microbatch import in_microbatches
from trustml.data.buckets import Shortener, shortener

ROWS, TIME = 23, 16
SHORTEN = Shortener({"mask": (4, 8, TIME)})


def units(seed):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, TIME + 1, (ROWS, 1)) ** 2 // TIME  # most are short, some empty
    mask = np.arange(TIME) < lengths
    rows = {"mask": mask, "tokens": rng.normal(size=(ROWS, TIME)).astype(np.float32)}
    group = rng.integers(-1, 2, ROWS).astype(np.int32)
    return jax.tree.map(jnp.asarray, rows), jnp.asarray(group)


def counting(units, group):
    """Which unit was summed, and how long it was."""
    rows, names = units
    taken = (group >= 0).astype(jnp.float32)
    sums = jnp.zeros((ROWS,)).at[names].add(taken)
    length = jnp.where(group >= 0, rows["mask"].shape[1], 0)
    return sums, (length, jnp.sum(rows["mask"], axis=1))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", [1, 3, 8])
def test_every_unit_counts_once_and_costs_about_what_it_holds(seed, size):
    rows, group = units(seed)
    call = jax.jit(lambda rows, group: by_length(counting, SHORTEN, (rows, names), group, size))
    names = jnp.arange(ROWS)
    sums, (length, held) = call(rows, group)
    drawn = np.asarray(group) >= 0
    np.testing.assert_array_equal(sums, drawn)
    own = np.asarray(rows["mask"]).sum(1)
    np.testing.assert_array_equal(held[drawn], own[drawn])
    assert np.all(np.asarray(length)[drawn] >= own[drawn])
    if size == 1:  # the slices of the lowest level hold rows of no other
        needed = np.array((4, 8, TIME))[np.searchsorted((4, 8, TIME), own)]
        assert np.asarray(length)[drawn].sum() <= needed[drawn].sum() + 4 * TIME


def test_a_draw_of_nothing_gives_zeros():
    rows, group = units(0)
    sums, (length, _) = by_length(counting, SHORTEN, (rows, jnp.arange(ROWS)), group * 0 - 1, 3)
    assert not np.any(sums)
    assert not np.any(length)


def loss(params, unit, key=None):
    x = jnp.tanh(unit["tokens"][:, None] * params["a"][None]) @ params["b"]
    kept = 1.0 if key is None else jax.random.bernoulli(key, 0.5).astype(jnp.float32)
    return kept * jnp.square(jnp.sum(jnp.where(unit["mask"], x, 0.0)))


def keyed(params, unit, key):
    return loss(params, unit, key)


PARAMS = {"a": jnp.array([0.5, -1.0, 2.0]), "b": jnp.array([1.0, 0.5, -0.2])}


@pytest.mark.parametrize("build", [trustml.private_step, trustml.baseline_step])
@pytest.mark.parametrize("of_unit", [loss, keyed])
def test_a_step_is_that_of_whole_rows(build, of_unit):
    rows, _ = units(1)
    plan = trustml.PrivacyPlan(
        clip_norm=0.1,
        noise_multiplier=0.0 if build is trustml.baseline_step else 1.0,
        sample_rate=0.6,
        steps=3,
        expected_batch=0.6 * ROWS,
        num_units=ROWS,
    )
    found = []
    for shorten in (None, SHORTEN):
        step = build(of_unit, optax.sgd(0.1), plan, physical_batch_size=4, shorten=shorten)
        state = step.init(PARAMS, key=0)
        for draw in plan.batches(seed=0):
            state, metrics = step.update(state, draw, jax.tree.map(np.asarray, rows))
        found.append((state.params, metrics))
    for one, other in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


class TooShort(Shortener):
    """The planted bug: rows lose what they hold."""

    def level(self, rows):
        return 0 * super().level(rows)


def test_rows_that_lose_what_they_hold_are_seen():
    rows, group = units(0)

    def sums(cuts):
        def core(units, group):
            grads = jax.vmap(jax.grad(loss), (None, 0))(PARAMS, units[0])["b"]
            return jnp.where(group >= 0, 1.0, 0.0) @ grads, ()

        return in_microbatches(core, (rows,), jnp.abs(group), 3, cuts=cuts)[0]

    np.testing.assert_allclose(sums(SHORTEN), sums(None), rtol=1e-4)
    assert not np.allclose(sums(TooShort(SHORTEN.lengths)), sums(None), rtol=1e-2)


def test_an_aux_with_a_time_axis_is_refused():
    rows, group = units(0)

    def core(units, group):
        return jnp.zeros(()), units[0]["tokens"]

    with pytest.raises(ValueError, match="`shorten` must leave the form"):
        by_length(core, SHORTEN, (rows,), group, 3)


def test_levels_of_two_masks_hold_both():
    units = {"mask": np.zeros((9, 64), bool), "target_mask": np.zeros((9, 16), bool)}
    found = shortener(units)
    assert isinstance(found, Cuts)
    assert found.lengths == {"mask": (16, 32, 64), "target_mask": (8, 16)}
    long = np.arange(64) < np.array([[3], [17], [33], [3], [40]])
    short = np.arange(16) < np.array([[8], [2], [2], [9], [16]])
    rows = {"mask": long, "target_mask": short}
    assert found.level(rows).tolist() == [0, 1, 2, 2, 2]
    shapes = [found.cut(rows, level) for level in range(3)]
    assert [one["mask"].shape[1] for one in shapes] == [16, 32, 64]
    assert [one["target_mask"].shape[1] for one in shapes] == [8, 8, 16]
