"""Gaussian noise as an optax transformation; its state is the position in the stream."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree, UInt32

from trustml.noise.box_muller import gaussian_like
from trustml.noise.keys import check_key


class NoiseState(NamedTuple):
    """Position in the noise stream. Secret: who knows `key` can subtract the noise."""

    key: UInt32[Array, "8"]
    step: Int[Array, ""]  # updates so far; the accountant is asked about this many


def add_gaussian_noise(stddev: float, key: UInt32[Array, "8"]) -> optax.GradientTransformation:
    """Adds independent normals of standard deviation `stddev` to every value of the updates.

    >>> from trustml.noise import key_from_seed
    >>> noise = add_gaussian_noise(2.0, key_from_seed(0))
    >>> state = noise.init(None)
    >>> first, state = noise.update(jnp.zeros(3), state)
    >>> second, state = noise.update(jnp.zeros(3), state)
    >>> bool((first != second).all()), int(state.step)
    (True, 2)

    Args:
      stddev: Noise multiplier times the sensitivity of the updates.
      key: 256 bits, from `trustml.noise.new_key()`.

    Guarantee:
      Each update is the Gaussian mechanism with `stddev`, in the real-number model and up to
      `tail_delta`. Void if a state is used twice with different updates, or if `key` is known.

    Raises:
      ValueError: `stddev` is negative, infinite or not a number.
      TypeError: `key` is not uint32[8]; or, in `update`, a leaf is not float32.
    """
    if not (stddev >= 0 and math.isfinite(stddev)):
        raise ValueError(
            f"`stddev` must be finite and not negative, got {stddev!r}. "
            "An infinite `clip_norm` has no noise that hides a unit: choose a finite one."
        )
    check_key(key)

    def init(params):
        del params
        return NoiseState(key, jnp.zeros((), jnp.int32))

    def update(updates, state, params=None):
        del params
        noisy = add_noise(updates, stddev, state.key, state.step)
        return noisy, NoiseState(state.key, state.step + 1)

    return optax.GradientTransformation(init, update)


def add_noise(
    updates: PyTree,
    stddev: float | Float[Array, ""],
    key: UInt32[Array, "8"],
    step: Int[Array, ""],
    shardings: PyTree | None = None,
) -> PyTree:
    """`updates` plus the noise of one step, drawn by each device where `shardings` put it."""
    for leaf in jax.tree.leaves(updates):
        if leaf.dtype != jnp.float32:
            raise TypeError(
                f"`updates` must be float32 to be made noisy, got {leaf.dtype}: below float32 "
                "noise has few distinct values. Cast after the noise, not before."
            )
    normals = gaussian_like(updates, key, step, shardings=shardings)
    return jax.tree.map(lambda value, normal: value + stddev * normal, updates, normals)
