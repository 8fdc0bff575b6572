"""Noise whose steps partly take each other back, as pure functions over an explicit state."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int32, PyTree

from trustml.noise.box_muller import gaussian_like
from trustml.noise.matrix_factorization import Strategy

_MOST_STEPS = 2**31 - 1  # steps are int32


class CorrelatedState(NamedTuple):
    """Key, step and buffers from which the noise of the next step is made.

    As secret as the key: with the buffers, the noise of earlier steps can be subtracted.
    """

    step: Int32[Array, ""]  # steps drawn so far
    buffers: PyTree  # float32[memory, ...] like each parameter; None where nothing is kept


class CorrelatedNoise(NamedTuple):
    """A pair of pure functions; see `correlated_noise`."""

    init: Callable[[PyTree], CorrelatedState]
    update: Callable[..., tuple[PyTree, CorrelatedState]]


def correlated_noise(strategy: Strategy, stddev: float, *, steps: int) -> CorrelatedNoise:
    """The noise of a strategy, step by step: row t of stddev C^-1 Z at step t.

    `init(like)` gives the state before step 0. `update(key, step, state, like, shardings=None)`
    gives the noise of `step`, float32 in the shapes of `like`, and the next state. Z is the
    counter stream of `gaussian_like`: row t depends on the key and t alone, so that the tree and
    "toeplitz" keep nothing and draw earlier rows again. "banded" keeps its last noises in a ring,
    and "blt" a decaying sum of Z for each buffer. `step` may be traced.

    Where `step` is not that of the state, negative, or not below `steps`, all noise is NaN: the
    accounting knows no such step, and a compiled program cannot raise.

    Rounding: "blt" sums Z, each buffer decaying by itself, so that rounding errors decay too. The
    recurrence of "banded" feeds noises back, through a polynomial with coefficients that do not
    grow, whose roots therefore lie on or outside the unit circle (Enestrom and Kakeya), outside
    for optimised ones. Tests compare 1,000 steps with float64. What is carried is computed apart
    from the code around it, so that another program that repeats the steps gives the same bits.

    >>> from trustml.noise import key_from_seed
    >>> key, like = key_from_seed(0), jnp.zeros(4)
    >>> noise = correlated_noise(Strategy("banded", (0.5,)), 2.0, steps=100)
    >>> state = noise.init(like)
    >>> first, state = noise.update(key, jnp.int32(0), state, like)
    >>> second, state = noise.update(key, jnp.int32(1), state, like)
    >>> bool(jnp.allclose(second + first / 2, 2 * gaussian_like(like, key, jnp.int32(1))))
    True

    Args:
      strategy: The factor C.
      stddev: Noise multiplier times the bound of a unit times `strategy.sensitivity(...)`.
      steps: Steps of the run, which the sensitivity was computed for.

    Guarantee:
      Adding the noise to the sums of `steps` steps is the Gaussian mechanism that
      `Strategy.sensitivity` describes, in the real-number model, up to the support of the normals
      (`tail_delta`, with `steps` times the values of a step). Weights and decays of a strategy
      that `best_strategy` found are float32 numbers, and enter as they are; "toeplitz" is rounded
      to float32, which moves its sensitivity by less than 1e-8 of itself up to 10,000 steps. Void
      if a step is drawn twice with different sums, or if the key or a state is known.

    Raises:
      ValueError: `stddev` is negative, infinite or not a number, or `steps` is below 1.
    """
    if not (stddev >= 0 and math.isfinite(stddev)):
        raise ValueError(f"`stddev` must be finite and not negative, got {stddev!r}.")
    if not (1 <= steps <= _MOST_STEPS):
        raise ValueError(f"`steps` must be from 1 to {_MOST_STEPS}, got {steps!r}.")
    row = _ROWS[strategy.kind](strategy, steps)

    def init(like):
        if not strategy.memory:
            return CorrelatedState(jnp.int32(0), None)
        kept = (strategy.memory,)
        buffers = jax.tree.map(lambda leaf: jnp.zeros(kept + leaf.shape, jnp.float32), like)
        return CorrelatedState(jnp.int32(0), buffers)

    def update(key, step, state, like, shardings=None):
        step = step.astype(jnp.int32)

        def draw(at):
            return gaussian_like(like, key, at, shardings=shardings)

        found, buffers = row(step, draw, state.buffers)
        known = (step == state.step) & (step >= 0) & (step < steps)
        scale = jnp.where(known, jnp.float32(stddev), jnp.float32(jnp.nan))
        noise = jax.tree.map(lambda leaf: scale * leaf, found)
        return noise, CorrelatedState(state.step + 1, buffers)

    return CorrelatedNoise(init, update)


def _independent(strategy, steps):
    del strategy, steps

    def row(step, draw, buffers):
        return draw(step), buffers

    return row


def _tree(strategy, steps):
    """Row t, counted from 1, is Z[t] less the nodes that it replaces: Z[t - 1], Z[t - 2], ..."""
    del strategy, steps

    def row(step, draw, buffers):
        end = step + 1
        size = end & -end

        def replace(carry):
            below, noise = carry
            return below * 2, jax.tree.map(jnp.subtract, noise, draw(end - below - 1))

        start = (jnp.int32(1), draw(step))
        return jax.lax.while_loop(lambda carry: carry[0] < size, replace, start)[1], buffers

    return row


def _toeplitz(strategy, steps):
    """Row t is the sum of C^-1's coefficient j times Z[t - j], all drawn again."""
    table = np.float32(strategy.inverse_coefficients(steps))

    def row(step, draw, buffers):
        weights = jnp.asarray(table)

        def add(lag, noise):
            past = draw(step - lag)
            return jax.tree.map(lambda leaf, old: leaf + weights[lag] * old, noise, past)

        return jax.lax.fori_loop(jnp.int32(1), step + 1, add, draw(step)), buffers

    return row


