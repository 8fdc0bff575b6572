"""Rounds one after another, in memory; `trustml.fit` keeps those of a `FederatedStep` on disk."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
from jaxtyping import PyTree

from trustml.federated.algorithms.algorithm import Algorithm
from trustml.federated.clients import Clients
from trustml.federated.schedule import Schedule
from trustml.federated.selection import Selection
from trustml.federated.step import FederatedStep
from trustml.plan import PrivacyPlan
from trustml.sampling import Draw
from trustml.training.metrics import StepMetrics
from trustml.training.train_step import TrainState


class Round(NamedTuple):
    """What a round left. Private but for the parameters of a run with a plan."""

    number: int  # from 1
    params: PyTree
    metrics: StepMetrics
    draw: Draw
    state: TrainState  # given to the next round: do not keep it


def rounds(
    algorithm: Algorithm,
    clients: Clients,
    params: PyTree,
    *,
    number: int | None = None,
    clients_per_round: int | None = None,
    selection: Selection | None = None,
    plan: PrivacyPlan | None = None,
    seed: int | None = None,
    **options: Any,
) -> Iterator[Round]:
    """Trains across clients, one round at a time.

    >>> import numpy as np, optax
    >>> from trustml.federated import Clients, fedavg
    >>> clients = Clients.from_arrays(np.float32([1, 3, 5]), np.array([0, 0, 1]))
    >>> algorithm = fedavg(lambda w, x: 0.5 * (w - x) ** 2, optax.sgd(1.0), weights="clients")
    >>> for found in rounds(algorithm, clients, np.float32(0), number=1, clients_per_round=2):
    ...     print(float(found.params), int(found.metrics.batch_size))  # clients move to 2 and to 5
    3.5 2

    Args:
      algorithm: Such as `fedavg(loss_fn, optax.sgd(0.1))`.
      clients: All clients.
      params: Where they start.
      number: Rounds; with a plan, its steps.
      clients_per_round: Without a plan: how many take part, 10 by default.
      selection: Without a plan: how likely each is drawn; by default all are as likely. With one,
        `rates` of `FederatedStep` say so.
      plan: Bounds, noise and sampling, whose units are clients.
      seed: Of all that is random; None takes fresh randomness. With a plan, an integer voids the
        promise against whoever guesses it.
      options: Of `FederatedStep`.

    Yields:
      A `Round`. No round goes beyond the plan.

    Raises:
      ValueError: Arguments do not go together; see `Schedule` and `FederatedStep`.
    """
    if plan is not None and not (number is None and clients_per_round is None):
        raise ValueError(
            "`number` and `clients_per_round` must be None with a plan, which holds both, got "
            f"{number!r} and {clients_per_round!r}."
        )
    if plan is not None and selection is not None:
        raise ValueError(
            f"`selection` must be None with a plan, got {selection}: give `rates`, such as "
            "`inclusion_rates` makes them, and a plan of the largest."
        )
    if plan is None:
        schedule: Any = Schedule(
            steps=1 if number is None else number,
            clients_per_round=min(10, len(clients))
            if clients_per_round is None
            else clients_per_round,
            activity=clients.counts,
            selection=selection or Selection("uniform"),
        )
    else:
        schedule = plan
    step = FederatedStep(algorithm, schedule, clients, seed=seed or 0, **options)
    return _run(step, clients, params, seed)


def _run(step: FederatedStep, clients: Clients, params: PyTree, seed) -> Iterator[Round]:
    state = step.init(params, key=seed)
    for draw in step.plan.batches(seed=seed):
        state, metrics = step.update(state, draw, clients)
        # The state is given away with the next round, the copy is the caller's.
        yield Round(
            draw.step + 1,
            jax.tree.map(lambda leaf: leaf.copy(), state.params),
            metrics,
            draw,
            state,
        )
