"""The experiment of a run: everything that its trainings share, complete before the first step."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from trustml.data.buckets import shortener
from trustml.data.examples import Examples, Splits
from trustml.data.tables import TableSchema
from trustml.models.tasks import Task, unit_loss
from trustml.models.tasks.units import PRESENT
from trustml.plan import Charge, HistogramPlan, PrivacyPlan
from trustml.recipes.train.canaries import Canaries, TrainingObjective, with_canaries
from trustml.recipes.train.config import TrainConfig
from trustml.recipes.train.learned_schema import charge_of
from trustml.recipes.train.models import TaskModel, trainable_leaves
from trustml.recipes.train.presets import Training
from trustml.recipes.train.starting_head import StartingHead
from trustml.recipes.waiting import waiting
from trustml.training import TrainStep, baseline_step, private_step
from trustml.training.checks import AUTO
from trustml.training.memory import UNITS_ON_A_CPU


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """The settings of a run and everything that follows from them, as `resolve` makes it.

    Args:
      config: The settings, with data, task, strategy and canaries filled in.
      model: The model to train.
      private: Training of the private arm.
      baseline: Training of the baseline arm.
      epsilon: Privacy budget.
      delta: Privacy budget.
      tuned_on: How the settings were chosen, for the report.
      parts: The data.
      decisions: How own rows were read, in one sentence each.
      assumed_public: What was read off own rows and is treated as public.
      columns: The column of own rows behind each name of the task.
      opened: The schema of the table, as it was before its open parts were learned.
      schema_plan: Plan by which they are learned; None where there are none.
      generated: Generated rows that decide when to stop, with `patience`.
      task: Network, encoding and scoring.
      unit: The privacy unit.
      units: The whole training part as input of `loss`: arrays [unit, ...].
      canaries: Units that coins put in or left out.
      plan: Plan of the private arm.
    """

    config: TrainConfig
    model: TaskModel
    private: Training
    baseline: Training
    epsilon: float
    delta: float
    tuned_on: str
    parts: Splits
    decisions: tuple[str, ...]
    assumed_public: tuple[str, ...]
    columns: dict[str, str]
    opened: TableSchema | None
    schema_plan: HistogramPlan | None
    generated: Examples | None
    task: Task
    unit: str
    units: dict[str, np.ndarray]
    canaries: Canaries
    plan: PrivacyPlan
    start: StartingHead | None = None

    @property
    def charges(self) -> tuple[Charge, ...]:
        """What is released before the training; it takes its part of the budget."""
        found = () if self.start is None else (self.start.charge,)
        if self.schema_plan is None:
            return found
        assert self.opened is not None
        epsilon = float(self.config.learn_schema or 0)
        return (*found, charge_of(self.schema_plan, self.opened, epsilon=epsilon, unit=self.unit))

    @property
    def evaluated(self) -> Examples:
        """The part that both arms are evaluated on."""
        return self.parts.valid if self.config.eval_split == "valid" else self.parts.test

    @functools.cached_property
    def training_units(self) -> dict[str, np.ndarray]:
        """The units of the training: all but those that coins left out."""
        if not len(self.canaries.left_out):
            return self.units  # no copy: a million rows of hashed words take a gigabyte
        inside = np.delete(np.arange(self._size), self.canaries.left_out)
        return {name: leaf[inside] for name, leaf in self.units.items()}

    @property
    def num_units(self) -> int:
        """Number of units of the training. Public: coins do not depend on the data."""
        return self._size - len(self.canaries.left_out)

    @property
    def num_private_units(self) -> int:
        """Number of units of the private arm, with gradient canaries."""
        return self.num_units + int(self.canaries.gradients.sum())

    @property
    def loss(self) -> Callable:
        """The loss of one unit."""
        loss = self.task.network.loss
        return unit_loss(loss) if PRESENT in self.units else loss

    @property
    def trainable(self) -> Any:
        """The trained leaves, as `private_step` takes them."""
        return trainable_leaves(self.model, self.task.config)

    @functools.cached_property
    def baseline_objective(self) -> TrainingObjective:
        """The objective of the baseline arm: the model alone."""
        shorten = shortener(self.units)
        return TrainingObjective(self.loss, self.training_units, self.trainable, shorten, 0)

    @functools.cached_property
    def private_objective(self) -> TrainingObjective:
        """The objective of the private arm: the model, with gradient canaries if there are any."""
        network, bound = self.task.network, self.private.clip_norm
        # Public weights, only to find a unit with a finite gradient: a resumed run needs the same.
        start = lambda: network.init(jax.random.key(0))  # noqa: E731
        return with_canaries(self.baseline_objective, self.canaries, bound, start)

    def objective(self, step: TrainStep) -> TrainingObjective:
        """The objective of the arm of a step."""
        return self.private_objective if step.private else self.baseline_objective

    @functools.cached_property
    def steps(self) -> dict[str, TrainStep]:
        """The step of each arm: "private", and "baseline" if the settings ask for it.

        Raises:
          ValueError: Not even one unit at a time fits in memory.
        """
        private = self._private_step()
        if private.physical_batch_size == AUTO:
            objective = self.private_objective
            shapes = jax.eval_shape(self.task.network.init, jax.random.key(0))
            with waiting("train: compiling a step, to see how many units fit in memory"):
                private.lower(private.shapes(objective.params(shapes)), objective.units)
        size = self._physical_batch_size(private)
        return {
            "private": private,
            **({"baseline": self._baseline_step(size)} if self.config.baseline else {}),
        }

    @property
    def settled(self) -> TrainConfig:
        """The settings with the physical batch that `auto` found: a resumed run takes the same."""
        size = self._physical_batch_size(self.steps["private"])
        return dataclasses.replace(self.config, physical_batch_size=size)

    def _physical_batch_size(self, private: TrainStep) -> int | str:
        """That of both arms, of which the private one needs the more memory."""
        size = self.config.physical_batch_size
        if size != AUTO or self.plan.num_microbatches:
            return size
        # Where the whole batch fits, that of the baseline may be larger.
        return private.physical_batch_size or max(private.plan.capacity, UNITS_ON_A_CPU)

    def _private_step(self) -> TrainStep:
        objective, config = self.private_objective, self.config
        return private_step(
            objective.loss,
            objective.optimizer(self.private.optimizer()),
            self.plan,
            strategy=config.strategy,
            physical_batch_size=None if self.plan.num_microbatches else config.physical_batch_size,
            trainable=objective.trainable,
            shorten=objective.shorten,
        )

    def _baseline_step(self, physical_batch_size: int | str) -> TrainStep:
        objective, training = self.baseline_objective, self.baseline
        batch = min(training.expected_batch, self.num_units)
        # A baseline reads the sampling and the batch size of its plan, not the bound or the noise.
        draws = PrivacyPlan(
            clip_norm=1.0,
            noise_multiplier=0.0,
            sample_rate=batch / self.num_units,
            steps=training.steps,
            expected_batch=batch,
            num_units=self.num_units,
        )
        return baseline_step(
            objective.loss,
            training.optimizer(),
            draws,
            physical_batch_size=physical_batch_size,
            trainable=objective.trainable,
            shorten=objective.shorten,
        )

    @property
    def _size(self) -> int:
        return len(next(iter(self.units.values())))
