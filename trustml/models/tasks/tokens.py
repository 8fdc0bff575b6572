"""Rows of each kind of task in tokens, as language models read them."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from trustml.data.examples import Examples
from trustml.data.tokens import padded
from trustml.models.tasks.task import Encoded
from trustml.models.tokenizers.text_tokenizer import TextTokenizer


class Limits(NamedTuple):
    """How much of a row is read.

    Attributes:
      source: Pieces of the text, the question with its context, or one chunk of a document.
      target: Pieces of what is to be written.
    """

    source: int = 128
    target: int = 64


class Window(NamedTuple):
    """A part of a context that a question is asked on, and where its tokens stand."""

    row: int
    ids: list[int]
    types: list[int]
    context: list[bool]  # whether a piece is of the context
    spans: list[tuple[int, int]]  # characters of the whole context


def encode(examples: Examples, tokenizer: TextTokenizer, limits: Limits) -> Encoded:
    """Arrays for the loss of a language model with a head for the task.

    Args:
      examples: The rows.
      tokenizer: Gives the tokens.
      limits: What lies beyond is left out, but for documents, which are cut into several tokens.

    Returns:
      Arrays as `trustml.models.transformers.language` describes the units of each head.
    """
    return _ENCODERS[examples.task](examples, tokenizer, limits)


def _classify(examples, tokenizer, limits) -> Encoded:
    found = [tokenizer.encode(row.text, max_length=limits.source) for row in examples.rows]
    places = {label: place for place, label in enumerate(examples.labels)}
    labels = np.array([places[row.label] for row in examples.rows], np.int32)
    return _whole({**_inputs(found, limits.source), "label": labels})


def _tagged(examples, tokenizer, limits) -> Encoded:
    found = [tokenizer.encode_words(row.tokens, limits.source) for row in examples.rows]
    ids = {tag: place for place, tag in enumerate(examples.tags)}
    tags, bears = [], []
    for row, each in zip(examples.rows, found, strict=True):
        first = first_tokens(each.words)
        bears.append(first)
        tags.append(
            [
                ids[row.tags[word]] if mark else 0
                for word, mark in zip(each.words, first, strict=True)
            ]
        )
    arrays = _inputs(found, limits.source)
    arrays["tags"] = padded(tags, limits.source)
    arrays["tag_mask"] = padded(bears, limits.source, kind=bool)
    if examples.task == "nlu":
        places = {label: place for place, label in enumerate(examples.labels)}
        arrays["label"] = np.array([places[row.intent] for row in examples.rows], np.int32)
    return _whole(arrays)


def first_tokens(words: Sequence[int | None]) -> list[bool]:
    """Whether each piece is the first of its word.

    >>> first_tokens([None, 0, 0, 1, None])
    [False, True, False, True, False]
    """
    before = [None, *words[:-1]]
    return [word is not None and word != last for word, last in zip(words, before, strict=True)]


def _questions(examples, tokenizer, limits) -> Encoded:
    """One window a question: the one in whose middle the first answer stands."""
    chosen, starts, ends = [], [], []
    for place, row in enumerate(examples.rows):
        answer = row.answers[0]
        span = (answer.start, answer.start + len(answer.text))
        found = [
            (window, inside)
            for window in windows(place, row, tokenizer, limits.source)
            if (inside := _span_of(window, span)) is not None
        ]
        if (
            not found
        ):  # an answer longer than a window; its loss is 0, as the first piece is special
            found = [(windows(place, row, tokenizer, limits.source)[0], (0, 0))]
        window, inside = max(found, key=lambda each: _margin(*each))
        chosen.append(window)
        starts.append(inside[0])
        ends.append(inside[1])
    arrays = window_arrays(chosen, limits.source)
    return _whole({**arrays, "start": np.array(starts, np.int32), "end": np.array(ends, np.int32)})


def windows(place: int, row, tokenizer: TextTokenizer, length: int) -> list[Window]:
    """The question with each stretch of its context that fits; stretches overlap by a half.

    A question is cut at half of `length`, so that every one leaves room.

    Raises:
      ValueError: A `length` below 24.
    """
    if length < 24:
        raise ValueError(f"`max_length` must be at least 24 for questions, got {length}.")
    asked = _cut(row.question, tokenizer, length // 2 - 4)
    spans = tokenizer.encode(row.context, special=False).offsets
    alone = len(tokenizer.encode(asked, pair="").ids)
    room = max(4, length - alone - 2)  # a stretch cut out of its text may take a piece or two more
    starts = range(0, max(1, len(spans) - room // 2), max(1, room // 2))
    stretches = [spans[start : start + room] for start in starts]
    return [_window(place, row.context, asked, tokenizer, part, length) for part in stretches]


def _cut(text: str, tokenizer: TextTokenizer, most: int) -> str:
    spans = tokenizer.encode(text, special=False).offsets
    return text if len(spans) <= most else text[: spans[most - 1][1]]


def _window(place, context, asked, tokenizer, spans, length) -> Window:
    # A context of characters that the vocabulary drops has no spans.
    first, last = (spans[0][0], spans[-1][1]) if spans else (0, 0)
    found = tokenizer.encode(asked, pair=context[first:last], max_length=length)
    inside = [part == 1 for part in found.sequence]
    moved = [(start + first, end + first) for start, end in found.offsets]
    return Window(place, found.ids, found.types, inside, moved)


def _span_of(window: Window, span: tuple[int, int]) -> tuple[int, int] | None:
    touched = [
        piece
        for piece, (inside, (start, end)) in enumerate(
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


def window_arrays(found: Sequence[Window], length: int) -> dict[str, np.ndarray]:
    """What a network reads of windows."""
    arrays = _inputs(found, length)
    return {**arrays, "context_mask": padded([each.context for each in found], length, kind=bool)}


def _documents(examples, tokenizer, limits) -> Encoded:
    """Each document in tokens of at most `limits.source`, every one behind a start token."""
    begin = [token for token in (tokenizer.bos_id,) if token is not None]
    end = [token for token in (tokenizer.eos_id,) if token is not None]
    chunks, owners = [], []
    room = limits.source - len(begin)
    for place, row in enumerate(examples.rows):
        ids = tokenizer.encode(row.text, special=False).ids + end
        for start in range(0, len(ids), room):
            chunks.append(begin + ids[start : start + room])
            owners.append(place)
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


def _inputs(found: Sequence[Any], length: int) -> dict[str, np.ndarray]:
    ids = [each.ids for each in found]
    types = padded([each.types for each in found], length)
    return {"ids": padded(ids, length), "mask": _mask(ids, length), "types": types}


def _mask(rows: Sequence[Sequence[int]], length: int) -> np.ndarray:
    return padded([[True] * len(row) for row in rows], length, kind=bool)


def _whole(arrays) -> Encoded:
    return Encoded(arrays, np.arange(len(next(iter(arrays.values())))))


_ENCODERS: dict[str, Callable[[Examples, TextTokenizer, Limits], Encoded]] = {
    "classify": _classify,
    "tag": _tagged,
    "nlu": _tagged,
    "qa": _questions,
    "lm": _documents,
    "seq2seq": _pairs,
}
