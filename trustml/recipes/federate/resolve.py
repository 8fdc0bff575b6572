"""Resolves settings to a complete federation: data, clients, task, algorithm and plan."""

import dataclasses
import sys
from typing import Any

import numpy as np

from trustml.data.files import OwnData
from trustml.federated.partition import Partition
from trustml.federated.rates import inclusion_rates
from trustml.federated.selection import Selection
from trustml.plan import PrivacyPlan
from trustml.recipes.federate.algorithms import Choices, Kind
from trustml.recipes.federate.checks import RATES, check_settings
from trustml.recipes.federate.clients import Population, make_population
from trustml.recipes.federate.config import FederateConfig
from trustml.recipes.federate.experiment import Federation
from trustml.recipes.federate.presets import FederatedTraining, federated_training
from trustml.recipes.federate.stages import (
    Stage,
    check_size,
    make_periods,
    make_stages,
    trained_on,
)
from trustml.recipes.train.config import TrainConfig
from trustml.recipes.train.feature_models import advice
from trustml.recipes.train.loading import load_data, with_task
from trustml.recipes.train.models import TaskModel, trainable_leaves
from trustml.recipes.train.resolve import check_trainable, public_data
from trustml.recipes.train.resolve_preset import lacks_encoder, preset_name, resolve_preset
from trustml.recipes.waiting import waiting

_DELTA = 1e-5


def resolve(
    config: FederateConfig,
    *,
    rows: Any = None,
    partition: Partition | None = None,
    plan: PrivacyPlan | None = None,
    quiet: bool = False,
) -> Federation:
    """The federation for `config`; it writes nothing but caches.

    Args:
      config: The settings; those that are None come from the preset.
      rows: Own rows in memory, instead of the data of `config`.
      partition: That of a resumed run; by default it is made.
      plan: That of a resumed run; by default it is calibrated to the budget.
      quiet: Whether to show no progress.

    Raises:
      ValueError: A setting is out of range, or the data cannot be used.
    """
    kind, selection = check_settings(config)
    training = with_task(config.training(), rows)
    if not quiet and lacks_encoder(training):
        print(f"federate: {advice(str(training.task))}", file=sys.stderr)
    training = dataclasses.replace(training, preset=preset_name(training))
    preset = resolve_preset(training)
    data = _loaded(training, rows, quiet=quiet)
    parts = data.splits
    task = preset.model.build(parts.train, public_data(training, quiet))
    check_trainable(training, preset.model, task)
    population = make_population(config, parts.train, task, partition)
    suited = federated_training(preset.model)
    choices = _choices(config, kind, suited, preset.model, task)
    config = _filled(config, training, choices, population)
    delta = _DELTA if config.delta is None else config.delta
    if config.epsilon is None:
        periods = make_periods(config, population)
        population = trained_on(population, periods)
        stages = make_stages(config, parts.train, population, periods, selection, kind)
    else:
        stages = (_private_stage(config, population, suited, delta, selection, plan),)
    found = Federation(
        config=config,
        model=preset.model,
        central=preset.baseline,
        choices=choices,
        tuned_on=suited.tuned_on,
        parts=parts,
        decisions=data.decisions,
        assumed_public=data.assumed_public,
        columns=data.columns,
        task=task,
        population=population,
        stages=stages,
        delta=delta,
    )
    _ = found.algorithm  # says at once which of its numbers it does not take
    return found


def _loaded(training: TrainConfig, rows: Any, *, quiet: bool) -> OwnData:
    """The data, with what was decided about own rows on the terminal."""
    data = load_data(training, rows)
    table = data.splits.train.table
    if table is not None and table.is_open:
        raise ValueError("`--schema` must be whole in a federated run, got one with open parts.")
    for decision in () if quiet else (*data.decisions, *data.skipped):
        print(f"data: {decision}", file=sys.stderr)
    return data


def _choices(
    config: FederateConfig, kind: Kind, suited: FederatedTraining, model: TaskModel, task: Any
) -> Choices:
    rate = config.client_rate
    return Choices(
        client_rate=suited.client_rate if rate is None else rate,
        server_rate=kind.server_rate if config.server_rate is None else config.server_rate,
        batch_size=config.batch_size or suited.batch_size,
        epochs=config.local_epochs,
        momentum=config.momentum,
        proximal=config.proximal,
        fairness=config.fairness,
        trim=config.trim,
        wrong=config.wrong,
        trainable=trainable_leaves(model, task.config),
    )


def _filled(config: FederateConfig, training, choices: Choices, population: Population):
    """The settings with what data and preset say: a resumed run needs no default of today."""
    shared = {
        name: value for name, value in vars(training).items() if name in ("data", "task", "preset")
    }
    shared |= {"model": training.model, "labels": training.labels, "schema": training.schema}
    chosen = {name: getattr(choices, name) for name in (*RATES, "batch_size")}
    method = str(population.partition.method)
    return dataclasses.replace(
        config,
        **shared,
        **chosen,
        partition=method,
        eval_split=training.eval_split,
        evaluate_every=config.evaluate_every or max(1, config.rounds // 10),
    )


def _private_stage(
    config: FederateConfig,
    population: Population,
    suited: FederatedTraining,
    delta: float,
    selection: Selection,
    plan: PrivacyPlan | None,
) -> Stage:
    """The stage of a plan; selection by activity is charged at the rate of the most active."""
    clients, rates = population.clients, None
    check_size(config, clients)
    largest = config.clients_per_round / len(clients)
    if selection.name != "uniform":
        rates = inclusion_rates(selection, clients.counts, config.clients_per_round)
        largest = float(rates.max())
    if plan is None:
        plan = _plan(config, population, suited, delta, largest)
    if rates is not None:
        rates = np.minimum(rates, plan.sample_rate)  # they may differ in the last digit
    return Stage(clients, plan, rates=rates)


def _plan(
    config: FederateConfig,
    population: Population,
    suited: FederatedTraining,
    delta: float,
    rate: float,
) -> PrivacyPlan:
    number = len(population.clients)
    assert config.epsilon is not None
    with waiting("federate: looking for the noise that the budget asks for"):
        return PrivacyPlan.calibrate(
            epsilon=config.epsilon,
            delta=delta,
            num_units=number,
            expected_batch=rate * number,
            steps=config.rounds,
            clip_norm=suited.clip_norm if config.clip_norm is None else config.clip_norm,
            unit=population.kind,
        )
