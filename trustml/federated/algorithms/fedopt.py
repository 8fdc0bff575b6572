"""The adaptive server optimizers of FedOpt, without bias correction, as their paper has them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree


class _Moments(NamedTuple):
    first: PyTree
    second: PyTree


def _adaptive(second_moment, rate: float, b1: float, tau: float, start: float | None):
    begin = tau**2 if start is None else start

    def init(params):
        zeros = jax.tree.map(jnp.zeros_like, params)
        return _Moments(zeros, jax.tree.map(lambda leaf: jnp.full_like(leaf, begin), params))

    def update(updates, state, params=None):
        del params
        first = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.first, updates)
        second = jax.tree.map(lambda v, g: second_moment(v, jnp.square(g)), state.second, updates)
        steps = jax.tree.map(lambda m, v: -rate * m / (jnp.sqrt(v) + tau), first, second)
        return steps, _Moments(first, second)

    return optax.GradientTransformation(init, update)


def fedadam(
    rate: float,
    *,
    b1: float = 0.9,
    b2: float = 0.99,
    tau: float = 1e-3,
    start: float | None = None,
) -> optax.GradientTransformation:
    """The server's Adam of FedAdam; for `fedavg(..., server=fedadam(0.1))`.

    >>> found, _ = fedadam(0.1, b1=0.0, b2=0.0, tau=0.0).update(
    ...     jnp.ones(1), fedadam(0.1).init(jnp.zeros(1))
    ... )
    >>> round(float(found[0]), 6)
    -0.1

    Args:
      rate: The server's learning rate.
      b1: Decay of the first moment.
      b2: Decay of the second.
      tau: How adaptive it is: what is added to the root of the second moment.
      start: The second moment before the first round; by default the square of `tau`.

    References:
      Reddi et al., Adaptive Federated Optimization, 2021, algorithm 2.
    """
    return _adaptive(lambda v, g2: b2 * v + (1 - b2) * g2, rate, b1, tau, start)


def fedyogi(
    rate: float,
    *,
    b1: float = 0.9,
    b2: float = 0.99,
    tau: float = 1e-3,
    start: float | None = None,
) -> optax.GradientTransformation:
    """The server's Yogi of FedYogi: the second moment moves by steps that are bounded.

    >>> fedyogi(0.1).init(jnp.zeros(1)).first.tolist()
    [0.0]

    Arguments and source are those of `fedadam`.
    """
    return _adaptive(lambda v, g2: v - (1 - b2) * g2 * jnp.sign(v - g2), rate, b1, tau, start)


def fedadagrad(
    rate: float, *, b1: float = 0.0, tau: float = 1e-3, start: float | None = None
) -> optax.GradientTransformation:
    """The server's Adagrad of FedAdagrad: the second moment adds up.

    >>> fedadagrad(0.1).init(jnp.zeros(1)).first.tolist()
    [0.0]

    Arguments and source are those of `fedadam`, but that there is no `b2` and `b1` is 0.
    """
    return _adaptive(lambda v, g2: v + g2, rate, b1, tau, start)
