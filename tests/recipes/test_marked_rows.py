"""Rows with canary marks are cut as the rows themselves are."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import trustml
from trustml.data.buckets import shortener
from trustml.recipes.train.canaries import Canaries, TrainingObjective, with_canaries

ROWS, TIME = 12, 32


def loss(params, unit):
    return jnp.square(jnp.sum(jnp.where(unit["mask"], jnp.tanh(params * unit["tokens"]), 0.0)))


def test_slices_of_rows_with_marks_sum_what_whole_rows_do():
    rng = np.random.default_rng(0)
    mask = np.arange(TIME) < rng.integers(1, TIME // 2, (ROWS, 1))
    mask[3] = True  # one long row
    units = {"mask": mask, "tokens": rng.normal(size=(ROWS, TIME)).astype(np.float32)}
    plain = TrainingObjective(loss, units, None, shortener(units), 0)
    none = np.zeros(0, int)
    canaries = Canaries(none, none, none, none, none, np.array([1, 0, 1]))
    objective = with_canaries(plain, canaries, 0.1, lambda: jnp.ones(()))
    size = ROWS + 2
    plan = trustml.PrivacyPlan(
        clip_norm=0.1,
        noise_multiplier=1.0,
        sample_rate=0.8,
        steps=2,
        expected_batch=0.8 * size,
        num_units=size,
    )
    found, lengths = [], set()

    def seen(params, unit):
        lengths.add(unit["unit"]["mask"].shape[0])
        return objective.loss(params, unit)

    for shorten in (None, objective.shorten):
        step = trustml.private_step(
            seen if shorten else objective.loss,
            objective.optimizer(optax.sgd(0.1)),
            plan,
            trainable=objective.trainable,
            physical_batch_size=4,
            shorten=shorten,
        )
        state = step.init(objective.params(jnp.ones(())), key=0)
        for draw in plan.batches(seed=0):
            state, _ = step.update(state, draw, objective.units)
        found.append(state.params)
    assert lengths == {8, 16, TIME}
    for one, other in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
