"""Theory against practice: a grid of private trainings, each attacked and audited."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from trustml.cli import flags
from trustml.cli.options import Output, show_json, show_table
from trustml.recipes.settings import REQUIRED, knob, settings
from trustml.recipes.study import tables
from trustml.recipes.study.grid import MECHANISMS, SharedSettings, StudyConfig
from trustml.recipes.study.page import FILE as PAGE
from trustml.recipes.study.results import StudyResult
from trustml.recipes.study.run import FILE, audit_study

_ABOUT = f"""\
Trains a grid of epsilons, mechanisms and models on the same data, each cell an ordinary
`trustml train --audit` in a folder of its own, and compares what is claimed with what attacks find:
utility, AUC, true positives at 1 % false alarms and audited epsilon, with rank correlations.

The mechanisms: {", ".join(MECHANISMS)}.
`exact` clips every unit as a whole; `edp-sgd` clips means of microbatches by layer, with noise
that decays (Dupuy et al. 2022). Learning rates are the preset's, chosen for exact clipping.

Whatever ends a study, the same command goes on with it: cells that have ended are read, one that
was interrupted is resumed. More epsilons, mechanisms, models and seeds may be added; what is not
given is as before.

All cells are trained on the same data: publishing several adds their budgets. The study itself is
a private quantity.

examples:
  trustml audit study --out study
  trustml audit study --data snips --data-dir DATA --epsilons 0.5,1,3,8 --steps 60 --out study
  trustml audit study --mechanisms exact,edp-sgd,adaptive --seeds 3 --out study"""


@settings
class _Call(Output):
    """Where one call writes."""

    out: Path = knob(
        REQUIRED, "folder of the study, new or to go on with", "study", metavar="FOLDER"
    )
    quiet: bool = knob(False, "no progress", "output")


def run(arguments: Sequence[str]) -> int:
    """Trains what is left of the grid, compares and writes; refuted claims are an answer."""
    grid, options, shared = flags.parse(
        [StudyConfig, _Call, SharedSettings], arguments, prog="trustml audit study", about=_ABOUT
    )
    call = _Call.from_dict(options, "the flags")
    config = dataclasses.replace(StudyConfig.from_dict(grid, "the flags"), shared=shared)
    result = audit_study(config, call.out, quiet=call.quiet)
    if call.json:
        show_json(result.to_dict())
    else:
        _show(result)
        files = f"{PAGE}, {FILE} (private quantities), a folder for each cell"
        print(f"\nIn {call.out}: {files}.")
    return 0


def _show(result: StudyResult) -> None:
    """Prints the cells, the correlations and what must be known."""
    title = (
        f"Theory against practice on {result.data}: epsilon claimed, at most, and audited, "
        "at least; 95 % intervals. Private quantities:"
    )
    show_table(title, tables.cells_head(result.metrics), tables.cells(result))
    title = "Claimed epsilon and what was measured, by rank"
    show_table(title, tables.CORRELATIONS, tables.correlations(result.correlations))
    for text in result.dangers:
        print(f"DANGER: {text}")
    print(result.together.statement(len(result.rows)))
    for note in result.notes:
        print(f"Note: {note}")
