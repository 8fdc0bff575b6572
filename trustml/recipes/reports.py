"""The trust report of one run or of several, as one page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from trustml.recipes.composition import compose
from trustml.recipes.settings import Settings, knob, settings
from trustml.report import Report, read_report, render, to_json, write_text
from trustml.training.runs.folder import RunFolder

_SEVERAL = Path("trust-report.html")


@settings
class ReportConfig(Settings):
    """Runs to report on, and where the page goes."""

    runs: tuple[Path, ...] = knob((), "folders of runs", metavar="RUN", positional=True)
    out: Path | None = knob(
        None,
        "the page",
        shown="report.html in the run, or trust-report.html for several",
        metavar="FILE",
    )
    delta: float | None = knob(None, "delta of runs whose folder names none")


class Reported(NamedTuple):
    """A page that was written, and the reports it shows. Private quantities."""

    page: Path
    reports: tuple[Report, ...]
    epsilon: float | None  # of several runs together; None for one, or where it is not known

    def to_dict(self) -> Any:
        """The document that `trustml report --json` prints: a report, or a list of several."""
        documents = [to_json(report) for report in self.reports]
        return documents if len(documents) > 1 else documents[0]


def write_report(config: ReportConfig) -> Reported:
    """Reads runs, finished or not, and writes their page.

    >>> write_report(ReportConfig())
    Traceback (most recent call last):
    ...
    ValueError: `RUN` must name at least one folder of a run, got none.

    Args:
      config: The runs, and where the page goes.

    Raises:
      ValueError: A folder holds no run, its files are damaged, or `out` cannot be written.
    """
    if not config.runs:
        raise ValueError("`RUN` must name at least one folder of a run, got none.")
    reports = tuple(read_report(folder, delta=config.delta) for folder in config.runs)
    several = len(reports) > 1
    together = _epsilon_together(config.runs, reports) if several else None
    page = config.out or (_SEVERAL if several else RunFolder(config.runs[0]).page)
    if page.is_dir() or not page.parent.is_dir():
        raise ValueError(f"`--out` must be a file in a folder that exists, got {page}.")
    write_text(page, render(reports, together))
    return Reported(page, reports, together)


def _epsilon_together(runs: Sequence[Path], reports: Sequence[Report]) -> float | None:
    """What all runs cost together, if they are on one data set."""
    if len({report.data.fingerprint for report in reports}) > 1:
        return None
    delta = max(report.privacy.delta for report in reports)
    try:
        return compose(runs, delta)[0].epsilon
    except ValueError:  # a ledger is missing, or plans that no accountant joins
        return None
