"""Charts of rows: dots with intervals, stacked bars; each label is above its row."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from trustml.report.charts.axes import Axis, Limits, clamp, is_drawn, limits_of, set_axis
from trustml.report.charts.canvas import CHARACTERS, LINE, make_figure, one_line
from trustml.report.charts.looks import COLOURS, LOOKS, Look, mark_style
from trustml.report.digits import short
from trustml.report.measured import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Row(NamedTuple):
    """One line of a dot chart or bar chart: a label, a note at the right, and its parts."""

    label: str
    note: str
    parts: Sequence[tuple[str, Any, str]]  # name, estimate or length, look


def dot_chart(rows: Sequence[Row], axis: Axis) -> "Figure | None":
    """A dot with its interval for each part of each row, the row's label above.

    >>> estimate = Estimate(1.0, 0.5, 1.5, "")
    >>> figure = dot_chart([Row("private", "", [("F1", estimate, "private")])], Axis("F1"))
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['private', '']
    """
    found = [part[1] for row in rows for part in row.parts if part[1]]
    ends = [end for one in found for end in (one.value, one.low, one.high)]

    def draw(axes: "Axes", row: Row, top: float, limits: Limits) -> None:
        for index, (_, estimate, look) in enumerate(row.parts):
            _draw_dot(axes, estimate, LOOKS[look], top + LINE * (index + 1), limits)

    return _row_chart(rows, axis, ends, draw, lambda row: 0.3 + LINE * len(row.parts), "mark")


def bar_chart(rows: Sequence[Row], axis: Axis) -> "Figure | None":
    """One bar of stacked parts for each row, from zero.

    >>> parts = [("noise", 1.0, "part-2"), ("rest", 2.0, "part-1")]
    >>> figure = bar_chart([Row("step", "3 ms", parts)], Axis("Milliseconds"))
    >>> [float(bar.get_width()) for bar in figure.axes[0].patches]
    [1.0, 2.0]
    """
    shown = [row._replace(parts=[one for one in row.parts if is_drawn(one[1])]) for row in rows]
    lengths = [sum(part[1] for part in row.parts) for row in shown]

    def draw(axes: "Axes", row: Row, top: float, limits: Limits) -> None:
        begin = 0.0
        for _, length, look in row.parts:
            _draw_bar(axes, begin, length, look, top + 1.25 * LINE, limits)
            begin += length

    ends = lengths if any(lengths) else []
    return _row_chart(shown, axis._replace(low=0.0), ends, draw, lambda row: 0.75, "bar")


def _row_chart(rows, axis: Axis, ends, draw_row: Callable, height_of: Callable, shape: str):
    if not any(is_drawn(end) for end in ends):
        return None
    limits, heights = limits_of(axis, ends), [height_of(row) for row in rows]

    def draw(axes: "Axes") -> None:
        set_axis(axes, "x", axis, limits)
        axes.set_ylim(sum(heights), 0)  # inches, downwards
        axes.set_yticks([])
        top = 0.18
        for row, height in zip(rows, heights, strict=True):
            _draw_head(axes, row, top)
            draw_row(axes, row, top, limits)
            top += height

    looks = dict.fromkeys((name, look) for row in rows for name, _, look in row.parts)
    named = all(part[0] == row.label for row in rows for part in row.parts)
    return make_figure(
        sum(heights) + 0.6, [] if named else [(*look, shape) for look in looks], draw
    )


def _draw_dot(
    axes: "Axes", estimate: Estimate | None, look: Look, at: float, limits: Limits
) -> None:
    if not estimate or not is_drawn(estimate.value):
        axes.text(0, at, "none", transform=axes.get_yaxis_transform(), va="center")
        return
    if is_drawn(estimate.low, estimate.high):
        ends = [clamp(end, limits) for end in (estimate.low, estimate.high) if end is not None]
        axes.plot(ends, [at, at], color=COLOURS[look.colour], linewidth=2.2)
    axes.plot([clamp(estimate.value, limits)], [at], **mark_style(look))


def _draw_bar(
    axes: "Axes", begin: float, length: float, look: str, at: float, limits: Limits
) -> None:
    axes.barh(
        at,
        length,
        left=begin,
        height=1.3 * LINE,
        color=COLOURS[look],
        edgecolor=COLOURS["paper"],
        linewidth=1.0,
    )
    label = short(length)
    if length / (limits[1] - limits[0]) * CHARACTERS >= len(label) + 1:
        middle = begin + length / 2
        axes.text(middle, at, label, ha="center", va="center", color=COLOURS["on-part"])


def _draw_head(axes: "Axes", row: Row, top: float) -> None:
    note = one_line(row.note)
    label, room = one_line(row.label), CHARACTERS - len(note)
    label = label if len(label) <= room else label[: max(1, room - 1)] + "…"
    where: dict[str, Any] = {
        "transform": axes.get_yaxis_transform(),
        "va": "center",
        "in_layout": False,
    }
    axes.text(0.0, top, label, ha="left", color=COLOURS["ink"], **where)
    axes.text(1.0, top, note, ha="right", color=COLOURS["soft"], **where)
