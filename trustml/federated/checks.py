"""Refuses rounds whose parts do not go together, before any of them."""

from typing import Any

from trustml.federated.algorithms.algorithm import Algorithm
from trustml.plan import PrivacyPlan
from trustml.training.checks import AUTO


def check_schedule(algorithm: Algorithm, plan: Any) -> None:
    """Refuses draws that the algorithm's mean does not follow."""
    selection = getattr(plan, "selection", None)
    drawn_evenly = selection is None or not (selection.unbiased or selection.replacement)
    if not drawn_evenly and not algorithm.bounded:
        raise ValueError(
            "`selection` must be neither unbiased nor with replacement for an algorithm that "
            "sends or combines more than changes of the parameters."
        )
    if getattr(plan, "most_late", 0) and algorithm.stale is None:
        raise ValueError(
            "`algorithm` must be that of `fedbuff` where devices answer when they are done."
        )


def check_private(algorithm: Algorithm, plan: Any, rates: Any) -> None:
    """Refuses what no plan covers."""
    if not isinstance(plan, PrivacyPlan):
        raise ValueError(f"`plan` must be a `PrivacyPlan`, got {type(plan).__name__}.")
    if not algorithm.bounded or algorithm.combine is not None or algorithm.stale is not None:
        raise ValueError(
            "`algorithm` must send the change of the parameters alone where a plan bounds it, such "
            "as `fedavg(loss_fn, client)`; got one that sends or combines more."
        )
    if algorithm.keep is not None:
        raise ValueError(
            "`algorithm` must keep no state at the clients where a plan is to cover what is "
            "trained, got one that does."
        )
    if rates is not None and plan.clip_quantile is not None:
        raise NotImplementedError(
            "`rates` must be None where the plan's bounds adapt: their quantile is of as many "
            "clients as the plan expects."
        )
    if plan.num_microbatches:
        raise NotImplementedError(
            "`plan` must have clients for units in federated rounds, got `num_microbatches`="
            f"{plan.num_microbatches}."
        )


def check_width(clients_at_once: int | str) -> int | str:
    """The number of clients at once, or "auto"."""
    if clients_at_once == AUTO:
        return clients_at_once
    if (
        isinstance(clients_at_once, bool)
        or not isinstance(clients_at_once, int)
        or clients_at_once < 1
    ):
        raise ValueError(
            f'`clients_at_once` must be a positive integer or "auto", got {clients_at_once!r}.'
        )
    return clients_at_once
