"""Charts of a report as matplotlib figures: notebooks show them, pages embed them as SVG."""

from trustml.report.charts.axes import Axis as Axis
from trustml.report.charts.axes import Point as Point
from trustml.report.charts.clients import label_chart as label_chart
from trustml.report.charts.clients import size_chart as size_chart
from trustml.report.charts.lines import Series as Series
from trustml.report.charts.lines import line_chart as line_chart
from trustml.report.charts.looks import COLOURS as COLOURS
from trustml.report.charts.rows import Row as Row
from trustml.report.charts.rows import bar_chart as bar_chart
from trustml.report.charts.rows import dot_chart as dot_chart
from trustml.report.charts.svg import to_svg as to_svg
