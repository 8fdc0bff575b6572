"""A study of theory against practice: trains a grid, attacks and audits every cell, compares."""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trustml.recipes.study.findings import document_of
from trustml.recipes.study.folder import MAY_CHANGE, is_started, open_study, write_study
from trustml.recipes.study.grid import Cell, Study, StudyConfig, config_of
from trustml.report import write_json, write_text

FILE = "study.json"


def audit_study(config: StudyConfig, out: Path, *, quiet: bool = False) -> dict[str, Any]:
    """Trains every cell of a grid that has not ended, and compares claims with what attacks find.

    Each cell is an ordinary run with an audit in a folder of its own. The same call goes on with a
    study that was interrupted: cells that have ended are read, an interrupted one is resumed.

    Args:
      config: The grid, and what all cells share.
      out: Folder of the study, new or to go on with; study.json and study.html are written there.
      quiet: Whether to show no progress.

    Returns:
      What study.json holds. Private quantities.

    Raises:
      ValueError: A setting is bad or differs from the study's, or no cell can be planned.
      FileExistsError: `out` holds something else.
    """
    study = open_study(config, out)
    changes = {name: value for name, value in config.shared.items() if name in MAY_CHANGE}
    try:
        document = _Trainings(study, out, changes, quiet).carry_out()
    except KeyboardInterrupt:
        way = f"go on with: trustml audit study --out {shlex.quote(str(out))}"
        raise KeyboardInterrupt(way) from None
    _write(out, document)
    return document


class _Skipped(Exception):
    """A cell cannot be planned."""


class _Trainings:
    """The trainings of a study, one after the other."""

    def __init__(self, study: Study, out: Path, changes: Mapping[str, Any], quiet: bool):
        self.study, self.out, self.changes, self.quiet = study, out, dict(changes), quiet

    def carry_out(self) -> dict[str, Any]:
        """Trains what is left; returns what all cells found."""
        cells = self.study.cells()
        self._check(cells)
        write_study(self.study, self.out)
        reports: dict[Cell, Any] = {}
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
        return document_of(self.study, self.out, reports, skipped)

    def _check(self, cells: list[Cell]) -> None:
        """Refuses data, models and settings that no cell can use, before anything is trained."""
        from trustml.recipes.train.experiment import make_setting

        for model in self.study.models:
            new = [one for one in cells if one.model == model and not is_started(self.out, one)]
            if new:
                baseline = self.study.shared.get("baseline", True)
                make_setting(config_of(self.study, new[0], baseline=baseline), quiet=True)

    def _report(self, cell: Cell) -> Any:
        """A cell's report: read, or after its training.

        Raises:
          _Skipped: It cannot be planned.
        """
        from trustml.recipes.train.run import Output, new_run, resumed_run
        from trustml.report import read_report
        from trustml.report.folder import REPORT

        folder, output = self.out / cell.name, Output(self.quiet)
        if (folder / REPORT).exists():
            return read_report(folder)
        if is_started(self.out, cell):
            return resumed_run(folder, self.changes, output)[0]
        baseline = self._has_baseline(cell)
        config = config_of(self.study, cell, baseline=baseline)
        written = self.study.settings_of(cell, baseline=baseline)
        try:
            return new_run(config, written, f"cell {cell.name} of a study", folder, output)[0]
        except (ValueError, NotImplementedError) as error:
            if folder.exists():  # it was planned: this is another error
                raise
            raise _Skipped(" ".join(str(error).split())) from error

    def _has_baseline(self, cell: Cell) -> bool:
        """One training without privacy for each model: its first cell to be trained has it."""
        others = [one for one in self.study.cells() if one.model == cell.model]
        first = not any(is_started(self.out, one) for one in others)
        return first and self.study.shared.get("baseline", True)


def _write(out: Path, document: dict[str, Any]) -> None:
    from trustml.recipes.study import page

    write_json(out / FILE, document, mode=0o600)
    write_text(out / page.FILE, page.page(document), mode=0o600)
