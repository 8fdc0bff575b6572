"""FedPer: some leaves are shared, the others are every client's own."""

from collections.abc import Callable
from typing import Any

import optax

from trustml.clipping import combine, partition
from trustml.federated.algorithms.algorithm import ROWS, Algorithm, Answer
from trustml.federated.algorithms.fedavg import _SERVER, server_steps
from trustml.federated.local import LocalTraining


def fedper(
    loss_fn: Callable,
    client: optax.GradientTransformation,
    *,
    shared: Any,
    server: optax.GradientTransformation = _SERVER,
    batch_size: int = 10,
    epochs: int = 1,
    weights: str = ROWS,
) -> Algorithm:
    """Federated averaging of the `shared` leaves; the others never leave the client.

    All leaves are trained by the client. What it keeps starts as the model does.

    >>> loss = lambda params, row: (params["body"] * row - params["head"]) ** 2
    >>> fedper(loss, optax.sgd(0.1), shared=lambda name: name != "head").weights
    'rows'

    Args:
      loss_fn: `loss_fn(params, row) -> scalar`.
      client: The clients' optimizer.
      shared: Mask or predicate on names of the leaves that the server averages.
      server: The server's optimizer.
      batch_size: Rows of a local step.
      epochs: Passes over a client's rows in a round.
      weights: Whether a client counts by its "rows", or "clients" count alike.

    References:
      Arivazhagan et al., Federated Learning with Personalization Layers, 2019.
    """
    everything = LocalTraining(loss_fn, client, batch_size, epochs)
    local = LocalTraining(loss_fn, client, batch_size, epochs, shared)

    def answer(params, state, own, batches, key):
        del state
        ours, _ = partition(params, shared)
        found = everything.train(combine(ours, own), batches, key)
        return Answer(
            partition(found.delta, shared)[0], found.loss, partition(found.params, shared)[1]
        )

    init, apply = server_steps(server)
    return Algorithm(
        local=local,
        init=init,
        answer=answer,
        apply=apply,
        keep=lambda params: partition(params, shared)[1],
        weights=weights,
    )
