"""What drawing clients by their activity costs in privacy: a table over selections."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from trustml.federated.rates import Price, inclusion_rates, price
from trustml.federated.selection import parse_selection
from trustml.plan import PrivacyPlan

SELECTIONS = ("uniform", "log", "power:0.5", "proportional")


class SelectionPrice(NamedTuple):
    """The price of one selection."""

    selection: str
    price: Price
    typical: float  # epsilon of the client in the middle

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "selection": self.selection,
            "largest_rate": float(self.price.rates[-1]),
            "claimed": self.price.claimed,
            "median_client": self.typical,
        }


def price_selections(
    plan: PrivacyPlan, activity: Float64[np.ndarray, " client"], delta: float
) -> tuple[SelectionPrice, ...]:
    """Epsilon of the plan's rounds for each of `SELECTIONS`, claimed at the largest rate.

    Args:
      plan: Its batch is the mean number of clients of a round; noise and rounds stay as they are.
      activity: One number a client, public.
      delta: Of every epsilon.

    Guarantee:
      `claimed` holds for every client under the selection if activity is public.

    Raises:
      ValueError: The plan is not of Poisson draws, or expects more clients than there are.
    """
    return tuple(_price(plan, word, activity, delta) for word in SELECTIONS)


def _price(plan: PrivacyPlan, word: str, activity: np.ndarray, delta: float) -> SelectionPrice:
    rates = inclusion_rates(parse_selection(word), activity, plan.expected_batch)
    found = price(_at(plan, float(rates.max())), rates, delta)
    middle = np.searchsorted(np.cumsum(found.clients), len(rates) / 2)
    return SelectionPrice(word, found, float(found.own[middle]))


def _at(plan: PrivacyPlan, rate: float) -> PrivacyPlan:
    """The plan with the largest rate of a client, and draws as long as it asks for."""
    batch = rate * plan.num_units
    return dataclasses.replace(plan, sample_rate=rate, expected_batch=batch, capacity=None)  # type: ignore[arg-type]


def read_activity(path: Path) -> Float64[np.ndarray, " client"]:
    """The numbers of a file, one a line: the activity of each client.

    Raises:
      ValueError: It is missing, or a line is no number of at least 0.
    """
    try:
        lines = path.read_text("utf-8").split()
        found = np.array(list(map(float, lines)))
    except (OSError, ValueError) as error:
        raise ValueError(f"`--activity` must be a file of numbers, got {path}: {error}.") from None
    if not found.size or not (np.isfinite(found) & (found >= 0)).all():
        raise ValueError(f"`--activity` must hold numbers of at least 0, one a client: {path}.")
    return found
