"""Charts of who holds what: sizes of clients, and their labels."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from trustml.report.charts.axes import Axis, set_axis
from trustml.report.charts.canvas import FONT, LINE, make_figure, one_line
from trustml.report.charts.looks import COLOURS
from trustml.report.digits import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_COLUMNS = 100  # of a chart of labels; more clients share a column with those like them
_MOST_LABELS = 12  # with a row of their own
_SHADES = (0.02, 0.1, 0.25, 0.5, 0.75)  # least shares, each drawn darker
_MOST_BARS = 60  # that the eye can tell apart
_MOST_STEPS = 300  # of an outline
_HEIGHT = 2.6  # inches


def size_chart(sizes: Any, unit: str = "rows") -> "Figure | None":
    """How much each client holds, from the largest; None where nobody holds anything.

    >>> figure = size_chart([3, 9])
    >>> figure.axes[0].get_title(loc="left")
    'Rows a client: 3 to 9, median 6'

    Args:
      sizes: One number per client.
      unit: What they hold.
    """
    held = np.sort(np.asarray(sizes, np.float64))[::-1]
    if not held.size or not held[0] > 0:
        return None
    least, most, middle = (short(float(one)) for one in (held[-1], held[0], np.median(held)))
    title = f"{unit.capitalize()} a client: {least} to {most}, median {middle}"

    def draw(axes: "Axes") -> None:
        _set_clients(axes, len(held), f"{len(held)} clients, from the largest")
        set_axis(axes, "y", Axis(unit, low=0.0), (0.0, float(held[0]) * 1.05))
        axes.set_title(title, loc="left", fontsize=FONT, color=COLOURS["ink"])
        _draw_sizes(axes, held)

    return make_figure(_HEIGHT, [], draw)


def label_chart(counts: Any, labels: Sequence[str]) -> "Figure | None":
    """Which labels each client holds; None where nobody holds a row.

    A column is a client, or several neighbours where they are many; the darker a cell, the larger
    that label's share of the client's rows. Clients are sorted by their commonest label.

    >>> figure = label_chart([[4, 0], [1, 3]], ["no", "yes"])
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['no', 'yes']

    Args:
      counts: Rows by client and label.
      labels: Names of the labels.
    """
    held = np.asarray(counts, np.float64)
    held = held[held.sum(1) > 0]
    if not held.size:
        return None
    held, names = _named(held, labels)
    shares = _columns(held / held.sum(1, keepdims=True))
    across = len(held) / shares.shape[0]

    def draw(axes: "Axes") -> None:
        _set_clients(axes, len(held), f"{len(held)} clients, by their commonest label")
        axes.set_ylim(len(names), 0)
        axes.set_yticks(np.arange(len(names)) + 0.5, names)
        axes.tick_params(length=0, labelcolor=COLOURS["soft"])
        axes.grid(False)
        title = "Darker: a larger share of the client's rows"
        axes.set_title(title, loc="left", fontsize=FONT, color=COLOURS["ink"])
        _draw_cells(axes, shares, across)

    return make_figure(0.7 + LINE * max(4, len(names)) * 1.15, [], draw)


def _named(held, labels):
    """Labels from the commonest on, with those beyond the first as one."""
    order = np.argsort(-held.sum(0), kind="stable")
    held, names = held[:, order], [_cut(labels[place]) for place in order]
    if len(names) <= _MOST_LABELS:
        return held, names
    kept = _MOST_LABELS - 1
    rest = held[:, kept:].sum(1, keepdims=True)
    return np.hstack([held[:, :kept], rest]), [*names[:kept], f"{len(names) - kept} others"]


def _cut(name: str) -> str:
    name = one_line(str(name))
    return name if len(name) <= 14 else name[:13] + "…"


def _columns(shares):
    """The shares of clients sorted by their commonest label; of neighbours, the mean."""
    ordered = shares[np.lexsort((-shares.max(1), shares.argmax(1)))]
    edges = np.linspace(0, len(ordered), min(len(ordered), _MOST_COLUMNS) + 1).round().astype(int)
    return np.add.reduceat(ordered, edges[:-1]) / np.diff(edges)[:, None]


def _draw_cells(axes: "Axes", shares, across: float) -> None:
    """One path for each shade, of cells that run together, so that a page stays small."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    cells: dict[int, list[Path]] = {}
    for row, shade in enumerate(np.searchsorted(_SHADES, shares, side="right").T):
        turns = [0, *(np.flatnonzero(np.diff(shade)) + 1), len(shade)]
        for first, end in pairwise(turns):
            left, right = first * across, end * across
            corners = [(left, row), (right, row), (right, row + 1), (left, row + 1), (left, row)]
            cells.setdefault(int(shade[first]), []).append(Path(corners, closed=True))
    for level in range(1, len(_SHADES) + 1):
        if level in cells:
            outline = Path.make_compound_path(*cells[level])
            colour = (COLOURS["private"], level / len(_SHADES))
            axes.add_patch(PathPatch(outline, facecolor=colour, linewidth=0))


def _draw_sizes(axes: "Axes", held) -> None:
    if len(held) <= _MOST_BARS:
        places = np.arange(len(held)) + 0.5
        axes.bar(places, held, 1.0, color=COLOURS["part-1"], edgecolor=COLOURS["paper"])
        return
    steps = min(len(held), _MOST_STEPS)
    shown = held[np.linspace(0, len(held) - 1, steps).round().astype(int)]
    edges = np.linspace(0, len(held), steps + 1)
    axes.stairs(shown, edges, fill=True, color=COLOURS["part-1"])


def _set_clients(axes: "Axes", clients: int, label: str) -> None:
    set_axis(axes, "x", Axis(label), (0.0, float(clients)))
