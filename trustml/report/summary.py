"""Figures of a report: estimates with intervals, and where they were computed."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# Two-sided 95 % points of Student's t for 1 to 9 degrees of freedom; repeats are few.
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


class Estimate(NamedTuple):
    """A figure with a 95 % interval, and how the interval came about."""

    value: float
    low: float
    high: float
    interval: str


def mean_of(values: Sequence[float]) -> Estimate:
    """Mean over repeated runs with Student's interval.

    >>> round(mean_of([0.9, 0.92, 0.94]).value, 4)
    0.92
    """
    if len(values) < 2:
        raise ValueError(f"`values` must hold at least two runs, got {len(values)}.")
    mean = float(np.mean(values))
    point = _STUDENT[len(values) - 2] if len(values) <= 10 else 1.96
    half = point * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return Estimate(mean, mean - half, mean + half, f"Student's t over {len(values)} runs")
