"""Federated averaging; with a server optimizer, FedOpt; with a pull to the start, FedProx."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from trustml.bookkeeping.values import to_float32
from trustml.clipping import partition
from trustml.federated.algorithms.algorithm import ROWS, Algorithm, Answer
from trustml.federated.local import LocalTraining
from trustml.training import checks

_SERVER = optax.sgd(1.0)


def fedavg(
    loss_fn: Callable,
    client: optax.GradientTransformation,
    *,
    server: optax.GradientTransformation | None = _SERVER,
    proximal: float = 0.0,
    batch_size: int = 10,
    epochs: int = 1,
    weights: str = ROWS,
    trainable: Any = None,
) -> Algorithm:
    """Federated averaging: clients train, the server moves by the mean of their changes.

    The server's optimizer takes minus the mean change for a gradient: `optax.sgd(1.0)` is FedAvg,
    any other is FedOpt; `trustml.federated.fedadam` and its kin are those of the paper.

    >>> algorithm = fedavg(lambda w, row: 0.5 * (w - row) ** 2, optax.sgd(0.1))
    >>> algorithm.weights
    'rows'

    Args:
      loss_fn: `loss_fn(params, row) -> scalar`; with a third argument, a key of the row's own.
      client: The clients' optimizer; its state starts afresh in every round.
      server: The server's. None averages the clients' models in place of their changes: for one
        client that is its training bit for bit.
      proximal: Mu of FedProx: each gradient gets mu times the distance from the round's start.
      batch_size: Rows of a local step.
      epochs: Passes over a client's rows in a round.
      weights: Whether a client counts by its "rows", as in the paper, or "clients" count alike.
      trainable: Which leaves are trained, as in `trustml.clipped_grad`.

    Raises:
      ValueError: A number is out of range, or an optimizer needs the value of the loss.

    References:
      McMahan et al., Communication-Efficient Learning of Deep Networks from Decentralized Data,
      2017. Reddi et al., Adaptive Federated Optimization, 2021. Li et al., Federated Optimization
      in Heterogeneous Networks, 2020.
    """
    local = LocalTraining(loss_fn, client, batch_size, epochs, trainable)
    if not (proximal >= 0):
        raise ValueError(f"`proximal` must not be negative, got {proximal!r}.")

    def answer(params, server_state, own, batches, key):
        del server_state, own
        pull = proximal_pull(partition(params, trainable)[0], proximal)
        found = local.train(params, batches, key, pull)
        return Answer(to_float32(found.params) if server is None else found.delta, found.loss)

    if server is None:
        return Algorithm(local=local, answer=answer, apply=_average, weights=weights, bounded=False)
    init, apply = server_steps(server)
    return Algorithm(local=local, init=init, answer=answer, apply=apply, weights=weights)


def proximal_pull(start, strength: float) -> Callable | None:
    """Adds the gradient of half `strength` times the squared distance from `start`."""
    if not strength:
        return None
    origin = to_float32(start)

    def adjust(grads, trained):
        return jax.tree.map(
            lambda grad, at, origin: grad + strength * (at - origin),
            grads,
            to_float32(trained),
            origin,
        )

    return adjust


def server_steps(server: optax.GradientTransformation) -> tuple[Callable, Callable]:
    """`init` and `apply` of a server that takes minus the mean change for a gradient."""
    checks.check_optimizer(server, {"w": jax.numpy.zeros(2)})

    def init(trained):
        return server.init(to_float32(trained))

    def apply(trained, state, mean, seen):
        del seen
        gradient = jax.tree.map(lambda leaf: -leaf, mean)
        with checks.loose_promotion():
            updates, state = server.update(gradient, state, to_float32(trained))
            return optax.apply_updates(trained, updates), state

    return init, apply


def _average(trained, state, mean, seen):
    del seen
    return jax.tree.map(lambda leaf, part: part.astype(leaf.dtype), trained, mean), state
