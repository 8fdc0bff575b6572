"""Line charts: curves, bands, marks with whiskers, and a region that is ruled out."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from trustml.report.charts.axes import (
    Axis,
    Limits,
    Point,
    clamp,
    inside,
    is_drawn,
    limits_of,
    set_axis,
)
from trustml.report.charts.canvas import FONT, make_figure, one_line
from trustml.report.charts.looks import COLOURS, LOOKS, line_style, mark_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HEIGHT = 3.3  # inches
_MOST_POINTS = 600  # of one line


class Series(NamedTuple):
    """One line; with `marks`, points whose `spread` is drawn as whiskers instead of a band."""

    label: str
    points: Sequence[Point]
    look: str
    spread: Sequence[Point] = ()  # low and high at each point
    marks: bool = False


def line_chart(
    series: Sequence[Series], x: Axis, y: Axis, *, forbidden: Series | None = None
) -> "Figure | None":
    """Lines over a common pair of axes; None where there is nothing to draw.

    Values that are None, infinite or NaN are left out.

    >>> line_chart([Series("empty", [(1, None)], "private")], Axis("Step"), Axis("Loss"))

    Args:
      series: The lines and marks.
      x: The horizontal axis.
      y: The vertical axis.
      forbidden: A boundary above which the chart is shaded.
    """
    shown = [one for one in series if any(is_drawn(*pair) for pair in one.points)]
    if not shown:
        return None
    every = [pair for one in shown for pair in one.points if is_drawn(*pair)]
    spreads = [end for one in shown for pair in one.spread for end in pair]
    across = limits_of(x, [pair[0] for pair in every])
    upward = limits_of(y, [*(pair[1] for pair in every), *spreads])

    def draw(axes: "Axes") -> None:
        set_axis(axes, "x", x, across)
        set_axis(axes, "y", y, upward)
        axes.set_title(one_line(y.label), loc="left", fontsize=FONT, color=COLOURS["ink"])
        if forbidden:
            _draw_region(axes, inside(forbidden.points, across, upward), upward[1])
        for one in shown:
            _draw_series(axes, one, across, upward)

    entries = [(one.label, one.look, "mark" if one.marks else "line") for one in shown]
    entries += [(forbidden.label, forbidden.look, "region")] if forbidden else []
    # A single line is named by the vertical axis.
    return make_figure(_HEIGHT, entries if len(entries) > 1 else [], draw)


def _draw_series(axes: "Axes", series: Series, across: Limits, upward: Limits) -> None:
    look = LOOKS[series.look]
    colour = COLOURS[look.colour]
    points = _thinned(axes, inside(series.points, across, upward))
    ends = [
        (clamp(pair[0], across), clamp(low, upward), clamp(high, upward))
        for pair, (low, high) in zip(series.points, series.spread, strict=False)
        if is_drawn(*pair, low, high)
    ]
    if series.marks:
        for at, low, high in ends:
            axes.plot([at, at], [low, high], color=colour, linewidth=2.2)
    elif ends:
        outline = [(at, high) for at, _, high in ends] + [(at, low) for at, low, _ in ends[::-1]]
        axes.fill(*zip(*outline, strict=True), facecolor=(colour, 0.16))
    xs, ys = zip(*points, strict=True)
    if len(points) > 1:
        width = 0.8 * look.width if series.marks else look.width
        axes.plot(xs, ys, color=colour, linestyle=look.dash, linewidth=width)
    if series.marks or len(points) == 1:
        axes.plot(xs, ys, **mark_style(look))


def _thinned(axes: "Axes", points: list[Point]) -> list[Point]:
    """Leaves out what the eye cannot tell from its neighbour, then what is still too many."""
    pixels = axes.transData.transform(points).tolist()
    kept = [0]
    for index, pixel in enumerate(pixels):
        if math.dist(pixel, pixels[kept[-1]]) >= 1:
            kept.append(index)
    kept = kept[:: math.ceil(len(kept) / _MOST_POINTS)]
    return [points[index] for index in dict.fromkeys([*kept, len(points) - 1])]


def _draw_region(axes: "Axes", edge: Sequence[Point], top: float) -> None:
    colour = COLOURS["claim"]
    above = [*edge, (edge[-1][0], top), (edge[0][0], top)]
    axes.fill(*zip(*above, strict=True), facecolor=(colour, 0.13))
    axes.plot(*zip(*edge, strict=True), **line_style(LOOKS["claim"]))
