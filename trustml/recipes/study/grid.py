"""The grid of a study of theory against practice: what was asked for, cell by cell."""

import argparse
import dataclasses
import itertools
import math
import zlib
from pathlib import Path
from typing import Any, NamedTuple

from trustml.recipes.settings import names_of, read_yaml
from trustml.recipes.train.config import TrainConfig

SETTINGS = "study.yaml"
# Settings of `trustml train` that all cells share: all but those that a mechanism or the grid sets.
SHARED = tuple(names_of(TrainConfig, of_cell=False))
MAY_CHANGE = ("data_dir", "download", "checkpoint_every")
_GRID = ("epsilons", "models", "mechanisms")
_EPSILONS = (0.5, 1.0, 3.0, 8.0)
_TWO = ("exact", "edp-sgd")

# How each mechanism differs from the defaults of `trustml train`: clipping every unit as a whole.
MECHANISMS: dict[str, dict[str, Any]] = {
    "exact": {},
    "edp-sgd": {"bounds": "layer", "num_microbatches": 8, "noise_decay": 0.95},
    "adaptive": {"clip_quantile": 0.5},
    "automatic": {"clipping": "automatic"},
    "grid": {"noise": "grid"},
    "tree": {"noise": "tree", "sampling": "cyclic_poisson"},
    "banded": {"noise": "banded", "noise_memory": 4, "sampling": "cyclic_poisson"},
}


class Study(NamedTuple):
    """A grid of trainings on the same data."""

    shared: dict[str, Any]  # settings of `trustml train`
    epsilons: tuple[float, ...]
    models: tuple[str, ...]
    mechanisms: tuple[str, ...]
    seeds: int = 1


class Cell(NamedTuple):
    """One private training of a study."""

    model: str
    mechanism: str
    epsilon: float
    seed: int  # counts trainings that differ in randomness alone, from 1

    @property
    def name(self) -> str:
        """That of its folder."""
        epsilon = repr(self.epsilon).removesuffix(".0")
        return f"{short_model(self.model)}_{self.mechanism}_{epsilon}_{self.seed}"


def short_model(model: str) -> str:
    """The last part of a path, in characters that folders may have.

    >>> short_model("models/bert-base/"), short_model("conv")
    ('bert-base', 'conv')
    """
    kept = "".join(one if one.isalnum() or one in "-." else "-" for one in Path(model).name)
    return kept or "model"


def cells_of(study: Study) -> list[Cell]:
    """Every cell, the ones of a model together."""
    every = itertools.product(study.models, study.mechanisms, study.epsilons)
    return [Cell(*one, seed) for one in every for seed in range(1, study.seeds + 1)]


def config_of(study: Study, cell: Cell, *, baseline: bool) -> tuple[TrainConfig, dict[str, Any]]:
    """The settings of a cell, and those that are written down as asked for.

    Args:
      study: With what all cells share.
      cell: One of them.
      baseline: Whether it trains without privacy too.
    """
    written = {
        **study.shared,
        **MECHANISMS[cell.mechanism],
        "model": cell.model,
        "epsilon": cell.epsilon,
        "audit": True,
        "baseline": baseline,
    }
    if (seed := study.shared.get("seed")) is not None:
        # One key twice would show the difference of two cells without noise.
        written["seed"] = seed + (zlib.crc32(cell.name.encode()) >> 2)
    return TrainConfig.from_dict(written, f"the cell {cell.name}"), written


def settings_of(study: Study) -> dict[str, Any]:
    """For YAML and JSON."""
    parts = study._asdict()
    return {name: list(one) if isinstance(one, tuple) else one for name, one in parts.items()}


def default_of(name: str) -> Any:
    """What `trustml train` takes for a setting that nobody names."""
    return {field.name: field.default for field in dataclasses.fields(TrainConfig)}[name]


def settled(chosen: argparse.Namespace, given: dict[str, Any]) -> Study:
    """The study that flags ask for, on top of what `--out` holds of it.

    Args:
      chosen: With the grid and `out`.
      given: Settings that all cells shall share.

    Raises:
      ValueError: A value of the grid is bad, or a shared setting differs from the study's.
    """
    asked = _grid(chosen)
    before = _before(chosen.out)
    shared = _shared(before, given, chosen.out)
    config = TrainConfig.from_dict(shared, "the settings of the study")
    study = Study(
        shared,
        _joined(before.epsilons, asked["epsilons"]) or _EPSILONS,
        _joined(before.models, asked["models"]) or (_default_model(config),),
        _joined(before.mechanisms, asked["mechanisms"]) or _TWO,
        max(before.seeds, chosen.seeds or 1),
    )
    if len(set(map(short_model, study.models))) < len(study.models):
        raise ValueError(
            "`--models` must differ in the last part of their paths, got "
            f"{', '.join(study.models)}."
        )
    return study


def _joined(before: tuple, asked: tuple) -> tuple:
    return tuple(dict.fromkeys((*before, *asked)))


def _shared(before: Study, given: dict[str, Any], out: Path) -> dict[str, Any]:
    for name in given if before.models else ():
        known = before.shared.get(name, default_of(name))
        if name not in MAY_CHANGE and given[name] != known:
            raise ValueError(
                f"`--{name.replace('_', '-')}` must be that of the study in {out}, {known!r}, got "
                f"{given[name]!r}: its cells would not compare. Name another `--out`."
            )
    shared = {**before.shared, **given}
    if shared.get("audit_rows") == 0:
        raise ValueError("`--audit-rows` must be at least 1, got 0: a study attacks every cell.")
    return shared


def _grid(chosen) -> dict[str, tuple]:
    parts = {name: _listed(name, getattr(chosen, name)) for name in _GRID}
    for name in parts["mechanisms"]:
        if name not in MECHANISMS:
            raise ValueError(
                f"`--mechanisms` must be of {', '.join(MECHANISMS)}, commas between, got {name!r}."
            )
    return {**parts, "epsilons": tuple(map(_epsilon, parts["epsilons"]))}


def _listed(name: str, text: str | None) -> tuple[str, ...]:
    parts = () if text is None else tuple(part.strip() for part in text.split(","))
    if not all(parts):
        raise ValueError(f"`--{name}` must be a list with commas between, got {text!r}.")
    return parts


def _epsilon(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (0 < value < math.inf):
        raise ValueError(
            "`--epsilons` must be positive numbers with commas between, such as 0.5,1,3,8, got "
            f"{text!r}."
        )
    return value


def _before(out: Path) -> Study:
    """What `--out` holds of a study; one without models where it is new."""
    path = out / SETTINGS
    if path.exists():
        found = read_yaml(path)
        if found.get("whole") is not True or not {*_GRID, "shared", "seeds"} <= set(found):
            raise ValueError(
                f"`{path}` must be whole, got one that was cut off. Restore it from a backup, or "
                "name another `--out`."
            )
        grid = {name: tuple(found[name]) for name in _GRID}
        return Study(found["shared"], seeds=found["seeds"], **grid)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(
            f"`--out` must be a new or empty folder, or that of a study, got {out}."
        )
    return Study({}, (), (), ())


def _default_model(config: TrainConfig) -> str:
    from trustml.recipes.train.presets import resolve_preset
    from trustml.recipes.train.resolve import with_task
    from trustml.recipes.train.text_models import TextModel

    model = resolve_preset(with_task(config)).model
    return model.name if isinstance(model, TextModel) else model.describe()["network"]
