"""The algorithms of `trustml federate` by name, and what each sends."""

from collections.abc import Callable
from typing import Any, NamedTuple

import optax

from trustml import federated
from trustml.federated import Algorithm


class Choices(NamedTuple):
    """What the settings say of the training of clients and server."""

    client_rate: float
    server_rate: float
    batch_size: int
    epochs: int
    momentum: float
    proximal: float
    fairness: float
    trim: float
    wrong: int
    trainable: Any = None

    @property
    def local(self) -> dict[str, Any]:
        """What every maker takes."""
        return {
            "batch_size": self.batch_size,
            "epochs": self.epochs,
            "trainable": self.trainable,
        }


class Kind(NamedTuple):
    """One algorithm.

    Attributes:
      make: `make(loss_fn, choices)`, the algorithm.
      vectors: How many numbers travel each way for a trained parameter.
      server_rate: Rate of the server where none is given.
      private: Whether a plan can bound what clients send.
      asynchronous: Whether clients answer whenever they are done.
    """

    make: Callable[[Callable, Choices], Algorithm]
    vectors: int = 1
    server_rate: float = 1.0
    private: bool = False
    asynchronous: bool = False


def _fedavg(loss: Callable, chosen: Choices, server: Any = None, **how: Any) -> Algorithm:
    server = optax.sgd(chosen.server_rate) if server is None else server
    client = optax.sgd(chosen.client_rate)
    return federated.fedavg(loss, client, server=server, **chosen.local, **how)


def _adaptive(optimizer: Callable) -> Kind:
    return Kind(
        lambda loss, chosen: _fedavg(loss, chosen, optimizer(chosen.server_rate)),
        server_rate=1e-2,
        private=True,
    )


def _robust(combine: Callable[[Choices], Callable]) -> Kind:
    return Kind(lambda loss, chosen: federated.robust(_fedavg(loss, chosen), combine(chosen)))


def _with_server_rate(maker: Callable) -> Callable[[Callable, Choices], Algorithm]:
    return lambda loss, chosen: maker(
        loss, chosen.client_rate, server_rate=chosen.server_rate, **chosen.local
    )


def _mimelite(loss: Callable, chosen: Choices) -> Algorithm:
    return federated.mimelite(
        loss,
        chosen.client_rate,
        momentum=chosen.momentum,
        server_rate=chosen.server_rate,
        **chosen.local,
    )


def _qfedavg(loss: Callable, chosen: Choices) -> Algorithm:
    # As its authors do: one over the learning rate stands for the Lipschitz constant.
    return federated.qfedavg(
        loss,
        optax.sgd(chosen.client_rate),
        fairness=chosen.fairness,
        lipschitz=1 / chosen.client_rate,
        **chosen.local,
    )


ALGORITHMS: dict[str, Kind] = {
    "fedavg": Kind(_fedavg, private=True),
    "fedprox": Kind(
        lambda loss, chosen: _fedavg(loss, chosen, proximal=chosen.proximal), private=True
    ),
    "fedadam": _adaptive(federated.fedadam),
    "fedyogi": _adaptive(federated.fedyogi),
    "fedadagrad": _adaptive(federated.fedadagrad),
    "scaffold": Kind(_with_server_rate(federated.scaffold), vectors=2),
    "mimelite": Kind(_mimelite, vectors=2),
    "qfedavg": Kind(_qfedavg),
    "fedbuff": Kind(
        lambda loss, chosen: federated.fedbuff(_fedavg(loss, chosen)), asynchronous=True
    ),
    "median": _robust(lambda chosen: federated.median()),
    "trimmed_mean": _robust(lambda chosen: federated.trimmed_mean(chosen.trim)),
    "krum": _robust(lambda chosen: federated.krum(chosen.wrong)),
}


# The settings that one algorithm alone reads.
OWN_SETTINGS = {
    "fedprox": "proximal",
    "mimelite": "momentum",
    "qfedavg": "fairness",
    "trimmed_mean": "trim",
    "krum": "wrong",
}


def find_algorithm(name: str) -> Kind:
    """The algorithm of that name.

    >>> find_algorithm("scaffold").vectors
    2

    Raises:
      ValueError: There is none.
    """
    if name not in ALGORITHMS:
        raise ValueError(f"`--algorithm` must be one of {', '.join(ALGORITHMS)}, got {name!r}.")
    return ALGORITHMS[name]
