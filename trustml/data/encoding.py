"""Utterances as arrays for a joint model."""

import numpy as np
from jaxtyping import Bool, Int

from trustml.data.errors import DataError
from trustml.data.examples import Examples
from trustml.data.tokens import Tokenizer, padded, token_arrays


def encode(
    examples: Examples, tokenizer: Tokenizer, max_length: int = 32
) -> dict[str, Int[np.ndarray, "..."] | Bool[np.ndarray, "..."]]:
    """Arrays of a fixed shape from utterances, one row per utterance.

    Utterances longer than `max_length` lose their end, tags included. `truncated` marks them, so
    that an evaluation can count the slots that were lost.

    >>> from trustml.data import hash_tokenizer, synthetic
    >>> rows = encode(synthetic.generate(train=5, valid=1, test=1).train, hash_tokenizer(64), 8)
    >>> rows["tokens"].shape, rows["intent"].shape
    ((5, 8, 7), (5,))

    Args:
      examples: Of the task "nlu".
      tokenizer: Gives each token its ids; its choice decides whether ids leak (see there).
      max_length: Tokens kept per utterance.

    Returns:
      `tokens` int32 [unit, max_length, ids per token] with 0 for no id, `mask` bool
      [unit, max_length], `tags` int32 [unit, max_length], and per unit `intent`, `user`,
      `timestamp`, `group` (int32) and `truncated` (bool).

    Raises:
      DataError: Examples of another task, or a length that is not positive.
    """
    if examples.task != "nlu":
        raise DataError(f"`examples` must be of the task nlu, got {examples.task!r}.")
    if not (isinstance(max_length, int) and max_length > 0):
        raise DataError(f"`max_length` must be a positive integer, got {max_length!r}.")
    rows = examples.rows
    tag_ids = {tag: number for number, tag in enumerate(examples.tags)}
    intent_ids = {intent: number for number, intent in enumerate(examples.labels)}
    return {
        **token_arrays([row.tokens for row in rows], tokenizer, max_length),
        "tags": padded([[tag_ids[tag] for tag in row.tags] for row in rows], max_length),
        "intent": np.array([intent_ids[row.intent] for row in rows], np.int32),
        "user": np.array([row.user for row in rows], np.int32),
        "timestamp": np.array([row.timestamp for row in rows], np.int32),
        "group": np.array([row.group for row in rows], np.int32),
        "truncated": np.array([len(row.tokens) > max_length for row in rows]),
    }
