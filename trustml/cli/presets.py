"""Settings that work: one entry per data set, for training with a guarantee and without.

Public numbers, all of them; how they were chosen is part of what the report says. The settings of
"snips" were chosen by runs on its training part, judged on its validation part: tuning on the data,
which no guarantee covers. Those of "synthetic" were chosen on rows that are nobody's.

Measured on the test part, mean of three seeds (intent accuracy, slot F1), epsilon 3, delta 1e-5:

    preset           private         baseline
    snips            95.9 %  0.781   97.2 %  0.896
    snips-scratch    93.95 % 0.672   96.7 %  0.867
    synthetic        94.2 %  0.626   99.2 %  0.926

Before any row of SNIPS is read, the pretrained start of "snips" reaches about 91 % and 0.63 there:
what the private rows add is the difference, and "snips-scratch" is what they do alone.
"""

import dataclasses
from typing import Any

import jax
import optax

from trustml.data import snips
from trustml.data.corpus import Corpus
from trustml.data.tokens import Tokenizer, hash_tokenizer
from trustml.models.nlu import Network, build
from trustml.models.pretraining import pretrain

SCHEDULES = ("cosine", "linear", "constant")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """How long, how fast, how many rows at a time.

    Args:
      expected_batch: Rows per step on average.
      steps: Steps of the run.
      learning_rate: Peak of the schedule.
      schedule: What follows the rise: "cosine" (half a cosine down to a twentieth), "linear" (a
        straight line there) or "constant".
      warmup: Steps of the rise from a twentieth to the peak.
      clip_norm: Bound of one unit's gradient; not read without privacy. Well below most norms,
        so that nearly every unit counts alike; Adam makes the scale itself irrelevant.
    """

    expected_batch: int
    steps: int
    learning_rate: float
    clip_norm: float = 0.1
    schedule: str = "cosine"
    warmup: int = 10

    def __post_init__(self):
        if self.schedule not in SCHEDULES:
            raise ValueError(
                f"`schedule` must be one of {', '.join(SCHEDULES)}, got {self.schedule!r}."
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
        # The bound is small and so are sums of bounded gradients: an `eps` of 1e-8 would count.
        return optax.adam(self.learning_rates(), eps=1e-10)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pretraining:
    """Training on generated rows before the data's own: nobody's rows, so it costs no privacy."""

    rows: int
    steps: int
    learning_rate: float = 3e-3
    batch: int = 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preset:
    """Everything that a run on one data set needs.

    Args:
      network: As `build` knows it.
      sizes: `features`, `layers` and `embedding` of the network.
      buckets: Rows of the table of embeddings; tokens are hashed.
      private: Training under the budget `epsilon`, `delta`.
      baseline: Training without privacy, chosen with the same care.
      pretraining: None to start from random weights.
      max_length: Tokens kept of an utterance in training. Evaluation reads more.
      slot_weight: Of the loss per token against the loss of the intent.
      epsilon: Budget the private settings were chosen for.
      delta: See `epsilon`.
      tuned_on: How the settings were chosen.
    """

    network: str
    sizes: dict[str, int]
    buckets: int
    private: Training
    baseline: Training
    pretraining: Pretraining | None = None
    max_length: int = 16
    evaluation_length: int = 32
    slot_weight: float = 1.0
    epsilon: float = 3.0
    delta: float = 1e-5
    tuned_on: str

    @property
    def disclosures(self) -> tuple[str, ...]:
        """What a statement must say beside epsilon: what else, if anything, saw the data."""
        start = "start: random weights"
        if self.pretraining:
            start = (
                f"start: pretrained on {self.pretraining.rows:,} generated rows; no row of the "
                "data was read, but the grammar's authors know the SNIPS corpus: its schema, its "
                "counts of slots per intent, and five of its training rows"
            )
        return (self.tokenizer().statement, start, f"settings: {self.tuned_on}")

    def tokenizer(self) -> Tokenizer:
        """Ids by hashing: no vocabulary of the data."""
        return hash_tokenizer(self.buckets)

    def build(self, corpus: Corpus) -> Network:
        """The network for the labels of `corpus`."""
        return build(
            self.network,
            table_sizes=self.tokenizer().sizes,
            intents=len(corpus.intents),
            tags=corpus.tags,
            slot_weight=self.slot_weight,
            **self.sizes,
        )

    def start(self, network: Network, *, seed: int = 0) -> Any:
        """Weights to start from: pretrained on generated rows, or random; no data is read."""
        if self.pretraining is None:
            return network.init(jax.random.key(seed))
        chosen = self.pretraining
        return pretrain(
            network,
            snips.generated(chosen.rows, seed=seed),
            self.tokenizer(),
            steps=chosen.steps,
            batch=chosen.batch,
            learning_rate=chosen.learning_rate,
            seed=seed,
        )


_TUNED_ON_SNIPS = (
    "chosen by about thirty runs on the training part, judged on the validation part; this tuning "
    "saw the data and is outside the guarantee"
)

PRESETS: dict[str, Preset] = {
    "synthetic": Preset(
        network="conv",
        sizes={"features": 64, "layers": 2, "embedding": 64},
        buckets=2048,
        private=Training(expected_batch=2048, steps=200, learning_rate=4e-2),
        baseline=Training(expected_batch=256, steps=400, learning_rate=5e-3),
        tuned_on="chosen on generated rows, which are nobody's",
    ),
    "snips": Preset(
        network="conv",
        sizes={"features": 128, "layers": 2, "embedding": 64},
        buckets=4096,
        private=Training(expected_batch=2048, steps=200, learning_rate=7e-3),
        baseline=Training(expected_batch=256, steps=800, learning_rate=3e-3),
        tuned_on=_TUNED_ON_SNIPS,
        pretraining=Pretraining(rows=60_000, steps=1_500),
    ),
    "snips-scratch": Preset(
        network="conv",
        sizes={"features": 64, "layers": 2, "embedding": 64},
        buckets=4096,
        private=Training(expected_batch=3000, steps=300, learning_rate=3e-2),
        baseline=Training(expected_batch=256, steps=800, learning_rate=3e-3),
        tuned_on=_TUNED_ON_SNIPS,
    ),
}
