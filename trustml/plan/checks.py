"""Checks of a plan's fields, each by itself and together."""

import math
from typing import Any

import jax

from trustml.accounting import Accounting
from trustml.accounting.steps import check_one_of
from trustml.clipping.bounds import CLIPPINGS
from trustml.plan.releases import CORRELATED, NOISES, SAMPLINGS


def check_fields(plan: Any) -> None:
    """Refuses numbers out of range and choices that do not go together."""
    check_one_of("sampling", plan.sampling, tuple(SAMPLINGS))
    check_one_of("clipping", plan.clipping, CLIPPINGS)
    check_one_of("noise", plan.noise, NOISES)
    Accounting(plan.adjacency, plan.accountant).check(SAMPLINGS[plan.sampling])
    if plan.sampling == "shuffled" and plan.adjacency != "replace-one":
        raise ValueError(
            f"`adjacency`={plan.adjacency!r} says nothing of `sampling`='shuffled': a unit that "
            "comes or goes moves all others. Use 'replace-one', or 'balls_in_bins'."
        )
    for value in jax.tree.leaves(plan.clip_norm) or [0.0]:
        check_positive("clip_norm", value)
    if not (plan.noise_multiplier >= 0 and math.isfinite(plan.noise_multiplier)):
        raise ValueError(
            f"`noise_multiplier` must be finite and not negative, got {plan.noise_multiplier!r}."
        )
    if not (0 < plan.sample_rate <= 1):
        raise ValueError(f"`sample_rate` must be in (0, 1], got {plan.sample_rate!r}.")
    check_positive("expected_batch", plan.expected_batch)
    check_positive("dimension", plan.dimension)
    check_count("steps", plan.steps)
    if not (0 < plan.overflow_probability < 1):
        raise ValueError(
            f"`overflow_probability` must be in (0, 1), got {plan.overflow_probability!r}."
        )
    _check_decay(plan)
    _check_num_microbatches(plan)
    _check_quantile(plan)
    _check_cycle(plan)
    _check_noise(plan)


def _check_decay(plan):
    if not (0 < plan.noise_decay <= 1):
        raise ValueError(f"`noise_decay` must be in (0, 1], got {plan.noise_decay!r}.")
    plain = plan.noise == "independent" and plan.sampling in ("poisson", "truncated_poisson")
    if plan.noise_decay < 1 and not (plain and plan.clip_quantile is None):
        raise ValueError(
            f"`noise_decay`={plan.noise_decay!r} needs `noise`='independent', Poisson sampling and "
            f"fixed bounds, got {plan.noise!r}, {plan.sampling!r} and "
            f"`clip_quantile`={plan.clip_quantile!r}."
        )


def _check_num_microbatches(plan):
    number = plan.num_microbatches
    if isinstance(number, bool) or not isinstance(number, int) or not (number >= 0):
        raise ValueError(
            f"`num_microbatches` must be a whole number, 0 to bound each unit, got {number!r}."
        )
    if number and not (plan.sampling == "poisson" and plan.adjacency == "add-or-remove-one"):
        raise ValueError(
            f"`num_microbatches`={number} needs `sampling`='poisson' under 'add-or-remove-one', "
            f"got {plan.sampling!r} under {plan.adjacency!r}."
        )
    if number > plan.expected_batch:
        raise ValueError(
            f"`num_microbatches` must be at most `expected_batch` ({plan.expected_batch!r}), got "
            f"{number}: a mean needs units."
        )


def _check_quantile(plan):
    if plan.clip_quantile is None:
        return
    if not (0 < plan.clip_quantile < 1):
        raise ValueError(f"`clip_quantile` must be in (0, 1), got {plan.clip_quantile!r}.")
    if plan.clipping != "flat" or plan.num_microbatches or plan.noise != "independent":
        raise ValueError(
            f"`clip_quantile`={plan.clip_quantile!r} needs `clipping`='flat', `noise`='independent'"
            f" and no `num_microbatches`, got {plan.clipping!r}, {plan.noise!r} and "
            f"{plan.num_microbatches}."
        )


