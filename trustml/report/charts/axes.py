"""Axes of charts: their ends, ticks and labels."""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from trustml.report.charts.canvas import one_line
from trustml.report.charts.looks import COLOURS
from trustml.report.digits import short

if TYPE_CHECKING:  # matplotlib takes long to import: only who draws waits for it
    from matplotlib.axes import Axes
    from matplotlib.ticker import Locator

_LARGEST = 1e100  # beyond it differences overflow; such a value is left out like an infinite one

Point = tuple[Any, Any]  # numbers; None and what is not finite is left out
Limits = tuple[float, float]


class Axis(NamedTuple):
    """Label, scale and ends of an axis; by default it ends where the data do."""

    label: str
    log: bool = False
    low: float | None = None
    high: float | None = None
    percent: bool = False


def set_axis(axes: "Axes", which: str, axis: Axis, limits: Limits) -> None:
    """Gives "x" or "y" its scale, ends, ticks and label."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    if which == "x":
        axes.set_xlabel(one_line(axis.label), color=COLOURS["ink"])
    axes.set(**{f"{which}scale": "log" if axis.log else "linear", f"{which}lim": limits})
    line = axes.xaxis if which == "x" else axes.yaxis
    line.set_major_locator(_ticks(axis, limits))
    line.set_major_formatter(FuncFormatter(lambda value, _: _tick_text(value, axis)))
    line.set_tick_params(which="both", length=0, labelcolor=COLOURS["soft"])
    line.set_minor_locator(NullLocator())


def _ticks(axis: Axis, limits: Limits) -> "Locator":
    from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator

    if not axis.log:
        return MaxNLocator(5, steps=[1, 2, 5, 10])
    decades = math.log10(limits[1] / limits[0])
    if decades < 1:
        ticks = MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(*limits)
        return FixedLocator([tick for tick in ticks if limits[0] <= tick <= limits[1]])
    return LogLocator(subs=(1, 2, 5) if decades < 2 else (1,), numticks=7)


def _tick_text(value: float, axis: Axis) -> str:
    value = float(f"{value:.12g}")  # 3 * 0.1 is not 0.3
    return f"{100 * value:.4g}%" if axis.percent else short(value)


def limits_of(axis: Axis, values: Iterable[Any]) -> Limits:
    """The ends of an axis: a little wider than the values, never of length zero."""
    finite = [v for v in values if is_drawn(v) and (v > 0 or not axis.log)]
    low, high = min(finite, default=0.1), max(finite, default=1.0)
    if axis.log:
        low, high = (low / 1.15, high * 1.15) if high > low * 1.01 else (low / 2, high * 2)
    else:
        size = max(abs(low), abs(high))
        room = 0.05 * (high - low)
        if not (room > 1e-9 * max(size, 1e-80)):  # a constant, up to rounding, has no extent
            room = 0.1 * size if size > 1e-80 else 1.0
        low, high = low - room, high + room
    low, high = (b if a is None else a for a, b in ((axis.low, low), (axis.high, high)))
    if not (high > low):
        high = low * 10 if axis.log else low + 1.0
    return float(low), float(high)


def inside(points: Iterable[Point], across: Limits, upward: Limits) -> list[Point]:
    """The points that can be drawn; what is off an axis is put at its end."""
    return [(clamp(a, across), clamp(b, upward)) for a, b in points if is_drawn(a, b)]


def clamp(value: int | float, limits: Limits) -> float:
    """The value, or the end of the axis that it is beyond."""
    return float(min(max(value, limits[0]), limits[1]))


def is_drawn(*values: Any) -> bool:
    """Whether all of them can be drawn."""
    return all(v is not None and abs(v) < _LARGEST for v in values)  # NaN is below nothing
