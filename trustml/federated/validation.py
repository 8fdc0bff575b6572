"""Checks of arguments that several modules of this package take."""

import math
import numbers
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64


def check_whole(name: str, value: Any, *, least: int) -> int:
    """The value as an int, or a refusal.

    >>> check_whole("clients", np.int64(3), least=1)
    3
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"`{name}` must be a whole number, got {value!r}.")
    if value < least:
        raise ValueError(f"`{name}` must be at least {least}, got {value}.")
    return int(value)


def check_number(name: str, value: Any, *, least: float, above: bool = False) -> float:
    """The value as a finite float of at least `least`, or above it; or a refusal.

    >>> check_number("alpha", 1, least=0, above=True)
    1.0
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"`{name}` must be a number, got {value!r}.")
    number = float(value)
    if not (number > least if above else number >= least) or not math.isfinite(number):
        rule = "above" if above else "at least"
        raise ValueError(f"`{name}` must be finite and {rule} {least:g}, got {value!r}.")
    return number


def check_activity(activity: Any) -> Float64[np.ndarray, " client"]:
    """One finite number per client, at least 0, in float64; or a refusal.

    >>> check_activity([2, 0]).tolist()
    [2.0, 0.0]
    """
    activity = np.asarray(activity)
    if activity.ndim != 1 or activity.dtype.kind not in "iuf" or not activity.size:
        raise ValueError(
            f"`activity` must be a vector of numbers, one per client, got {activity.dtype} of "
            f"shape {activity.shape}."
        )
    bad = np.flatnonzero(~((activity >= 0) & np.isfinite(activity)))
    if bad.size:
        raise ValueError(
            f"`activity` must be finite and not negative, got {activity[bad[0]]} for client "
            f"{bad[0]}."
        )
    return activity.astype(np.float64)


def check_mask(name: str, value: Any, size: int, what: str) -> Bool[np.ndarray, " size"]:
    """A boolean for each of `size` clients or rows, or a refusal.

    >>> check_mask("available", [True, False], 2, "client").tolist()
    [True, False]
    """
    value = np.asarray(value)
    if value.dtype != bool or value.shape != (size,):
        raise ValueError(
            f"`{name}` must be a boolean vector of length {size}, one per {what}, got "
            f"{value.dtype} of shape {value.shape}."
        )
    return value


def short_number(value: float) -> str:
    """A number as few digits as name it: what a word of the command holds.

    >>> short_number(5.0), short_number(0.1), short_number(0.123456789)
    ('5', '0.1', '0.123456789')
    """
    short = f"{value:g}"
    return short if float(short) == value else repr(value)
