"""What a report holds, and None or {} where it does not."""

import math
from typing import Any

from trustml.formatting import round_up
from trustml.report import digits

SIDES = ("private", "baseline")


def side_of(holder, side: str) -> dict[str, Any]:
    """What an attack, a group or a timing says of one model."""
    return ((holder or {}).get("sides") or {}).get(side) or {}


def audit_of(report) -> dict[str, Any] | None:
    """The audited lower bound of the private model."""
    return side_of(report.get("attack"), "private").get("epsilon_lower_bound")


def metric_of(holder, side: str, metric) -> dict[str, Any] | None:
    """An estimate that is there: of `results`, whose sides lie open, or of a group."""
    found = side_of(holder, side) or (holder or {}).get(side) or {}
    estimate = (found.get("metrics") or {}).get(metric.get("name"))
    return estimate if estimate and is_number(estimate.get("value")) else None


def or_value(estimate, key: str) -> float:
    """One end of an interval, or the value where there is no interval."""
    return estimate["value"] if estimate.get(key) is None else estimate[key]


def is_number(value) -> bool:
    """Whether a value can be shown and compared."""
    return isinstance(value, int | float) and math.isfinite(value)


def epsilon(value: float | None, name: str = "epsilon ") -> str:
    """A claim in words, rounded up."""
    finite = value is not None and math.isfinite(value)
    return f"{name}at most {round_up(value)}" if finite else f"{name}infinite"


def difference(found, percent: bool) -> str:
    """The private value less the baseline's."""
    private, baseline = found
    if not (private and baseline):
        return digits.NONE
    change = private["value"] - baseline["value"]
    if percent:
        return f"{100 * change:+.1f}\N{NO-BREAK SPACE}points"
    return f"{change:+.3f}" if abs(change) < 10 else f"{change:+,.1f}"


def intervals(estimates) -> str:
    """Which intervals were given."""
    return ", ".join(dict.fromkeys(one["interval"] for one in estimates if one))
