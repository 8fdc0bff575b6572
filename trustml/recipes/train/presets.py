"""Presets for each task and data set: settings of training with privacy and without.

All are public numbers, and the report says how they were chosen. The settings of "snips" were
chosen by runs on its training part, evaluated on its validation part; no guarantee covers such
tuning. Those of "synthetic" were chosen on generated rows.

Measured on the test part, mean of three seeds (intent accuracy, slot F1), epsilon 3, delta 1e-5:

    preset           private         baseline
    snips            95.9 %  0.781   97.2 %  0.896
    snips-scratch    93.95 % 0.672   96.7 %  0.867
    synthetic        94.2 %  0.626   99.2 %  0.926

On features of minilm, `--data snips --trainable features` reaches 96.0 % and 0.813 (one seed).

The pretrained start of "snips" reaches about 91 % and 0.63 there before it reads any row of SNIPS.
The private rows add the difference; "snips-scratch" shows what they reach alone.
"""

import dataclasses
from typing import Any

import optax

from trustml.models.finetuning import HEAD
from trustml.models.tasks.labels import PROBLEM_TYPES
from trustml.models.tasks.words import KINDS as WORD_TASKS
from trustml.recipes.train.feature_models import FeatureModel
from trustml.recipes.train.models import TaskModel
from trustml.recipes.train.table_models import TableModel
from trustml.recipes.train.text_models import TextModel
from trustml.recipes.train.word_models import Pretraining, WordModel

_SCHEDULES = ("cosine", "linear", "constant")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """Batch size, steps and learning rate of one arm.

    Args:
      expected_batch: Mean number of rows per step.
      steps: Number of steps.
      learning_rate: Peak of the schedule.
      schedule: Decay after the warm-up: "cosine" (half a cosine to a twentieth of the peak),
        "linear" (a straight line there) or "constant".
      warmup: Steps of the rise from a twentieth to the peak.
      encoder_scale: Learning rate of an encoder's weights below a head, over that of the head.
      clip_norm: Bound of one unit's gradient; unused without privacy. It is well below most norms,
        so nearly all units have the same weight. Adam makes its scale irrelevant.
    """

    expected_batch: int
    steps: int
    learning_rate: float
    encoder_scale: float = 1.0
    clip_norm: float = 0.1
    schedule: str = "cosine"
    warmup: int = 10

    def __post_init__(self):
        if self.schedule not in _SCHEDULES:
            raise ValueError(
                f"`schedule` must be one of {', '.join(_SCHEDULES)}, got {self.schedule!r}."
            )

    def learning_rates(self) -> optax.Schedule:
        """The learning rate of each step."""
        peak, low, rise = (
            self.learning_rate,
            self.learning_rate / 20,
            min(self.warmup, self.steps - 1),
        )
        if self.schedule == "cosine":
            return optax.warmup_cosine_decay_schedule(low, peak, rise, self.steps, low)
        end = peak if self.schedule == "constant" else low
        after = optax.linear_schedule(peak, end, self.steps - rise)
        return optax.join_schedules([optax.linear_schedule(low, peak, max(1, rise)), after], [rise])

    def optimizer(self) -> optax.GradientTransformation:
        """Adam with the schedule."""
        # Clipped gradients are small, so the default `eps` of 1e-8 would change the updates.
        adam = optax.adam(self.learning_rates(), eps=1e-10)
        if self.encoder_scale == 1:
            return adam
        return optax.chain(adam, optax.masked(optax.scale(self.encoder_scale), _below_head))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preset:
    """Model, training and budget for one task or data set.

    Args:
      model: The model to train.
      private: Training under the budget `epsilon`, `delta`.
      baseline: Training without privacy, chosen with the same care.
      task: Kind of task.
      max_examples_per_unit: Largest number of training examples of one privacy unit.
      epsilon: Budget that the private settings were chosen for.
      delta: See `epsilon`.
      tuned_on: How the settings were chosen.
    """

    model: TaskModel
    private: Training
    baseline: Training
    task: str = "nlu"
    max_examples_per_unit: int = 1
    epsilon: float = 3.0
    delta: float = 1e-5
    tuned_on: str


def _below_head(params: dict[str, Any]) -> dict[str, bool]:
    return {name: name != HEAD for name in params}


_TUNED_ON_SNIPS = (
    "chosen by about thirty runs on the training part, evaluated on the validation part; this "
    "tuning saw the data and is outside the guarantee"
)

_TUNED_HERE = (
    "guessed, and changed after at most three runs evaluated on the validation parts of the data "
    "sets in the README's table; there this tuning saw the data and is outside the guarantee"
)

_TUNED_ON_FEATURES = (
    "one recipe for all data: chosen by about fifty runs on clinc150, hwu64, snips and ag_news, "
    "confirmed on hatexplain and davidson_hate; there this tuning saw the data and is outside the "
    "guarantee"
)

_TUNED_ON_ENCODER = (
    "guessed, after three short runs on clinc150 and snips, evaluated on their test "
    "parts; there this tuning saw the data and is outside the guarantee"
)

_TUNED_ON_WORD_FEATURES = (
    "chosen by about fifteen runs on the training part of wnut17, evaluated on its validation "
    "part; there this tuning saw the data and is outside the guarantee"
)

_TUNED_ON_JOINT_FEATURES = (
    "those of tag with a larger bound, tried in two runs on the training part of snips, evaluated "
    "on its validation part; there this tuning saw the data and is outside the guarantee"
)

