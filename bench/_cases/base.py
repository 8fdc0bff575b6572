"""The type of a case, and the code that all cases share."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Case(NamedTuple):
    """A loss, its parameters, a batch of examples, and what they are."""

    loss: Callable
    params: Any
    units: Any
    what: str
    trainable: Callable[[str], bool] | None = None  # as in `trustml.clipped_grad`


class Draw:
    """Weights and data by a seed of their own: every process draws the same."""

    def __init__(self, seed=0):
        self.rng = np.random.default_rng(seed)

    def weight(self, *shape):
        """A kernel whose last axis is the output."""
        fan_in = int(np.prod(shape[:-1]))
        return jnp.asarray(self.rng.normal(size=shape) / np.sqrt(fan_in), jnp.float32)

    def normal(self, *shape):
        return jnp.asarray(self.rng.normal(size=shape), jnp.float32)

    def integers(self, high, *shape):
        return jnp.asarray(self.rng.integers(0, high, shape), jnp.int32)


def cross_entropy(logits, labels):
    """Per position."""
    picked = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[..., None], axis=-1)
    return -picked[..., 0]
