"""The trainings of a run: one, or one a period of time."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from trustml.data.examples import Examples
from trustml.federated import Asynchronous, Clients, Schedule, Selection
from trustml.federated.availability import Availability
from trustml.federated.periods import Periods, split_periods
from trustml.recipes.federate.algorithms import Kind
from trustml.recipes.federate.clients import Population, hold_out, rows_of
from trustml.recipes.federate.config import CONTINUAL, FederateConfig

AVAILABILITY = ("offline", "dropout", "speed", "deadline", "over_select")
PERIODS = 5  # of the continual setting
_ASYNCHRONOUS_SPEED = 0.5  # of devices that answer when they are done


class Stage(NamedTuple):
    """One training of a run.

    Attributes:
      clients: Those that hold rows in it.
      plan: A `PrivacyPlan` whose units are clients, or a `Schedule`.
      next: Rows of the next period, on which it is judged; None where there is no time.
      deleted: Rows that devices held in the stage before and hold no more.
      rates: With a plan and selection by activity, the probability of each client to take part.
    """

    clients: Clients
    plan: Any
    next: Examples | None = None
    deleted: int = 0
    rates: Float64[np.ndarray, " client"] | None = None

    @property
    def stays(self) -> Float64[np.ndarray, " client"]:
        """Probability that a client that is drawn takes part: it tosses a secret coin."""
        if self.rates is None:
            return np.ones(len(self.clients))
        return self.rates / self.plan.sample_rate


def trained_on(population: Population, periods: Periods | None) -> Population:
    """The population without the rows of the last period, which nobody trains on."""
    if periods is None:
        return population
    return population.holding(periods.period_of_row < periods.period_of_row.max())


def make_periods(config: FederateConfig, population: Population) -> Periods | None:
    """When each row arrives; None where all are there from the start.

    Raises:
      ValueError: The settings do not go together.
    """
    number = config.periods
    if config.setting == CONTINUAL:
        number = PERIODS if number is None else number
    elif config.buffer:
        raise ValueError(f"`--buffer` {config.buffer} needs `--setting` {CONTINUAL}.")
    if number is None:
        return None
    whose = population.partition.client_of_row
    whose = np.where(hold_out(whose, config.held_out), -1, whose)  # nobody trains on these
    return Periods(
        setting=config.setting,
        period_of_row=split_periods(population.partition.client_of_row, number),
        client_of_row=whose,
        buffer=config.buffer,
    )


def make_stages(
    config: FederateConfig,
    train: Examples,
    population: Population,
    periods: Periods | None,
    selection: Selection,
    kind: Kind,
) -> tuple[Stage, ...]:
    """The stages of a run without a plan.

    Args:
      config: The settings.
      train: The training part.
      population: The clients, with the rows of all stages.
      periods: Of `make_periods`.
      selection: How likely each is drawn.
      kind: The algorithm.

    Raises:
      ValueError: The settings do not go together, or a period has too few clients.
    """
    if periods is None:
        whole = population.clients
        return (Stage(whole, schedule_of(config, whole, selection, kind)),)
    share = dataclasses.replace(config, rounds=_share(config, periods.stages))
    stages = []
    for number in range(periods.stages):
        held = np.zeros(len(train), bool)
        held[periods.train(number)] = True
        clients = population.holding(held).clients
        stages.append(
            Stage(
                clients,
                schedule_of(share, clients, selection, kind),
                rows_of(train, periods.test(number)),
                len(periods.deleted(number)),
            )
        )
    return tuple(stages)


def _share(config: FederateConfig, stages: int) -> int:
    if config.rounds % stages:
        raise ValueError(
            f"`--rounds` must be a multiple of the {stages} periods that are trained on, the last "
            f"of `--periods` being for the judgement alone, got {config.rounds}."
        )
    return config.rounds // stages


def check_size(config: FederateConfig, clients: Clients) -> None:
    """Refuses rounds of more clients than there are.

    Raises:
      ValueError: There are fewer.
    """
    if config.clients_per_round > len(clients):
        raise ValueError(
            f"`--clients-per-round` must be at most the {len(clients)} clients with rows to train "
            f"on, got {config.clients_per_round}."
        )


def schedule_of(
    config: FederateConfig, clients: Clients, selection: Selection, kind: Kind
) -> Schedule:
    """Who takes part in which round, without a plan.

    Args:
      config: The settings.
      clients: All of them.
      selection: How likely each is drawn.
      kind: The algorithm.

    Raises:
      ValueError: The settings do not go together.
    """
    check_size(config, clients)
    common: dict[str, Any] = {
        "steps": config.rounds,
        "clients_per_round": config.clients_per_round,
        "activity": clients.counts,
        "selection": selection,
        "local_steps": -(-clients.counts // (config.batch_size or 1)) * config.local_epochs,
        "availability": _availability(config, kind),
    }
    if kind.asynchronous:
        at_work = config.concurrency or min(2 * config.clients_per_round, len(clients))
        return Asynchronous(concurrency=at_work, **common)
    return Schedule(**common)


def _availability(config: FederateConfig, kind: Kind) -> Availability | None:
    given = {name: getattr(config, name) for name in AVAILABILITY}
    if kind.asynchronous and config.speed is None:
        given["speed"] = _ASYNCHRONOUS_SPEED
    found = Availability(**{name: value for name, value in given.items() if value is not None})
    return None if found == Availability() else found
