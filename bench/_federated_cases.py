"""Federated rounds to measure: the networks, and trustml's side."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from _cases.base import Case
from _cases.text import gpt, lstm
from _cases.vision import dense_layers, pfl_cnn

from trustml.federated import Clients, FederatedStep, Schedule, fedavg

BATCH, RATE = 10, 0.1
_MOST_ROUNDS = 10_000  # of a schedule: more than any run takes


class Setting(NamedTuple):
    """A network, how it is called in `_torch_cases`, and its clients."""

    build: Callable[[int, bool], Case]  # of the number of rows
    network: str
    clients: int
    bar: float
    rows: int = 50  # of each client


def _gpt(rows: int, quick: bool) -> Case:
    time, width, vocabulary = (8, 16, 50) if quick else (64, 64, 176)
    return gpt(False, batch=rows, time=time, width=width, layers=2, vocabulary=vocabulary)


def _lstm(rows: int, quick: bool) -> Case:
    width, time = (8, 5) if quick else (128, 32)
    return lstm(batch=rows, time=time, embedding=32, width=width, vocabulary=86)


def _mlp(*sizes: int) -> Callable[[int, bool], Case]:
    def build(rows: int, quick: bool) -> Case:
        inner = [min(size, 16) if quick else size for size in sizes[:-1]]
        return dense_layers((*inner, sizes[-1]), rows)

    return build


def _cnn(rows: int, quick: bool) -> Case:
    return pfl_cnn(*((8, 4) if quick else (32, 32)), rows)


SETTINGS = {
    "small": Setting(_mlp(192, 32, 10), "mlp", 50, 25.0),
    "657k": Setting(_mlp(3072, 200, 200, 10), "mlp", 50, 3.0),
    "gpt": Setting(_gpt, "gpt", 10, 1.15),
    "lstm": Setting(_lstm, "lstm", 10, 0.9),
    "cnn": Setting(_cnn, "pfl-cnn", 10, 0.9),
}


class Ours:
    """Rounds of trustml; every call is one of all clients."""

    def __init__(self, case: Case, clients: Clients, per_round: int | None = None):
        self.clients, self.params = clients, case.params
        schedule = Schedule(
            steps=_MOST_ROUNDS,
            clients_per_round=per_round or len(clients),
            activity=clients.counts,
        )
        algorithm = fedavg(case.loss, optax.sgd(RATE), batch_size=BATCH)
        self.step = FederatedStep(algorithm, schedule, clients)
        self._state = self.step.init(case.params, key=0)
        self._draws = schedule.batches(seed=0)

    def __call__(self, _: Any = None) -> None:
        self._state, metrics = self.step.update(self._state, next(self._draws), self.clients)
        jax.block_until_ready((self._state, metrics))

    def first_cohort(self) -> Any:
        """What the first round computes on, as arrays."""
        draw = next(self.step.plan.batches(seed=0))
        return jax.tree.map(np.asarray, self.step.gather(draw, self.clients).rows)

    def delta(self) -> Any:
        """By how much each leaf has moved since the start."""
        return jax.tree.map(lambda new, old: new - old, self._state.params, self.params)

    def temp_bytes(self) -> int:
        """XLA's temporary memory of the smallest cohort's program."""
        program = self.step.lower(self._state, self.clients).compile()
        return int(program.memory_analysis().temp_size_in_bytes)


def in_order(cohort: Any) -> list[dict[str, np.ndarray]]:
    """The rows of each client in the order in which the round takes them."""
    found = []
    for first, steps in zip(cohort.work.first[0], cohort.work.steps[0], strict=True):
        which = cohort.order[0][first : first + steps].ravel()
        rows = jax.tree.map(lambda leaf, which=which: leaf[0][which[which >= 0]], cohort.rows)
        found.append(rows if isinstance(rows, dict) else {"x": rows})
    return found