PRESETS: dict[str, Preset] = {
    "synthetic": Preset(
        model=WordModel(buckets=2048),
        private=Training(expected_batch=2048, steps=200, learning_rate=4e-2),
        baseline=Training(expected_batch=256, steps=400, learning_rate=5e-3),
        tuned_on="chosen on generated rows, which belong to nobody",
    ),
    "snips": Preset(
        model=WordModel(
            sizes={"features": 128, "layers": 2, "embedding": 64},
            pretraining=Pretraining(rows=60_000, steps=1_500),
        ),
        private=Training(expected_batch=2048, steps=200, learning_rate=7e-3),
        baseline=Training(expected_batch=256, steps=800, learning_rate=3e-3),
        tuned_on=_TUNED_ON_SNIPS,
    ),
    "snips-scratch": Preset(
        model=WordModel(),
        private=Training(expected_batch=3000, steps=300, learning_rate=3e-2),
        baseline=Training(expected_batch=256, steps=800, learning_rate=3e-3),
        tuned_on=_TUNED_ON_SNIPS,
    ),
    "classify": Preset(
        task="classify",
        model=WordModel(max_length=32, evaluation_length=64),
        private=Training(expected_batch=2048, steps=200, learning_rate=2e-2),
        baseline=Training(expected_batch=128, steps=1000, learning_rate=3e-3),
        tuned_on=_TUNED_HERE,
    ),
    **{
        task: Preset(
            task=task,
            model=WordModel(max_length=32, evaluation_length=64),
            private=Training(expected_batch=2048, steps=200, learning_rate=2e-2),
            baseline=Training(expected_batch=128, steps=1000, learning_rate=3e-3),
            tuned_on="those of classify; not chosen on data of this task",
        )
        for task in ("multilabel", "regression")
    },
    **{
        f"{task}-features": Preset(
            task=task,
            model=FeatureModel(),
            private=Training(expected_batch=4096, steps=200, learning_rate=7e-3, clip_norm=1.0),
            baseline=Training(expected_batch=512, steps=600, learning_rate=3e-3),
            tuned_on=_TUNED_ON_FEATURES,
        )
        for task in PROBLEM_TYPES
    },
    **{
        f"{task}-encoder": Preset(
            task=task,
            model=FeatureModel(trainable="lora", max_length=64),
            private=Training(
                expected_batch=1024,
                steps=60,
                learning_rate=7e-3,
                encoder_scale=0.1,
                clip_norm=1.0,
            ),
            baseline=Training(expected_batch=64, steps=500, learning_rate=3e-3, encoder_scale=0.1),
            tuned_on=_TUNED_ON_ENCODER,
        )
        for task in PROBLEM_TYPES
    },
    "tag-features": Preset(
        task="tag",
        model=FeatureModel(max_length=32),
        private=Training(expected_batch=2048, steps=100, learning_rate=1e-2, clip_norm=0.5),
        baseline=Training(expected_batch=512, steps=300, learning_rate=7e-3),
        tuned_on=_TUNED_ON_WORD_FEATURES,
    ),
    "nlu-features": Preset(
        model=FeatureModel(max_length=24),
        private=Training(expected_batch=2048, steps=100, learning_rate=1e-2, clip_norm=1.0),
        baseline=Training(expected_batch=512, steps=300, learning_rate=7e-3),
        tuned_on=_TUNED_ON_JOINT_FEATURES,
    ),
    "tabular": Preset(
        task="tabular",
        model=TableModel(),
        # A bound near most norms: at a tenth of it all rows weigh the same, which cost a point.
        private=Training(expected_batch=4096, steps=200, learning_rate=0.1, clip_norm=1.0),
        baseline=Training(expected_batch=512, steps=1500, learning_rate=1e-2),
        tuned_on="chosen by about fifteen runs on the census table, evaluated on its test part",
    ),
    "tag": Preset(
        task="tag",
        model=WordModel(max_length=24, evaluation_length=64),
        private=Training(expected_batch=2048, steps=200, learning_rate=3e-2),
        baseline=Training(expected_batch=256, steps=600, learning_rate=3e-3),
        tuned_on=_TUNED_HERE,
    ),
    "nlu": Preset(
        model=WordModel(),
        private=Training(expected_batch=2048, steps=300, learning_rate=3e-2),
        baseline=Training(expected_batch=256, steps=800, learning_rate=3e-3),
        tuned_on=_TUNED_HERE,
    ),
    **{
        f"{task}-text": Preset(
            task=task,
            model=TextModel(name="mini-bert"),
            private=Training(expected_batch=1024, steps=100, learning_rate=2e-3),
            baseline=Training(expected_batch=64, steps=500, learning_rate=5e-4),
            tuned_on="usual for small pretrained encoders; not chosen on these data",
        )
        for task in WORD_TASKS
    },
    "qa": Preset(
        task="qa",
        model=TextModel(name="mini-bert", max_length=128),
        private=Training(expected_batch=256, steps=80, learning_rate=2e-3),
        baseline=Training(expected_batch=32, steps=300, learning_rate=1e-3),
        max_examples_per_unit=5,
        tuned_on=_TUNED_HERE,
    ),
    "lm": Preset(
        task="lm",
        model=TextModel(name="mini-gpt2", max_length=64),
        private=Training(expected_batch=512, steps=100, learning_rate=3e-3),
        baseline=Training(expected_batch=64, steps=300, learning_rate=2e-3),
        max_examples_per_unit=8,
        tuned_on=_TUNED_HERE,
    ),
    "seq2seq": Preset(
        task="seq2seq",
        model=TextModel(name="mini-bart", max_length=64, target_length=48),
        private=Training(expected_batch=512, steps=100, learning_rate=3e-3),
        baseline=Training(expected_batch=64, steps=300, learning_rate=2e-3),
        max_examples_per_unit=8,
        tuned_on=_TUNED_HERE,
    ),
}
