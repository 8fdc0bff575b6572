"""The trust report of one run or of several: one page, readable by officer and engineer."""

import argparse
from pathlib import Path

from trustml.cli.options import add_output, number, show_json
from trustml.recipes.composition import compose

DESCRIPTION = """\
Writes the trust report of a run as one self-contained HTML page: the promise in plain words,
claimed and audited epsilon, utility against the baseline, the membership attack, figures by group,
where the time went. A run that has not ended shows what there is. Several runs give a
privacy-utility curve and what they cost together.

The report is a private quantity: it was computed on people's rows."""

EXAMPLES = """\
examples:
  trustml report runs/snips-1
  trustml report runs/snips-1 runs/snips-3 runs/snips-8 --out compared.html
  trustml report --schema"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `trustml report`."""
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="folders of runs")
    parser.add_argument(
        "--out",
        type=Path,
        help="the page; default: report.html in the run, or trust-report.html for several",
    )
    parser.add_argument("--delta", type=number, help="for runs that do not say theirs")
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema of a report")
    add_output(parser)


def run(chosen: argparse.Namespace) -> int:
    """Reads runs and writes the page."""
    from trustml.report import make_schema, read_report, render, to_json, write_text
    from trustml.training.runs.folder import RunFolder

    if chosen.schema:
        show_json(make_schema())
        return 0
    if not chosen.runs:
        raise ValueError("`RUN` must name at least one folder of a run, got none.")
    reports = [read_report(folder, delta=chosen.delta) for folder in chosen.runs]
    several = len(reports) > 1
    composed = _together(chosen.runs, reports) if several else None
    page = chosen.out or (Path("trust-report.html") if several else RunFolder(chosen.runs[0]).page)
    if page.is_dir() or not page.parent.is_dir():
        raise ValueError(f"`--out` must be a file in a folder that is there, got {page}.")
    write_text(page, render(reports, composed))
    if chosen.json:
        documents = [to_json(report) for report in reports]
        show_json(documents if several else documents[0])
    else:
        print(f"Written to {page} (private quantities).")
    return 0


def _together(runs, reports) -> float | None:
    """What runs on one data set cost together, where all are on one."""
    if len({report.data.fingerprint for report in reports}) > 1:
        return None
    delta = max(report.privacy.delta for report in reports)
    try:
        return compose(runs, delta)[0].epsilon
    except ValueError:  # a ledger is missing, or plans that no accountant joins
        return None
