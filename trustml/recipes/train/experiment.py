"""Everything that the trainings of one call share: data, network, plan, steps."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.tree_util import tree_leaves_with_path as leaves_with_path

from trustml.audit import canary_trainable
from trustml.clipping import layer_bounds, partition
from trustml.clipping.trainable import path_name, trainable_mask
from trustml.data import snips
from trustml.data.buckets import shortener
from trustml.data.examples import Examples, Splits
from trustml.models.tasks import Task, group_pieces, unit_loss
from trustml.models.tasks.units import PRESENT
from trustml.plan import PrivacyPlan
from trustml.recipes.train.canaries import (
    Canaries,
    TrainingObjective,
    carried,
    flip_labels,
    sample_canaries,
    shapes_with,
)
from trustml.recipes.train.config import TrainConfig, changed
from trustml.recipes.train.presets import PRESETS, Preset
from trustml.recipes.train.resolve import chosen_model, for_model, load_task, preset_name, with_task
from trustml.recipes.train.text_models import Public
from trustml.recipes.waiting import waiting
from trustml.training import TrainStep, baseline_step, private_step
from trustml.training.checks import AUTO

_PUBLIC_ROWS = 500
_LARGEST_RATE = 0.4  # of sampling, in settings that were made for larger data


class Experiment(NamedTuple):
    """What all trainings of one call share."""

    config: TrainConfig
    preset: Preset
    parts: Splits
    public: Examples | None  # generated rows on which to decide when to stop
    problem: Task
    level: str  # what the privacy unit is
    units: dict[str, np.ndarray]  # of the whole training part, ready for `loss`
    canaries: Canaries

    @property
    def judged(self) -> Examples:
        """The part that is judged on."""
        return getattr(self.parts, self.config.eval_split)

    @property
    def train(self) -> dict[str, np.ndarray]:
        """The units that are trained on."""
        kept = np.delete(np.arange(self._whole), self.canaries.left_out)
        return {name: leaf[kept] for name, leaf in self.units.items()}

    @property
    def num_units(self) -> int:
        """How many units are trained on. Public: the coins know nothing of the rows."""
        return self._whole - len(self.canaries.left_out)

    @property
    def loss(self) -> Callable:
        """The loss of one unit."""
        loss = self.problem.network.loss
        return unit_loss(loss) if PRESENT in self.units else loss

    @property
    def trainable(self) -> Any:
        """Which leaves are trained, as `private_step` takes it."""
        return self.preset.model.trainable(self.problem.config)

    @property
    def shorten(self) -> Callable | None:
        """What cuts padding off a drawn batch; where the micro-batch is found, one shape serves."""
        return None if self.config.physical_batch_size == AUTO else shortener(self.units)

    def plain(self) -> TrainingObjective:
        """What the baseline trains: the model alone."""
        return TrainingObjective(self.loss, self.train, self.trainable, self.shorten, 0)

    def carried(self) -> TrainingObjective:
        """What the private training trains: the model, and gradient canaries if there are any."""
        network, bound = self.problem.network, self.preset.private.clip_norm
        return carried(self.plain(), self.canaries, bound, lambda: network.init(jax.random.key(0)))

    @property
    def private_units(self) -> int:
        """How many units the private training has, gradient canaries included."""
        return self.num_units + int(self.canaries.gradients.sum())

    @property
    def _whole(self) -> int:
        return len(next(iter(self.units.values())))


def make_setting(
    config: TrainConfig, canaries: Canaries | None = None, *, quiet: bool = False
) -> Experiment:
    """Loads the data and settles every setting; nothing is written but to the cache.

    Args:
      config: The settings.
      canaries: Those of a run that is continued; by default coins are tossed.
      quiet: Whether what takes long shows no progress.

    Raises:
      ValueError: A setting is out of range, or the data cannot be used.
    """
    if config.eval_split not in ("test", "valid"):
        raise ValueError(f"`--eval-split` must be test or valid, got {config.eval_split!r}.")
    _check_audit(config)
    config, data, task = with_task(config)
    preset = make_preset(config, data, task)
    parts = load_task(data, task, config.data_dir, download=config.download)
    public = Public(config.data_dir, config.download, quiet)
    problem = preset.model.problem(parts.train, public)
    level = config.unit or parts.train.unit
    if level not in parts.train.levels:
        raise ValueError(
            f"`--unit` must be one of {', '.join(parts.train.levels)} for the data {data}, got "
            f"{level!r}."
        )
    groups = parts.train.units(level)
    most = config.max_examples_per_unit or (
        1 if level == parts.train.unit else preset.max_examples_per_unit
    )
    units = group_pieces(problem.encode(parts.train), groups, most)
    if canaries is None:
        canaries = sample_canaries(config, units, len(parts.train.labels))
    setting = Experiment(
        dataclasses.replace(config, audit_rows=canaries.rows, max_examples_per_unit=most),
        preset,
        parts,
        None if config.patience is None else _generated(parts),
        problem,
        level,
        flip_labels(units, canaries),
        canaries,
    )
    _check_trainable(setting)
    return setting._replace(preset=_sized(setting))


def _check_audit(config: TrainConfig) -> None:
    """Refuses an audit that says nothing of the promise."""
    if config.audit and config.adjacency != "add-or-remove-one":
        raise ValueError(
            f"`--audit` needs `--adjacency` add-or-remove-one, got {config.adjacency}: its coins "
            "put canaries in or leave them out, while the claim is about replacing one."
        )
    if config.audit_canaries and not config.audit:
        raise ValueError(f"`--audit-canaries` {config.audit_canaries} needs `--audit`.")


def _check_trainable(setting: Experiment) -> None:
    """Refuses a choice that trains nothing, or a pattern that names nothing."""
    shapes = jax.eval_shape(setting.problem.network.init, jax.random.key(0))
    try:
        setting.preset.model.check_names([path_name(path) for path, _ in leaves_with_path(shapes)])
        trainable_mask(shapes, setting.trainable)
    except ValueError as error:
        raise ValueError(f"`--trainable` {setting.config.trainable}: {error}") from None


def _sized(setting: Experiment) -> Preset:
    """The preset with batches that the data are large enough for, unless one was asked for."""
    private = setting.preset.private
    most = max(1, int(_LARGEST_RATE * setting.num_units))
    if setting.config.batch is None and private.expected_batch > most:
        private = dataclasses.replace(private, expected_batch=most)
    return dataclasses.replace(setting.preset, private=private)


def _generated(parts: Splits) -> Examples:
    """Generated rows to decide by when to stop."""
    if parts.train.synthetic:
        return parts.valid
    if parts.train.name != "snips":
        raise ValueError(
            "`--patience` needs generated rows to be judged on, which there are for the data "
            f"synthetic and snips only, got {parts.train.name!r}."
        )
    return snips.generated(_PUBLIC_ROWS, seed=1)


def make_preset(config: TrainConfig, data: str, task: str) -> Preset:
    """The preset that `config` names, or that of the data or the task, with what it changes."""
    name = preset_name(config, data, task)
    preset = changed(PRESETS[name], epsilon=config.epsilon, delta=config.delta)
    if task != preset.task:
        raise ValueError(
            f"`--preset` must be one for the task {task!r}, got {name!r}, which is for "
            f"{preset.task!r}."
        )
    preset = for_model(preset, chosen_model(preset, config, name))
    rates = {"schedule": config.schedule, "warmup": config.warmup}
    private = changed(
        preset.private,
        expected_batch=config.batch,
        steps=config.steps,
        clip_norm=config.clip_norm,
        learning_rate=config.learning_rate,
        **rates,
    )
    baseline = changed(
        preset.baseline,
        steps=config.baseline_steps,
        learning_rate=config.baseline_learning_rate,
        **rates,
    )
    return dataclasses.replace(preset, private=private, baseline=baseline)


def private_plan(setting: Experiment) -> PrivacyPlan:
    """The plan within the budget."""
    config, preset = setting.config, setting.preset
    batch = preset.private.expected_batch
    cycle_length = 1
    if config.sampling == "cyclic_poisson":
        cycle_length = config.cycle_length or max(1, setting.private_units // batch)
    elif config.cycle_length is not None:
        raise ValueError(
            f"`--cycle-length` is of `--sampling` cyclic_poisson alone, got {config.cycle_length} "
            f"with {config.sampling}."
        )
    size = {}
    if config.noise == "discrete_gaussian":  # the grid is made by it
        size["dimension"] = float(sum(leaf.size for leaf in jax.tree.leaves(_trained(setting))))
    with waiting("train: looking for the noise that the budget asks for"):
        return PrivacyPlan.calibrate(
            epsilon=preset.epsilon,
            delta=preset.delta,
            num_units=setting.private_units,
            expected_batch=batch,
            steps=preset.private.steps,
            clip_norm=_bounds(setting),
            clipping=config.clipping,
            clip_quantile=config.clip_quantile,
            num_microbatches=config.num_microbatches,
            noise=config.noise,
            noise_memory=config.noise_memory,
            noise_decay=config.noise_decay,
            cycle_length=cycle_length,
            sampling=config.sampling,
            adjacency=config.adjacency,
            accountant=config.accountant,
            unit=setting.level,
            **size,
        )


def _bounds(setting: Experiment) -> Any:
    """The bound of the whole gradient, or those of its parts."""
    chosen, total = setting.config.bounds, setting.preset.private.clip_norm
    number = len(setting.canaries.gradients)
    depths = {"flat": 0, "layer": None, "block": 2 if number else 1}
    if chosen not in depths:
        raise ValueError(f"`--bounds` must be flat, layer or block, got {chosen!r}.")
    if chosen == "flat":
        return total
    return layer_bounds(_trained(setting), total, depth=depths[chosen])


def _trained(setting: Experiment) -> Any:
    """Shapes of what the private training trains."""
    number = len(setting.canaries.gradients)
    shapes = jax.eval_shape(setting.problem.network.init, jax.random.key(0))
    trainable = canary_trainable(setting.trainable) if number else setting.trainable
    return partition(shapes_with(shapes, number), trainable)[0]


def make_steps(
    setting: Experiment, carried: TrainingObjective, plan: PrivacyPlan
) -> dict[str, TrainStep]:
    """The private step, and the baseline's unless it is not wanted."""
    preset, config = setting.preset, setting.config
    private = private_step(
        carried.loss,
        carried.optimizer(preset.private.optimizer()),
        plan,
        strategy=config.strategy,
        physical_batch_size=None if plan.num_microbatches else config.physical_batch_size,
        trainable=carried.trainable,
        shorten=carried.shorten,
    )
    if not config.baseline:
        return {"private": private}
    batch = min(preset.baseline.expected_batch, setting.num_units)
    draws = PrivacyPlan(
        clip_norm=1.0,
        noise_multiplier=0.0,
        sample_rate=batch / setting.num_units,
        steps=preset.baseline.steps,
        expected_batch=batch,
        num_units=setting.num_units,
    )
    baseline = baseline_step(
        setting.loss,
        preset.baseline.optimizer(),
        draws,
        physical_batch_size=config.physical_batch_size,
        trainable=setting.trainable,
        shorten=setting.shorten,
    )
    return {"private": private, "baseline": baseline}
