"""Epsilon of several runs on the same data."""

import math
from collections.abc import Sequence

from trustml.accounting import ACCOUNTANTS, SUPPORTED, Accounting, SampledGaussian
from trustml.plan.privacy_plan import PrivacyPlan
from trustml.plan.releases import SAMPLINGS, releases


def composed_epsilon(spent: Sequence[tuple[PrivacyPlan, int]], *, delta: float) -> float:
    """Epsilon at `delta` of several runs on the same data, accounted as one.

    Tighter than the sum of their epsilons, which would hold at the sum of their deltas.

    >>> plan = PrivacyPlan(
    ...     clip_norm=1.0, noise_multiplier=3.0, sample_rate=0.1, steps=512, expected_batch=100
    ... )
    >>> round(composed_epsilon([(plan, 256), (plan, 256)], delta=1e-6), 2)
    3.77

    Args:
      spent: Plans, each with the steps that were carried out under it.
      delta: Of the whole.

    Returns:
      Epsilon; 0 where nothing was carried out, infinite where a step had no noise.

    Guarantee:
      Bounds what all runs release together, sampler overflow and noise tails of each included: as
      one run where delta has room for that, else by basic composition of all at an equal delta.
      No plan may be chosen by what an earlier run released; its starting weights may.

    Raises:
      ValueError: The adjacencies or the units of privacy differ, no accountant covers all
        samplings, or a number is out of range.
      TypeError: A number of steps is no integer.
    """
    for _, steps in spent:
        _check_steps(steps)
    if not (0 < delta < 1):
        raise ValueError(f"`delta` must be in (0, 1), got {delta!r}.")
    plans = [plan for plan, _ in spent]
    _check_one_unit(plans)
    adjacency = _common_adjacency(plans)
    # What was never carried out costs nothing, nor does it bind the accountant.
    spent = [(plan, steps) for plan, steps in spent if steps]
    accountant = _common_accountant(spent, adjacency)
    run: dict[SampledGaussian, int] = {}  # a run that was resumed is one run, to the last digit
    for plan, steps in spent:
        for release, count in releases(plan, steps):
            run[release] = run.get(release, 0) + count
    distance = sum(plan._distance(steps) for plan, steps in spent)
    accounting = Accounting(adjacency, accountant)
    found = accounting.epsilon(list(run.items()), delta=delta, distance=distance)
    if math.isfinite(found):
        return found
    # What samplers overflow weighs e^epsilon of all runs together, which delta may have no room
    # for; by themselves each run's does not. Epsilons add up at the sum of the deltas.
    share = delta / max(1, len(spent))
    return sum(plan.epsilon(share, steps=steps) for plan, steps in spent)


def _check_one_unit(plans) -> None:
    found = dict.fromkeys(plan.unit for plan in plans)
    if len(found) > 1:
        first, other = list(found)[:2]
        raise ValueError(
            f"`spent` must hold plans of one `unit`, got {first!r} and {other!r}: these are "
            "different promises. State each by itself."
        )


def _common_adjacency(plans) -> str:
    found = dict.fromkeys(plan.adjacency for plan in plans)
    if len(found) > 1:
        first, other = found
        raise ValueError(
            f"`spent` must hold plans of one `adjacency`, got {first!r} and {other!r}: these are "
            "different promises. Describe the runs under one of them, with "
            "`dataclasses.replace(plan, adjacency=...)`, or state each promise by itself."
        )
    return next(iter(found), "add-or-remove-one")


def _common_accountant(spent, adjacency: str) -> str:
    samplings = {SAMPLINGS[plan.sampling] for plan, _ in spent}
    for accountant in ACCOUNTANTS:  # the tighter one first
        if all(accountant in SUPPORTED[sampling, adjacency] for sampling in samplings):
            return accountant
    raise ValueError(
        f"`spent` must hold plans that one accountant covers, got `sampling` {sorted(samplings)} "
        f"under {adjacency!r}. Compose the runs of each sampling by themselves: their epsilons add "
        "up at the sum of their deltas."
    )


def _check_steps(steps: int) -> None:
    if isinstance(steps, bool) or not isinstance(steps, int):
        raise TypeError(f"`spent` must hold whole numbers of steps, got {steps!r}.")
    if not (steps >= 0):
        raise ValueError(f"`spent` must not hold negative steps, got {steps!r}.")
