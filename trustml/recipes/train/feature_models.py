"""Features of an encoder and a private head for `trustml train`, with the encoder or without."""

import dataclasses
import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from trustml.checksums import file_sha256
from trustml.data.examples import Examples, intents_only, slots_only
from trustml.models.feature_cache import FeatureCache
from trustml.models.features import TextFeatures
from trustml.models.pretrained.hub import find_model
from trustml.models.pretrained.registry import REGISTRY, find_files, install_advice
from trustml.models.pretrained.sentence import SentenceEncoder
from trustml.models.tasks import Task
from trustml.models.tasks.features import features_task, texts_of
from trustml.models.tasks.finetuning import finetuning_task
from trustml.models.tasks.joint_features import joint_features_task
from trustml.models.tasks.labels import PROBLEM_TYPES
from trustml.models.tasks.word_features import tokens_of, word_features_task
from trustml.models.transformers.adapters import Trainable
from trustml.models.transformers.config import ModelConfig
from trustml.models.word_features import WordFeatures
from trustml.recipes.train.models import PublicData
from trustml.recipes.train.trainable import adapters_of, check_trained, trained_leaves
from trustml.recipes.waiting import row_bar

ENCODER = "minilm"  # of the registry
FEATURES = "features"  # what `--trainable` calls them
TASKS = (*PROBLEM_TYPES, "tag", "nlu")
_EVALUATED = 64  # words of a row that are tagged at least


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureModel:
    """A linear head on features of an encoder, which are computed once where it stays frozen.

    Args:
      name: The encoder: a name of the registry, or a folder.
      trainable: What is trained beside the head: "features" for nothing, "all", "lora", "bitfit",
        "last-K", or a pattern of names.
      max_length: Tokens beyond which a text is cut; words of a sentence to tag, in training.
      from_scratch: Whether the encoder has random weights, to compare with.
    """

    name: str = ENCODER
    trainable: str = FEATURES
    max_length: int = 128
    from_scratch: bool = False

    def build(self, schema: Examples, public: PublicData) -> Task:
        """The task for data with the schema of `schema`.

        Raises:
          ValueError: The task has no such head, or the encoder cannot be read.
        """
        self._check(schema.task)
        try:
            digest = _digest(find_model(self.name, download=public.download))
            encoder = _encoder(self.name, digest, self.from_scratch)
        except ValueError as error:
            raise ValueError(f"`--model` must be an encoder, got {self.name}: {error}") from None
        start = f"start: pretrained weights of {Path(self.name).name}, taken to be public"
        if self.from_scratch:
            start = "start: an encoder of random weights"
        config = {
            "encoder": self.name,
            "encoder_sha256": digest,
            "random_weights": self.from_scratch,
        }
        make = {"tag": self._of_words, "nlu": self._of_both}.get(schema.task, self._of_texts)
        return make(schema, encoder, config, start, public)

    def _check(self, task: str) -> None:
        if task not in TASKS:
            raise ValueError(
                f"`--trainable` must not be {FEATURES} for the task {task!r}, which has no "
                "head on them. Choose all, lora or bitfit."
            )
        if task not in PROBLEM_TYPES and self.trainable != FEATURES:
            raise ValueError(
                f"`--trainable` must be {FEATURES} for the preset {task}-features, got "
                f"{self.trainable!r}. Choose the preset {task}-text."
            )

    def _of_texts(self, schema: Examples, encoder, config, start: str, public: PublicData) -> Task:
        last = encoder.config.num_layers
        length = min(self.max_length, encoder.max_length)
        features = TextFeatures(encoder, (last // 2, last), length)
        named = ("head: starts from the names of the classes, which are public",)
        disclosures = (start, *(named if schema.task == "classify" else ()))
        config = {**config, "layers": list(features.layers), "max_length": length}
        if self.trainable != FEATURES:
            lora = adapters_of(self.trainable)
            trained = {"train": self.trainable, "lora_rank": lora.rank if lora else None}
            config |= {**trained, "num_layers": last}
            return finetuning_task(
                schema, features, lora=lora, config=config, disclosures=disclosures
            )
        return features_task(
            schema,
            features,
            config=config,
            disclosures=disclosures,
            read=lambda part: _computed(features, part, public),
        )

    def _of_words(self, schema: Examples, encoder, config, start: str, public: PublicData) -> Task:
        features = WordFeatures(encoder, encoder.config.num_layers // 2)
        return word_features_task(
            schema,
            features,
            max_length=self.max_length,
            evaluation_length=max(self.max_length, _EVALUATED),
            config={**config, "layers": [features.layer]},
            disclosures=(start,),
            read=lambda part: _computed(features, part, public),
        )

    def _of_both(self, schema: Examples, encoder, config, start: str, public: PublicData) -> Task:
        given = (encoder, config, start, public)
        whole = dataclasses.replace(self, max_length=encoder.max_length)
        texts = whole._of_texts(intents_only(schema), *given)
        words = self._of_words(slots_only(schema), *given)
        own = {"texts": _own(texts.config), "words": _own(words.config)}
        return joint_features_task(schema, texts, words, config={**config, **own})

    def describe(self) -> dict[str, Any]:
        """Kind and sizes, for the report."""
        name = Path(self.name).name
        train = "a head on features" if self.trainable == FEATURES else self.trainable
        return {"network": name, "train": train, "max_length": self.max_length}

    def trainable_leaves(self, config: dict[str, Any]) -> Trainable | None:
        """The trained leaves; None for all, as a frozen encoder is no part of the network."""
        if self.trainable == FEATURES:
            return None
        return trained_leaves(self.trainable, config["num_layers"])

    def check_names(self, names: list[str]) -> None:
        """Refuses a pattern of names without any match."""
        if self.trainable != FEATURES:
            check_trained(self.trainable, names)

    def with_pretraining(self, pretrain: bool | None, preset: str) -> "FeatureModel":
        """The model with an encoder of random weights if `pretrain` is False."""
        del preset
        return dataclasses.replace(self, from_scratch=pretrain is False)

    def with_max_length(self, length: int) -> "FeatureModel":
        """The model with another `max_length`."""
        return dataclasses.replace(self, max_length=length)

    def with_trainable(self, trainable: str | None) -> "FeatureModel":
        """The model with another choice of trained leaves."""
        return self if trainable is None else dataclasses.replace(self, trainable=trainable)


def _own(config: Mapping[str, Any]) -> dict[str, Any]:
    """What rebuilds the features of one head, beside what the heads share."""
    names = ("layers", "max_length", "evaluation_length")
    return {name: config[name] for name in names if name in config}


def installed() -> bool:
    """Whether the encoder of the default is here."""
    return find_files(REGISTRY[ENCODER]) is not None


# What hashed words and features reach: `bench/accuracy.py`, and `--model conv` of `trustml train`.
_REACHED = {
    "classify": ": on 151 intents at epsilon 3 they reach 36 %, features of {encoder} 79 %",
    "tag": ": on entities of WNUT-17 at epsilon 8 they reach an F1 of 0, features of {encoder} .37",
    "nlu": ": on slots of SNIPS at epsilon 3 they reach an F1 of .67, features of {encoder} .81",
}


def advice(task: str) -> str:
    """What hashed words cost, and how to get the encoder, in one line."""
    reached = _REACHED.get(task, "").format(encoder=ENCODER)
    return (
        f"hashed words, since no encoder is installed{reached}. {install_advice(REGISTRY[ENCODER])}"
    )


def is_encoder(name: str, *, download: bool = False) -> bool:
    """Whether a name or folder holds an encoder, which `FeatureModel` reads."""
    from trustml.models.pretrained.loading import ENCODERS

    found = _config_of(name, download)
    return found is not None and found.model_type in ENCODERS


def has_own_head(name: str) -> bool:
    """Whether a name or folder holds a classifier: fine-tuning goes on with its head."""
    found = _config_of(name, False)
    return found is not None and found.written_for.endswith("ForSequenceClassification")


def _config_of(name: str, download: bool) -> ModelConfig | None:
    try:
        folder = find_model(name, download=download)
        return ModelConfig.from_file(folder / "config.json")
    except (ValueError, OSError):
        return None


def rebuilt_features(config: Mapping[str, Any]) -> TextFeatures:
    """The features of whole texts of a run from its `resolved.yaml`.

    Raises:
      ValueError: The encoder is gone, or is another one.
    """
    return TextFeatures(_same_encoder(config), tuple(config["layers"]), config["max_length"])


def rebuilt_word_features(config: Mapping[str, Any]) -> WordFeatures:
    """As `rebuilt_features`, of words."""
    (layer,) = config["layers"]
    return WordFeatures(_same_encoder(config), layer)


def _same_encoder(config: Mapping[str, Any]) -> SentenceEncoder:
    name, digest = config["encoder"], config["encoder_sha256"]
    found = _digest(find_model(name))
    if found != digest:
        raise ValueError(
            f"The encoder {name} must be the one of the run, with the SHA-256 {digest}, got "
            f"{found}. Restore its files."
        )
    return _encoder(name, digest, config["random_weights"])


def _digest(folder: Path) -> str:
    """SHA-256 over names and contents of all files that an encoder may be read from."""
    whole = hashlib.sha256()
    files = [path for path in folder.rglob("*") if path.suffix in (".json", ".safetensors", ".txt")]
    for path in sorted(files):
        own = bytes.fromhex(file_sha256(path))
        whole.update(path.relative_to(folder).as_posix().encode() + b"\0" + own)
    return whole.hexdigest()


@functools.lru_cache(maxsize=2)  # cells of a study share it
def _encoder(name: str, digest: str, random: bool) -> SentenceEncoder:
    del digest  # other weights under the same name are another encoder
    encoder = SentenceEncoder.from_folder(name)
    if not random:
        return encoder
    unit = {"ids": jnp.zeros(1, jnp.int32), "mask": jnp.ones(1, bool)}
    weights = encoder.module.init(jax.random.key(0), unit)["params"]
    return dataclasses.replace(encoder, params=(weights, encoder.params[1]))


@functools.lru_cache(maxsize=6)  # the parts of two sets: repeats and cells of a study share them
def _computed(features: TextFeatures | WordFeatures, part: Examples, public: PublicData) -> Any:
    rows = tokens_of(part) if isinstance(features, WordFeatures) else texts_of(part)
    compute: Any = features
    if public.feature_cache is not None:
        compute = functools.partial(FeatureCache(Path(public.feature_cache)).features, features)
    with row_bar(f"features of the {part.split} part", quiet=public.quiet) as show:
        return compute(rows, show)
