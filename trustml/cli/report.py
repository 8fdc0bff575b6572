"""The trust report of one run or of several: one page, readable by officer and engineer."""

import argparse
from pathlib import Path

from trustml.cli.options import add_output, number, show_json

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
    parser.add_argument("--delta", type=number, help="for runs that do not hold theirs")
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema of a report")
    add_output(parser)


def run(chosen: argparse.Namespace) -> int:
    """Writes the page, or prints the schema."""
    from trustml.recipes.reports import ReportConfig, report
    from trustml.report import load_schema

    if chosen.schema:
        show_json(load_schema())
        return 0
    reported = report(ReportConfig(runs=chosen.runs, out=chosen.out, delta=chosen.delta))
    if chosen.json:
        show_json(reported.to_dict())
    else:
        print(f"Written to {reported.page} (private quantities).")
    return 0
