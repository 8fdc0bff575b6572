"""Predictions and scores of a joint model on utterances."""

from typing import Any, NamedTuple

import numpy as np

from trustml.data import Examples, Tokenizer, encode
from trustml.metrics import JointScores, joint_scores
from trustml.models.joint.nlu import Network


class Predictions(NamedTuple):
    """One intent per utterance and one BIO tag per token, in the order of the rows."""

    intents: list[str]
    tags: list[tuple[str, ...]]


def predict(
    network: Network, params: Any, examples: Examples, tokenizer: Tokenizer, *, max_length: int = 32
) -> Predictions:
    """Predicts every utterance; tokens beyond `max_length` are tagged "O"."""
    arrays = encode(examples, tokenizer, max_length)
    intents, tags = map(np.asarray, network.predict(params, arrays))
    named = []
    for numbers, row in zip(tags, examples.rows, strict=True):
        lost = max(0, len(row.tokens) - max_length)
        read = [examples.tags[number] for number in numbers[: len(row.tokens)]]
        named.append((*read, *("O",) * lost))
    return Predictions([examples.labels[intent] for intent in intents], named)


def evaluate(
    network: Network, params: Any, examples: Examples, tokenizer: Tokenizer, *, max_length: int = 32
) -> JointScores:
    """Intent accuracy and slot scores on `examples`; private if they are."""
    predicted = predict(network, params, examples, tokenizer, max_length=max_length)
    rows = examples.rows
    return joint_scores(
        [row.intent for row in rows], predicted.intents, [row.tags for row in rows], predicted.tags
    )
