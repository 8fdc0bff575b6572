"""Canaries of a training: rows that coins put in or out, and what `--audit` adds to them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from trustml.audit import canary_optimizer, canary_trainable, place_canaries, public_template
from trustml.clipping.sums import check_units
from trustml.recipes.train.config import TrainConfig
from trustml.training.runs.folder import RunFolder

VECTOR = "canaries"  # the weights of gradient canaries
_MOST_ROWS = 1000
_FEWEST_ROWS = 20  # of an audit
GRADIENTS = 1000  # gradient canaries of `--audit`
_LONGER = 10  # times the clip norm: a canary's gradient tests the bound too
_TARGETS = ("intent", "label")  # what a mislabelled row has a wrong one of


class Canaries(NamedTuple):
    """What a fair coin each put into the training or left out. Private.

    Rows are indices into the training part. Of mislabelled ones `labels` holds the wrong target,
    members first.
    """

    members: np.ndarray
    nonmembers: np.ndarray
    wrong_members: np.ndarray
    wrong_nonmembers: np.ndarray
    labels: np.ndarray
    gradients: np.ndarray  # of each gradient canary, whether it is in: 0 or 1

    @property
    def left_out(self) -> np.ndarray:
        """Rows that are not trained on."""
        return np.concatenate([self.nonmembers, self.wrong_nonmembers])

    @property
    def rows(self) -> int:
        """Rows that coins were tossed for."""
        wrong = len(self.wrong_members) + len(self.wrong_nonmembers)
        return len(self.members) + len(self.nonmembers) + wrong

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON, marked."""
        private = "who was in the training data, of what the audit looks at"
        return {
            "private": private,
            **{name: part.tolist() for name, part in self._asdict().items()},
        }


def sample_canaries(config: TrainConfig, units: dict[str, np.ndarray], classes: int) -> Canaries:
    """Chooses the canaries and tosses their coins; one-run audits rest on fair coins.

    Args:
      config: The settings.
      units: The whole training part.
      classes: How many targets a row may have; with fewer than two, none is mislabelled.
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
            "which tell nothing."
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
    """`units` with the wrong targets of the canaries that have one."""
    target = _target(units)
    if target is None or not len(canaries.labels):
        return units
    changed = units[target].copy()
    changed[np.concatenate([canaries.wrong_members, canaries.wrong_nonmembers])] = canaries.labels
    return {**units, target: changed}


def _target(units) -> str | None:
    return next((name for name in _TARGETS if name in units and units[name].ndim == 1), None)


def read_canaries(folder: Path) -> Canaries:
    """Those of the run in `folder`.

    Raises:
      ValueError: The file is missing or damaged.
    """
    path = RunFolder(folder).canaries
    try:
        found = json.loads(path.read_text())
        needed = Canaries._fields[:2]  # runs of earlier versions had no others
        parts = [
            found[name] if name in needed else found.get(name, []) for name in Canaries._fields
        ]
        return Canaries(*(np.array(part, int) for part in parts))
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(
            f"{path} must say which rows were left out of the training; it is missing or damaged. "
            "Restore it from a backup: without it the data of the run are not known."
        ) from None


class TrainingObjective(NamedTuple):
    """What the private training trains: the model, with gradient canaries where there are any."""

    loss: Callable
    units: dict[str, Any]
    trainable: Any
    shorten: Callable | None
    number: int  # of gradient canaries, in and out

    def params(self, model: Any) -> Any:
        """The weights to start from."""
        if not self.number:
            return model
        return {"model": model, VECTOR: np.zeros(self.number, np.float32)}

    def model(self, params: Any) -> Any:
        """The weights without canaries."""
        return model_of(params, self.number)

    def optimizer(self, optimizer: Any) -> Any:
        """The optimizer of both."""
        return canary_optimizer(optimizer) if self.number else optimizer


def with_canaries(
    plain: TrainingObjective, canaries: Canaries, clip_norm: float, start: Callable
) -> TrainingObjective:
    """`plain` with the gradient canaries; `start` gives public weights."""
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
        None if plain.shorten is None else _of_units(plain.shorten),
        number,
    )


def _of_units(shorten: Callable) -> Callable:
    """`shorten` for the rows beside which canaries are marked."""
    return lambda rows, taken: {**rows, "unit": shorten(rows["unit"], taken)}


def model_of(params: Any, number: int) -> Any:
    """The model of weights that hold `number` gradient canaries."""
    return params["model"] if number else params


def shapes_with(model: Any, number: int) -> Any:
    """Shapes of weights that hold `number` gradient canaries beside the model."""
    vector = jax.ShapeDtypeStruct((number,), np.float32)
    return {"model": model, VECTOR: vector} if number else model


def without_canaries(tensors: dict[str, Any]) -> dict[str, Any]:
    """Of tensors by name, those of the model under names of their own."""
    rest = (name for name in tensors if name != VECTOR)
    return {name.removeprefix("model."): tensors[name] for name in rest}
