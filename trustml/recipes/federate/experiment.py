"""The experiment of a federated run: everything that its trainings share."""

import dataclasses
import functools
import hashlib
from typing import Any

import jax
import numpy as np

from trustml.clipping import partition
from trustml.data.examples import Examples, Splits
from trustml.federated import Algorithm, FederatedStep
from trustml.federated.rates import Price, price
from trustml.models.tasks import Task
from trustml.plan import PrivacyPlan
from trustml.recipes.federate.algorithms import Choices, Kind, find_algorithm
from trustml.recipes.federate.clients import Population, rows_of
from trustml.recipes.federate.config import FederateConfig
from trustml.recipes.federate.stages import Stage
from trustml.recipes.train.models import TaskModel
from trustml.recipes.train.presets import Training
from trustml.training import TrainStep, baseline_step
from trustml.training.checks import AUTO

_CURVE = 1000  # rows that evaluations along the way read, at most


@dataclasses.dataclass(frozen=True, kw_only=True)
class Federation:
    """The settings of a federated run and everything that follows from them.

    Args:
      config: The settings, with what the preset says filled in.
      model: The model to train.
      central: Training of the baseline on the pooled rows, but for its steps.
      choices: What clients and server do.
      tuned_on: How rates were chosen, for the report.
      parts: The data.
      decisions: How own rows were read.
      assumed_public: What was read off own rows and is treated as public.
      columns: The column of own rows behind each name of the task.
      task: Network, encoding and scoring.
      population: The clients.
      stages: The trainings, one after another.
      delta: Of a plan.
    """

    config: FederateConfig
    model: TaskModel
    central: Training
    choices: Choices
    tuned_on: str
    parts: Splits
    decisions: tuple[str, ...]
    assumed_public: tuple[str, ...]
    columns: dict[str, str]
    task: Task
    population: Population
    stages: tuple[Stage, ...]
    delta: float

    @property
    def plan(self) -> Any:
        """A `PrivacyPlan` whose units are clients, or the `Schedule` of the first stage."""
        return self.stages[0].plan

    @property
    def private(self) -> bool:
        """Whether a plan bounds what clients send."""
        return isinstance(self.plan, PrivacyPlan)

    @functools.cached_property
    def price(self) -> Price | None:
        """What selection by activity costs; None where all are drawn alike, or nothing is promised.

        It takes some seconds.
        """
        rates = self.stages[0].rates
        return None if rates is None else price(self.plan, rates, self.delta)

    @property
    def kind(self) -> Kind:
        """The algorithm of the table."""
        return find_algorithm(self.config.algorithm)

    @functools.cached_property
    def algorithm(self) -> Algorithm:
        """The algorithm with the loss of the task."""
        return self.kind.make(self.task.network.loss, self.choices)

    def step(self, stage: Stage, number: int = 0) -> FederatedStep:
        """One round of a stage, the `number`-th from 0."""
        return FederatedStep(
            self.algorithm,
            stage.plan,
            stage.clients,
            clients_at_once=self.config.clients_at_once,
            rates=stage.rates,
            seed=seed_of(self.config.seed or 0, number),
        )

    def settled(self) -> "Federation":
        """The federation with as many clients at once as was quickest: a resumed run must agree."""
        if self.config.clients_at_once != AUTO:
            return self
        first = self.stages[0]
        step = self.step(first)
        state = step.init(self.task.network.init(jax.random.key(0)), key=0)
        step.update(state, first.plan.sampler(0).draw(0), first.clients)
        width = step.physical_batch_size
        return dataclasses.replace(
            self, config=dataclasses.replace(self.config, clients_at_once=width)
        )

    def central_step(self, visits: int) -> TrainStep:
        """The training on the pooled rows that reads about as many rows as the clients did.

        Args:
          visits: Rows that all clients together went through.
        """
        units = self.population.clients.rows
        number = len(jax.tree.leaves(units)[0])
        batch = min(self.central.expected_batch, number)
        steps = max(1, round(visits / batch))
        training = dataclasses.replace(self.central, steps=steps)
        draws = PrivacyPlan(  # of which a baseline reads the sampling and the batch size
            clip_norm=1.0,
            noise_multiplier=0.0,
            sample_rate=batch / number,
            steps=steps,
            expected_batch=batch,
            num_units=number,
        )
        return baseline_step(
            self.task.network.loss,
            training.optimizer(),
            draws,
            physical_batch_size=AUTO,
            trainable=self.choices.trainable,
        )

    @property
    def evaluated(self) -> Examples:
        """The part that both models are evaluated on."""
        return self.parts.valid if self.config.eval_split == "valid" else self.parts.test

    @functools.cached_property
    def along_the_way(self) -> Examples:
        """Rows of the valid part for learning curves."""
        valid = self.parts.valid
        if len(valid) <= _CURVE:
            return valid
        return rows_of(valid, np.linspace(0, len(valid) - 1, _CURVE).astype(int))

    @functools.cached_property
    def trained_values(self) -> int:
        """Numbers that a client's update holds."""
        shapes = jax.eval_shape(self.task.network.init, jax.random.key(0))
        return sum(
            leaf.size for leaf in jax.tree.leaves(partition(shapes, self.choices.trainable)[0])
        )


def seed_of(seed: int, stage: int) -> int:
    """The seed of a stage: no two choose the same clients, and the first has the run's own."""
    if stage == 0:
        return seed
    told = f"trustml stage, version 1\x00{seed} {stage}".encode()
    return int.from_bytes(hashlib.sha256(told).digest()[:6], "big")
