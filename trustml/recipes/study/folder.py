"""The folder of a study: what it holds already, and the grid that a further call asks for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trustml.recipes.settings import fields_of
from trustml.recipes.study.grid import Cell, Study, StudyConfig, short_model
from trustml.recipes.train.config import TrainConfig
from trustml.recipes.yaml_files import read_yaml, to_yaml
from trustml.report import write_text
from trustml.training.runs.folder import RunFolder

SETTINGS = "study.yaml"
# Where the data lie. How a step is computed stays, or the times of cells would not compare.
MAY_CHANGE = ("data_dir", "download", "checkpoint_every")
_EPSILONS = (0.5, 1.0, 3.0, 8.0)
_MECHANISMS = ("exact", "edp-sgd")
_GRID = ("epsilons", "models", "mechanisms")


def open_study(config: StudyConfig, out: Path) -> Study:
    """The study that `config` asks for, on top of what `out` holds of it.

    Raises:
      ValueError: A shared setting is bad, or differs from the study's.
      FileExistsError: `out` holds something else.
    """
    before = _read(out)
    shared = _shared(before, config.shared, out)
    checked = TrainConfig.from_dict(shared, "the settings of the study")
    study = Study(
        shared,
        _joined(before.epsilons, config.epsilons) or _EPSILONS,
        _joined(before.models, config.models) or (_default_model(checked),),
        _joined(before.mechanisms, config.mechanisms) or _MECHANISMS,
        max(before.seeds, config.seeds or 1),
    )
    if len(set(map(short_model, study.models))) < len(study.models):
        raise ValueError(
            "`--models` must differ in the last part of their paths, got "
            f"{', '.join(study.models)}."
        )
    return study


def write_study(study: Study, out: Path) -> None:
    """Makes the folder and writes the grid, from which the next call goes on."""
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    head = "What a study shares, and its grid; `trustml audit study --out` goes on with it."
    write_text(out / SETTINGS, to_yaml({**study.to_dict(), "whole": True}, head))


def is_started(out: Path, cell: Cell) -> bool:
    """Whether the training of a cell was begun."""
    return RunFolder(out / cell.name).resolved.exists()


def _read(out: Path) -> Study:
    """What `out` holds of a study; one without models where it is new."""
    path = out / SETTINGS
    if path.exists():
        content = read_yaml(path)
        if content.get("whole") is not True or not {*_GRID, "shared", "seeds"} <= set(content):
            raise ValueError(
                f"`{path}` must be whole, got one that was cut off. Restore it from a backup, or "
                "name another `--out`."
            )
        grid = {name: tuple(content[name]) for name in _GRID}
        return Study(content["shared"], seeds=content["seeds"], **grid)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(
            f"`--out` must be a new or empty folder, or that of a study, got {out}."
        )
    return Study({}, (), (), ())


def _shared(before: Study, given: Mapping[str, Any], out: Path) -> dict[str, Any]:
    for name in given if before.models else ():
        known = before.shared.get(name, _default_of(name))
        if name not in MAY_CHANGE and given[name] != known:
            raise ValueError(
                f"`--{name.replace('_', '-')}` must be that of the study in {out}, {known!r}, got "
                f"{given[name]!r}: its cells would not compare. Name another `--out`."
            )
    shared = {**before.shared, **given}
    if shared.get("audit_rows") == 0:
        raise ValueError("`--audit-rows` must be at least 1, got 0: a study attacks every cell.")
    return shared


def _default_of(name: str) -> Any:
    return next(field.default for field in fields_of(TrainConfig) if field.name == name)


def _joined(before: tuple, asked: tuple) -> tuple:
    return tuple(dict.fromkeys((*before, *asked)))


def _default_model(config: TrainConfig) -> str:
    from trustml.recipes.train.loading import with_task
    from trustml.recipes.train.resolve_preset import resolve_preset
    from trustml.recipes.train.text_models import TextModel

    model = resolve_preset(with_task(config)).model
    return model.name if isinstance(model, TextModel) else model.describe()["network"]
