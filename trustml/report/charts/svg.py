"""Figures as inline SVG for a page: its colours and text follow the page's style sheet."""

import io
import re
import warnings
import xml.etree.ElementTree as ElementTree
from typing import TYPE_CHECKING

from markupsafe import Markup

from trustml.report.charts.canvas import one_line
from trustml.report.charts.looks import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_VARIABLES = {colour: f"var(--{name})" for name, colour in COLOURS.items()}
_DROPPED = ("font", "font-family", "font-size", "stroke-miterlimit", "-inkscape-font-specification")
_HREF = "{http://www.w3.org/1999/xlink}href"


def to_svg(figure: "Figure", title: str) -> Markup:
    """A figure as one element of HTML, as wide as its box; the same figure gives the same text.

    >>> from trustml.report.charts import Axis, Series, line_chart
    >>> loss = Series("loss", [(1, 2.0), (2, 1.0)], "private")
    >>> figure = line_chart([loss], Axis("Step"), Axis("Loss"))
    >>> to_svg(figure, "Loss over steps")[:37]
    Markup('<svg class="plot" viewBox="0 0 345.6 ')

    Args:
      figure: Its colours are those of `charts.COLOURS`.
      title: For who cannot see it.
    """
    root = ElementTree.fromstring(_drawn(figure))
    ids = {part.get("id"): part for part in root.iter() if part.get("id")}
    for part in list(root.iter()):
        _expand_marks(part, ids)
    for part in root.iter():
        part.tag = part.tag.rpartition("}")[2]
        _plain_attributes(part)
    name, box = ElementTree.Element("title"), root.get("viewBox", "")
    name.text = one_line(title)
    root.attrib = {"class": "plot", "viewBox": box, "role": "img", "aria-label": name.text}
    root.insert(0, name)
    return Markup(re.sub(r">\s+<", "><", ElementTree.tostring(root, encoding="unicode")))


def _drawn(figure: "Figure") -> str:
    import matplotlib

    for artist in figure.findobj():
        artist.set_clip_on(False)  # nothing is drawn outside, and clip paths need names
    drawn = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none"}), warnings.catch_warnings():
        # Widths are estimated by matplotlib's font; the reader's browser has the glyphs.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None})
    return drawn.getvalue()


def _expand_marks(part: ElementTree.Element, ids: dict[str | None, ElementTree.Element]) -> None:
    """Draws each mark in place of its reference, whose name would have to be unique in the page."""
    for index, child in reversed(list(enumerate(part))):
        if child.tag.endswith("}use"):
            mark = ids[child.get(_HREF, "").removeprefix("#")]
            at = f"translate({child.get('x')} {child.get('y')})"
            shape = {"d": mark.get("d", ""), "transform": at, "style": child.get("style", "")}
            part[index] = ElementTree.Element(mark.tag, shape)
        elif child.tag.endswith(("}defs", "}metadata")):
            part.remove(child)


def _plain_attributes(part: ElementTree.Element) -> None:
    """Styles as attributes, which the page's style sheet overrules, with its colours by name."""
    for key in ("id", "clip-path", "{http://www.w3.org/XML/1998/namespace}space"):
        part.attrib.pop(key, None)
    for rule in part.attrib.pop("style", "").split(";"):
        name, _, value = (piece.strip() for piece in rule.partition(":"))
        if name and name not in _DROPPED:
            part.set(name, _VARIABLES.get(value, value))
    if part.get("transform", "").startswith("rotate(-0 "):
        del part.attrib["transform"]
