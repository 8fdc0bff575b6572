"""Everything that the trainings of one call share: data, network, plan, steps."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from trustml.cli.config import TrainConfig, changed
from trustml.cli.presets import PRESETS, Preset
from trustml.data import encode, load, snips
from trustml.data.corpus import Corpus
from trustml.models.nlu import ENCODERS, Network
from trustml.plan import PrivacyPlan
from trustml.training import TrainStep, baseline_step, private_step

_PUBLIC_ROWS = 500


class Canaries(NamedTuple):
    """Rows of the training part that a fair coin each put in or left out. Private."""

    members: np.ndarray  # indices into the training part
    nonmembers: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON, marked."""
        return {
            "private": "who was in the training data, of the rows that the audit looks at",
            "members": self.members.tolist(),
            "nonmembers": self.nonmembers.tolist(),
        }


class Setting(NamedTuple):
    """What all trainings of one call share."""

    config: TrainConfig
    preset: Preset
    train_corpus: Corpus  # the whole training part, rows left out included
    valid: Corpus
    judged: Corpus
    public: Corpus | None  # generated rows on which to decide when to stop
    network: Network
    rows: dict[str, np.ndarray]  # of the whole training part
    canaries: Canaries

    @property
    def train(self) -> dict[str, np.ndarray]:
        """The rows that are trained on."""
        kept = np.delete(np.arange(len(self.train_corpus)), self.canaries.nonmembers)
        return {name: leaf[kept] for name, leaf in self.rows.items()}

    @property
    def units(self) -> int:
        """How many rows are trained on. Public: the coins know nothing of the rows."""
        return len(self.train_corpus) - len(self.canaries.nonmembers)


def make_setting(config: TrainConfig, canaries: Canaries | None = None) -> Setting:
    """Loads the data and settles every setting; nothing is written.

    Args:
      config: The settings.
      canaries: Those of a run that is continued; by default coins are tossed.

    Raises:
      ValueError: A setting is out of range, or the data cannot be used.
    """
    if config.on not in ("test", "valid"):
        raise ValueError(f"`--on` must be test or valid, got {config.on!r}.")
    splits = load(config.data, config.data_dir, download=config.download)
    preset = make_preset(config)
    public = None
    if config.patience is not None:
        public = splits.valid if splits.train.synthetic else snips.generated(_PUBLIC_ROWS, seed=1)
    return Setting(
        config,
        preset,
        splits.train,
        splits.valid,
        splits.test if config.on == "test" else splits.valid,
        public,
        preset.build(splits.train),
        encode(splits.train, preset.tokenizer(), preset.max_length),
        canaries or _toss(config, len(splits.train)),
    )


def make_preset(config: TrainConfig) -> Preset:
    """The preset that `config` names, with what `config` changes."""
    name = config.preset or config.data
    if name not in PRESETS:
        raise ValueError(f"`--preset` must be one of {', '.join(PRESETS)}, got {name!r}.")
    preset = changed(
        PRESETS[name], network=config.model, epsilon=config.epsilon, delta=config.delta
    )
    if preset.network not in ENCODERS:
        raise ValueError(f"`--model` must be one of {', '.join(ENCODERS)}, got {preset.network!r}.")
    rates = {"schedule": config.schedule, "warmup": config.warmup}
    private = changed(
        preset.private,
        expected_batch=config.batch,
        steps=config.steps,
        clip_norm=config.clip_norm,
        learning_rate=config.learning_rate,
        **rates,
    )
    baseline = changed(preset.baseline, steps=config.baseline_steps, **rates)
    preset = dataclasses.replace(preset, private=private, baseline=baseline)
    if config.pretrain is False:
        return dataclasses.replace(preset, pretraining=None)
    if config.pretrain and preset.pretraining is None:
        raise ValueError(f"`--pretrain` must be off for the preset {name!r}, which has no recipe.")
    return preset


def _toss(config: TrainConfig, size: int) -> Canaries:
    """Chooses the canaries and tosses their coins; the one-run audit rests on fair coins."""
    if not 0 <= config.audit_rows <= size // 2:
        raise ValueError(
            f"`--audit-rows` must be from 0 to {size // 2}, half of the training rows, got "
            f"{config.audit_rows}."
        )
    toss = np.random.default_rng(config.seed)
    chosen = np.sort(toss.choice(size, config.audit_rows, replace=False))
    inside = toss.random(config.audit_rows) < 0.5
    return Canaries(chosen[inside], chosen[~inside])


def private_plan(setting: Setting) -> PrivacyPlan:
    """The plan within the budget."""
    config, preset = setting.config, setting.preset
    return PrivacyPlan.calibrate(
        epsilon=preset.epsilon,
        delta=preset.delta,
        num_units=setting.units,
        expected_batch=preset.private.expected_batch,
        steps=preset.private.steps,
        clip_norm=preset.private.clip_norm,
        clipping=config.clipping,
        sampling=config.sampling,
        adjacency=config.adjacency,
        accountant=config.accountant,
        unit=setting.train_corpus.privacy_unit,
    )


def make_steps(setting: Setting, plan: PrivacyPlan) -> dict[str, TrainStep]:
    """The private step, and the baseline's unless it is not wanted."""
    preset, config = setting.preset, setting.config
    private = private_step(
        setting.network.loss,
        preset.private.optimizer(),
        plan,
        strategy=config.strategy,
        microbatch=config.microbatch,
    )
    if not config.baseline:
        return {"private": private}
    batch = min(preset.baseline.expected_batch, setting.units)
    draws = PrivacyPlan(
        clip_norm=1.0,
        noise_multiplier=0.0,
        sample_rate=batch / setting.units,
        steps=preset.baseline.steps,
        expected_batch=batch,
        num_units=setting.units,
    )
    baseline = baseline_step(
        setting.network.loss, preset.baseline.optimizer(), draws, microbatch=config.microbatch
    )
    return {"private": private, "baseline": baseline}