def _check_cycle(plan):
    check_count("cycle_length", plan.cycle_length)
    if plan.cycle_length > 1 and plan.sampling != "cyclic_poisson":
        raise ValueError(
            f"`cycle_length` is of `sampling`='cyclic_poisson' alone, got {plan.cycle_length} with "
            f"{plan.sampling!r}."
        )
    if not (plan.sample_rate * plan.cycle_length <= 1 + 1e-9):
        raise ValueError(
            f"`cycle_length` must be at most 1 / `sample_rate` ({1 / plan.sample_rate:.6g}), got "
            f"{plan.cycle_length}: a group is smaller than its batch."
        )


def _check_noise(plan):
    if plan.noise not in CORRELATED:
        if plan.noise_memory != 0:
            raise ValueError(
                f"`noise_memory` is of correlated noise, got {plan.noise_memory!r} with "
                f"`noise`={plan.noise!r}."
            )
        return
    most = {"tree": 0, "toeplitz": 0, "banded": plan.cycle_length - 1, "blt": 10}[plan.noise]
    if not isinstance(plan.noise_memory, int) or not (min(1, most) <= plan.noise_memory <= most):
        raise ValueError(
            f"`noise_memory` must be from {min(1, most)} to {most} for {plan.noise!r} noise (for "
            f"'banded' below `cycle_length`: two steps of a unit must not share a band), got "
            f"{plan.noise_memory!r}."
        )
    if plan.sampling != "cyclic_poisson":
        raise ValueError(
            f"`noise`={plan.noise!r} needs `sampling`='cyclic_poisson', by which a unit takes part "
            f"every `cycle_length` steps at most, got {plan.sampling!r}."
        )


def check_batch(plan: Any) -> None:
    """Refuses a divisor that is not the batch that is drawn on average."""
    drawn = plan.sample_rate * plan.num_units
    if not (abs(drawn - plan.expected_batch) <= max(0.5, 0.05 * drawn)):
        raise ValueError(
            f"`expected_batch`={plan.expected_batch!r} must be near sample_rate * num_units "
            f"= {drawn:.6g}: it is what a step divides by."
        )


def check_capacity(plan: Any) -> None:
    """Refuses a padded length that the draws cannot have."""
    check_count("capacity", plan.capacity)
    most = plan._most_units * max(1, plan.num_microbatches)
    if plan.sampling == "truncated_poisson":  # which the accountant cuts at the data it describes
        most = plan.num_units
    if plan.capacity > most:
        raise ValueError(f"`capacity` must be at most {most}, got {plan.capacity}.")
    drawn, whole = plan.sample_rate * plan.num_units, plan.sampling in ("fixed", "shuffled")
    if whole and not math.isclose(plan.capacity, drawn, rel_tol=1e-9):
        raise ValueError(
            f"`sample_rate` must be a whole batch over `num_units` when sampling is "
            f"{plan.sampling}, got {plan.sample_rate!r} of {plan.num_units} units, which is "
            f"{drawn:.6g}."
        )
    if plan.num_microbatches and plan.capacity % plan.num_microbatches:
        raise ValueError(
            f"`capacity` must be a multiple of `num_microbatches` ({plan.num_microbatches}), got "
            f"{plan.capacity}."
        )


def check_positive(name: str, value: Any) -> None:
    """Refuses a value that is no positive finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"`{name}` must be a number, got {type(value).__name__}.")
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"`{name}` must be positive and finite, got {value!r}.")


def check_count(name: str, value: Any) -> None:
    """Refuses a value that is no positive whole number."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"`{name}` must be an integer, got {value!r}.")
    if not (value >= 1):
        raise ValueError(f"`{name}` must be at least 1, got {value!r}.")
