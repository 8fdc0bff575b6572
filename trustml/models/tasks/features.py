"""Tasks on features of a frozen encoder: they are computed once, and a head alone is trained."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from trustml.data.examples import Examples
from trustml.models.features import NORM, TextFeatures, build_feature_head
from trustml.models.tasks.labels import PROBLEM_TYPES, label_array, num_outputs, read_labels
from trustml.models.tasks.task import FEATURES, Encoded, Task, kept_by_part

_CERTAINTY = 10.0  # score of a text that is the name of its class
STATEMENT = (
    "features: of a row by itself, by a frozen encoder whose weights are taken to be public; "
    "rounding apart, no other row moves them"
)

Read = Callable[[Examples], Float[np.ndarray, "row feature"]]


def features_task(
    schema: Examples,
    features: TextFeatures,
    *,
    config: dict[str, Any],
    disclosures: Sequence[str] = (),
    read: Read | None = None,
) -> Task:
    """A task for a linear head on features of whole texts.

    Args:
      schema: Any part of the data; only its task and labels are read, not its rows.
      features: The features.
      config: Plain values from which `features` can be made again.
      disclosures: What data the encoder's weights come from.
      read: The features of the rows of a part; by default computed, and kept for a few parts.

    Returns:
      A task whose classes start from the features of their names.

    Raises:
      ValueError: Another kind of task.
    """
    kind = schema.task
    if kind not in PROBLEM_TYPES:
        kinds = ", ".join(PROBLEM_TYPES)
        raise ValueError(f"`schema` must be of a task on whole texts ({kinds}), got {kind!r}.")
    network = build_feature_head(features.width, num_outputs(schema), PROBLEM_TYPES[kind])
    of = read or kept_by_part(lambda part: features(texts_of(part)))

    def encode(examples: Examples) -> Encoded:
        arrays = {"features": of(examples), "label": label_array(examples)}
        return Encoded(arrays, np.arange(len(examples)))

    def predict(params, examples, quick):
        del quick
        found = network.predict(params, {"features": of(examples)})
        return read_labels(examples, np.asarray(found))

    def scores(params, examples):
        head = jax.tree.map(np.asarray, params["head"])
        return of(examples) @ head["kernel"] + head["bias"]

    return Task(
        kind,
        network,
        encode,
        predict,
        lambda seed: {"head": start_head(schema, features)},
        {**config, "architectures": [FEATURES], "task": kind, **facts_of(schema)},
        (STATEMENT, *disclosures),
        scores=scores if schema.labels else None,
    )


def facts_of(schema: Examples) -> dict[str, Any]:
    """What a rebuilt task needs to know of the schema, for `Task.config`."""
    numbers = {} if schema.value_range is None else {"value_range": list(schema.value_range)}
    return {"labels": list(schema.labels), **numbers, "dtype": "float32"}


def start_head(schema: Examples, features: TextFeatures) -> dict[str, Any]:
    """The head that training starts from: zeros, or for classes the features of their names."""
    outputs = num_outputs(schema)
    zeros = build_feature_head(features.width, outputs, PROBLEM_TYPES[schema.task])
    head = zeros.init(jax.random.key(0))["head"]
    if schema.task != "classify":
        return head
    names = features([words_of_label(label) for label in schema.labels])
    return {**head, "kernel": jnp.asarray(np.float32(_CERTAINTY / NORM**2) * names.T)}


def texts_of(examples: Examples) -> list[str]:
    """The texts of rows."""
    return [row.text for row in examples.rows]


def words_of_label(label: str) -> str:
    """The name of a class as a text.

    >>> words_of_label("BookRestaurant"), words_of_label("card_arrival")
    ('book restaurant', 'card arrival')
    """
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", label)
    return re.sub(r"[_\W]+", " ", apart).strip().lower() or label
