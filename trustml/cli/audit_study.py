"""Theory against practice: a grid of private trainings, each attacked and audited."""

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from trustml.cli.options import add_output, count, show_json, show_table
from trustml.recipes.settings import fields_of, to_yaml
from trustml.recipes.study.grid import (
    MAY_CHANGE,
    MECHANISMS,
    SETTINGS,
    SHARED,
    Cell,
    Study,
    cells_of,
    config_of,
    settings_of,
    settled,
)
from trustml.recipes.train.config import TrainConfig
from trustml.training.runs.folder import RunFolder

FILE = "study.json"

DESCRIPTION = f"""\
Trains a grid of epsilons, mechanisms and models on the same data, each cell an ordinary
`trustml train --audit` in a folder of its own, and sets what is claimed against what attacks find:
utility, AUC, true positives at 1 % false alarms and audited epsilon, with rank correlations.

The mechanisms: {", ".join(MECHANISMS)}.
`exact` clips every unit as a whole; `edp-sgd` clips means of micro-batches by layer, with noise
that decays (Dupuy et al. 2022). Learning rates are the preset's, chosen for exact clipping.

Whatever ends a study, the same command goes on with it: cells that have ended are read, one that
was interrupted is resumed. More epsilons, mechanisms, models and seeds may be added; what is not
given is as before.

All cells are trained on the same data: publishing several adds their budgets. The study itself is
a private quantity."""

EXAMPLES = """\
examples:
  trustml audit study --out study
  trustml audit study --data snips --data-dir DATA --epsilons 0.5,1,3,8 --steps 60 --out study
  trustml audit study --mechanisms exact,edp-sgd,adaptive --seeds 3 --out study"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `trustml audit study`."""
    study = parser.add_argument_group("study")
    listed = "commas between; default:"
    study.add_argument("--epsilons", metavar="LIST", help=f"budgets, {listed} 0.5,1,3,8")
    words = f"as `--model` of `trustml train`, {listed} the preset's"
    study.add_argument("--models", metavar="LIST", help=words)
    study.add_argument("--mechanisms", metavar="LIST", help=f"{listed} exact,edp-sgd")
    words = "trainings of each cell that differ in randomness alone; default: 1"
    study.add_argument("--seeds", metavar="N", type=count, help=words)
    words = "folder of the study, new or to go on with"
    study.add_argument("--out", type=Path, metavar="FOLDER", required=True, help=words)
    study.add_argument("--quiet", action="store_true", help="no progress")
    add_output(study)
    shared = parser.add_argument_group("shared by all cells, as in `trustml train`")
    for field in fields_of(TrainConfig):
        if field.name in SHARED:
            how = (
                {"action": argparse.BooleanOptionalAction}
                if field.is_switch
                else {"type": field.parse}
            )
            shared.add_argument(field.flag, help=field.knob.help, default=argparse.SUPPRESS, **how)


def run(chosen: argparse.Namespace) -> int:
    """Trains what is left of the grid, compares and writes; refuted claims are an answer."""
    out = chosen.out
    # `audit` is a setting too, but here it holds the name of the sub-command.
    given = {name: value for name, value in vars(chosen).items() if name in SHARED}
    study = settled(chosen, given)
    changes = {name: given[name] for name in MAY_CHANGE if name in given}
    try:
        document = carried_out(study, out, changes, quiet=chosen.quiet)
    except KeyboardInterrupt:
        way = f"go on with: trustml audit study --out {shlex.quote(str(out))}"
        raise KeyboardInterrupt(way) from None
    _write(out, document)
    if chosen.json:
        show_json(document)
    else:
        show(document)
        print(f"\nIn {out}: study.html, {FILE} (private quantities), a folder for each cell.")
    return 0


def carried_out(study: Study, out: Path, changes: dict, *, quiet: bool) -> dict[str, Any]:
    """Trains every cell that has not ended, and returns what all found.

    Args:
      study: The grid.
      out: Its folder.
      changes: Settings that may differ from what an interrupted cell began with.
      quiet: Whether no progress is shown.

    Raises:
      ValueError: No cell can be planned, or the shared settings are bad.
    """
    from trustml.recipes.study.findings import document_of
    from trustml.report import write_text

    cells = cells_of(study)
    _check(study, out, cells)
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    head = "What a study shares, and its grid; `trustml audit study --out` goes on with it."
    write_text(out / SETTINGS, to_yaml({**settings_of(study), "whole": True}, head))
    reports: dict[Cell, Any] = {}
    skipped: dict[Cell, str] = {}
    for number, cell in enumerate(cells, 1):
        if not quiet:
            print(f"cell {number} of {len(cells)}: {cell.name}", file=sys.stderr)
        found = _one(study, out, cell, changes, quiet=quiet)
        if isinstance(found, str):
            skipped[cell] = found
            print(f"skipped {cell.name}: {found}", file=sys.stderr)
        else:
            reports[cell] = found
    if not reports:
        raise ValueError(f"no cell can be planned; {cells[0].name}: {skipped[cells[0]]}")
    return document_of(study, out, reports, skipped)


def _check(study: Study, out: Path, cells: list[Cell]) -> None:
    """Refuses data, models and settings that no cell can use, before anything is trained."""
    from trustml.recipes.train.resolve import resolve

    for model in study.models:
        new = [cell for cell in cells if cell.model == model and not _started(out, cell)]
        if new:
            config, _ = config_of(study, new[0], baseline=study.shared.get("baseline", True))
            resolve(config, quiet=True)


def _started(out: Path, cell: Cell) -> bool:
    return RunFolder(out / cell.name).resolved.exists()


def _one(study: Study, out: Path, cell: Cell, changes, *, quiet: bool) -> Any:
    """A cell's report, or why it cannot be planned."""
    from trustml.recipes.train.run import resume, run
    from trustml.report import read_report

    folder = out / cell.name
    if RunFolder(folder).report.exists():
        return read_report(folder)
    if _started(out, cell):
        return resume(folder, changes, quiet=quiet).report
    # One training without privacy for each model: its first cell to be trained has it.
    first = not any(_started(out, one) for one in cells_of(study) if one.model == cell.model)
    bare = first and study.shared.get("baseline", True)
    config, written = config_of(study, cell, baseline=bare)
    try:
        command = f"cell {cell.name} of a study"
        return run(config, folder, written=written, command=command, quiet=quiet).report
    except (ValueError, NotImplementedError) as error:
        if folder.exists():  # it was planned: this is another error
            raise
        return " ".join(str(error).split())


def _write(out: Path, document: dict[str, Any]) -> None:
    from trustml.recipes.study import page as study_page
    from trustml.report import write_json, write_text

    write_json(out / FILE, document, mode=0o600)
    write_text(out / study_page.FILE, study_page.page(document), mode=0o600)


def show(document: dict[str, Any]) -> None:
    """Prints the cells, the correlations and what must be known."""
    from trustml.recipes.study.page import CORRELATED, cell_head, cell_rows, correlation_rows

    title = (
        f"Theory against practice on {document['data']}: epsilon claimed, at most, and audited, "
        "at least; 95 % intervals. Private quantities:"
    )
    metrics = document["metrics"]
    show_table(title, cell_head(metrics), cell_rows(document))
    title = "Claimed epsilon and what was found, by rank"
    show_table(title, CORRELATED, correlation_rows(document["correlations"]))
    for text in document["dangers"]:
        print(f"DANGER: {text}")
    print(document["together"]["said"])
    for note in document["notes"]:
        print(f"Note: {note}")
