"""Small plots as inline SVG: no script, colours and dashes from the page's style sheet.

A "look" is a class of the style sheet: the same one draws a line, a mark, a bar and its legend.
"""

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from trustml.report.digits import short

_WIDTH, _HEIGHT = 480, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 20, 36, 58
_MOST_POINTS = 300
_LARGEST = 1e100  # beyond it differences overflow; such a value is left out like an infinite one
_CHARACTER = 11.5  # width of one at the phone's size of text, in units of the viewBox
_LONG_SWATCH = 'width="40" viewBox="0 0 40 14"'

Point = tuple[Any, Any]  # numbers; None and what is not finite is left out


class Axis(NamedTuple):
    """What an axis says, and where it begins and ends; by default where the data do."""

    label: str
    log: bool = False
    low: float | None = None
    high: float | None = None
    percent: bool = False


class Series(NamedTuple):
    """One line; with `marks`, points whose `spread` is drawn as whiskers instead of a band."""

    label: str
    points: Sequence[Point]
    look: str
    spread: Sequence[Point] = ()  # low and high at each point
    marks: bool = False


class Row(NamedTuple):
    """One line of a dot plot or bar plot: a label, a note at the right, and what is drawn."""

    label: str
    note: str
    parts: Sequence[tuple[str, Any, str]]  # name, estimate or length, look


class _Scale(NamedTuple):
    """From a value to a place; what is off the axis is put at its end."""

    axis: Axis
    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        value = min(max(value, self.low), self.high)
        low, high = self.low, self.high
        if self.axis.log:
            value, low, high = math.log10(value), math.log10(low), math.log10(high)
        return self.start + (value - low) / (high - low) * (self.end - self.start)


def line_plot(
    title: str, series: Sequence[Series], x: Axis, y: Axis, *, forbidden: Series | None = None
) -> str:
    """Lines over a common pair of axes; "" where there is nothing to draw.

    `forbidden` is a boundary above which the plot is shaded. Values that are None, infinite or
    NaN are left out, and so are points that the eye cannot tell from their neighbours.
    """
    shown = [one for one in series if any(_finite(*pair) for pair in one.points)]
    if not shown:
        return ""
    every = [pair for one in shown for pair in one.points if _finite(*pair)]
    spreads = [end for one in shown for pair in one.spread for end in pair]
    across = _scale(x, [pair[0] for pair in every], _LEFT, _WIDTH - _RIGHT)
    upward = _scale(y, [*(pair[1] for pair in every), *spreads], _HEIGHT - _BOTTOM, _TOP)
    body = list(_frame(across, upward))
    legend = [(one.label, one.look, "mark" if one.marks else "line") for one in shown]
    if forbidden:
        edge = _thin([(across(a), upward(b)) for a, b in forbidden.points])
        above = [*edge, (edge[-1][0], _TOP), (edge[0][0], _TOP)]
        body.append(f'<polygon class="region" points="{_path(above)}"/>')
        body.append(f'<polyline class="line claim" points="{_path(edge)}"/>')
        legend.append((forbidden.label, "claim", "region"))
    body += [_one_series(one, across, upward) for one in shown]
    # A single line is named by the vertical axis.
    return (_legend(legend) if len(legend) > 1 else "") + _svg(title, _HEIGHT, body)


def dot_plot(title: str, rows: Sequence[Row], axis: Axis) -> str:
    """A dot with its interval for each part of each row, the row's label above."""
    found = [part[1] for row in rows for part in row.parts if part[1]]
    ends = [estimate.get(key) for estimate in found for key in ("value", "low", "high")]

    def draw(row, across, top):
        for index, (_, estimate, look) in enumerate(row.parts):
            yield _dot(estimate, look, across, top + 30 + 17 * index)

    return _row_plot(title, rows, axis, ends, draw, lambda row: 40 + 17 * len(row.parts), "mark")


