"""A figure with one pair of axes and a legend above them, without pyplot and its global state."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from trustml.report.charts.looks import COLOURS, LOOKS, line_style, mark_style

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

_WIDTH = 4.8  # inches
FONT = 12.0  # points, for a phone; a wide page shrinks the text
LINE = 0.24  # inches of one line of text
CHARACTERS = 42  # in one line of a figure


def make_figure(height: float, entries: Sequence[tuple[str, str, str]], draw: Callable) -> "Figure":
    """A figure of its own.

    Args:
      height: Of the axes with their labels, in inches.
      entries: Of the legend: label, look, and "line", "mark", "bar" or "region".
      draw: Called with the axes.
    """
    import matplotlib
    from matplotlib.figure import Figure

    columns = 2 if all(len(entry[0]) <= 20 for entry in entries) else 1
    lines = math.ceil(len(entries) / columns)
    # Labels are text, whatever dollars and backslashes are in them.
    with matplotlib.rc_context({"font.size": FONT, "text.parse_math": False}):
        figure = Figure(figsize=(_WIDTH, height + LINE * lines), layout="constrained")
        axes = figure.add_subplot()
        axes.spines[["left", "top", "right"]].set_visible(False)
        axes.spines["bottom"].set_color(COLOURS["soft"])
        axes.grid(color=COLOURS["rule"], linewidth=0.7)
        axes.set_axisbelow(True)
        draw(axes)
        if entries:
            handles = [_handle(look, shape) for _, look, shape in entries]
            labels = [one_line(label) for label, _, _ in entries]
            figure.legend(
                handles,
                labels,
                loc="outside upper left",
                ncols=columns,
                frameon=False,
                handlelength=2.4,
                borderpad=0.0,
                labelspacing=0.3,
                labelcolor=COLOURS["ink"],
            )
    return figure


def _handle(look: str, shape: str) -> "Artist":
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    if shape == "bar":
        return Patch(facecolor=COLOURS[look])
    style = LOOKS[look]
    colour = COLOURS[style.colour]
    if shape == "region":
        return Patch(facecolor=(colour, 0.13), edgecolor=colour)
    if shape == "mark":
        return Line2D([], [], **mark_style(style))
    return Line2D([], [], **line_style(style))


def one_line(text: str) -> str:
    """The text as one line of printable characters, which is what SVG can hold."""
    return "".join(one if one.isprintable() else " " for one in text)
