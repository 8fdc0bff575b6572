"""Resolves settings to a complete experiment: data, task, model, canaries and plan."""

import dataclasses
import sys
from typing import Any

import jax
from jax.tree_util import tree_leaves_with_path as leaves_with_path

from trustml.clipping import clipped_grad
from trustml.clipping.gradient import TUNE
from trustml.clipping.trainable import path_name, trainable_mask
from trustml.data import Examples, Splits, snips
from trustml.data.tables import TableSchema
from trustml.models.tasks import Task, group_examples
from trustml.plan import HistogramPlan, PrivacyPlan
from trustml.recipes.train.calibrating import calibrated
from trustml.recipes.train.canaries import Canaries, flip_labels, sample_canaries
from trustml.recipes.train.config import TrainConfig
from trustml.recipes.train.experiment import Experiment
from trustml.recipes.train.feature_models import advice
from trustml.recipes.train.learned_schema import placeholder, schema_plan
from trustml.recipes.train.loading import load_data, with_task
from trustml.recipes.train.models import PartlyTrained, PublicData, TaskModel, trainable_leaves
from trustml.recipes.train.presets import Preset
from trustml.recipes.train.resolve_preset import lacks_encoder, preset_name, resolve_preset
from trustml.recipes.train.starting_head import StartingHead, starting_head
from trustml.training.checks import check_physical_batch_size

_GENERATED_ROWS = 500
# Largest sampling rate of a preset, whose batch size may be for larger data: beyond it sampling
# amplifies privacy hardly at all.
_LARGEST_RATE = 0.4


def resolve(
    config: TrainConfig,
    *,
    canaries: Canaries | None = None,
    plan: PrivacyPlan | None = None,
    rows: Any = None,
    table: TableSchema | None = None,
    quiet: bool = False,
) -> Experiment:
    """The experiment for `config`; it writes nothing but caches.

    Args:
      config: The settings; those that are None come from the preset.
      canaries: Canaries of a resumed run; by default they are sampled.
      plan: Plan of a resumed run; by default it is calibrated to the budget.
      rows: Own rows in memory, instead of the data of `config`.
      table: The schema that was learned; by default a placeholder takes its place, with which all
        can be checked before anything is released.
      quiet: Whether to show no progress.

    Raises:
      ValueError: A setting is out of range, or the data cannot be used.
    """
    made = _tuned(_without_plan(config, canaries, rows, table, quiet=quiet), quiet=quiet)
    return dataclasses.replace(made, plan=calibrated(made) if plan is None else plan)


def with_table(experiment: Experiment, table: TableSchema, *, quiet: bool = False) -> Experiment:
    """The experiment with the schema that was learned, on the data that it holds.

    Args:
      experiment: Of `resolve`, with a placeholder.
      table: The schema.
      quiet: Whether to show no progress.
    """
    preset = resolve_preset(experiment.config)
    parts = _with_table(experiment.parts, table)
    task = preset.model.build(parts.train, public_data(experiment.config, quiet))
    most = experiment.config.max_examples_per_unit or 1
    units = group_examples(task.encode(parts.train), parts.train.units(experiment.unit), most)
    made = dataclasses.replace(experiment, parts=parts, task=task, units=units)
    return dataclasses.replace(made, plan=calibrated(made))


def check(config: TrainConfig) -> None:
    """Refuses settings and data that no plan can use; it writes nothing but caches.

    Raises:
      ValueError: A setting is out of range, or the data cannot be used.
    """
    _without_plan(config, None, quiet=True)


def _without_plan(
    config: TrainConfig,
    canaries: Canaries | None,
    rows: Any = None,
    table: TableSchema | None = None,
    *,
    quiet: bool,
) -> Experiment:
    _check_settings(config)
    if config.start is not None:  # it has seen the rows that coins would leave out
        config = dataclasses.replace(config, audit_rows=0)
    config = with_task(config, rows)
    if not quiet and lacks_encoder(config):
        print(f"train: {advice(str(config.task))}", file=sys.stderr)
    # Kept by name: what a resumed run trains must not depend on what is installed.
    config = dataclasses.replace(config, preset=preset_name(config))
    preset = resolve_preset(config)
    data = load_data(config, rows)
    parts, opened = data.splits, data.splits.train.table
    if opened is not None and opened.is_open:
        parts = _with_table(parts, table or placeholder(opened))
    if not quiet:
        for decision in (*data.decisions, *data.skipped):
            print(f"data: {decision}", file=sys.stderr)
    task = preset.model.build(parts.train, public_data(config, quiet))
    unit = _unit(config, parts.train)
    most = config.max_examples_per_unit or (
        1 if unit == parts.train.unit else preset.max_examples_per_unit
    )
    generated = None if config.patience is None else _generated(parts)
    units = group_examples(task.encode(parts.train), parts.train.units(unit), most)
    if canaries is None:
        canaries = sample_canaries(config, units, len(parts.train.labels))
    config = dataclasses.replace(config, audit_rows=canaries.rows, max_examples_per_unit=most)
    units = flip_labels(units, canaries)
    check_trainable(config, preset.model, task)
    num_units = len(next(iter(units.values()))) - len(canaries.left_out)
    preset = _sized(config, preset, num_units)
    return Experiment(
        config=config,
        model=preset.model,
        private=preset.private,
        baseline=preset.baseline,
        epsilon=preset.epsilon,
        delta=preset.delta,
        tuned_on=preset.tuned_on,
        parts=parts,
        decisions=data.decisions,
        assumed_public=data.assumed_public,
        columns=data.columns,
        opened=opened,
        schema_plan=_schema_plan(config, preset, opened, num_units),
        generated=generated,
        task=task,
        unit=unit,
        units=units,
        canaries=canaries,
        plan=None,  # type: ignore[arg-type]  # calibration needs the rest
        start=_start(config, preset, task, unit),
    )