def bar_plot(title: str, rows: Sequence[Row], axis: Axis) -> str:
    """One bar of stacked parts for each row, from zero."""
    lengths = [sum(part[1] for part in row.parts) for row in rows]

    def draw(row, across, top):
        begin = 0.0
        for name, value, look in row.parts:
            yield _segment(name, begin, value, look, across, top + 24)
            begin += value

    ends, axis = lengths if any(lengths) else [], axis._replace(low=0.0)
    return _row_plot(title, rows, axis, ends, draw, lambda row: 74, "bar")


def _row_plot(title, rows, axis, ends, draw, height_of, shape) -> str:
    if not any(_finite(end) for end in ends):
        return ""
    across = _scale(axis, ends, 12, _WIDTH - _RIGHT)
    body, top = [], 8.0
    for row in rows:
        body += [*_row_head(row, top), *draw(row, across, top)]
        top += height_of(row)
    looks = dict.fromkeys((name, look) for row in rows for name, _, look in row.parts)
    named = all(part[0] == row.label for row in rows for part in row.parts)
    legend = "" if named else _legend([(*look, shape) for look in looks])
    return legend + _svg(title, top + 50, [*_floor(across, 4, top), *body])


def _svg(title: str, height: float, body: Iterable[str]) -> str:
    name = html.escape(title)
    return (
        f'<svg class="plot" viewBox="0 0 {_WIDTH} {height:g}" role="img" aria-label="{name}">'
        f"<title>{name}</title>{''.join(body)}</svg>"
    )


def _legend(entries: Sequence[tuple[str, str, str]]) -> str:
    shapes = {
        "line": '<line class="line {look}" x1="1" y1="7" x2="39" y2="7"/>',
        "region": '<rect class="region" x="1" y="1" width="38" height="12"/>'
        '<line class="line claim" x1="1" y1="13" x2="39" y2="13"/>',
        "bar": '<rect class="bar {look}" x="13" y="1" width="13" height="12"/>',
    }
    items = []
    for label, look, shape in entries:
        drawn = _mark(20, 7, look) if shape == "mark" else shapes[shape].format(look=look)
        box = 'width="16" viewBox="12 0 16 14"' if shape in ("mark", "bar") else _LONG_SWATCH
        swatch = f'<svg class="swatch" {box} aria-hidden="true">{drawn}</svg>'
        items.append(f"<li>{swatch}{html.escape(label)}</li>")
    return f'<ul class="legend">{"".join(items)}</ul>'


def _one_series(series: Series, across: _Scale, upward: _Scale) -> str:
    points = [(across(a), upward(b)) for a, b in series.points if _finite(a, b)]
    ends = [
        (across(a), upward(low), upward(high))
        for (a, b), (low, high) in zip(series.points, series.spread, strict=False)
        if _finite(a, b, low, high)
    ]
    drawn = []
    if series.marks:
        drawn += [_line(f"whisker {series.look}", at, low, at, high) for at, low, high in ends]
    elif ends:
        outline = [(at, high) for at, _, high in ends] + [(at, low) for at, low, _ in ends[::-1]]
        drawn.append(f'<polygon class="band {series.look}" points="{_path(outline)}"/>')
    if len(points) > 1:
        drawn.append(f'<polyline class="line {series.look}" points="{_path(_thin(points))}"/>')
    if series.marks or len(points) == 1:
        drawn += [_mark(*point, series.look) for point in _thin(points)]
    return "".join(drawn)


def _dot(estimate: Any, look: str, across: _Scale, middle: float) -> str:
    if not estimate or not _finite(estimate.get("value")):
        return _text(14, middle + 5, "none", "start")
    low, high = estimate.get("low"), estimate.get("high")
    drawn = ""
    if _finite(low, high):
        drawn = _line(f"whisker {look}", across(low), middle, across(high), middle)
    return drawn + _mark(across(estimate["value"]), middle, look)


def _segment(name: str, begin: float, length: float, look: str, across: _Scale, top: float) -> str:
    left, right, said = across(begin), across(begin + length), short(length)
    drawn = (
        f'<rect class="bar {look}" x="{left:.1f}" y="{top:g}" width="{right - left:.1f}" '
        f'height="32"><title>{html.escape(name)}: {said}</title></rect>'
    )
    fits = right - left >= _CHARACTER * (len(said) + 1)
    return drawn + (_text((left + right) / 2, top + 21, said, "middle", "on") if fits else "")


