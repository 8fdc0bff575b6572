"""Theory against practice: a grid of private trainings, each attacked and audited."""

import argparse
from pathlib import Path
from typing import Any

from trustml.cli import train
from trustml.cli.options import add_output, count, show_json, show_table
from trustml.recipes.study.grid import MECHANISMS, SHARED, StudyConfig
from trustml.recipes.train.config import flags_given

DESCRIPTION = f"""\
Trains a grid of epsilons, mechanisms and models on the same data, each cell an ordinary
`trustml train --audit` in a folder of its own, and compares what is claimed with what attacks find:
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
    scratch = argparse.ArgumentParser(add_help=False)
    train.add_arguments(scratch)
    for action in scratch._actions:  # one definition of each option, as `parents=` does it
        if action.dest in SHARED:
            shared._add_action(action)


def run(chosen: argparse.Namespace) -> int:
    """Trains what is left of the grid, compares and writes; refuted claims are an answer."""
    from trustml.recipes.study.run import FILE, audit_study

    config = StudyConfig(
        epsilons=tuple(map(_number, _listed("epsilons", chosen.epsilons))),
        models=_listed("models", chosen.models),
        mechanisms=_listed("mechanisms", chosen.mechanisms),
        seeds=chosen.seeds,
        shared={name: value for name, value in flags_given(chosen).items() if name in SHARED},
    )
    document = audit_study(config, chosen.out, quiet=chosen.quiet)
    if chosen.json:
        show_json(document)
    else:
        show(document)
        print(
            f"\nIn {chosen.out}: study.html, {FILE} (private quantities), a folder for each cell."
        )
    return 0


def _listed(name: str, text: str | None) -> tuple[str, ...]:
    parts = () if text is None else tuple(part.strip() for part in text.split(","))
    if not all(parts):
        raise ValueError(f"`--{name}` must be a list with commas between, got {text!r}.")
    return parts


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(
            f"`--epsilons` must be numbers with commas between, such as 0.5,1,3,8, got {text!r}."
        ) from None


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
