"""A round of federated averaging by pfl, with the networks and weights of `_cases`."""

import asyncio
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import torch
from _torch_cases import build, tensors
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByDatapoints
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.pytorch import PyTorchTensorDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam.base import NNTrainHyperParams
from pfl.metrics import Weighted
from pfl.model.pytorch import PyTorchModel

_NEVER = 10**9  # rounds between evaluations; pfl evaluates before its first one all the same

_LOOP = asyncio.new_event_loop()  # pfl asks for the thread's own; one serves all


class PflRounds:
    """Federated averaging as pfl's own benchmarks set it up; every call is a round of all clients.

    Args:
      network: Its name in `_torch_cases`.
      params: JAX leaves by name: where training starts.
      clients: What each client holds, arrays by name, in the order in which it takes them.
      rate: Learning rate of the clients' SGD.
      batch_size: Rows of a local step.
    """

    def __init__(
        self,
        network: str,
        params: dict[str, np.ndarray],
        clients: Sequence[dict[str, np.ndarray]],
        *,
        rate: float,
        batch_size: int,
    ):
        asyncio.set_event_loop(_LOOP)
        self.steps, self._cohort = 0, len(clients)
        self._net = build(network, params, opacus=False)
        self._before = params
        self._model = PyTorchModel(
            self._with_loss(self._net, list(clients[0])),
            torch.optim.SGD,
            torch.optim.SGD(self._net.parameters(), lr=1.0),
        )
        held = [
            PyTorchTensorDataset(tuple(tensors(rows).values()), user_id=str(number))
            for number, rows in enumerate(clients)
        ]
        sampler = get_user_sampler("minimize_reuse", list(range(len(held))))
        data = FederatedDataset(held.__getitem__, sampler)
        self._backend = SimulatedBackend(data, data, [WeightByDatapoints()])
        self._algorithm: Any = FederatedAveraging()
        self._local = NNTrainHyperParams(
            local_num_epochs=1, local_learning_rate=rate, local_batch_size=batch_size
        )
        self._rounds = 0

    def __call__(self, _: Any = None) -> None:
        self._rounds += 1
        params = NNAlgorithmParams(
            central_num_iterations=self._rounds,
            evaluation_frequency=_NEVER,
            train_cohort_size=self._cohort,
            val_cohort_size=None,
        )
        self._algorithm.run(
            params,
            self._backend,
            self._model,
            self._local,
            self._local,
            send_metrics_to_platform=False,
        )

    def delta(self) -> dict[str, np.ndarray]:
        """By how much each leaf has moved since the start, as JAX has it."""
        now = dict(self._net.named_parameters())
        return {
            leaf.jax: leaf.to_jax(now[leaf.torch], self._before[leaf.jax]) - self._before[leaf.jax]
            for leaf in self._net.names
        }

    def _with_loss(self, net, names):
        def mean_loss(*columns):
            return net(dict(zip(names, columns, strict=True))).mean()

        def loss(*columns):
            self.steps += 1
            return mean_loss(*columns)

        def metrics(*columns):
            with torch.no_grad():
                return {"loss": Weighted(float(mean_loss(*columns)), len(columns[0]))}

        net.loss, net.metrics = loss, metrics
        return net


def leaves_by_name(tree: Any, name_of) -> dict[str, np.ndarray]:
    """The leaves of a JAX tree, as `_torch_cases` names them."""
    places = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {name_of(place): np.array(leaf) for place, leaf in places}
