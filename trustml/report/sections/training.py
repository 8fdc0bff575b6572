"""How the training went: the time of a step, the clipping, the losses."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from trustml.report.charts import Axis, Point, Row, Series, bar_chart, line_chart
from trustml.report.digits import is_number
from trustml.report.document import Report
from trustml.report.measured import ArmLearning, Arms, ArmTiming, Clipping, Timing
from trustml.report.sections.section import (
    Block,
    Chart,
    Section,
    Table,
    drawn,
    has_plan,
    is_central,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STEPS = Axis("Step", low=0.0)
_PRIVATE = "Private: computed on the rows without noise."
_LOOKS = {"noise": "part-2", "optimizer": "part-3", "rest": "part-rest"}


def timing_chart(timing: Timing) -> "Figure | None":
    """The parts of each model's step, in milliseconds.

    Args:
      timing: Of a report.

    Returns:
      A figure; None where no step took time.
    """
    rows = []
    for name, arm in timing.arms:
        drawn_parts = [
            ("gradient" if "gradient" in part else part, ms, _look(part))
            for part, ms in _parts(arm).items()
        ]
        rows.append(Row(f"{name} step", f"{arm.step_ms:.3g} ms", drawn_parts))
    return bar_chart(rows, Axis("Milliseconds per step"))


def _look(part: str) -> str:
    return _LOOKS.get(part, "part-1" if "gradient" in part else "part-4")


def _parts(arm: ArmTiming) -> dict[str, float]:
    # Parts are timed by themselves, so together they may take longer than the step.
    return {**arm.parts_ms, "rest": max(0.0, arm.step_ms - sum(arm.parts_ms.values()))}


def _timing(report: Report) -> list[Block]:
    timing, rows = report.timing, []
    if timing is None:
        return []
    for name, arm in timing.arms:
        whole, step = arm.step_ms, f"{name} step"
        rows += [
            (step, part, f"{ms:.3g}", f"{ms / whole:.0%}" if whole else "")
            for part, ms in _parts(arm).items()
        ]
        rows.append((step, "whole", f"{whole:.3g}", ""))
    chart = Chart("Time of a training step, by part", timing_chart(timing), _ratio(timing))
    return [Block(charts=drawn([chart]), table=Table(("", "Part", "ms", "Share"), rows))]


def _ratio(timing: Timing) -> str:
    private, baseline = timing.arms.private, timing.arms.baseline
    text = f"Steps of {timing.batch:,.0f} rows. " if timing.batch else ""
    if baseline and baseline.step_ms and private.step_ms:
        ratio = private.step_ms / baseline.step_ms
        text += f"A private step takes {ratio:.2f} times a baseline step."
    return text


def clipped_share_chart(clipping: Clipping) -> "Figure | None":
    """The share of units whose gradient was clipped, over the steps.

    Args:
      clipping: Of a report.

    Returns:
      A figure; None where nothing was noted.
    """
    share = list(zip(clipping.steps, clipping.clipped_share, strict=False))
    axis = Axis("Share of units that were clipped", low=0.0, high=1.0, percent=True)
    return line_chart([Series("clipped", share, "private")], _STEPS, axis)


def norm_chart(clipping: Clipping) -> "Figure | None":
    """The mean norm of the gradients and the bound, over the steps.

    >>> figure = norm_chart(Clipping(1.0, (1, 2), (0.9, 0.8), (3.0, 2.0)))
    >>> figure.axes[0].get_title(loc="left")
    'Mean gradient norm'

    Args:
      clipping: Of a report.

    Returns:
      A figure; None where nothing was noted.
    """
    steps, bound = clipping.steps, clipping.clip_norm
    norms = list(zip(steps, clipping.mean_norm, strict=False))
    series = [Series("mean norm", norms, "private")]
    if steps and is_number(bound):
        ends = [(steps[0], bound), (steps[-1], bound)]
        series.append(Series(f"clipping norm {bound:g}", ends, "budget"))
    return line_chart(series, _STEPS, Axis("Mean gradient norm", low=0.0))


def _clipping(report: Report) -> list[Block]:
    clipping = report.clipping
    if clipping is None:
        return []
    charts = drawn(
        [
            Chart("Share of clipped units", clipped_share_chart(clipping)),
            Chart("Mean gradient norm", norm_chart(clipping)),
        ]
    )
    text = f"{_PRIVATE} Units left out as not finite: {clipping.dropped:,}."
    return [Block(text=[text], charts=charts)] if charts else []


def loss_chart(learning: Arms[ArmLearning]) -> "Figure | None":
    """The losses of both trainings, over the steps.

    Args:
      learning: Of a report.

    Returns:
      A figure; None where no loss was noted.
    """
    return _curves(learning, _losses, Axis("Loss"))


def score_chart(learning: Arms[ArmLearning], score: str) -> "Figure | None":
    """One score of the evaluations along the way, of both trainings.

    Args:
      learning: Of a report.
      score: Its name in the evaluations.

    Returns:
      A figure; None where it was never computed.
    """
    axis = Axis(score.replace("_", " "))
    return _curves(learning, lambda arm: _scores(arm, score), axis)


def _curves(
    learning: Arms[ArmLearning], points_of: Callable[[ArmLearning], Sequence[Point]], axis: Axis
) -> "Figure | None":
    series = [Series(name, points_of(arm), name) for name, arm in learning]
    return line_chart([one for one in series if one.points], _STEPS, axis)


def _losses(arm: ArmLearning) -> list[Point]:
    return list(zip(arm.steps, arm.loss, strict=False))


def _scores(arm: ArmLearning, score: str) -> list[Point]:
    pairs = [(entry.get("step"), entry.get(score)) for entry in arm.evaluations]
    return [pair for pair in pairs if all(map(is_number, pair))]


def _learning(report: Report) -> list[Block]:
    learning = report.learning
    if learning is None:
        return []
    entries = [entry for _, arm in learning for entry in arm.evaluations]
    scores = dict.fromkeys(key for entry in entries for key in entry if key != "step")
    charts = [Chart("Loss over steps", loss_chart(learning))]
    charts += [
        Chart(f"{score.replace('_', ' ')} over steps", score_chart(learning, score))
        for score in scores
    ]
    return [Block(text=[_PRIVATE], charts=drawn(charts))] if drawn(charts) else []


SECTIONS = (
    Section(
        "timing",
        "Where the time went",
        "the time of a step and its parts",
        _timing,
        applies=is_central,
    ),
    Section("clipping", "Clipping", "the norms of the gradients", _clipping, applies=has_plan),
    Section(
        "learning",
        "Learning curves",
        "the losses over the steps",
        _learning,
        applies=is_central,
    ),
)
