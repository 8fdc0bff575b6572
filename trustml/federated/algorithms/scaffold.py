"""SCAFFOLD: control variates take the drift out of local steps."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from trustml.clipping import partition
from trustml.federated.algorithms.algorithm import CLIENTS, Algorithm, Answer, moved, zeros_like
from trustml.federated.local import LocalTraining
from trustml.federated.validation import check_number


def scaffold(
    loss_fn: Callable,
    rate: float,
    *,
    server_rate: float = 1.0,
    batch_size: int = 10,
    epochs: int = 1,
    trainable: Any = None,
) -> Algorithm:
    """SCAFFOLD with option II: each client keeps a control variate, the server their mean.

    Clients that take several local steps settle on a compromise of their own optima; SCAFFOLD
    reaches the optimum of the mean loss. A client keeps as much as the model weighs.

    >>> scaffold(lambda w, row: 0.5 * (w - row) ** 2, 0.1).weights
    'clients'

    Args:
      loss_fn: `loss_fn(params, row) -> scalar`.
      rate: Learning rate of the clients' SGD, which the control variates rest on.
      server_rate: By how much of the mean change the server moves.
      batch_size: Rows of a local step.
      epochs: Passes over a client's rows in a round.
      trainable: Which leaves are trained.

    Raises:
      ValueError: A number is out of range.

    References:
      Karimireddy et al., SCAFFOLD: Stochastic Controlled Averaging for Federated Learning, 2020,
      algorithm 1.
    """
    check_number("rate", rate, least=0, above=True)
    local = LocalTraining(loss_fn, optax.sgd(rate), batch_size, epochs, trainable)

    def answer(params, control, own, batches, key):
        correction = jax.tree.map(jnp.subtract, control, own)

        def adjust(grads, trained):
            del trained
            return jax.tree.map(jnp.add, grads, correction)

        found = local.train(params, batches, key, adjust)
        # A client without rows took no step, and its control variate stays.
        taken = jnp.maximum(batches.work.steps, 1).astype(jnp.float32) * rate
        change = jax.tree.map(
            lambda control, delta: jnp.where(batches.work.steps > 0, -control - delta / taken, 0.0),
            control,
            found.delta,
        )
        kept = jax.tree.map(jnp.add, own, change)
        return Answer({"delta": found.delta, "control": change}, found.loss, kept)

    def apply(trained, control, mean, seen):
        share = seen.answered / seen.population
        control = jax.tree.map(
            lambda control, change: control + share * change, control, mean["control"]
        )
        return moved(trained, mean["delta"], server_rate), control

    return Algorithm(
        local=local,
        init=zeros_like,
        answer=answer,
        apply=apply,
        keep=lambda params: zeros_like(partition(params, trainable)[0]),
        weights=CLIENTS,
        bounded=False,
    )
