"""MimeLite: clients step with the momentum of the server, which local steps leave as it is."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from trustml.federated.algorithms.algorithm import CLIENTS, Algorithm, Answer, moved, zeros_like
from trustml.federated.local import LocalTraining
from trustml.federated.validation import check_number


def mimelite(
    loss_fn: Callable,
    rate: float,
    *,
    momentum: float = 0.9,
    server_rate: float = 1.0,
    batch_size: int = 10,
    epochs: int = 1,
    weights: str = CLIENTS,
    trainable: Any = None,
) -> Algorithm:
    """MimeLite with momentum SGD: the server's momentum u is that of whole-data gradients.

    A local step moves by `rate` times momentum * u + (1 - momentum) * gradient; after the round u
    becomes the same mixture with the mean gradient of the clients' whole data at the round's start.

    >>> mimelite(lambda w, row: 0.5 * (w - row) ** 2, 0.1).weights
    'clients'

    Args:
      loss_fn: `loss_fn(params, row) -> scalar`.
      rate: Learning rate of a local step.
      momentum: Weight of the momentum.
      server_rate: By how much of the mean change the server moves.
      batch_size: Rows of a local step.
      epochs: Passes over a client's rows in a round.
      weights: Whether a client counts by its "rows", or "clients" count alike.
      trainable: Which leaves are trained.

    Raises:
      ValueError: A number is out of range.

    References:
      Karimireddy et al., Breaking the Centralized Barrier for Cross-Device Federated Learning,
      2021, algorithm 1.
    """
    check_number("rate", rate, least=0, above=True)
    if not (0 <= momentum < 1):
        raise ValueError(f"`momentum` must be at least 0 and below 1, got {momentum!r}.")
    local = LocalTraining(loss_fn, optax.sgd(rate), batch_size, epochs, trainable)

    def mixed(held, new):
        return jax.tree.map(lambda u, g: momentum * u + (1 - momentum) * g, held, new)

    def answer(params, held, own, batches, key):
        del own
        _, gradient = local.whole_gradient(params, batches, key)
        found = local.train(params, batches, key, lambda grads, trained: mixed(held, grads))
        return Answer({"delta": found.delta, "gradient": gradient}, found.loss)

    def apply(trained, held, mean, seen):
        del seen
        return moved(trained, mean["delta"], server_rate), mixed(held, mean["gradient"])

    return Algorithm(
        local=local, init=zeros_like, answer=answer, apply=apply, weights=weights, bounded=False
    )
