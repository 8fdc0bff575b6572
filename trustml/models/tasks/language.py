"""Tasks on language models: rows to tokens, and what the heads say back to answers in words."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from trustml.data.examples import Examples
from trustml.models.joint.decoding import allowed_transitions
from trustml.models.network import Network
from trustml.models.tasks import tokens
from trustml.models.tasks.task import Task
from trustml.models.tasks.tokens import Limits
from trustml.models.tokenizers.text_tokenizer import TextTokenizer
from trustml.models.transformers.heads import answer_predict

BATCH = 64  # rows that a prediction takes at a time
_PARTS = 4  # of the data that are kept encoded: a run evaluates the same ones again and again

# (params, tokens of each source, most tokens to write) to the tokens written for each.
Writer = Callable[[Any, Sequence[Sequence[int]], int], Sequence[Sequence[int]]]


def language_problem(
    schema: Examples,
    *,
    network: Network,
    tokenizer: TextTokenizer,
    start: Callable[[int], Any],
    limits: Limits,
    config: dict[str, Any],
    disclosures: Sequence[str],
    write: Writer | None = None,
) -> Task:
    """A problem for a language model with a head for the task.

    Args:
      schema: Any part of the data: its task and its labels are read, its rows are not.
      network: With the head, labels and tags of `schema`.
      tokenizer: Of the model.
      start: seed to the weights to start from.
      limits: Pieces read of a row, in training and in evaluation.
      config: What rebuilds the network.
      disclosures: What the start has seen.
      write: For "seq2seq": how texts are written.

    Raises:
      ValueError: The task writes and there is no `write`.
    """
    if schema.task == "seq2seq" and write is None:
        raise ValueError("`write` must be given for the task 'seq2seq', got None.")
    read = _READERS[schema.task]
    predict = _Predictor(network, tokenizer, limits, write)

    return Task(
        schema.task,
        network,
        lambda examples: tokens.encode(examples, tokenizer, limits),
        lambda params, examples, quick: read(predict, params, examples, quick),
        start,
        config,
        (tokenizer.statement, *disclosures),
        tokenizer,
    )


class _Predictor:
    """A network's predictions, some rows at a time."""

    def __init__(self, network: Network, tokenizer: TextTokenizer, limits: Limits, write):
        self.network, self.tokenizer, self.limits, self.write = network, tokenizer, limits, write
        self.answer = jax.jit(jax.vmap(self._answer, (None, 0)))
        kept = functools.lru_cache(_PARTS)
        self.encoded = kept(lambda examples: tokens.encode(examples, tokenizer, limits))
        self.windows = kept(self._windows)
        self.words = kept(self._words)

    def _answer(self, params, unit):
        """The best span of a window and its score."""
        start, end = self.network.logits(params, unit)
        first, last = answer_predict((start, end), unit, None)
        return start[first] + end[last], first, last

    def _windows(self, examples: Examples):
        found = [
            window
            for place, row in enumerate(examples.rows)
            for window in tokens.windows(place, row, self.tokenizer, self.limits.source)
        ]
        return found, tokens.window_arrays(found, self.limits.source)

    def _words(self, examples: Examples):
        """The word that each piece of each row is of."""
        length = self.limits.source
        return [self.tokenizer.encode_words(row.tokens, length).words for row in examples.rows]

    def of(self, function: Callable, params: Any, arrays: dict[str, np.ndarray]) -> Any:
        """`function(params, arrays)`, computed for `BATCH` rows at a time."""
        size, found = len(next(iter(arrays.values()))), []
        for first in range(0, size, BATCH):
            rows = np.minimum(np.arange(first, first + BATCH), size - 1)  # the last are repeated
            part = function(params, {name: leaf[rows] for name, leaf in arrays.items()})
            kept = min(BATCH, size - first)
            found.append(jax.tree.map(lambda leaf, kept=kept: np.asarray(leaf)[:kept], part))
        return jax.tree.map(lambda *parts: np.concatenate(parts), *found)


def _read_classes(predict: _Predictor, params, examples, quick):
    del quick
    places = predict.of(predict.network.predict, params, predict.encoded(examples).arrays)
    return [examples.labels[place] for place in places]


def _read_tags(predict: _Predictor, params, examples, quick):
    del quick
    found = predict.of(predict.network.predict, params, predict.encoded(examples).arrays)
    return _tags_of_words(predict, found, examples)


def _read_both(predict: _Predictor, params, examples, quick):
    del quick
    places, found = predict.of(predict.network.predict, params, predict.encoded(examples).arrays)
    labels = [examples.labels[place] for place in places]
    return labels, _tags_of_words(predict, found, examples)


def _tags_of_words(predict: _Predictor, found, examples):
    """Tags of tokens as tags of words; words beyond the limit are "O"."""
    tags, rows = examples.tags, []
    allowed = allowed_transitions(tags)
    for row, words, places in zip(examples.rows, predict.words(examples), found, strict=True):
        said = ["O"] * len(row.tokens)
        before = 0
        for word, first, place in zip(words, tokens.first_tokens(words), places, strict=False):
            if word is not None and first:
                # An `I-` that continues nothing is read as the beginning it must be.
                place = int(place) if allowed[before, place] else _begin(tags, place)
                said[word], before = tags[place], place
        rows.append(tuple(said))
    return rows


def _begin(tags: Sequence[str], place: int) -> int:
    return tags.index(f"B-{tags[place][2:]}")


def _read_answers(predict: _Predictor, params, examples, quick):
    """For each question, the span with the highest score over all windows of its context."""
    del quick
    found, arrays = predict.windows(examples)
    scores, firsts, lasts = predict.of(predict.answer, params, arrays)
    best: list[tuple[float, str]] = [(-np.inf, "")] * len(examples)
    for window, score, first, last in zip(found, scores, firsts, lasts, strict=True):
        if any(window.context) and score > best[window.row][0]:
            characters = window.spans[first][0], window.spans[last][1]
            best[window.row] = (score, examples.rows[window.row].context[slice(*characters)])
    return [text for _, text in best]


def _read_likelihoods(predict: _Predictor, params, examples, quick):
    """Sums over the tokens of each document."""
    del quick
    encoded = predict.encoded(examples)
    found = predict.of(predict.network.predict, params, encoded.arrays)
    sums = np.zeros((len(examples), 2))
    np.add.at(sums, encoded.row_of, found)
    return sums


def _read_texts(predict: _Predictor, params, examples, quick):
    arrays = predict.encoded(examples).arrays
    likelihoods = predict.of(predict.network.predict, params, arrays)
    if quick:
        return None, likelihoods
    if not np.isfinite(likelihoods).all():  # a model that diverged writes nothing
        return [""] * len(examples), likelihoods
    sources = [ids[mask].tolist() for ids, mask in zip(arrays["ids"], arrays["mask"], strict=True)]
    written = [
        predict.tokenizer.decode(row)
        for first in range(0, len(sources), BATCH)
        for row in predict.write(params, sources[first : first + BATCH], predict.limits.target)
    ]
    return written, likelihoods


_READERS = {
    "classify": _read_classes,
    "tag": _read_tags,
    "nlu": _read_both,
    "qa": _read_answers,
    "lm": _read_likelihoods,
    "seq2seq": _read_texts,
}
