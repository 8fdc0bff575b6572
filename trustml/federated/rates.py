"""Selection by activity under privacy: each client's own rate, and what it costs.

`FederatedStep(..., rates=...)` keeps a drawn client by a coin of the run's key, so that it takes
part at its own rate.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from trustml.accounting import Accounting
from trustml.federated.selection import Selection
from trustml.federated.validation import check_number
from trustml.plan import PrivacyPlan
from trustml.plan.releases import distance, releases

_MOST_LEVELS = 16  # of rates that are priced: each takes up to a second with "pld"
_ROUNDING = 1e-9


def inclusion_rates(
    selection: Selection, activity: Any, expected: float
) -> Float64[np.ndarray, " client"]:
    """The probability of each client to take part in a round, drawn independently of the others.

    Proportional to the selection's weights, and at most 1: what a client has above that is shared
    among the others by their weights. The rates add up to `expected`.

    >>> from trustml.federated.selection import proportional
    >>> inclusion_rates(proportional(), np.array([1, 1, 8]), 2.0).round(2).tolist()
    [0.5, 0.5, 1.0]

    Args:
      selection: The weights.
      activity: One number per client, at least 0. Public: the rates show it, and each rests on
        the activity of all.
      expected: Clients a round on average.

    Raises:
      ValueError: More clients are expected than have a weight, or the selection has no rates.
    """
    if selection.name == "top":
        raise ValueError(
            f"`selection` must give each client a rate of its own in private rounds, got "
            f"{selection}: who is in it depends on everyone's activity, and is in for certain, so "
            "that nothing is amplified. Use uniform, log or power."
        )
    weights = selection.weights(activity)
    expected = check_number("expected", expected, least=0, above=True)
    most = int(np.count_nonzero(weights))
    if expected > most:
        raise ValueError(
            f"`expected` must be at most the {most} clients that {selection} can draw, got "
            f"{expected:g}: ask for fewer a round."
        )
    rates, free = np.zeros(len(weights)), weights > 0
    while free.any():
        left = expected - np.count_nonzero((weights > 0) & ~free)
        rates[free] = weights[free] * (left / weights[free].sum())
        if not (rates[free] > 1).any():
            break
        free &= ~(rates > 1)
        rates[~free & (weights > 0)] = 1.0
    return np.minimum(rates, 1.0)


class Price(NamedTuple):
    """What selection by activity costs: epsilons at one delta."""

    delta: float
    rates: Float64[np.ndarray, " level"]  # ascending; a client is at the lowest that is not below
    clients: Int64[np.ndarray, " level"]  # how many are at each
    own: Float64[np.ndarray, " level"]  # epsilon of a client of that rate
    claimed: float  # for all: at the plan's rate
    uniform: float  # were every client drawn at the mean rate


def price(plan: PrivacyPlan, rates: Float64[np.ndarray, " client"], delta: float) -> Price:
    """What clients pay for being drawn at rates of their own.

    >>> plan = PrivacyPlan(
    ...     clip_norm=1.0, noise_multiplier=1.0, sample_rate=0.5, steps=10, expected_batch=1,
    ...     accountant="rdp",
    ... )
    >>> found = price(plan, np.array([0.1, 0.5]), delta=1e-3)
    >>> found.own.round(2).tolist(), round(found.claimed, 2), round(found.uniform, 2)
    ([2.11, 8.55], 8.55, 5.47)

    Args:
      plan: Poisson rounds at the largest rate, with independent noise.
      rates: Of `inclusion_rates`.
      delta: Of every epsilon.

    Returns:
      `Price`. Many distinct rates are rounded up to 16 levels: each `own` is an upper bound.

    Raises:
      ValueError: The plan does not draw each client independently, or at less than a rate.
    """
    if plan.sampling != "poisson":
        raise ValueError(
            f"`plan` must have `sampling`='poisson', which thinning keeps, got {plan.sampling!r}."
        )
    rates = _checked_rates(rates, plan.sample_rate, "plan.sample_rate")
    levels, clients = _levels(rates)
    own = np.array([_epsilon_at(plan, rate, delta) for rate in levels])
    uniform = _epsilon_at(plan, float(rates.mean()), delta)
    return Price(delta, levels, clients, own, plan.epsilon(delta), uniform)


def _epsilon_at(plan, rate, delta):
    """Epsilon of the plan's steps for a client that is drawn at `rate`."""
    if rate == 0:
        return 0.0
    run = [
        (dataclasses.replace(step, sample_rate=float(rate)), count)
        for step, count in releases(plan, plan.steps)
    ]
    accounting = Accounting(plan.adjacency, plan.accountant)
    return accounting.epsilon(run, delta=delta, distance=distance(plan, plan.steps))


def _levels(rates):
    """Distinct rates, or 16 that none is above by rounding up, and how many clients have each."""
    levels, counts = np.unique(rates, return_counts=True)
    if len(levels) <= _MOST_LEVELS:
        return levels, counts
    kept = np.unique(np.linspace(0, len(levels) - 1, _MOST_LEVELS).round().astype(int))
    level_of = np.searchsorted(kept, np.arange(len(levels)))
    return levels[kept], np.bincount(level_of, weights=counts).astype(np.int64)


def _checked_rates(rates, most, name):
    if not (0 < most <= 1):
        raise ValueError(f"`{name}` must be in (0, 1], got {most!r}.")
    rates = np.asarray(rates, np.float64)
    if rates.ndim != 1 or not rates.size:
        raise ValueError(f"`rates` must be a vector, one per client, got shape {rates.shape}.")
    bad = np.flatnonzero(~((rates >= 0) & (rates <= most * (1 + _ROUNDING))))
    if bad.size:
        raise ValueError(
            f"`rates` must be from 0 to `{name}` ({most:.6g}), got {rates[bad[0]]:.6g} for client "
            f"{bad[0]}."
        )
    return np.minimum(rates, most)
