"""Local differential privacy: a client's answer is noisy before it leaves the device."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array

from trustml.accounting.gaussian import gaussian_multiplier
from trustml.clipping import clip
from trustml.federated.algorithms.algorithm import CLIENTS, Algorithm


def locally_private(
    algorithm: Algorithm, *, epsilon: float, delta: float, clip_norm: float, rounds: int
) -> Algorithm:
    """The algorithm with answers that a client bounds and makes noisy itself: no server is trusted.

    Noise is added by every client, so it takes about as many times more clients than under a plan
    as a round has of them for the same accuracy.

    >>> import optax
    >>> from trustml.federated.algorithms.fedavg import fedavg
    >>> plain = fedavg(lambda w, row: w * row, optax.sgd(0.1))
    >>> locally_private(plain, epsilon=8.0, delta=1e-5, clip_norm=1.0, rounds=10).weights
    'clients'

    Args:
      algorithm: One that sends changes of the parameters alone.
      epsilon: Of all answers of one client together.
      delta: Of all of them.
      clip_norm: L2 bound of an answer.
      rounds: Answers that a client gives at most, such as all rounds.

    Guarantee:
      All answers of a client are (epsilon, delta)-private for whatever it holds in place of what it
      holds, by the analytic Gaussian mechanism with a sensitivity of twice the bound, if it answers
      `rounds` times at most and draws its noise itself from a secret of its own. A simulation draws
      it from the run's key: it shows what accuracy is left, and protects nobody.

    Raises:
      ValueError: The algorithm sends more, or a number is out of range.

    References:
      Balle, Wang, Improving the Gaussian Mechanism for Differential Privacy, 2018.
    """
    if not algorithm.bounded or algorithm.keep is not None:
        raise ValueError(
            "`algorithm` must send the change of the parameters alone and keep no state, such as "
            "`fedavg(loss_fn, client)`, got another."
        )
    if not (clip_norm > 0):
        raise ValueError(f"`clip_norm` must be positive, got {clip_norm!r}.")
    stddev = gaussian_multiplier(epsilon, delta, rounds) * 2 * clip_norm

    def answer(params, server, own, batches, key):
        rows, noise = jax.random.split(key)
        found = algorithm.answer(params, server, own, batches, rows)
        bounded, _, _ = clip(found.value, clip_norm)
        return found._replace(value=_noisy(bounded, noise, stddev))

    return dataclasses.replace(algorithm, answer=answer, bounded=False, weights=CLIENTS)


def _noisy(tree, key: Array, stddev: float):
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(
        structure,
        [
            leaf + jnp.float32(stddev) * jax.random.normal(one, leaf.shape, jnp.float32)
            for leaf, one in zip(leaves, keys, strict=True)
        ],
    )
