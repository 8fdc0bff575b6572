"""Arrays of token ids that language models read, from the rows of each kind of task."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from trustml.data.examples import Examples
from trustml.data.tokens import padded
from trustml.models.tasks.labels import PROBLEM_TYPES, label_array
from trustml.models.tasks.task import Encoded
from trustml.models.tokenizers.text_tokenizer import TextTokenizer


class Limits(NamedTuple):
    """Largest numbers of tokens that a model reads and writes.

    Attributes:
      source: Tokens of a text, of a question with its context, or of one chunk of a document.
      target: Tokens of the text to write.
    """

    source: int = 128
    target: int = 64


class Window(NamedTuple):
    """The question with one part of its context, as tokens.

    Attributes:
      row: Index of the question in the data.
      ids: Token ids.
      types: Segment of each token.
      context: Whether each token belongs to the context.
      spans: Characters of each token in the whole context, (start, end).
    """

    row: int
    ids: list[int]
    types: list[int]
    context: list[bool]
    spans: list[tuple[int, int]]


def encode(examples: Examples, tokenizer: TextTokenizer, limits: Limits) -> Encoded:
    """Arrays for the loss of a language model with a head for the task.

    Args:
      examples: The rows.
      tokenizer: The tokenizer of the model.
      limits: Tokens beyond them are left out, except in documents, which are cut into chunks.

    Returns:
      Arrays as `trustml.models.transformers.language` describes the units of each head.
    """
    return _ENCODERS[examples.task](examples, tokenizer, limits)


def _classify(examples, tokenizer, limits) -> Encoded:
    encoded = [tokenizer.encode(row.text, max_length=limits.source) for row in examples.rows]
    return _whole({**_inputs(encoded, limits.source), "label": label_array(examples)})


def _tagged(examples, tokenizer, limits) -> Encoded:
    encoded = [tokenizer.encode_words(row.tokens, limits.source) for row in examples.rows]
    ids = {tag: index for index, tag in enumerate(examples.tags)}
    tags, has_tag = [], []
    for row, each in zip(examples.rows, encoded, strict=True):
        first = first_tokens(each.words)
        has_tag.append(first)
        tags.append(
            [
                ids[row.tags[word]] if mark else 0
                for word, mark in zip(each.words, first, strict=True)
            ]
        )
    arrays = _inputs(encoded, limits.source)
    arrays["tags"] = padded(tags, limits.source)
    arrays["tag_mask"] = padded(has_tag, limits.source, kind=bool)
    if examples.task == "nlu":
        label_ids = {label: index for index, label in enumerate(examples.labels)}
        arrays["label"] = np.array([label_ids[row.intent] for row in examples.rows], np.int32)
    return _whole(arrays)


def first_tokens(words: Sequence[int | None]) -> list[bool]:
    """Whether each token is the first of its word.

    >>> first_tokens([None, 0, 0, 1, None])
    [False, True, False, True, False]
    """
    before = [None, *words[:-1]]
    return [word is not None and word != last for word, last in zip(words, before, strict=True)]


def _questions(examples, tokenizer, limits) -> Encoded:
    """One window for each question: the one with the first answer nearest to its middle."""
    chosen, starts, ends = [], [], []
    for index, row in enumerate(examples.rows):
        answer = row.answers[0]
        span = (answer.start, answer.start + len(answer.text))
        fitting = [
            (window, bounds)
            for window in windows(index, row, tokenizer, limits.source)
            if (bounds := _span_of(window, span)) is not None
        ]
        if not fitting:
            # No window holds the whole answer. Token 0 is special, so `answer_loss` gives 0.
            fitting = [(windows(index, row, tokenizer, limits.source)[0], (0, 0))]
        window, bounds = max(fitting, key=lambda each: _margin(*each))
        chosen.append(window)
        starts.append(bounds[0])
        ends.append(bounds[1])
    arrays = window_arrays(chosen, limits.source)
    return _whole({**arrays, "start": np.array(starts, np.int32), "end": np.array(ends, np.int32)})


def windows(index: int, row, tokenizer: TextTokenizer, length: int) -> list[Window]:
    """The question with each part of its context that fits; neighbours overlap by a half.

    A question longer than half of `length` is cut, to leave room for the context.

    Raises:
      ValueError: A `length` below 24.
    """
    if length < 24:
        raise ValueError(f"`max_length` must be at least 24 for questions, got {length}.")
    question = _cut(row.question, tokenizer, length // 2 - 4)
    spans = tokenizer.encode(row.context, special=False).offsets
    question_length = len(tokenizer.encode(question, pair="").ids)
    # A part that is cut out of its text may take a token or two more than inside it.
    room = max(4, length - question_length - 2)
    starts = range(0, max(1, len(spans) - room // 2), max(1, room // 2))
    parts = [spans[start : start + room] for start in starts]
    return [_window(index, row.context, question, tokenizer, part, length) for part in parts]


def _cut(text: str, tokenizer: TextTokenizer, most: int) -> str:
    spans = tokenizer.encode(text, special=False).offsets
    return text if len(spans) <= most else text[: spans[most - 1][1]]


def _window(index, context, question, tokenizer, spans, length) -> Window:
    # There are no spans if the vocabulary drops every character of the context.
    first, last = (spans[0][0], spans[-1][1]) if spans else (0, 0)
    encoded = tokenizer.encode(question, pair=context[first:last], max_length=length)
    inside = [part == 1 for part in encoded.sequence]
    moved = [(start + first, end + first) for start, end in encoded.offsets]
    return Window(index, encoded.ids, encoded.types, inside, moved)


def _span_of(window: Window, span: tuple[int, int]) -> tuple[int, int] | None:
    touched = [
        token
        for token, (inside, (start, end)) in enumerate(
            zip(window.context, window.spans, strict=True)
        )
        if inside and start < span[1] and end > span[0]
    ]
    if (
        not touched
        or window.spans[touched[0]][0] > span[0]
        or window.spans[touched[-1]][1] < span[1]
    ):
        return None
    return touched[0], touched[-1]


def _margin(window: Window, inside: tuple[int, int]) -> int:
    if not window.context[inside[0]]:
        return 0
    return min(inside[0] - window.context.index(True), len(window.ids) - inside[1])


def window_arrays(windows: Sequence[Window], length: int) -> dict[str, np.ndarray]:
    """The arrays that a network reads, from windows."""
    arrays = _inputs(windows, length)
    return {**arrays, "context_mask": padded([each.context for each in windows], length, kind=bool)}


def _documents(examples, tokenizer, limits) -> Encoded:
    """Chunks of at most `limits.source` tokens of each document, each after a start token."""
    begin = [token for token in (tokenizer.bos_id,) if token is not None]
    end = [token for token in (tokenizer.eos_id,) if token is not None]
    chunks, owners = [], []
    room = limits.source - len(begin)
    for index, row in enumerate(examples.rows):
        ids = tokenizer.encode(row.text, special=False).ids + end
        for start in range(0, len(ids), room):
            chunks.append(begin + ids[start : start + room])
            owners.append(index)
    arrays = {"ids": padded(chunks, limits.source), "mask": _mask(chunks, limits.source)}
    return Encoded(arrays, np.array(owners))


def _pairs(examples, tokenizer, limits) -> Encoded:
    sources = [tokenizer.encode(row.source, max_length=limits.source) for row in examples.rows]
    targets = [
        tokenizer.encode(row.targets[0], max_length=limits.target).ids for row in examples.rows
    ]
    arrays = {
        "ids": padded([each.ids for each in sources], limits.source),
        "mask": _mask([each.ids for each in sources], limits.source),
        "target_ids": padded(targets, limits.target),
        "target_mask": _mask(targets, limits.target),
    }
    return _whole(arrays)


def _inputs(encoded: Sequence[Any], length: int) -> dict[str, np.ndarray]:
    ids = [each.ids for each in encoded]
    types = padded([each.types for each in encoded], length)
    return {"ids": padded(ids, length), "mask": _mask(ids, length), "types": types}


def _mask(rows: Sequence[Sequence[int]], length: int) -> np.ndarray:
    return padded([[True] * len(row) for row in rows], length, kind=bool)


def _whole(arrays) -> Encoded:
    return Encoded(arrays, np.arange(len(next(iter(arrays.values())))))


_ENCODERS: dict[str, Callable[[Examples, TextTokenizer, Limits], Encoded]] = {
    **dict.fromkeys(PROBLEM_TYPES, _classify),
    "tag": _tagged,
    "nlu": _tagged,
    "qa": _questions,
    "lm": _documents,
    "seq2seq": _pairs,
}
