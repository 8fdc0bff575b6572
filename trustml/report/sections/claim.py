"""The claimed epsilon over the steps."""

from typing import TYPE_CHECKING

from trustml.formatting import round_up
from trustml.report import words
from trustml.report.charts import Axis, Point, Series, line_chart
from trustml.report.digits import claim_text, is_number
from trustml.report.document import Report
from trustml.report.sections.section import Block, Chart, Section, Table, drawn, has_plan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NO_CLAIM = "There is no curve to show: epsilon is infinite, so nothing is claimed."


def epsilon_over_steps(report: Report) -> "Figure | None":
    """The claim over the planned steps: those charged, and those ahead.

    Args:
      report: Of a run, finished or not.

    Returns:
      A figure; None where nothing finite is claimed.
    """
    curve = _curve(report)
    if not curve or report.privacy.epsilon is None:
        return None
    return line_chart(
        _series(report, curve), Axis("Step", low=0.0), Axis("Epsilon, at most", low=0.0)
    )


def _build(report: Report) -> list[Block]:
    curve, privacy = _curve(report), report.privacy
    if privacy.epsilon is None:
        return [Block(text=[_NO_CLAIM])]
    charts = drawn([Chart("Claimed epsilon over the steps", epsilon_over_steps(report), "")])
    if not charts:
        return []
    caption = (
        f"{words.progress(report)} It is {claim_text(privacy.epsilon)}, at delta {privacy.delta}. "
        "Early steps cost most."
    )
    rows = [(f"{step:,}", round_up(epsilon)) for step, epsilon in curve]
    return [
        Block(charts=[charts[0]._replace(caption=caption)]),
        Block(folded="The same in numbers", table=Table(("Steps", "Epsilon, at most"), rows)),
    ]


def _curve(report: Report) -> list[Point]:
    return [pair for pair in report.privacy.epsilon_by_steps if is_number(pair[1])]


def _series(report: Report, curve: list[Point]) -> list[Series]:
    charged, budget = report.privacy.steps_charged, report.privacy.budget_epsilon
    done = [point for point in curve if point[0] <= charged]
    if report.status == "unfinished" and (not done or charged > done[-1][0]):
        done.append((charged, report.privacy.epsilon))
    series = [Series("charged so far", done, "private")]
    ahead = [*done[-1:], *(point for point in curve if point[0] > charged)]
    if ahead[1:] or not done:
        series.append(Series("planned, not charged", ahead, "planned"))
    if budget is not None:
        series.append(Series("budget", [(0.0, budget), (curve[-1][0], budget)], "budget"))
    return [*series, Series("last step charged", done[-1:], "private", marks=True)]


SECTIONS = (
    Section(
        "claim",
        "Claimed epsilon over the steps",
        "the curve of epsilon over the steps",
        _build,
        applies=has_plan,
    ),
)
