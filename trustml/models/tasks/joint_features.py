"""The task "nlu" on features of a frozen encoder: the heads of "classify" and of "tag"."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from trustml.data.examples import Examples, intents_only, slots_only
from trustml.models.network import Network
from trustml.models.tasks.task import Encoded, Task, kept_by_part

_OF_TEXT = "text_"  # before the names of the arrays of whole texts
_HEADS = ("intent", "slots")


def joint_features_task(
    schema: Examples, texts: Task, words: Task, *, config: dict[str, Any]
) -> Task:
    """A task for intents by features of texts and slots by features of words.

    One unit is one row: its loss is the sum of both, so one bound covers both heads.

    Args:
      schema: Any part of the data, of the task "nlu"; its rows are not read.
      texts: Of `features_task`, for the intents alone.
      words: Of `word_features_task`, for the slots alone.
      config: Plain values from which both can be made again.
    """
    network = _network(texts.network, words.network)
    intents, slots = kept_by_part(intents_only), kept_by_part(slots_only)

    def encode(examples: Examples) -> Encoded:
        whole = texts.encode(intents(examples)).arrays
        arrays = words.encode(slots(examples)).arrays
        arrays |= {"label": whole["label"], _OF_TEXT + "features": whole["features"]}
        return Encoded(arrays, np.arange(len(examples)))

    def predict(params, examples, quick):
        return (
            texts.predict(params["intent"], intents(examples), quick),
            words.predict(params["slots"], slots(examples), quick),
        )

    def scores(params, examples):
        assert texts.scores is not None
        return texts.scores(params["intent"], intents(examples))

    return Task(
        "nlu",
        network,
        encode,
        predict,
        lambda seed: dict(zip(_HEADS, (texts.start(seed), words.start(seed)), strict=True)),
        {
            **config,
            "architectures": texts.config["architectures"],
            "task": "nlu",
            "labels": list(schema.labels),
            "slots": list(schema.slots),
            "dtype": "float32",
        },
        _together(texts.disclosures, words.disclosures),
        scores=scores,
    )


def _together(*lines: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(line for each in lines for line in each))


def _network(texts: Network, words: Network) -> Network:
    """Both heads, each on its own arrays of a unit."""

    def whole(unit):
        return {**unit, "features": unit[_OF_TEXT + "features"]}

    def init(key):
        return dict(zip(_HEADS, (texts.init(key), words.init(key)), strict=True))

    def loss(params, unit):
        return texts.loss(params["intent"], whole(unit)) + words.loss(params["slots"], unit)

    def predict(params, units):
        intent = texts.predict(params["intent"], whole(units))
        return intent, words.predict(params["slots"], units)

    def logits(params, unit):
        intent = texts.logits(params["intent"], whole(unit))
        return intent, words.logits(params["slots"], unit)

    return Network(init, loss, jax.jit(predict), logits)
