"""q-FedAvg: clients with a large loss count more."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from trustml.federated.algorithms.algorithm import CLIENTS, Algorithm, Answer, moved
from trustml.federated.local import LocalTraining

_LEAST = 1e-10  # of a loss that is raised to a power


def qfedavg(
    loss_fn: Callable,
    client: optax.GradientTransformation,
    *,
    fairness: float,
    lipschitz: float,
    batch_size: int = 10,
    epochs: int = 1,
    trainable: Any = None,
) -> Algorithm:
    """q-FedAvg: the accuracy over clients becomes more even as `fairness`, the paper's q, grows.

    With `fairness` 0 it is FedAvg in which clients count alike.

    >>> loss = lambda w, row: 0.5 * (w - row) ** 2
    >>> qfedavg(loss, optax.sgd(0.1), fairness=1.0, lipschitz=10.0).weights
    'clients'

    Args:
      loss_fn: `loss_fn(params, row) -> scalar`, not negative.
      client: The clients' optimizer.
      fairness: q, at least 0.
      lipschitz: L, an estimate of the gradient's Lipschitz constant; one over the learning rate.
      batch_size: Rows of a local step.
      epochs: Passes over a client's rows in a round.
      trainable: Which leaves are trained.

    Raises:
      ValueError: A number is out of range.

    References:
      Li et al., Fair Resource Allocation in Federated Learning, 2020, algorithm 2.
    """
    if not (fairness >= 0):
        raise ValueError(f"`fairness` must not be negative, got {fairness!r}.")
    if not (lipschitz > 0):
        raise ValueError(f"`lipschitz` must be positive, got {lipschitz!r}.")
    local = LocalTraining(loss_fn, client, batch_size, epochs, trainable)

    def answer(params, server, own, batches, key):
        del server, own
        loss, _ = local.whole_gradient(params, batches, key)
        found = local.train(params, batches, key)
        loss = jnp.maximum(loss, _LEAST)
        square = lipschitz**2 * sum(jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(found.delta))
        raised = loss**fairness
        slope = fairness * loss ** (fairness - 1) * square + lipschitz * raised
        delta = jax.tree.map(lambda leaf: lipschitz * raised * leaf, found.delta)
        return Answer({"delta": delta, "slope": slope}, found.loss)

    def apply(trained, server, mean, seen):
        del seen
        slope = jnp.maximum(mean["slope"], jnp.float32(jnp.finfo(jnp.float32).tiny))
        return moved(trained, jax.tree.map(lambda leaf: leaf / slope, mean["delta"])), server

    return Algorithm(local=local, answer=answer, apply=apply, weights=CLIENTS, bounded=False)
