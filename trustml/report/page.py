"""The trust report as one page of HTML that needs nothing else: no script, font, image or network.

The templates escape every text. The page's own policy forbids scripts and loading besides.
"""

import functools
import importlib.resources
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trustml.report.charts import to_svg
from trustml.report.digits import claim_text
from trustml.report.document import Report
from trustml.report.overview import HANDLE, Box, boxes_of, facts, key_figures
from trustml.report.sections import sections_of
from trustml.report.sections.section import Block, absence
from trustml.report.side_by_side import run_table, shared_budget, trade_offs

if TYPE_CHECKING:
    from jinja2 import Environment


def render(reports: Sequence[Report], composed: float | None = None) -> str:
    """One page about one run, or about several side by side.

    >>> render([])
    Traceback (most recent call last):
    ...
    ValueError: `reports` must hold at least one report, got none.

    Args:
      reports: Such as `read_report` gives.
      composed: Epsilon of all runs on these data together, from the accountant; without it
        several runs that share their data are added up, which is a looser bound.

    Returns:
      HTML, whole. Private: it shows what the reports hold.

    Raises:
      ValueError: There is no report.
    """
    if not reports:
        raise ValueError("`reports` must hold at least one report, got none.")
    if len(reports) == 1:
        boxes = boxes_of(reports[0])
        if composed is not None:
            boxes.append(
                Box("warning", f"All runs on these data together: {claim_text(composed)}.")
            )
        return _page("run.html", report=reports[0], boxes=boxes)
    boxes = [*boxes_of(reports[0])[:1], *shared_budget(reports, composed)]
    return _page(
        "runs.html",
        reports=reports,
        boxes=boxes,
        trade_offs=trade_offs(reports),
        table=run_table(reports),
    )


def render_blocks(
    title: str,
    boxes: Sequence[Box],
    lead: Sequence[str],
    sections: Sequence[tuple[str, Sequence[Block]]],
) -> str:
    """A page of titled blocks, for what is no report of a run.

    Args:
      title: Of the page.
      boxes: What must be read first.
      lead: Sentences above all sections.
      sections: A title and its blocks each.
    """
    return _page("sections.html", title=title, boxes=boxes, lead=lead, sections=sections)


def _page(template: str, **content: Any) -> str:
    return _environment().get_template(template).render(**content)


@functools.cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("trustml.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    style = importlib.resources.files("trustml.report").joinpath("style.css").read_text("utf-8")
    made.globals.update(
        style=style,
        handle=HANDLE,
        sections_of=sections_of,
        absence=absence,
        boxes_of=boxes_of,
        facts=facts,
        key_figures=key_figures,
        claim_text=claim_text,
        svg=to_svg,
    )
    return made
