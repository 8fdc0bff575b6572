"""The trust report of one run or of several: one page, readable by officer and engineer."""

from collections.abc import Sequence

from trustml.cli import flags
from trustml.cli.options import Output, show_json
from trustml.recipes.reports import ReportConfig, write_report
from trustml.recipes.settings import knob, settings
from trustml.report import make_schema

_ABOUT = """\
Writes the trust report of a run as one self-contained HTML page: the promise in plain words,
claimed and audited epsilon, utility against the baseline, the membership attack, figures by group,
where the time went. The page of an unfinished run shows what is known so far. Several runs
give a privacy-utility curve and what they cost together.

The report is a private quantity: it was computed on people's rows.

examples:
  trustml report runs/snips-1
  trustml report runs/snips-1 runs/snips-3 runs/snips-8 --out compared.html
  trustml report --schema"""


@settings
class _Call(Output):
    """What one call prints."""

    schema: bool = knob(False, "print the JSON Schema of a report, and write no page", "output")


def run(arguments: Sequence[str]) -> int:
    """Writes the page, or prints the schema."""
    given, options = flags.parse(
        [ReportConfig, _Call], arguments, prog="trustml report", about=_ABOUT
    )
    call = _Call.from_dict(options, "the flags")
    if call.schema:
        show_json(make_schema())
        return 0
    reported = write_report(ReportConfig.from_dict(given, "the flags"))
    if call.json:
        show_json(reported.to_dict())
    else:
        print(f"Written to {reported.page} (private quantities).")
    return 0
