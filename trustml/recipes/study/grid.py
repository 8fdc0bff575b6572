"""The grid of a study of theory against practice: its settings, cell by cell."""

import dataclasses
import itertools
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from trustml.recipes.settings import Settings, knob, part_of, settings
from trustml.recipes.train.config import TrainConfig

# Settings of `trustml train` that all cells share; the others are set by the grid or a mechanism.
SharedSettings = part_of(TrainConfig, "SharedSettings", of_cell=False)

# How each mechanism differs from the defaults of `trustml train`: clipping every unit as a whole.
MECHANISMS: dict[str, dict[str, Any]] = {
    "exact": {},
    "edp-sgd": {"bounds": "layer", "num_microbatches": 8, "noise_decay": 0.95},
    "adaptive": {"clip_quantile": 0.5},
    "automatic": {"clipping": "automatic"},
    "discrete-gaussian": {"noise": "discrete_gaussian"},
    "tree": {"noise": "tree", "sampling": "cyclic_poisson"},
    "banded": {"noise": "banded", "noise_memory": 4, "sampling": "cyclic_poisson"},
}


@settings
class StudyConfig(Settings):
    """A grid of private trainings. What is left out is as the study's folder has it.

    `shared` holds settings of `trustml train` for all cells, by name: those of `SharedSettings`.
    """

    epsilons: tuple[float, ...] = knob(
        (), "budgets", "study", shown="0.5,1,3,8", metavar="LIST", commas=True
    )
    models: tuple[str, ...] = knob(
        (),
        "as `--model` of `trustml train`",
        "study",
        shown="the preset's",
        metavar="LIST",
        commas=True,
    )
    mechanisms: tuple[str, ...] = knob(
        (),
        f"of {', '.join(MECHANISMS)}",
        "study",
        shown="exact,edp-sgd",
        metavar="LIST",
        commas=True,
    )
    seeds: int | None = knob(
        None,
        "trainings of each cell that differ in randomness alone",
        "study",
        shown="1",
        least=1,
    )
    shared: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        for epsilon in self.epsilons:
            if not (0 < epsilon < math.inf):
                raise ValueError(
                    "`--epsilons` must be positive numbers with commas between, such as "
                    f"0.5,1,3,8, got {epsilon!r}."
                )
        for name in self.mechanisms:
            if name not in MECHANISMS:
                raise ValueError(
                    f"`--mechanisms` must be of {', '.join(MECHANISMS)}, commas between, got "
                    f"{name!r}."
                )
        SharedSettings.from_dict(self.shared, "the settings of the study")


class Study(NamedTuple):
    """A grid of trainings on the same data."""

    shared: dict[str, Any]  # settings of `trustml train`
    epsilons: tuple[float, ...]
    models: tuple[str, ...]
    mechanisms: tuple[str, ...]
    seeds: int = 1

    def to_dict(self) -> dict[str, Any]:
        """For YAML and JSON."""
        parts = self._asdict()
        return {name: list(one) if isinstance(one, tuple) else one for name, one in parts.items()}

    def cells(self) -> list["Cell"]:
        """Every cell, the ones of a model together.

        >>> [cell.name for cell in Study({}, (0.5, 1.0), ("conv",), ("exact",)).cells()]
        ['conv_exact_0.5_1', 'conv_exact_1_1']
        """
        every = itertools.product(self.models, self.mechanisms, self.epsilons)
        return [Cell(*one, seed) for one in every for seed in range(1, self.seeds + 1)]

    def settings_of(self, cell: "Cell", *, baseline: bool) -> dict[str, Any]:
        """The settings of a cell that differ from the defaults of `trustml train`.

        Args:
          cell: One of the study's.
          baseline: Whether it trains without privacy too.
        """
        settings = {
            **self.shared,
            **MECHANISMS[cell.mechanism],
            "model": cell.model,
            "epsilon": cell.epsilon,
            "audit": True,
            "baseline": baseline,
        }
        if (seed := self.shared.get("seed")) is not None:
            # One key twice would show the difference of two cells without noise.
            settings["seed"] = seed + (zlib.crc32(cell.name.encode()) >> 2)
        return settings


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


def config_of(study: Study, cell: Cell, *, baseline: bool) -> TrainConfig:
    """The training of a cell; see `Study.settings_of`."""
    settings = study.settings_of(cell, baseline=baseline)
    return TrainConfig.from_dict(settings, f"the cell {cell.name}")