def _banded(strategy, steps):
    """Row t is Z[t] less weight j times row t - j, which the ring holds at (t - j) mod memory."""
    del steps
    memory = strategy.memory

    def row(step, draw, buffers):
        if not memory:
            return draw(step), buffers
        place = jnp.arange(memory, dtype=jnp.int32)
        weights = jnp.asarray(strategy.weights, jnp.float32)[(step - 1 - place) % memory]
        new = _apart(draw(step), step)
        noise = jax.tree.map(lambda leaf, kept: leaf - _mix(weights, kept, step), new, buffers)
        buffers = jax.tree.map(lambda kept, new: kept.at[step % memory].set(new), buffers, noise)
        return noise, buffers

    return row


def _blt(strategy, steps):
    """Row t is Z[t] less the weighted buffers, which then decay and take Z[t] in."""
    del steps

    def row(step, draw, buffers):
        weights = jnp.asarray(strategy.weights, jnp.float32)
        decays = jnp.asarray(strategy.decays, jnp.float32)
        new = _apart(draw(step), step)
        noise = jax.tree.map(lambda leaf, kept: leaf - _mix(weights, kept, step), new, buffers)
        buffers = jax.tree.map(
            lambda kept, leaf: _apart(_spread(decays, kept) * kept, step) + leaf[None], buffers, new
        )
        return noise, buffers

    return row


_ROWS = {
    "independent": _independent,
    "tree": _tree,
    "toeplitz": _toeplitz,
    "banded": _banded,
    "blt": _blt,
}


def _mix(weights, kept, step):
    """sum_j weights[j] kept[j], not as a matrix product, which accelerators round to 8 bits."""
    return _apart(_spread(weights, kept) * kept, step).sum(0)


def _apart(tree, step):
    """`tree` as it is, but rounded: no compiler may fuse its last product with a sum.

    Some programs would and others not, and a run that resumes repeats the steps in another one. An
    integer operation stands between them, with a zero that no compiler knows to be one.
    """
    zero = (step >> 31).astype(jnp.uint32)  # steps are not negative

    def one(leaf):
        bits = jax.lax.bitcast_convert_type(leaf, jnp.uint32)
        return jax.lax.bitcast_convert_type(bits ^ zero, jnp.float32)

    return jax.tree.map(one, tree)


def _spread(weights, kept):
    return weights.reshape(-1, *(1 for _ in kept.shape[1:]))
