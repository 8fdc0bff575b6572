"""The task "tag" on features of a frozen encoder, computed once; a head alone is trained."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from trustml.data.examples import Examples
from trustml.data.tokens import padded
from trustml.models.pretrained.sentence import TokenStates
from trustml.models.tasks.features import STATEMENT
from trustml.models.tasks.task import FEATURES, Encoded, Task, kept_by_part
from trustml.models.tasks.words import in_words
from trustml.models.word_features import WordFeatures, build_tag_head, placed

_ROWS = 256  # that are tagged at a time


def word_features_task(
    schema: Examples,
    features: WordFeatures,
    *,
    max_length: int,
    evaluation_length: int,
    config: dict[str, Any],
    disclosures: Sequence[str] = (),
    read: Callable[[Examples], TokenStates] | None = None,
) -> Task:
    """A task for a linear head that tags words by features.

    Args:
      schema: Any part of the data; only its task and labels are read, not its rows.
      features: The features.
      max_length: Words of a row that are read in training.
      evaluation_length: The same in evaluation; later words are tagged "O".
      config: Plain values from which `features` can be made again.
      disclosures: What data the encoder's weights come from.
      read: The features of the rows of a part; by default computed, and kept for a few parts.

    Raises:
      ValueError: Another kind of task.
    """
    if schema.task != "tag":
        raise ValueError(f"`schema` must be of the task 'tag', got {schema.task!r}.")
    tags = schema.tags
    network = build_tag_head(features.width, tags)
    of = read or kept_by_part(lambda part: features(tokens_of(part)))

    def encode(examples: Examples) -> Encoded:
        place = {tag: index for index, tag in enumerate(tags)}
        named = padded([[place[tag] for tag in row.tags] for row in examples.rows], max_length)
        inputs = _inputs(examples, of(examples), slice(0, len(examples)), max_length)
        return Encoded({**inputs, "tags": named}, np.arange(len(examples)))

    def predict(params, examples, quick):
        del quick
        states, size = of(examples), len(examples)
        found = [
            network.predict(
                params, _inputs(examples, states, slice(start, start + _ROWS), evaluation_length)
            )
            for start in range(0, size, _ROWS)
        ]
        return in_words((None, np.concatenate(found)), examples, (), tags)

    return Task(
        "tag",
        network,
        encode,
        predict,
        lambda seed: network.init(jax.random.key(seed)),
        {
            **config,
            "architectures": [FEATURES],
            "task": "tag",
            "labels": list(schema.labels),
            "max_length": max_length,
            "evaluation_length": evaluation_length,
            "dtype": "float32",
        },
        (STATEMENT, *disclosures),
    )


def _inputs(
    examples: Examples, states: TokenStates, some: slice, length: int
) -> dict[str, np.ndarray]:
    rows = examples.rows[some]
    words = np.array([len(row.tokens) for row in rows])
    vectors = placed(states, some.start, some.start + len(rows), length)
    return {"features": vectors, "mask": np.arange(length) < words[:, None]}


def tokens_of(examples: Examples) -> list[Sequence[str]]:
    """The words of rows."""
    return [row.tokens for row in examples.rows]
