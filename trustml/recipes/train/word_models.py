"""Small networks on hashed words for `trustml train`, with or without pretraining."""

import dataclasses
from typing import Any

import jax

from trustml.data import snips
from trustml.data.examples import Examples
from trustml.data.tokens import hash_tokenizer
from trustml.models.joint.pretraining import pretrain
from trustml.models.network import Network
from trustml.models.tasks import Task, hashed_words_task
from trustml.recipes.train.models import PublicData, TaskModel


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pretraining:
    """Pretraining on generated rows, which belong to nobody; it costs no privacy."""

    rows: int
    steps: int
    learning_rate: float = 3e-3
    batch: int = 256

    @property
    def disclosure(self) -> str:
        """The line about it in a statement."""
        return (
            f"start: pretrained on {self.rows:,} generated rows; no row of the "
            "data was read, but the grammar's authors know the SNIPS corpus: its schema, its "
            "counts of slots per intent, and five of its training rows"
        )

    def start(self, network: Network, buckets: int, seed: int) -> Any:
        """Weights trained on generated rows with the labels of SNIPS."""
        return pretrain(
            network,
            snips.generated(self.rows, seed=seed),
            hash_tokenizer(buckets),
            steps=self.steps,
            batch=self.batch,
            learning_rate=self.learning_rate,
            seed=seed,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class WordModel:
    """A small network on hashed words, from random weights or pretrained on generated rows.

    Args:
      network: Kind of network, for `trustml.models.joint.nlu.build`.
      sizes: `features`, `layers` and `embedding` of the network.
      buckets: Number of hash values, the rows of each embedding table.
      pretraining: None to start from random weights.
      max_length: Largest number of words of a row in training.
      evaluation_length: The same in evaluation.
      slot_weight: Weight of the loss per word, relative to the loss of the label.
    """

    network: str = "conv"
    sizes: dict[str, int] = dataclasses.field(
        default_factory=lambda: {"features": 64, "layers": 2, "embedding": 64}
    )
    buckets: int = 4096
    pretraining: Pretraining | None = None
    max_length: int = 16
    evaluation_length: int = 32
    slot_weight: float = 1.0

    def build(self, schema: Examples, public: PublicData | None = None) -> Task:
        """The task for data with the schema of `schema`; it needs no public text."""
        del public
        chosen = self.pretraining
        if chosen is not None and (schema.labels, schema.slots) != snips.SCHEMA[:2]:
            raise ValueError(
                "`--preset` must be one for these data: its weights are pretrained under the "
                f"labels of SNIPS, got {schema.name}. Add `--no-pretrain`, or leave the preset out."
            )

        def start(network, seed):
            if chosen is None:
                return network.init(jax.random.key(seed))
            return chosen.start(network, self.buckets, seed)

        return hashed_words_task(
            schema,
            network=self.network,
            sizes=self.sizes,
            buckets=self.buckets,
            max_length=self.max_length,
            evaluation_length=self.evaluation_length,
            slot_weight=self.slot_weight,
            start=start,
            disclosures=(chosen.disclosure if chosen else "start: random weights",),
        )

    def describe(self) -> dict[str, Any]:
        """Kind and sizes, for the report."""
        return {"network": self.network, **self.sizes, "buckets": self.buckets}

    def with_pretraining(self, pretrain: bool | None, preset: str) -> "WordModel":
        """The model without pretraining if `pretrain` is False.

        Raises:
          ValueError: `pretrain` is True, and the preset has no pretraining.
        """
        if pretrain and self.pretraining is None:
            raise ValueError(
                f"`--pretrain` must be off for the preset {preset!r}, which has no recipe."
            )
        return dataclasses.replace(self, pretraining=None) if pretrain is False else self

    def with_max_length(self, length: int) -> "WordModel":
        """The model with another `max_length`; evaluation reads at least as much."""
        longest = max(length, self.evaluation_length)
        return dataclasses.replace(self, max_length=length, evaluation_length=longest)

    def with_trainable(self, trainable: str | None) -> "WordModel":
        """The same model, since all leaves are trained.

        Raises:
          ValueError: `trainable` is another choice.
        """
        if trainable not in (None, "all"):
            raise ValueError(
                f"`--trainable` must be all for a network on hashed words, got {trainable!r}. "
                "Choose a language model by `--model`."
            )
        return self


def pretraining_steps(model: TaskModel) -> str | None:
    """Description of a model's pretraining on generated rows; None without any.

    >>> pretraining_steps(WordModel(pretraining=Pretraining(rows=2_000, steps=100)))
    '100 steps on 2,000 generated rows'
    """
    chosen = model.pretraining if isinstance(model, WordModel) else None
    return f"{chosen.steps:,} steps on {chosen.rows:,} generated rows" if chosen else None