def _row_head(row: Row, top: float) -> list[str]:
    room = int((_WIDTH - 40) / _CHARACTER) - len(row.note)
    label = row.label if len(row.label) <= room else row.label[: max(1, room - 1)] + "…"
    return [
        _text(12, top + 14, label, "start", "name"),
        _text(_WIDTH - _RIGHT, top + 14, row.note, "end"),
    ]


def _mark(across: float, upward: float, look: str) -> str:
    # Shapes that differ in black and white.
    if look == "baseline":
        corner = f"M{across:.1f} {upward - 6.5:.1f}l6.5 6.5l-6.5 6.5l-6.5 -6.5z"
        return f'<path class="mark {look}" d="{corner}"/>'
    if look == "budget":  # an end, not an estimate
        return f'<path class="mark {look}" d="M{across:.1f} {upward - 7:.1f}v14"/>'
    return f'<circle class="mark {look}" cx="{across:.1f}" cy="{upward:.1f}" r="5"/>'


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, said: str, anchor: str, kind: str = "") -> str:
    place = f'class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f"<text {place}>{html.escape(said)}</text>"


def _frame(across: _Scale, upward: _Scale) -> Iterable[str]:
    yield from _floor(across, _TOP, _HEIGHT - _BOTTOM)
    for value in _ticks(upward):
        at = upward(value)
        yield _line("grid", _LEFT, at, _WIDTH - _RIGHT, at)
        yield _text(_LEFT - 8, at + 5, _tick_text(value, upward.axis), "end")
    yield _text(6, 18, upward.axis.label, "start", "name")


def _floor(across: _Scale, top: float, bottom: float) -> Iterable[str]:
    for value in _ticks(across):
        at, said = across(value), _tick_text(value, across.axis)
        half = len(said) * _CHARACTER / 2
        yield _line("grid", at, top, at, bottom)
        yield _text(min(max(at, half), _WIDTH - half), bottom + 21, said, "middle")
    yield _line("axis", across.start, bottom, across.end, bottom)
    yield _text((across.start + across.end) / 2, bottom + 45, across.axis.label, "middle", "name")


def _scale(axis: Axis, values: Iterable[Any], start: float, end: float) -> _Scale:
    """The axis over the values: as wide as they, rounded out a little, never of length zero."""
    finite = [v for v in values if _finite(v) and (v > 0 or not axis.log)]
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
    return _Scale(axis, low, high, start, end)


def _ticks(scale: _Scale) -> list[float]:
    low, high = scale.low, scale.high
    if scale.axis.log:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for factors, least, most in ((1, 2, 5), 3, 7), ((1,), 2, 7):
            ticks = [f * 10.0**p for p in powers for f in factors if low <= f * 10.0**p <= high]
            if least <= len(ticks) <= most:
                return ticks
        if len(ticks) > 7:
            return ticks[:: math.ceil(len(ticks) / 6)]
    step = 10.0 ** math.floor(math.log10((high - low) / 5))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (factor * step) <= 5.01)
    first = math.ceil(low / step - 1e-9)
    # Rounded, as 3 * 0.1 is not 0.3.
    ticks = [float(f"{(first + index) * step:.12g}") for index in range(7)]
    return [value for value in ticks if low - 1e-9 * step <= value <= high + 1e-9 * step]


def _tick_text(value: float, axis: Axis) -> str:
    return f"{100 * value:.4g}%" if axis.percent else short(value)


def _thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Leaves out what the eye cannot tell from its neighbour, then what is still too many."""
    kept = list(points[:1])
    for point in points[1:]:
        if math.dist(point, kept[-1]) >= 1.5:
            kept.append(point)
    kept = kept[:: math.ceil(len(kept) / _MOST_POINTS)]
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


def _path(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in points)


def _finite(*values: Any) -> bool:
    return all(v is not None and math.isfinite(v) and abs(v) < _LARGEST for v in values)
