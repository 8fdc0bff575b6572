"""Evaluates the models of a federated run: on the test part, and client by client."""

import math
from typing import Any, NamedTuple

import numpy as np

from trustml.data.examples import Examples
from trustml.metrics import Metric
from trustml.recipes.federate.experiment import Federation
from trustml.recipes.train.evaluation import owners_of, reported
from trustml.report.federated import FederatedModel, OverClients
from trustml.report.measured import Estimate
from trustml.stats import mean_estimate
from trustml.training import FitResult

_TENTH = 0.1


class Trained(NamedTuple):
    """One finished training with its evaluation. Private."""

    result: FitResult
    model: FederatedModel


def evaluate(federation: Federation, result: FitResult, examples: int) -> Trained:
    """Scores of a training, on the evaluated part and over clients.

    Args:
      federation: The federation.
      result: Of `trustml.fit`.
      examples: That it was trained on.
    """
    task, rows = federation.task, federation.evaluated
    counts = task.counts(result.params, rows)
    model = FederatedModel(
        metrics=reported(task.scoring.estimates(counts, owners_of(rows))),
        clients=over_clients(federation, result.params),
        examples=examples,
        train_seconds=result.seconds,
    )
    return Trained(result, model)


def scores_along_the_way(federation: Federation, params: Any) -> dict[str, float]:
    """The quick scores on rows of the valid part."""
    task = federation.task
    scores = task.scoring.scores(task.counts(params, federation.along_the_way, quick=True))
    shown = {metric.name for metric in task.scoring.metrics}
    return {
        name: value for name, value in scores.items() if name in shown and not math.isnan(value)
    }


def score_on(federation: Federation, params: Any, rows: Examples | None) -> Estimate | None:
    """The headline metric on some rows, with its interval; None without rows."""
    if rows is None:
        return None
    task = federation.task
    estimates = task.scoring.estimates(_counts(federation, params, rows))
    return reported(estimates)[headline(federation).name]


def headline(federation: Federation) -> Metric:
    """The metric of curves and clients: the first share, or the first that is quick to compute."""
    metrics = federation.task.scoring.metrics
    if federation.task.kind == "seq2seq":  # texts take long to write
        return metrics[-1]
    return next((one for one in metrics if one.percent), metrics[0])


def over_clients(federation: Federation, params: Any) -> OverClients | None:
    """The headline metric on the rows that each client kept aside."""
    population, task = federation.population, federation.task
    if population.held_out is None:
        return None
    metric = headline(federation)
    counts = _counts(federation, params, population.held_out)
    sums = np.zeros((len(population.clients), counts.shape[1]))
    np.add.at(sums, population.places, counts)
    measured = [task.scoring.values(sums[place])[metric.name] for place in _there(population)]
    worst_first = np.sort(measured)[:: -1 if metric.lower_is_better else 1]
    tenth = max(1, round(_TENTH * len(worst_first)))
    return OverClients(
        mean=_mean(measured),
        deviation=float(np.std(measured)),
        worst_tenth=float(worst_first[:tenth].mean()),
        values=tuple(worst_first.tolist()),
    )


def _counts(federation: Federation, params: Any, rows: Examples) -> np.ndarray:
    """Counts of every row, without texts that take long to write."""
    return federation.task.counts(params, rows, quick=federation.task.kind == "seq2seq")


def _mean(values: list[float]) -> Estimate:
    if len(values) < 2:
        return Estimate(values[0], None, None, "none: one client")
    value, low, high, _ = mean_estimate(values)
    return Estimate(value, low, high, f"Student's t over {len(values)} clients, 95 %")


def _there(population) -> np.ndarray:
    return np.unique(population.places)
