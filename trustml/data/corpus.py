"""What a data set of assistant utterances is: a schema that is public, rows that are private."""

import dataclasses
import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from trustml.data.tokens import Tokenizer, padded, token_arrays

UNKNOWN_USER = -1
UNKNOWN_TIME = -1


class DataError(ValueError):
    """Data that cannot be used: the message names the place, the value and the way out."""


class Utterance(NamedTuple):
    """One utterance, the privacy unit: what was said, what it means, who said it and when."""

    tokens: tuple[str, ...]
    tags: tuple[str, ...]  # BIO, one per token
    intent: str
    user: int = UNKNOWN_USER
    timestamp: int = UNKNOWN_TIME  # seconds since the start of the collection
    group: int = 0  # index into `Corpus.groups`


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corpus:
    """One part of a data set, with the public facts that a network and a statement need.

    >>> said = Utterance(("wake", "me", "at", "six"), ("O", "O", "O", "B-time"), "set_alarm")
    >>> corpus = Corpus(name="demo", intents=("set_alarm",), slots=("time",), utterances=(said,))
    >>> len(corpus), corpus.tags, corpus.privacy_unit
    (1, ('O', 'B-time', 'I-time'), 'utterance')

    Args:
      name: Name of the data set, as `load` knows it.
      intents: Every intent that may occur. Part of the public schema, not read off the rows.
      slots: Every slot that may occur, likewise.
      utterances: The rows.
      synthetic: Whether the package generated the rows itself; they are nobody's.
      source: Where the rows come from and whether a checksum was verified, in one line.
      groups: Names of the groups that `Utterance.group` indexes.
      privacy_unit: What one row is, as the privacy statement prints it.
    """

    name: str
    intents: tuple[str, ...]
    slots: tuple[str, ...]
    utterances: tuple[Utterance, ...]
    synthetic: bool = False
    source: str = "given by the caller"
    groups: tuple[str, ...] = ("everyone",)
    privacy_unit: str = "utterance"

    def __post_init__(self):
        if not self.utterances:
            raise DataError(f"`utterances` must not be empty, got 0 rows for {self.name!r}.")
        for place, utterance in enumerate(self.utterances):
            problem = find_problem(utterance, self)
            if problem:
                raise DataError(f"{self.name} utterance {place}: {problem}")

    def __len__(self) -> int:
        return len(self.utterances)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all rows, whatever their order. Who guesses all rows can confirm the guess."""
        rows = sorted(hashlib.sha256(repr(row).encode()).digest() for row in self.utterances)
        return hashlib.sha256(b"trustml corpus, version 1\x00" + b"".join(rows)).hexdigest()

    @property
    def tags(self) -> tuple[str, ...]:
        """Every BIO tag, "O" first, then `B-` and `I-` of each slot: public, like `slots`."""
        return bio_tags(self.slots)


class Splits(NamedTuple):
    """The three parts of a data set."""

    train: Corpus
    valid: Corpus
    test: Corpus


class Schema(NamedTuple):
    """The labels that rows may carry. A `Corpus` is one too."""

    intents: tuple[str, ...]
    slots: tuple[str, ...]
    groups: tuple[str, ...] = ("everyone",)


def bio_tags(slots: tuple[str, ...]) -> tuple[str, ...]:
    """The BIO tags of `slots`: "O", then `B-` and `I-` of each."""
    return ("O", *(f"{mark}-{slot}" for slot in slots for mark in "BI"))


def find_problem(utterance: Utterance, schema: Schema | Corpus) -> str | None:
    """What keeps `utterance` from being used under `schema`, in words; None if nothing does."""
    if not utterance.tokens:
        return "no tokens; drop the row."
    if len(utterance.tokens) != len(utterance.tags):
        return f"{len(utterance.tokens)} tokens but {len(utterance.tags)} tags; give one each."
    if utterance.intent not in schema.intents:
        return f"unknown intent {utterance.intent!r}; known are {', '.join(schema.intents)}."
    known = ("O", *(f"{mark}-{slot}" for slot in schema.slots for mark in "BI"))
    strange = next((tag for tag in utterance.tags if tag not in known), None)
    if strange is not None:
        return f"unknown slot tag {strange!r}; known are O and B- or I- of {_some(schema.slots)}."
    if not 0 <= utterance.group < len(schema.groups):
        return f"group {utterance.group} must be from 0 to {len(schema.groups) - 1}."
    return None


def read_rows(path: Path, schema: Schema) -> tuple[Utterance, ...]:
    """Reads rows of `intent TAB tokens TAB BIO tags`, tokens and tags separated by spaces.

    Raises:
      DataError: The file is missing, empty or not text, or a row is malformed; the message
        gives file and line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; name the folder that holds it.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 text: {error}") from None
    # Not splitlines: a token may hold a character that Unicode counts as a line separator.
    lines = [line.rstrip("\r") for line in text.split("\n")]
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise DataError(f"{path} is empty; it must hold rows of intent, tokens and tags.")
    return tuple(_parse(line, f"{path}:{number}", schema) for number, line in enumerate(lines, 1))


def _parse(line: str, place: str, schema: Schema) -> Utterance:
    fields = line.split("\t")
    if len(fields) != 3:
        raise DataError(
            f"{place}: {len(fields)} tab-separated fields, must be 3: intent, tokens, tags."
        )
    intent, tokens, tags = fields
    utterance = Utterance(tuple(tokens.split()), tuple(tags.split()), intent.strip())
    problem = find_problem(utterance, schema)
    if problem:
        raise DataError(f"{place}: {problem}")
    return utterance


def encode(
    corpus: Corpus, tokenizer: Tokenizer, max_length: int = 32
) -> dict[str, Int[np.ndarray, "..."] | Bool[np.ndarray, "..."]]:
    """Turns utterances into arrays of a fixed shape, one row per unit.

    Utterances longer than `max_length` lose their end, tags included; `truncated` marks them,
    so that an evaluation can count the slots that were lost.

    Args:
      corpus: What to encode.
      tokenizer: Gives each token its ids; its choice decides whether ids leak (see there).
      max_length: Tokens kept per utterance.

    Returns:
      `tokens` int32 [unit, max_length, ids per token] with 0 for no id, `mask` bool
      [unit, max_length], `tags` int32 [unit, max_length], and per unit `intent`, `user`,
      `timestamp`, `group` (int32) and `truncated` (bool).
    """
    if not (isinstance(max_length, int) and max_length > 0):
        raise DataError(f"`max_length` must be a positive integer, got {max_length!r}.")
    rows = corpus.utterances
    tag_ids = {tag: place for place, tag in enumerate(corpus.tags)}
    intent_ids = {intent: place for place, intent in enumerate(corpus.intents)}
    return {
        **token_arrays([row.tokens for row in rows], tokenizer, max_length),
        "tags": padded([[tag_ids[tag] for tag in row.tags] for row in rows], max_length),
        "intent": np.array([intent_ids[row.intent] for row in rows], np.int32),
        "user": np.array([row.user for row in rows], np.int32),
        "timestamp": np.array([row.timestamp for row in rows], np.int32),
        "group": np.array([row.group for row in rows], np.int32),
        "truncated": np.array([len(row.tokens) > max_length for row in rows]),
    }


def _some(names: tuple[str, ...], shown: int = 6) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