def _start(config: TrainConfig, preset: Preset, task: Task, unit: str) -> StartingHead | None:
    if config.start is None:
        return None
    return starting_head(config, task, epsilon=preset.epsilon, delta=preset.delta, unit=unit)


def public_data(config: TrainConfig, quiet: bool) -> PublicData:
    """Where public text and weights are."""
    return PublicData(config.data_dir, config.download, quiet, config.feature_cache)


def _with_table(parts: Splits, table: TableSchema) -> Splits:
    return Splits(*(dataclasses.replace(part, table=table) for part in parts))


def _schema_plan(
    config: TrainConfig, preset: Preset, opened: TableSchema | None, num_units: int
) -> HistogramPlan | None:
    """The plan of what the schema leaves open."""
    if opened is None or not opened.is_open:
        return None
    epsilon = config.learn_schema
    assert epsilon is not None  # `table_of` has checked it
    if not 0 < epsilon < preset.epsilon:
        raise ValueError(
            f"`--learn-schema` must be above 0 and below `--epsilon` ({preset.epsilon}), whose "
            f"part it is, got {epsilon}."
        )
    return schema_plan(
        opened,
        epsilon=epsilon,
        delta=preset.delta,
        num_units=num_units,
        rows_per_unit=config.max_examples_per_unit or 1,
        adjacency=config.adjacency,
    )


def _check_settings(config: TrainConfig) -> None:
    """Refuses what shows without data, such as an audit that does not fit the guarantee."""
    check_physical_batch_size(config.physical_batch_size)
    if config.audit and config.adjacency != "add-or-remove-one":
        raise ValueError(
            f"`--audit` needs `--adjacency` add-or-remove-one, got {config.adjacency}: its coins "
            "put canaries in or leave them out, while the claim is about replacing one."
        )
    if config.audit and config.learn_schema is not None:
        raise ValueError(
            "`--audit` cannot go with `--learn-schema`: its mislabelled canaries need the classes "
            "before they are learned. Give the schema by `--schema`."
        )
    if config.start is not None and (config.audit or config.audit_rows):
        raise ValueError(
            "`--start` cannot go with `--audit` or `--audit-rows`: the earlier run has seen the "
            "rows that their coins leave out. Audit that run."
        )
    if config.audit_canaries and not config.audit:
        raise ValueError(f"`--audit-canaries` {config.audit_canaries} needs `--audit`.")


def _unit(config: TrainConfig, train: Examples) -> str:
    unit = config.unit or train.unit
    if unit not in train.levels:
        raise ValueError(
            f"`--unit` must be one of {', '.join(train.levels)} for the data {config.data}, got "
            f"{unit!r}."
        )
    return unit


def check_trainable(config: TrainConfig, model: TaskModel, task: Task) -> None:
    """Refuses a choice that trains nothing, or a pattern that matches nothing."""
    shapes = jax.eval_shape(task.network.init, jax.random.key(0))
    try:
        if isinstance(model, PartlyTrained):
            model.check_names([path_name(path) for path, _ in leaves_with_path(shapes)])
        trainable_mask(shapes, trainable_leaves(model, task.config))
    except ValueError as error:
        raise ValueError(f"`--trainable` {config.trainable}: {error}") from None


def _sized(config: TrainConfig, preset: Preset, num_units: int) -> Preset:
    """The preset with a batch size that fits the data, unless the settings have one."""
    most = max(1, int(_LARGEST_RATE * num_units))
    if config.batch is None and preset.private.expected_batch > most:
        private = dataclasses.replace(preset.private, expected_batch=most)
        return dataclasses.replace(preset, private=private)
    return preset


def _generated(parts: Splits) -> Examples:
    """Generated rows that decide when to stop."""
    if parts.train.synthetic:
        return parts.valid
    if parts.train.name != "snips":
        raise ValueError(
            "`--patience` needs generated rows to evaluate on, which there are for the data "
            f"synthetic and snips only, got {parts.train.name!r}."
        )
    return snips.generated(_GENERATED_ROWS, seed=1)


def _tuned(experiment: Experiment, *, quiet: bool) -> Experiment:
    """The experiment with a fixed strategy for `tune`: a resumed run must not choose another."""
    config = experiment.config
    if config.strategy != TUNE:
        return experiment
    grad = clipped_grad(
        experiment.loss,
        clip_norm=experiment.private.clip_norm,
        strategy=TUNE,
        trainable=experiment.trainable,
    )
    size = config.physical_batch_size if isinstance(config.physical_batch_size, int) else 256
    rows = {name: leaf[:size] for name, leaf in experiment.training_units.items()}
    times = grad.tune(experiment.task.network.init(jax.random.key(0)), rows)
    if not quiet:
        every = ", ".join(f"{name} {ms:.1f} ms" for name, ms in times.items())
        print(f"strategy {grad.strategy}, of {every}", file=sys.stderr)
    config = dataclasses.replace(config, strategy=grad.strategy)
    return dataclasses.replace(experiment, config=config)
