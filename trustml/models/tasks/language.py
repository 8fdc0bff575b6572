"""Tasks for language models: rows to tokens, and the output of heads to answers in words."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from trustml.data.examples import Examples
from trustml.models.joint.decoding import allowed_transitions
from trustml.models.network import Network
from trustml.models.tasks import tokens
from trustml.models.tasks.batches import by_length
from trustml.models.tasks.labels import PROBLEM_TYPES, read_labels
from trustml.models.tasks.task import Task, kept_by_part
from trustml.models.tasks.tokens import Limits
from trustml.models.tokenizers.text_tokenizer import TextTokenizer
from trustml.models.transformers.heads import answer_predict

_BATCH = 64  # texts that are written at a time
_QUICK = 250  # documents of a quick evaluation at most: a large decoder takes minutes for all

# Maps (params, tokens of each source, largest number of new tokens) to the new tokens of each.
Writer = Callable[[Any, Sequence[Sequence[int]], int], Sequence[Sequence[int]]]


def language_task(
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
    """A task for a language model with a head for it.

    Args:
      schema: Any part of the data; only its task and labels are read, not its rows.
      network: Network with the head, labels and tags of `schema`.
      tokenizer: The tokenizer of the model.
      start: Maps a seed to initial weights.
      limits: Largest numbers of tokens of a row, in training and in evaluation.
      config: Plain values from which the network can be rebuilt.
      disclosures: What data the initial weights come from.
      write: Generates the texts of "seq2seq".

    Raises:
      ValueError: The task is "seq2seq" and there is no `write`.
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
        predict.scores if schema.task in ("classify", "multilabel", "nlu") else None,
    )


class _Predictor:
    """The predictions of a network."""

    def __init__(self, network: Network, tokenizer: TextTokenizer, limits: Limits, write):
        self.network, self.tokenizer, self.limits, self.write = network, tokenizer, limits, write
        self.answer = jax.jit(jax.vmap(self._answer, (None, 0)))
        self.classes = jax.jit(jax.vmap(self._classes, (None, 0)))
        self.encoded = kept_by_part(lambda examples: tokens.encode(examples, tokenizer, limits))
        self.windows = kept_by_part(self._windows)
        self.words = kept_by_part(self._words)

    def scores(self, params: Any, examples: Examples) -> np.ndarray:
        """The score of each class, float32 [row, class]."""
        return by_length(self.classes, params, self.encoded(examples).arrays)

    def _classes(self, params, unit):
        scores = self.network.logits(params, unit)
        return scores[0] if isinstance(scores, tuple) else scores

    def _answer(self, params, unit):
        """The best span of a window and its score."""
        start, end = self.network.logits(params, unit)
        first, last = answer_predict((start, end), unit, None)
        return start[first] + end[last], first, last

    def _windows(self, examples: Examples):
        windows = [
            window
            for index, row in enumerate(examples.rows)
            for window in tokens.windows(index, row, self.tokenizer, self.limits.source)
        ]
        return windows, tokens.window_arrays(windows, self.limits.source)

    def _words(self, examples: Examples):
        """The index of the word of each token, by row."""
        length = self.limits.source
        return [self.tokenizer.encode_words(row.tokens, length).words for row in examples.rows]


def _read_classes(predict: _Predictor, params, examples, quick):
    del quick
    predicted = by_length(predict.network.predict, params, predict.encoded(examples).arrays)
    return read_labels(examples, predicted)


def _read_tags(predict: _Predictor, params, examples, quick):
    del quick
    tags = by_length(predict.network.predict, params, predict.encoded(examples).arrays)
    return _tags_of_words(predict, tags, examples)


def _read_both(predict: _Predictor, params, examples, quick):
    del quick
    classes, tags = by_length(predict.network.predict, params, predict.encoded(examples).arrays)
    labels = [examples.labels[index] for index in classes]
    return labels, _tags_of_words(predict, tags, examples)


def _tags_of_words(predict: _Predictor, token_tags, examples):
    """Tags of tokens as tags of words; words beyond the limit are "O"."""
    tags, rows = examples.tags, []
    allowed = allowed_transitions(tags)
    for row, words, numbers in zip(examples.rows, predict.words(examples), token_tags, strict=True):
        word_tags = ["O"] * len(row.tokens)
        before = 0
        for word, first, tag in zip(words, tokens.first_tokens(words), numbers, strict=False):
            if word is not None and first:
                # An `I-` after another slot or "O" violates BIO: it counts as a `B-`.
                tag = int(tag) if allowed[before, tag] else _begin(tags, tag)
                word_tags[word], before = tags[tag], tag
        rows.append(tuple(word_tags))
    return rows


def _begin(tags: Sequence[str], tag: int) -> int:
    return tags.index(f"B-{tags[tag][2:]}")


def _read_answers(predict: _Predictor, params, examples, quick):
    """The span with the highest score over all windows of the context, for each question."""
    del quick
    windows, arrays = predict.windows(examples)
    scores, firsts, lasts = by_length(predict.answer, params, arrays)
    best: list[tuple[float, str]] = [(-np.inf, "")] * len(examples)
    for window, score, first, last in zip(windows, scores, firsts, lasts, strict=True):
        if any(window.context) and score > best[window.row][0]:
            characters = window.spans[first][0], window.spans[last][1]
            best[window.row] = (score, examples.rows[window.row].context[slice(*characters)])
    return [text for _, text in best]


def _read_likelihoods(predict: _Predictor, params, examples, quick):
    """Sums over the chunks of each document; with `quick` of evenly spaced documents alone.

    The others have sums of 0, which a perplexity does not count.
    """
    encoded = predict.encoded(examples)
    apart = -(-len(examples) // _QUICK) if quick else 1
    chunks = np.flatnonzero(encoded.row_of % apart == 0)
    likelihoods = by_length(predict.network.predict, params, encoded.take(chunks))
    sums = np.zeros((len(examples), likelihoods.shape[1]))
    np.add.at(sums, encoded.row_of[chunks], likelihoods)
    return sums


def _read_texts(predict: _Predictor, params, examples, quick):
    arrays = predict.encoded(examples).arrays
    likelihoods = by_length(predict.network.predict, params, arrays)
    if quick:
        return None, likelihoods
    if not np.isfinite(likelihoods).all():  # a model that diverged: `generate` raises at its scores
        return [""] * len(examples), likelihoods
    sources = [ids[mask].tolist() for ids, mask in zip(arrays["ids"], arrays["mask"], strict=True)]
    written = [
        predict.tokenizer.decode(row)
        for first in range(0, len(sources), _BATCH)
        for row in predict.write(params, sources[first : first + _BATCH], predict.limits.target)
    ]
    return written, likelihoods


_READERS = {
    **dict.fromkeys(PROBLEM_TYPES, _read_classes),
    "tag": _read_tags,
    "nlu": _read_both,
    "qa": _read_answers,
    "lm": _read_likelihoods,
    "seq2seq": _read_texts,
}
