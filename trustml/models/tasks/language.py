"""Tasks on language models: rows to pieces, and what the heads say back to answers in words."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from trustml.data.examples import Examples
from trustml.models.decoding import allowed_transitions
from trustml.models.network import Network
from trustml.models.tasks import pieces
from trustml.models.tasks.pieces import Limits
from trustml.models.tasks.problem import Problem
from trustml.models.text_tokenizer import TextTokenizer

BATCH = 64  # rows that a prediction takes at a time
_LONGEST_ANSWER = 30  # pieces

# (params, pieces of each source, most pieces to write) to the pieces written for each.
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
) -> Problem:
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

    def encode(examples: Examples):
        return pieces.encode(examples, tokenizer, limits)

    predict = _Predictor(network, tokenizer, limits, write)

    return Problem(
        schema.task,
        network,
        encode,
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
        self.logits = jax.jit(jax.vmap(network.logits, (None, 0)))

    def encoded(self, examples: Examples):
        return pieces.encode(examples, self.tokenizer, self.limits)

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
    """Tags of pieces as tags of words; words beyond the limit are "O"."""
    tags, rows = examples.tags, []
    allowed = allowed_transitions(tags)
    for row, places in zip(examples.rows, found, strict=True):
        words = predict.tokenizer.encode_words(row.tokens, predict.limits.source).words
        said = ["O"] * len(row.tokens)
        before = 0
        for word, first, place in zip(words, pieces.first_pieces(words), places, strict=False):
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
    length = predict.limits.source
    found = [
        window
        for place, row in enumerate(examples.rows)
        for window in pieces.windows(place, row, predict.tokenizer, length)
    ]
    starts, ends = predict.of(predict.logits, params, pieces.window_arrays(found, length))
    best: list[tuple[float, str]] = [(-np.inf, "")] * len(examples)
    for window, start, end in zip(found, starts, ends, strict=True):
        if not any(window.context):
            continue
        score, (first, last) = best_span(start, end, window.context)
        if score > best[window.row][0]:
            characters = window.spans[first][0], window.spans[last][1]
            text = examples.rows[window.row].context[slice(*characters)]
            best[window.row] = (score, text)
    return [text for _, text in best]


def best_span(
    start: np.ndarray, end: np.ndarray, allowed: Sequence[bool], most: int = _LONGEST_ANSWER
) -> tuple[float, tuple[int, int]]:
    """The span of at most `most` allowed places with the highest sum of its two scores.

    >>> best_span(np.array([0.0, 3, 1]), np.array([0.0, 1, 4]), [False, True, True])
    (7.0, (1, 2))
    """
    places = np.flatnonzero(allowed)
    sums = start[places][:, None].astype(np.float64) + end[places][None, :]
    apart = places[None, :] - places[:, None]
    sums = np.where((apart >= 0) & (apart < most), sums, -np.inf)
    first, last = np.unravel_index(np.argmax(sums), sums.shape)
    return float(sums[first, last]), (int(places[first]), int(places[last]))


def _read_likelihoods(predict: _Predictor, params, examples, quick):
    """Sums over the pieces of each document."""
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
