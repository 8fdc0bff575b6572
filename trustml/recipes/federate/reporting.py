"""The report of `trustml federate`, from its trainings and what the rounds took."""

import dataclasses
from typing import Any

import numpy as np

from trustml.formatting import round_up
from trustml.recipes.federate.algorithms import OWN_SETTINGS
from trustml.recipes.federate.clients import NATURAL, labels_of
from trustml.recipes.federate.evaluation import headline
from trustml.recipes.federate.experiment import Federation
from trustml.recipes.federate.measured import (
    Measured,
    central_curve,
    federated_curve,
    periods_of,
    total_costs,
)
from trustml.recipes.train.word_models import pretraining_steps
from trustml.report import Report, clipping, report_frame, with_data
from trustml.report.document import Data, Description, Metric, Plan
from trustml.report.document import Training as TrainingSettings
from trustml.report.federated import Federated
from trustml.training.runs.environment import versions
from trustml.training.runs.folder import RunFolder
from trustml.training.runs.ledger import read_ledger, summarize

_MOST_CELLS = 100_000  # of the table of labels that a report keeps


def describe(federation: Federation) -> Description:
    """The part of the report that is fixed before the run begins."""
    plan = federation.plan
    return Description(
        delta=federation.delta if federation.private else 0.0,
        budget_epsilon=federation.config.epsilon,
        plan=Plan(**plan.to_dict()) if federation.private else None,
        data=_data(federation),
        model=federation.model.describe(),
        training=_training(federation),
        notes=_notes(federation),
    )


def make_report(federation: Federation, measured: Measured, files: RunFolder) -> Report:
    """The complete report of a finished run.

    Args:
      federation: The federation.
      measured: Its trainings.
      files: Of the run. Of several periods the last one's ledger stands in the report.
    """
    described, plan = describe(federation), federation.plan
    *_, last = files.periods(len(federation.stages))
    result = measured.federated.result
    report = report_frame(
        name=files.path.resolve().name,
        summary=summarize(read_ledger(last.path)),
        plan=plan if federation.private else None,
        delta=described.delta,
        status=result.stopped,  # type: ignore[arg-type]  # one of them
        budget_epsilon=described.budget_epsilon,
        unit=federation.population.kind,
    )
    bound = described.plan.clip_norm if described.plan else None
    return dataclasses.replace(
        with_data(report, described.data),
        notes=described.notes,
        model=described.model,
        training=described.training,
        metrics=_metrics(federation),
        clipping=clipping(result.history, bound) if described.plan else None,
        federated=_federated(federation, measured),
        interruptions=tuple(result.notes),
        versions=versions(),
    )


def _data(federation: Federation) -> Data:
    train, config = federation.parts.train, federation.config
    return Data(
        name=train.name,
        privacy_unit=federation.population.kind,
        fingerprint=train.fingerprint,
        synthetic=train.synthetic,
        source=train.source,
        train=len(federation.population.clients),
        eval_split="valid" if config.eval_split == "valid" else "test",
        evaluated=len(federation.evaluated),
        assumed_public=_assumed(federation) or None,
    )


def _assumed(federation: Federation) -> tuple[str, ...]:
    by_activity = federation.stages[0].rates is not None
    held = f"how many examples each {federation.population.kind} holds, by which they are drawn"
    return (*federation.assumed_public, *((held,) if by_activity else ()))


def _price(federation: Federation) -> tuple[str, ...]:
    """What selection by activity costs, in a sentence."""
    found, kind = federation.price, federation.population.kind
    if found is None:
        return ()
    least = round_up(float(found.own[0]), places=3)
    return (
        f"selection {federation.config.selection}: the claim is for the {kind} that is drawn most "
        f"often; the one drawn least often has an epsilon of {least}; at the same noise uniform "
        f"draws would cost {round_up(found.uniform, places=3)}; answers and examples of a round "
        "are expected numbers, as secret coins decide who stays",
    )


def _training(federation: Federation) -> TrainingSettings:
    return TrainingSettings(
        private=_settings(federation),
        baseline=dataclasses.asdict(federation.central) if federation.config.baseline else None,
        pretraining=pretraining_steps(federation.model),
        physical_batch_size=federation.config.clients_at_once,
    )


def _settings(federation: Federation) -> dict[str, Any]:
    """What clients and server did: the settings that the algorithm reads."""
    config, choices = federation.config, federation.choices
    own = OWN_SETTINGS.get(config.algorithm)
    names = ["client_rate", "server_rate", "batch_size", "epochs", *([own] if own else [])]
    return {
        "algorithm": config.algorithm,
        "rounds": config.rounds,
        "clients_per_round": config.clients_per_round,
        **{name: getattr(choices, name) for name in names},
    }


def _notes(federation: Federation) -> tuple[str, ...]:
    population = federation.population
    artificial = population.partition.method.name != NATURAL
    made = (
        f"the clients are artificial: {federation.config.partition} divided the rows among "
        f"{len(population.clients)}; real clients differ in more than that",
    )
    aside = (
        f"of each {population.kind}'s rows {federation.config.held_out:.0%} were kept aside, of "
        "two or more at least one: no model was trained on them",
    )
    number = len(federation.stages)
    apart = (
        f"{number} periods, each with a ledger in a folder of its own; states of server and "
        "clients start anew in each",
    )
    return (
        *federation.decisions,
        *federation.task.disclosures,
        f"settings: {federation.tuned_on}",
        *(made if artificial else ()),
        *(aside if population.held_out is not None else ()),
        *(apart if number > 1 else ()),
        *_price(federation),
        "devices are simulated on this machine: bytes and virtual seconds are counted, not sent",
    )


def _metrics(federation: Federation) -> tuple[Metric, ...]:
    return tuple(
        Metric(one.name, one.label, one.percent, one.lower_is_better)
        for one in federation.task.scoring.metrics
    )


def _federated(federation: Federation, measured: Measured) -> Federated:
    config, population, central = federation.config, federation.population, measured.central
    return Federated(
        algorithm=config.algorithm,
        settings=_settings(federation),
        selection=_selection(config),
        partition=str(config.partition),
        client=population.kind,
        headline=headline(federation).name,
        sizes=tuple(np.sort(population.clients.counts)[::-1].tolist()),
        trained_values=federation.trained_values,
        **_by_label(federation),
        costs=total_costs(federation, measured.rounds),
        model=measured.federated.model,
        curve=federated_curve(federation, measured),
        periods=periods_of(federation, measured),
        central=central.model if central else None,
        central_curve=central_curve(central.result) if central else None,
    )


def _by_label(federation: Federation) -> dict[str, Any]:
    """Rows of clients by label, where that is not too much for a page."""
    train, population = federation.parts.train, federation.population
    label, names = labels_of(train), train.labels
    if label is None or len(population.clients) * len(names) > _MOST_CELLS:
        return {"labels": (), "rows_by_label": ()}
    counts = np.zeros((len(population.clients), len(names)), int)
    whose = population.partition.client_of_row
    places = np.searchsorted(population.clients.ids, whose[whose >= 0])
    known = np.minimum(places, len(counts) - 1)
    held = population.clients.ids[known] == whose[whose >= 0]
    np.add.at(counts, (known[held], label[whose >= 0][held]), 1)
    return {"labels": names, "rows_by_label": tuple(map(tuple, counts.tolist()))}


def _selection(config) -> str:
    extra = [name for name in ("replacement", "unbiased") if getattr(config, name)]
    return ", ".join([config.selection, *extra])
