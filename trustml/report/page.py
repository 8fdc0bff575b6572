"""The trust report as one page of HTML that needs nothing else: no script, font, image or network.

What comes from a report is escaped where it enters a tag: in `markup` and in the plots.
The page's own policy forbids scripts and loading besides.
"""

import importlib.resources
from collections.abc import Sequence
from html import escape
from typing import Any

from trustml.report.one_run import HANDLE, one_run
from trustml.report.schema import check
from trustml.report.several_runs import several_runs

# Even where a hostile name got past the escaping, nothing would run and nothing would load.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def render(reports: Sequence[dict[str, Any]], composed: float | None = None) -> str:
    """One page about one run, or about several side by side.

    Args:
      reports: Documents of `schema.json`, such as a run's `report.json`.
      composed: Epsilon of all runs on these data together, from the accountant; without it
        several runs that share their data are added up, which is a looser bound.

    Returns:
      HTML, whole. Private: it shows what the reports hold.

    Raises:
      ValueError: There is no report, or one is not a document of the schema.
    """
    if not reports:
        raise ValueError("`reports` must hold at least one report, got none.")
    for report in reports:
        check(report)
    if len(reports) == 1:
        title, body = reports[0]["run"]["name"], one_run(reports[0], composed)
    else:
        title, body = f"{len(reports)} runs", several_runs(reports, composed)
    return frame(f"Trust report: {title}", body)


def frame(title: str, body: str) -> str:
    """A page around `body`, which is HTML; `title` is text."""
    style = importlib.resources.files("trustml.report").joinpath("style.css").read_text("utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta name="robots" content="noindex">'
        f"<title>{escape(title)}</title><style>{style}</style></head>"
        f"<body><main>{body}</main><footer>Written by trustml. {HANDLE}</footer></body></html>\n"
    )
