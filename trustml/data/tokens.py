"""Words to ids without a vocabulary of the data: a list of words that users said is private.

A hash needs no list. Each token gets a fixed number of ids into one table of embeddings, whose
rows a network sums: ids of the whole word (several hash functions, so that two words seldom share
all of them), of its ends, of its shape and of its character n-grams, which words share.
"""

import functools
import gzip
import hashlib
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

EMPTY = 0  # the id of "nothing here"; networks give it a zero vector


class Tokenizer(NamedTuple):
    """Gives a token its ids. `statement` says, for the report, whether the ids leak."""

    width: int  # ids per token
    size: int  # ids are below this
    statement: str
    ids: Callable[[str], tuple[int, ...]]

    def __call__(self, token: str) -> tuple[int, ...]:
        """The `width` ids of `token`."""
        return self.ids(token)


def hash_tokenizer(
    buckets: int = 4096, *, hashes: int = 2, affixes: bool = True, ngrams: int = 0
) -> Tokenizer:
    """Ids by hashing: a function of the token alone, so it reveals nothing about any data set.

    >>> tokenizer = hash_tokenizer(64, hashes=1, affixes=False)
    >>> tokenizer.width, tokenizer("jazz") == tokenizer("Jazz"), tokenizer.size
    (1, True, 65)

    Args:
      buckets: Rows of the table; id 0 is kept for "nothing", so ids go up to `buckets`.
      hashes: Ids per whole word, by independent hash functions.
      affixes: Also ids of the first and last two and three letters and of the shape (digits,
        punctuation, length), which words share.
      ngrams: Also ids of so many character trigrams; the rest of a longer word is left out.
    """
    for name, value, least in (
        ("buckets", buckets, 1),
        ("hashes", hashes, 0),
        ("ngrams", ngrams, 0),
    ):
        if not (isinstance(value, int) and value >= least):
            raise ValueError(f"`{name}` must be an integer of at least {least}, got {value!r}.")
    width = hashes + 5 * affixes + ngrams
    if not width:
        raise ValueError("`hashes` must be positive without `affixes` and `ngrams`, got 0.")

    @functools.lru_cache(maxsize=1 << 16)
    def ids(token: str) -> tuple[int, ...]:
        word = token.lower()
        pieces = [f"word{place}:{word}" for place in range(hashes)]
        if affixes:
            pieces += _affixes(word)
        grams = _trigrams(word)[:ngrams] if ngrams else []
        found = [_bucket(piece, buckets) for piece in (*pieces, *grams)]
        return tuple(found + [EMPTY] * (width - len(found)))

    return Tokenizer(width, buckets + 1, "token ids by hashing, independent of the data", ids)


def listed_tokenizer(words: Iterable[str], *, public: bool) -> Tokenizer:
    """Ids by a list of words; a word that is not listed shares one id with all such words.

    Args:
      words: The list, for example of a public file of word vectors.
      public: Whether the list was made without the private data. A list read off the data
        reveals which words occur, outside any guarantee: `statement` then says so.
    """
    places = {word.lower(): place for place, word in enumerate(words, 2)}
    if not places:
        raise ValueError("`words` must not be empty.")
    statement = "token ids from a public word list"
    if not public:
        statement = "token ids from a vocabulary of the data: LEAKS which words occur in it"
    size = max(places.values()) + 1
    return Tokenizer(1, size, statement, lambda token: (places.get(token.lower(), 1),))


def joined_tokenizer(*tokenizers: Tokenizer) -> Tokenizer:
    """Several tokenizers side by side in one table: the second one's ids follow the first's."""
    starts = np.cumsum([0, *(tokenizer.size for tokenizer in tokenizers)]).tolist()

    def ids(token: str) -> tuple[int, ...]:
        found: list[int] = []
        for start, tokenizer in zip(starts, tokenizers, strict=False):
            found += [start + place if place else EMPTY for place in tokenizer(token)]
        return tuple(found)

    statement = "; ".join(tokenizer.statement for tokenizer in tokenizers)
    return Tokenizer(sum(t.width for t in tokenizers), starts[-1], statement, ids)


class WordVectors(NamedTuple):
    """A public table of words and their vectors."""

    words: tuple[str, ...]
    vectors: Float[np.ndarray, "word dim"]


def read_word_vectors(path: str | Path) -> WordVectors:
    """Reads the word2vec text format, plain or .gz: a word, then its numbers, one word a line.

    Raises:
      ValueError: A missing or broken file; the message gives file and line.
    """
    path = Path(path)
    opened = gzip.open if path.suffix == ".gz" else open
    words: list[str] = []
    vectors: list[np.ndarray] = []
    try:
        with opened(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                word, *numbers = line.rstrip().split(" ")
                if number == 1 and len(numbers) == 1:  # the header of the format: rows, columns
                    continue
                vectors.append(_vector(numbers, f"{path}:{number}", vectors))
                words.append(word)
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise ValueError(f"`word_vectors` {path} cannot be read: {error}") from None
    if not words:
        raise ValueError(f"`word_vectors` {path} holds no vectors.")
    return WordVectors(tuple(words), np.stack(vectors))


def _vector(numbers: list[str], place: str, before: list[np.ndarray]) -> np.ndarray:
    try:
        vector = np.array(numbers, np.float32)
    except ValueError:
        raise ValueError(f"{place}: not a word followed by numbers.") from None
    if not vector.size or (before and vector.size != before[0].size):
        raise ValueError(f"{place}: {vector.size} numbers, must be as many as on the first line.")
    return vector


def _bucket(piece: str, buckets: int) -> int:
    digest = hashlib.blake2b(piece.encode(), digest_size=8).digest()
    return 1 + int.from_bytes(digest, "little") % buckets


def _affixes(word: str) -> list[str]:
    shape = re.sub(r"[^\W\d_]+", "a", re.sub(r"\d", "0", word))
    ends = [f"{name}:{part}" for name, part in (("^2", word[:2]), ("^3", word[:3]))]
    ends += [f"{name}:{part}" for name, part in (("2$", word[-2:]), ("3$", word[-3:]))]
    return [*ends, f"shape:{shape}:{min(len(word), 8)}"]


def _trigrams(word: str) -> list[str]:
    padded = f"<{word}>"
    return [f"gram:{padded[place : place + 3]}" for place in range(len(padded) - 2)]
