"""Canaries of a training: rows that fair coins put in or leave out, and those of `--audit`."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from trustml.audit import canary_optimizer, canary_trainable, place_canaries, public_template
from trustml.clipping.sums import check_units
from trustml.data.buckets import Shortener
from trustml.recipes.train.config import TrainConfig
from trustml.training.runs.folder import RunFolder

VECTOR = "canaries"  # name of the weights of gradient canaries
_MOST_ROWS = 1000
_FEWEST_ROWS = 20  # fewest canary rows of an audit
GRADIENTS = 1000  # gradient canaries of `--audit`
_LONGER = 10  # norm of a canary's gradient over the clip norm: so the audit tests clipping too
_TARGETS = ("intent", "label")  # arrays that `flip_labels` may change


class Canaries(NamedTuple):
    """Units that a fair coin each put into the training or left out. Private.

    Rows are indices into the training part. `labels` holds the wrong targets of `wrong_members`,
    then of `wrong_nonmembers`.
    """

    members: np.ndarray
    nonmembers: np.ndarray
    wrong_members: np.ndarray
    wrong_nonmembers: np.ndarray
    labels: np.ndarray
    gradients: np.ndarray  # whether each gradient canary is in: 0 or 1

    @property
    def left_out(self) -> np.ndarray:
        """Rows that the training leaves out."""
        return np.concatenate([self.nonmembers, self.wrong_nonmembers])

    @property
    def rows(self) -> int:
        """Number of rows with a coin."""
        wrong = len(self.wrong_members) + len(self.wrong_nonmembers)
        return len(self.members) + len(self.nonmembers) + wrong

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, marked as private."""
        private = "who was in the training data, of what the audit looks at"
        return {
            "private": private,
            **{name: part.tolist() for name, part in self._asdict().items()},
        }


def sample_canaries(config: TrainConfig, units: dict[str, np.ndarray], classes: int) -> Canaries:
    """The canaries of a training, each in or out by a fair coin.

    Args:
      config: The settings.
      units: The whole training part.
      classes: Number of targets; with fewer than two, no row gets a wrong one.

    Guarantee:
      The bounds of one-run audits rest on these coins: independent, fair, and tossed before
      training.

    Raises:
      ValueError: `audit_rows` is out of range.
    """
    size = check_units(units)
    rows = min(_MOST_ROWS, size // 10) if config.audit_rows is None else config.audit_rows
    if not 0 <= rows <= size // 2:
        raise ValueError(
            f"`--audit-rows` must be from 0 to {size // 2}, half of the training units, got {rows}."
        )
    if config.audit and rows < _FEWEST_ROWS:
        raise ValueError(
            f"`--audit-rows` must be at least {_FEWEST_ROWS} with `--audit`, got {rows}, "
            "which are too few for a bound."
        )
    rng = np.random.default_rng(config.seed)
    chosen = np.sort(rng.choice(size, rows, replace=False))
    inside = rng.random(rows) < 0.5
    wrong = np.zeros(rows, bool)
    target = _target(units)
    if config.audit and target is not None and classes > 1:
        wrong = rng.permutation(rows) < rows // 2
    wrongly = chosen[wrong & inside], chosen[wrong & ~inside]
    labels = np.zeros(0, np.int64)
    if target is not None:
        right = units[target][np.concatenate(wrongly)].astype(np.int64)
        labels = (right + rng.integers(1, max(2, classes), right.size)) % max(2, classes)
    number = GRADIENTS if config.audit_canaries is None else config.audit_canaries
    gradients = rng.random(number if config.audit else 0) < 0.5
    return Canaries(
        chosen[~wrong & inside],
        chosen[~wrong & ~inside],
        *wrongly,
        labels,
        gradients.astype(np.int64),
    )


def flip_labels(units: dict[str, np.ndarray], canaries: Canaries) -> dict[str, np.ndarray]:
    """`units` with the wrong targets of the mislabelled canaries."""
    target = _target(units)
    if target is None or not len(canaries.labels):
        return units
    changed = units[target].copy()
    changed[np.concatenate([canaries.wrong_members, canaries.wrong_nonmembers])] = canaries.labels
    return {**units, target: changed}


def _target(units) -> str | None:
    return next((name for name in _TARGETS if name in units and units[name].ndim == 1), None)


def read_canaries(folder: Path) -> Canaries:
    """The canaries of the run in `folder`.

    Raises:
      ValueError: The file is missing or damaged.
    """
    path = RunFolder(folder).canaries
    try:
        stored = json.loads(path.read_text())
        needed = Canaries._fields[:2]  # earlier versions wrote no others
        parts = [
            stored[name] if name in needed else stored.get(name, []) for name in Canaries._fields
        ]
        return Canaries(*(np.array(part, int) for part in parts))
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(
            f"{path} must say which rows were left out of the training; it is missing or damaged. "
            "Restore it from a backup: the data of the run depend on it."
        ) from None


@dataclasses.dataclass(frozen=True)
class _Marked:
    """Cuts rows with canary marks."""

    plain: "Shortener | _Marked"

    def __call__(self, rows, taken):
        return {**rows, "unit": self.plain(rows["unit"], taken)}

    @property
    def levels(self) -> int:
        return self.plain.levels

    def level(self, rows):
        return self.plain.level(rows["unit"])

    def cut(self, rows, level: int):
        return {**rows, "unit": self.plain.cut(rows["unit"], level)}


class TrainingObjective(NamedTuple):
    """Loss, units and weights of a training: the model alone, or with gradient canaries."""

    loss: Callable
    units: dict[str, Any]
    trainable: Any
    shorten: Shortener | _Marked | None
    number: int  # gradient canaries, in or out

    def params(self, model: Any) -> Any:
        """Initial weights."""
        if not self.number:
            return model
        return {"model": model, VECTOR: np.zeros(self.number, np.float32)}

    def model(self, params: Any) -> Any:
        """The model's weights, without those of canaries."""
        return model_of(params, self.number)

    def optimizer(self, optimizer: Any) -> Any:
        """`optimizer` for the model and the canaries."""
        return canary_optimizer(optimizer) if self.number else optimizer


def with_canaries(
    plain: TrainingObjective, canaries: Canaries, clip_norm: float, start: Callable
) -> TrainingObjective:
    """`plain` with gradient canaries; `start` returns public weights."""
    number = len(canaries.gradients)
    if not number:
        return plain
    made = place_canaries(
        plain.loss,
        None,
        plain.units,
        included=canaries.gradients.astype(bool),
        size=_LONGER * clip_norm,
        template=public_template(plain.loss, start(), plain.units),
    )

    return TrainingObjective(
        made.loss,
        made.units,
        canary_trainable(plain.trainable),
        None if plain.shorten is None else _Marked(plain.shorten),
        number,
    )


def model_of(params: Any, number: int) -> Any:
    """The model's weights among those with `number` gradient canaries."""
    return params["model"] if number else params


def shapes_with(model: Any, number: int) -> Any:
    """Shapes of the model's weights and those of `number` gradient canaries."""
    vector = jax.ShapeDtypeStruct((number,), np.float32)
    return {"model": model, VECTOR: vector} if number else model


def without_canaries(tensors: dict[str, Any]) -> dict[str, Any]:
    """The model's tensors by name, without canaries and without the prefix."""
    rest = (name for name in tensors if name != VECTOR)
    return {name.removeprefix("model."): tensors[name] for name in rest}
