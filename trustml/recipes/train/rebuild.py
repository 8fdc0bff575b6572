"""The task of a run from its folder: network, tokenizer and labels, without any row of the data."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from trustml.data.examples import Examples, intents_only, slots_only
from trustml.data.tables import TableSchema
from trustml.data.unlabelled import schema_of
from trustml.models.tasks import Task, hashed_words_task, table_task
from trustml.models.tasks.task import FEATURES, FINETUNED, HASHED_WORDS, LANGUAGE_MODEL, TABLE
from trustml.training.runs.folder import RunFolder


class Rebuilt(NamedTuple):
    """A task without data; its `start` gives random weights."""

    task: Task
    schema: Examples  # of `schema_of`


def rebuild(config: Mapping[str, Any], folder: RunFolder) -> Rebuilt:
    """The task that `Task.config` describes, and its schema.

    Args:
      config: The `network` of a run's `resolved.yaml`.
      folder: The run's folder, which holds the tokenizer of a language model.

    Raises:
      ValueError: The description or the tokenizer is damaged.
    """
    try:
        architecture = _ARCHITECTURES[config["architectures"][0]]
        schema = architecture.schema(config)
        return Rebuilt(architecture.task(config, schema, folder), schema)
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(
            f"{folder.resolved} must describe a network, got one with {error!r}. Restore the file "
            "from a backup."
        ) from None


def _schema_of_words(config: Mapping[str, Any]) -> Examples:
    if config["task"] == "tag":
        return schema_of("tag", labels=config["slots"])
    numbers = config.get("value_range")
    return schema_of(
        config["task"], labels=config["intents"], slots=config["slots"], value_range=numbers
    )


def _word_task(config: Mapping[str, Any], schema: Examples, folder: RunFolder) -> Task:
    del folder
    length = config["max_length"]
    return hashed_words_task(
        schema,
        network=config["kind"],
        sizes=config["sizes"],
        buckets=config["tokenizer"]["buckets"],
        max_length=length,
        evaluation_length=length,
    )


def _schema_of_language(config: Mapping[str, Any]) -> Examples:
    slots = tuple(tag[2:] for tag in config["tags"] if tag.startswith("B-"))
    if config["task"] == "tag":
        return schema_of("tag", labels=slots)
    numbers = config.get("value_range")
    labels = config["labels"] if numbers is None else ()  # the one output of a number has a name
    return schema_of(config["task"], labels=labels, slots=slots, value_range=numbers)


def _language_task(config: Mapping[str, Any], schema: Examples, folder: RunFolder) -> Task:
    from trustml.models.tasks.language import language_task
    from trustml.models.tasks.tokens import Limits
    from trustml.recipes.train.text_models import rebuilt, writer

    model = rebuilt(dict(config), folder.tokenizer)
    return language_task(
        schema,
        network=model.network,
        tokenizer=model.tokenizer,
        start=lambda seed: model.network.init(jax.random.key(seed)),
        limits=Limits(config["max_length"], config["target_length"]),
        config=dict(config),
        disclosures=(),
        write=writer(model) if config["task"] == "seq2seq" else None,
    )


def _schema_of_features(config: Mapping[str, Any]) -> Examples:
    numbers = config.get("value_range")
    slots = config.get("slots", ())
    return schema_of(config["task"], labels=config["labels"], slots=slots, value_range=numbers)


def _features_task(config: Mapping[str, Any], schema: Examples, folder: RunFolder) -> Task:
    from trustml.models.tasks.features import features_task
    from trustml.models.tasks.joint_features import joint_features_task
    from trustml.models.tasks.word_features import word_features_task
    from trustml.recipes.train.feature_models import rebuilt_features, rebuilt_word_features

    if config["task"] == "nlu":
        parts = (("classify", "texts", intents_only), ("tag", "words", slots_only))
        heads = (
            _features_task({**config, **config[name], "task": task}, of(schema), folder)
            for task, name, of in parts
        )
        return joint_features_task(schema, *heads, config=dict(config))
    if config["task"] == "tag":
        lengths = {name: config[name] for name in ("max_length", "evaluation_length")}
        words = rebuilt_word_features(config)
        return word_features_task(schema, words, config=dict(config), **lengths)
    return features_task(schema, rebuilt_features(config), config=dict(config))


def _finetuning_task(config: Mapping[str, Any], schema: Examples, folder: RunFolder) -> Task:
    from trustml.models.tasks.finetuning import finetuning_task
    from trustml.recipes.train.feature_models import rebuilt_features
    from trustml.recipes.train.trainable import adapters_of

    del folder
    lora = adapters_of(config["train"], config["lora_rank"])
    return finetuning_task(schema, rebuilt_features(config), lora=lora, config=dict(config))


def _schema_of_table(config: Mapping[str, Any]) -> Examples:
    return schema_of("tabular", table=TableSchema.from_dict(config["schema"], "the network"))


def _table_task(config: Mapping[str, Any], schema: Examples, folder: RunFolder) -> Task:
    del folder
    return table_task(schema, network=config["kind"], features=config["features"])


class _Architecture(NamedTuple):
    schema: Callable[[Mapping[str, Any]], Examples]
    task: Callable[[Mapping[str, Any], Examples, RunFolder], Task]


# By the first of `architectures` in `Task.config`.
_ARCHITECTURES = {
    FEATURES: _Architecture(_schema_of_features, _features_task),
    FINETUNED: _Architecture(_schema_of_features, _finetuning_task),
    HASHED_WORDS: _Architecture(_schema_of_words, _word_task),
    TABLE: _Architecture(_schema_of_table, _table_task),
    LANGUAGE_MODEL: _Architecture(_schema_of_language, _language_task),
}
