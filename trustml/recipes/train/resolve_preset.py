"""The preset of a run, with the settings that the user gave."""

import dataclasses

from trustml.models.joint.nlu import ENCODERS
from trustml.models.tabular import NETWORKS
from trustml.models.tasks.words import KINDS as WORD_TASKS
from trustml.recipes.train import feature_models
from trustml.recipes.train.config import TrainConfig
from trustml.recipes.train.feature_models import FEATURES, FeatureModel
from trustml.recipes.train.models import TaskModel
from trustml.recipes.train.presets import PRESETS, Preset
from trustml.recipes.train.table_models import TableModel
from trustml.recipes.train.text_models import MINI, TextModel
from trustml.recipes.train.word_models import WordModel

# Peaks for Adam on pretrained weights of the size of BERT-base.
_RATES = {"private": 5e-4, "baseline": 5e-5}
# From a head that is trained already: large steps would lose it again.
_STARTED = {"steps": 30, "learning_rate": 1e-3, "encoder_scale": 0.5}


def resolve_preset(config: TrainConfig) -> Preset:
    """The preset of `config`, or that of its data or task, with the settings of `config`.

    Args:
      config: Settings with data and task, from `trustml.recipes.train.loading.with_task`.

    Raises:
      ValueError: The preset is for another task, or its model does not support a setting.
    """
    name = preset_name(config)
    preset = _changed(PRESETS[name], epsilon=config.epsilon, delta=config.delta)
    if config.task != preset.task:
        raise ValueError(
            f"`--preset` must be one for the task {config.task!r}, got {name!r}, which is for "
            f"{preset.task!r}."
        )
    preset = _for_model(preset, _model(preset, config, name))
    if config.start is not None:
        preset = dataclasses.replace(preset, private=_changed(preset.private, **_STARTED))
    rates = {"schedule": config.schedule, "warmup": config.warmup}
    private = _changed(
        preset.private,
        expected_batch=config.batch,
        steps=config.steps,
        clip_norm=config.clip_norm,
        learning_rate=config.learning_rate,
        **rates,
    )
    baseline = _changed(
        preset.baseline,
        steps=config.baseline_steps,
        learning_rate=config.baseline_learning_rate,
        **rates,
    )
    return dataclasses.replace(preset, private=private, baseline=baseline)


def _changed(settings, **values):
    """A dataclass with the values that are not None replaced."""
    given = {name: value for name, value in values.items() if value is not None}
    return dataclasses.replace(settings, **given)


def preset_name(config: TrainConfig) -> str:
    """Name of the preset: the one in `config`, else that of the model, the data or the task.

    Without a model, texts to classify or to tag are read as features where their encoder is
    installed and the data have no preset of their own; `--trainable` other than features trains
    the encoder under the same head, unless the model has its own.

    >>> preset_name(TrainConfig(task="nlu", data="synthetic"))
    'synthetic'

    Raises:
      ValueError: There is no such preset.
    """
    if config.preset is not None:
        if config.preset not in PRESETS:
            raise ValueError(
                f"`--preset` must be one of {', '.join(PRESETS)}, got {config.preset!r}."
            )
        return config.preset
    task, data, model = str(config.task), str(config.data), config.model
    if _has_encoder(config):
        if config.trainable in (None, FEATURES):
            return f"{task}-{FEATURES}"
        has_head = model is not None and feature_models.has_own_head(model)
        if f"{task}-encoder" in PRESETS and not has_head:
            return f"{task}-encoder"
    if model not in (None, *ENCODERS) and f"{task}-text" in PRESETS:
        return f"{task}-text"
    return data if _has_own(config) else task


def lacks_encoder(config: TrainConfig) -> bool:
    """Whether hashed words are the default because no encoder is installed."""
    named = (config.preset, config.model, config.trainable)
    return (
        named == (None,) * 3
        and config.task in feature_models.TASKS
        and not _has_own(config)
        and not feature_models.installed()
    )


def _has_own(config: TrainConfig) -> bool:
    """Whether there is a preset for the data."""
    own = PRESETS.get(str(config.data))
    return own is not None and own.task == config.task


def _has_encoder(config: TrainConfig) -> bool:
    if config.task not in feature_models.TASKS:
        return False
    if config.model is None:
        named = config.trainable is not None
        return feature_models.installed() and (named or not _has_own(config))
    if config.model in (*ENCODERS, *MINI):
        return False
    return feature_models.is_encoder(config.model, download=config.download)


def _for_model(preset: Preset, model: TaskModel) -> Preset:
    """The preset with another model; a pretrained one gets usual learning rates."""
    if model == preset.model:
        return preset
    rates = {}
    if isinstance(model, TextModel) and model.name not in MINI:
        rates = {
            arm: dataclasses.replace(getattr(preset, arm), learning_rate=rate)
            for arm, rate in _RATES.items()
        }
    tuned_on = preset.tuned_on
    if rates or getattr(model, "name", None) != getattr(preset.model, "name", None):
        tuned_on = "not tuned for this model, but usual for its kind"
    return dataclasses.replace(preset, model=model, tuned_on=tuned_on, **rates)


def _model(preset: Preset, config: TrainConfig, name: str) -> TaskModel:
    """The preset's model with the settings of `config`."""
    model = preset.model
    if isinstance(model, TableModel):
        if config.model not in (None, *NETWORKS):
            raise ValueError(
                f"`--model` must be {' or '.join(NETWORKS)} for a table, got {config.model!r}."
            )
        model = dataclasses.replace(model, network=config.model or model.network)
    elif isinstance(model, FeatureModel):
        model = dataclasses.replace(model, name=config.model or model.name)
    elif config.model in ENCODERS:
        if preset.task not in WORD_TASKS:
            raise ValueError(
                f"`--model` must be a language model for the task {preset.task!r}, got "
                f"{config.model!r}. Try mini-bert, mini-gpt2 or mini-bart, or a folder."
            )
        words = model if isinstance(model, WordModel) else WordModel()
        model = dataclasses.replace(words, network=config.model)
    elif config.model is not None:
        text = model if isinstance(model, TextModel) else TextModel(name=config.model)
        model = dataclasses.replace(text, name=config.model)
    if config.max_length is not None:
        model = model.with_max_length(config.max_length)
    return model.with_pretraining(config.pretrain, name).with_trainable(config.trainable)
