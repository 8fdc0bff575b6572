"""Trainers, and one clipped gradient, that each have a known error, built around our own parts.

A trainer is made of `(loss, optimizer, plan)` and returns `train(params, units, rng)`, which gives
the trained weights and the optimizer's state. All claim what `plan` promises; one is right.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax

from trustml.clipping import clip, clipped_grad
from trustml.noise import NoiseState, add_gaussian_noise, key_from_seed
from trustml.plan import PrivacyPlan
from trustml.sampling import Draw
from trustml.training import private_step
from trustml.training.batches import gather

_BEYOND = 1e6  # a clip norm that no gradient here reaches


def correct(loss: Callable, optimizer: optax.GradientTransformation, plan: PrivacyPlan) -> Callable:
    """`private_step` on the draws of its plan."""
    return _trainer(loss, optimizer, plan, lambda rng: plan.batches(seed=_seed(rng)))


def half_noise(loss, optimizer, plan: PrivacyPlan) -> Callable:
    """Half the noise that is accounted."""
    return correct(
        loss, optimizer, dataclasses.replace(plan, noise_multiplier=plan.noise_multiplier / 2)
    )


def no_bound(loss, optimizer, plan: PrivacyPlan) -> Callable:
    """The noise that is accounted, on gradients that nothing bounds."""
    noise = plan.stddev / _BEYOND
    run = dataclasses.replace(plan, clip_norm=_BEYOND, noise_multiplier=noise)
    return correct(loss, optimizer, run)


def shuffled(loss, optimizer, plan: PrivacyPlan) -> Callable:
    """Batches of a shuffled epoch, which claim to be Poisson samples of the plan."""
    return _trainer(loss, optimizer, plan, lambda rng: _shuffled(plan, rng))


def same_noise(loss, optimizer, plan: PrivacyPlan) -> Callable:
    """Fresh draws, but every step is told that it is the first: its noise is the same."""
    step = private_step(loss, optimizer, plan)

    def train(params, units, rng):
        state = step.init(params, key=_seed(rng))
        for _ in range(plan.steps):
            draw = plan.sampler(_seed(rng)).draw(0)
            state = state._replace(step=jnp.zeros((), jnp.int32))
            state, _ = step.update(state, draw, units)
        return state.params, state.opt_state

    return train


def bounded_mean(loss, optimizer, plan: PrivacyPlan) -> Callable:
    """Bounds the mean of the batch, with noise as if that bounded every unit's part of it."""
    total = clipped_grad(loss, clip_norm=math.inf)

    def noisy_mean(params, rows, group, add_noise):
        sums, _ = total(params, rows, group)
        mean = jax.tree.map(lambda leaf: leaf / plan.expected_batch, sums)
        mean, _, _ = clip(mean, plan.clip_norm)
        return add_noise(mean, plan.stddev / plan.expected_batch)

    return _by_hand(noisy_mean, optimizer, plan)


def drawn_divisor(loss, optimizer, plan: PrivacyPlan) -> Callable:
    """Divides by the number of units drawn instead of the public one."""
    total = clipped_grad(loss, clip_norm=plan.clip_norm)

    def noisy_mean(params, rows, group, add_noise):
        sums, _ = total(params, rows, group)
        drawn = jnp.sum(group >= 0).astype(jnp.float32)
        return jax.tree.map(lambda leaf: leaf / drawn, add_noise(sums, plan.stddev))

    return _by_hand(noisy_mean, optimizer, plan)


def _trainer(loss, optimizer, plan, draws: Callable[[np.random.Generator], Iterator[Draw]]):
    """The library's step on any draws that carry the fingerprint of its plan."""
    step = private_step(loss, optimizer, plan)

    def train(params, units, rng):
        state = step.init(params, key=_seed(rng))
        for draw in draws(rng):
            state, _ = step.update(state, draw, units)
        return state.params, state.opt_state

    return train


def _by_hand(noisy_mean, optimizer, plan: PrivacyPlan):
    """A step of one's own, on the draws of the plan."""

    @jax.jit
    def update(params, opt_state, key, number, rows, group):
        def add_noise(values, stddev):
            noise = add_gaussian_noise(stddev, key)
            return noise.update(values, NoiseState(key, number))[0]

        mean = noisy_mean(params, rows, group, add_noise)
        updates, opt_state = optimizer.update(mean, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    def train(params, units, rng):
        opt_state, key = optimizer.init(params), key_from_seed(_seed(rng))
        for draw in plan.batches(seed=_seed(rng)):
            rows = gather(draw, units, plan.num_units).rows
            number = jnp.asarray(draw.step, jnp.int32)
            params, opt_state = update(params, opt_state, key, number, rows, draw.group)
        return params, opt_state

    return train


def _shuffled(plan, rng) -> Iterator[Draw]:
    """Batches as data loaders deal them: a permutation cut into equal parts, the last one short."""
    size = round(plan.expected_batch)
    epoch = math.ceil(plan.num_units / size)
    order = np.zeros(0, int)
    for step in range(plan.steps):
        if step % epoch == 0:
            order = rng.permutation(plan.num_units)
        start = step % epoch * size
        taken = order[start : start + size]
        indices = np.full(plan.capacity, -1, np.int32)
        indices[: len(taken)] = taken
        draw = Draw(step, indices, np.where(indices < 0, -1, 0).astype(np.int32))
        draw.plan = plan.fingerprint
        yield draw


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**63))


def scaled_losses(loss: Callable, *, clip_norm, num_groups: int = 1, clipping: str, strategy: str):
    """Clipped sums as the gradient of weighted losses: the two passes that most ghost clipping is.

    Norms are those of the losses as they are. Where a softmax saturates, the gradient of a weighted
    loss is not the weighted gradient in float32: c - pc is not c(1 - p). Until November 2026 the
    strategy `ghost` was this, and `auto` for losses that rematerialise.

    Args:
      loss: As in `clipped_grad`.
      clip_norm: Of calls that give none.
      num_groups: As in `clipped_grad`.
      clipping: As in `clipped_grad`.
      strategy: Not read.
    """
    del strategy

    @jax.jit
    def grad(params, units, group, clip_norm=clip_norm):
        _, info = clipped_grad(loss, clip_norm=1.0, strategy="vmap", clipping=clipping)(
            params, units, clip_norm=clip_norm
        )
        member = jax.nn.one_hot(group, num_groups, axis=0, dtype=jnp.float32)

        def of_group(weights):
            def weighted(params):
                return jnp.sum(weights * jax.vmap(loss, (None, 0))(params, units))

            return jax.grad(weighted)(params)

        return jax.lax.map(of_group, member * info.clip_factor[None]), info

    grad.num_groups = num_groups  # type: ignore[attr-defined]
    return grad
