"""FedBuff: clients answer when they are done; the server moves when its buffer is full."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from trustml.federated.algorithms.algorithm import CLIENTS, Algorithm


def fedbuff(algorithm: Algorithm) -> Algorithm:
    """The asynchronous form of `fedavg`: an answer from older parameters counts less.

    An answer that starts s rounds late has the weight 1 / sqrt(1 + s), and the sum is divided by
    the size of the buffer. Who answers when is `trustml.federated.asynchronous`'s to say.

    >>> import optax
    >>> from trustml.federated.algorithms.fedavg import fedavg
    >>> stale = fedbuff(fedavg(lambda w, row: w * row, optax.sgd(0.1))).stale
    >>> stale(jnp.array([0, 3])).tolist()
    [1.0, 0.5]

    Raises:
      ValueError: The algorithm averages models or keeps states, which older parameters spoil.

    References:
      Nguyen et al., Federated Learning with Buffered Asynchronous Aggregation, 2022, algorithm 1.
    """
    if not algorithm.bounded or algorithm.keep is not None or algorithm.combine is not None:
        raise ValueError(
            "`algorithm` must send changes of the parameters and keep no state, such as "
            "`fedavg(loss_fn, client)`, got another."
        )
    return dataclasses.replace(algorithm, stale=_less, weights=CLIENTS, bounded=False)


def _less(late: Int[Array, " client"]) -> Float[Array, " client"]:
    return 1.0 / jnp.sqrt(1.0 + late.astype(jnp.float32))
