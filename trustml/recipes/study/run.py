"""A study of theory against practice: trains a grid, attacks and audits every cell, compares."""

import shlex
import sys
from pathlib import Path
from typing import Any, NamedTuple

from trustml.formatting import one_line
from trustml.recipes.study import page
from trustml.recipes.study.findings import compare
from trustml.recipes.study.folder import MAY_CHANGE, is_started, open_study, write_study
from trustml.recipes.study.grid import Cell, Study, StudyConfig, config_of
from trustml.recipes.study.results import StudyResult
from trustml.recipes.train import resolve
from trustml.recipes.train import run as training
from trustml.report import Report, read_report, write_json, write_text
from trustml.training.runs.folder import RunFolder

FILE = "study.json"


def audit_study(config: StudyConfig, out: Path, *, quiet: bool = False) -> StudyResult:
    """Trains every cell of a grid that has not ended, and compares claims with what attacks find.

    Each cell is an ordinary run with an audit in a folder of its own. The same call goes on with a
    study that was interrupted: cells that have ended are read, an interrupted one is resumed.

    >>> audit_study(StudyConfig(shared={"audit_rows": 0}), Path("a-new-folder"))
    Traceback (most recent call last):
    ...
    ValueError: `--audit-rows` must be at least 1, got 0: a study attacks every cell.

    Args:
      config: The grid, and what all cells share.
      out: Folder of the study, new or to go on with; study.json and study.html are written there.
      quiet: Whether to show no progress.

    Raises:
      ValueError: A setting is bad or differs from the study's, or no cell can be planned.
      FileExistsError: `out` holds something else.
    """
    study = open_study(config, out)
    changes = {name: value for name, value in config.shared.items() if name in MAY_CHANGE}
    try:
        result = _Trainings(study, out, changes, quiet).carry_out()
    except KeyboardInterrupt:
        way = f"go on with: trustml audit study --out {shlex.quote(str(out))}"
        raise KeyboardInterrupt(way) from None
    write_json(out / FILE, result.to_dict(), mode=0o600)
    write_text(out / page.FILE, page.page(result), mode=0o600)
    return result


class _Skipped(Exception):
    """A cell cannot be planned."""


class _Trainings(NamedTuple):
    """The trainings of a study, one after the other."""

    study: Study
    out: Path
    changes: dict[str, Any]  # settings that may differ from those an interrupted cell began with
    quiet: bool

    def carry_out(self) -> StudyResult:
        """Trains what is left, and compares all cells."""
        cells = self.study.cells()
        self._check(cells)
        write_study(self.study, self.out)
        reports: dict[Cell, Report] = {}
        skipped: dict[Cell, str] = {}
        for number, cell in enumerate(cells, 1):
            if not self.quiet:
                print(f"cell {number} of {len(cells)}: {cell.name}", file=sys.stderr)
            try:
                reports[cell] = self._report(cell)
            except _Skipped as why:
                skipped[cell] = str(why)
                print(f"skipped {cell.name}: {why}", file=sys.stderr)
        if not reports:
            raise ValueError(f"no cell can be planned; {cells[0].name}: {skipped[cells[0]]}")
        return compare(self.study, self.out, reports, skipped)

    def _check(self, cells: list[Cell]) -> None:
        """Refuses data, models and settings that no cell can use, before anything is trained."""
        for model in self.study.models:
            new = [one for one in cells if one.model == model and not is_started(self.out, one)]
            if new:
                baseline = self.study.shared.get("baseline", True)
                resolve.check(config_of(self.study, new[0], baseline=baseline))

    def _report(self, cell: Cell) -> Report:
        """A cell's report: read, or after its training.

        Raises:
          _Skipped: It cannot be planned.
        """
        folder = self.out / cell.name
        if RunFolder(folder).report.exists():
            return read_report(folder)
        if is_started(self.out, cell):
            return training.resume(folder, self.changes, quiet=self.quiet).report
        baseline = self._has_baseline(cell)
        config = config_of(self.study, cell, baseline=baseline)
        written = self.study.settings_of(cell, baseline=baseline)
        command = f"cell {cell.name} of a study"
        try:
            return training.run(
                config, folder, written=written, command=command, quiet=self.quiet
            ).report
        except (ValueError, NotImplementedError) as error:
            if folder.exists():  # it was planned: this is another error
                raise
            raise _Skipped(one_line(error)) from error

    def _has_baseline(self, cell: Cell) -> bool:
        """One training without privacy for each model: its first cell to be trained has it."""
        others = [one for one in self.study.cells() if one.model == cell.model]
        first = not any(is_started(self.out, one) for one in others)
        return first and self.study.shared.get("baseline", True)
