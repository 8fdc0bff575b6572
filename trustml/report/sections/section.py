"""Sections of a page, and the blocks that most are made of."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from trustml.report.document import Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Chart(NamedTuple):
    """A figure, its title for who cannot see it, and its caption."""

    title: str
    figure: "Figure | None"  # None: nothing to draw
    caption: str = ""


class Table(NamedTuple):
    """A head and its rows; the first cell names its row."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


class Block(NamedTuple):
    """A part of a section: a heading, sentences, charts and a table, each if there is one."""

    heading: str = ""
    text: Sequence[str] = ()
    listed: bool = False  # the text as bullets
    charts: Sequence[Chart] = ()
    table: Table | None = None
    folded: str = ""  # shown on demand, under this title


class Section(NamedTuple):
    """One section of the page.

    Attributes:
      anchor: Its name in links.
      title: Its heading.
      subject: What is missing where there is nothing to show, as in "Not there: the ledger".
      build: From the report to the content of the template; empty where nothing is there.
      template: A file of `templates/`; the default shows blocks.
      applies: Whether the section is for reports of this kind at all.
    """

    anchor: str
    title: str
    subject: str
    build: Callable[[Report], Any]
    template: str = "blocks.html"
    applies: Callable[[Report], bool] = lambda report: True


def is_central(report: Report) -> bool:
    """Whether a run is no federated one, whose figures stand in a section of their own."""
    return report.federated is None


def has_plan(report: Report) -> bool:
    """Whether anything is promised, or could have been."""
    return report.plan is not None


def drawn(charts: Iterable[Chart]) -> list[Chart]:
    """The charts that have something to show."""
    return [chart for chart in charts if chart.figure is not None]


def absence(report: Report, subject: str) -> str:
    """Why there is nothing to show of a subject."""
    if report.status == "unfinished":
        return f"Not there yet: {subject}. The run has not finished."
    if report.status == "stopped early":
        return f"Not there: {subject}. The run was stopped before it was measured."
    return f"Not there: {subject}. This run was not asked to measure it."
