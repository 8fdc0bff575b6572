"""What a network says of a corpus, in words and in figures."""

from typing import Any, NamedTuple

import numpy as np

from trustml.data.corpus import Corpus, encode
from trustml.data.tokens import Tokenizer
from trustml.metrics import JointScores, joint_scores
from trustml.models.joint.nlu import Network


class Predictions(NamedTuple):
    """One intent per utterance and one BIO tag per token, in the order of the corpus."""

    intents: list[str]
    tags: list[tuple[str, ...]]


def predict(
    network: Network, params: Any, corpus: Corpus, tokenizer: Tokenizer, *, max_length: int = 32
) -> Predictions:
    """Predicts every utterance; tokens beyond `max_length` are tagged "O"."""
    arrays = encode(corpus, tokenizer, max_length)
    intents, tags = map(np.asarray, network.predict(params, arrays))
    rows = [
        [corpus.tags[tag] for tag in row[: len(said.tokens)]]
        for row, said in zip(tags, corpus.utterances, strict=True)
    ]
    lost = [max(0, len(said.tokens) - max_length) for said in corpus.utterances]
    return Predictions(
        [corpus.intents[intent] for intent in intents],
        [(*row, *("O",) * more) for row, more in zip(rows, lost, strict=True)],
    )


def evaluate(
    network: Network, params: Any, corpus: Corpus, tokenizer: Tokenizer, *, max_length: int = 32
) -> JointScores:
    """Intent accuracy and slot scores on `corpus`; private if the corpus is."""
    found = predict(network, params, corpus, tokenizer, max_length=max_length)
    return joint_scores(
        [said.intent for said in corpus.utterances],
        found.intents,
        [said.tags for said in corpus.utterances],
        found.tags,
    )
