"""The least noise that a budget allows."""

import dataclasses
import math
from typing import Any

from trustml.plan.checks import check_count, check_positive
from trustml.plan.releases import releases


def calibrated(
    make: Any,
    *,
    epsilon: float,
    delta: float,
    num_units: int,
    expected_batch: float,
    steps: int,
    **options: Any,
) -> Any:
    """The plan of `PrivacyPlan.calibrate`; `make` is the class, `options` its other fields."""
    if "noise_multiplier" in options or "sample_rate" in options:
        raise ValueError(
            "`noise_multiplier` and `sample_rate` follow from the budget; construct "
            "`PrivacyPlan` itself to choose them."
        )
    if not (0 < delta < 1):
        raise ValueError(f"`delta` must be in (0, 1), got {delta!r}.")
    check_positive("epsilon", epsilon)
    check_count("num_units", num_units)
    check_positive("expected_batch", expected_batch)
    if not (expected_batch <= num_units):
        raise ValueError(
            f"`expected_batch` must be at most `num_units` ({num_units}), got {expected_batch!r}."
        )
    # At epsilon 8 an overflow of delta / 1000 would itself cost three times delta.
    overflow = max(delta / 1000 / (1 + math.exp(min(epsilon, 600.0))), 1e-280)
    trial = make(
        noise_multiplier=0.0,
        sample_rate=expected_batch / num_units,
        steps=steps,
        expected_batch=expected_batch,
        num_units=num_units,
        **{"overflow_probability": overflow, **options},
    )
    multiplier = trial._accounting.noise_multiplier(
        lambda noise: releases(trial, steps, noise),
        epsilon=epsilon,
        delta=delta,
        distance=trial._distance(steps),
    )
    return dataclasses.replace(trial, noise_multiplier=multiplier)
