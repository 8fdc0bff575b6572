"""Figures of a report: estimates with intervals, and where they were computed."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student


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
    point = float(student.ppf(0.975, len(values) - 1))
    half = point * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return Estimate(mean, mean - half, mean + half, f"Student's t over {len(values)} runs")
