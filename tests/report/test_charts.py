"""Charts: any data, any text, the same each time, in the colours of the style sheet."""

import importlib.resources
import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest

from trustml.report.charts import (
    COLOURS,
    Axis,
    Row,
    Series,
    bar_chart,
    dot_chart,
    line_chart,
    to_svg,
)
from trustml.report.measured import Estimate


@pytest.mark.parametrize(
    "values",
    [
        [],
        [1.0],
        [None, math.nan, math.inf],
        [0.0, 0.0, 0.0],
        [1e-320, 2e-320],
        [1e99, -1e99],
        [1e300, 1.0],
        [10**400, 1.0],
        [1e15, 1e15 + 1],
        [5.0, None, 7.0],
    ],
)
@pytest.mark.parametrize("log", [False, True])
def test_odd_data_do_not_break_a_plot(values, log):
    points = list(enumerate(values))
    series = [Series("odd", points, "private", [(v, v) for v in values])]
    rows = [Row("odd", "", [("odd", Estimate(v, v, v, ""), "private")]) for v in values]
    figures = [
        line_chart(series, Axis("x", log=log), Axis("y", log=log)),
        line_chart([series[0]._replace(marks=True)], Axis("x", log=log), Axis("y", log=log)),
        dot_chart(rows, Axis("x", log=log)),
    ]
    expected = any(v is not None and abs(v) < 1e100 for v in values)
    for figure in figures:
        assert (figure is not None) == expected
        if figure is not None:
            svg = ElementTree.fromstring(to_svg(figure, "odd"))
            assert not re.search(r"\b(nan|inf)\b", ElementTree.tostring(svg, encoding="unicode"))


def test_a_part_that_cannot_be_drawn_is_left_out():
    parts = [("huge", 1e308, "part-1"), ("as huge", 1e308, "part-2"), ("rest", 2.0, "part-rest")]
    figure = bar_chart([Row("step", "", parts)], Axis("Milliseconds"))
    assert [float(bar.get_width()) for bar in figure.axes[0].patches] == [2.0]


def test_ticks_are_round_and_long_series_are_thinned():
    points = [(step, math.sin(step)) for step in range(100_000)]
    figure = line_chart([Series("a", points, "private")], Axis("Step", low=0.0), Axis("Loss"))
    drawn = to_svg(figure, "long")
    assert len(drawn) < 100_000
    ticks = [text.text for text in ElementTree.fromstring(drawn).iter("text")]
    assert {"0", "50k", "100k", "-1", "-0.5", "0.5", "1"} <= set(ticks)


def test_a_curve_keeps_the_corners_that_a_logarithmic_axis_shows():
    rates = [index / 2000 for index in range(2001)]
    curve = [(rate, rate if index % 2 else max(rate - 1e-3, 0)) for index, rate in enumerate(rates)]
    axis = Axis("Rate", log=True, low=1e-3, high=1.0)
    (line,) = line_chart([Series("a", curve, "private")], axis, axis).axes[0].lines
    assert set(rates[2:60]) <= {*line.get_xdata()}  # further than a pixel apart
    assert len(line.get_xdata()) < 1000


@pytest.mark.parametrize(
    "text", ["$x_{", "back\\slash $a$", "a\nb\x00c", "\u4e2d\u6587", "_under", "<b>&'\""]
)
def test_any_text_is_drawn_as_it_is(text):
    estimate = Estimate(0.5, 0.4, 0.6, "Wilson, 95 %")
    parts = [("private", estimate, "private"), ("baseline", None, "baseline")]
    dots = dot_chart([Row(text[:20], "n = 1", parts)], Axis("Share"))
    lines = line_chart([Series("", [(1, 1)], "private")], Axis("Step"), Axis(text))
    labelled = line_chart([Series("", [(1, 1)], "private")], Axis(text), Axis("Loss"))
    shown = "".join(one if one.isprintable() else " " for one in text[:20])
    for figure in (dots, lines, labelled):
        svg = ElementTree.fromstring(to_svg(figure, text))
        assert shown in [one.text for one in svg.iter("text")]


def test_a_figure_is_the_same_each_time_and_free_of_names(parse):
    def draw():
        bars = [Row("private step", "9 ms", [("noise", 4.0, "part-2"), ("rest", 5.0, "part-rest")])]
        dots = [Row("F1", "", [("private", Estimate(0.5, 0.4, 0.6, ""), "private")])]
        return "".join(
            to_svg(figure, "figure")
            for figure in (bar_chart(bars, Axis("Milliseconds")), dot_chart(dots, Axis("F1")))
        )

    drawn = draw()
    assert drawn == draw()
    tags = parse(drawn).tags
    assert {tag for tag, _ in tags} == {"svg", "title", "g", "path", "text"}
    keys = {key for _, attributes in tags for key in attributes}
    assert not keys & {"id", "style", "width", "height", "clip-path", "href"}
    # Every colour is one of the style sheet's, which knows light and dark.
    colours = set(re.findall(r'(?:fill|stroke)="(.*?)"', drawn)) - {"none"}
    names = ("rule", "soft", "ink", "paper", "private", "part-2", "part-rest", "on-part")
    assert colours == {f"var(--{name})" for name in names}
    style = importlib.resources.files("trustml.report").joinpath("style.css").read_text()
    light, dark = (set(re.findall("--([a-z0-9-]+):", part)) for part in style.split("@media")[:2])
    assert set(COLOURS) <= light
    assert set(COLOURS) <= dark


def test_a_figure_can_be_shown_by_itself_and_leaves_no_state():
    code = """if True:
        import sys, trustml.cli.main
        from trustml.report.charts import Axis, Series, line_chart, to_svg
        assert not {"matplotlib", "jinja2"} & set(sys.modules)  # who draws nothing waits for none
        import matplotlib
        settings = "font.size", "text.parse_math", "svg.fonttype"
        before = [matplotlib.rcParams[name] for name in settings]
        figure = line_chart([Series("a", [(1, 2), (2, 3)], "private")], Axis("Step"), Axis("Loss"))
        to_svg(figure, "loss")
        assert figure.axes[0].get_xlabel() == "Step"
        assert [matplotlib.rcParams[name] for name in settings] == before
        assert "matplotlib.pyplot" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", code], check=True)
