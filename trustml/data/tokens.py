"""Words to ids without a vocabulary of the data: a list of words that users said is private.

A hash needs no list. Each token gets a fixed number of ids, each into a table of embeddings of its
own, whose rows a network sums: ids of the whole word (several hash functions, so that two words
seldom share all of them), and of its ends and its shape, which words share.
"""

import functools
import gzip
import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Shaped


class Tokenizer(NamedTuple):
    """Maps a token to its ids. `statement` tells a report whether the ids leak."""

    sizes: tuple[int, ...]  # of each table; the k-th id of a token is below sizes[k]
    statement: str
    ids: Callable[[str], tuple[int, ...]]

    def __call__(self, token: str) -> tuple[int, ...]:
        """The ids of `token`, one for each table."""
        return self.ids(token)


def hash_tokenizer(buckets: int = 4096, *, hashes: int = 2, affixes: int = 512) -> Tokenizer:
    """Ids by hashing: a function of the token alone, so it reveals nothing about any data set.

    >>> tokenizer = hash_tokenizer(64, hashes=1, affixes=0)
    >>> tokenizer.sizes, tokenizer("jazz") == tokenizer("Jazz")
    ((65,), True)

    Args:
      buckets: Rows of each table for whole words; id 0 is kept for "nothing" and comes on top.
      hashes: Ids per whole word, by independent hash functions.
      affixes: Rows of each table for parts that words share: the first and last two and three
        letters and the shape (digits, punctuation, length). 0 for none of these ids.
    """
    for name, value, least in (("buckets", buckets, 1), ("hashes", hashes, 0)):
        if not (isinstance(value, int) and value >= least):
            raise ValueError(f"`{name}` must be an integer of at least {least}, got {value!r}.")
    if not (isinstance(affixes, int) and affixes >= (0 if hashes else 1)):
        raise ValueError(
            f"`affixes` must be an integer, positive where `hashes` is 0, got {affixes!r}."
        )

    @functools.lru_cache(maxsize=1 << 16)
    def ids(token: str) -> tuple[int, ...]:
        word = token.lower()
        whole = [_bucket(f"word{number}:{word}", buckets) for number in range(hashes)]
        parts = [_bucket(part, affixes) for part in _affixes(word)] if affixes else []
        return (*whole, *parts)

    sizes = (buckets + 1,) * hashes + ((affixes + 1,) * 5 if affixes else ())
    return Tokenizer(sizes, "token ids by hashing, independent of the data", ids)


def padded(
    rows: Sequence[Sequence[Any]], length: int, *, kind: Any = np.int32
) -> Shaped[np.ndarray, "row length"]:
    """Rows of one length: zeros fill them up, and what lies beyond is cut off.

    >>> padded([[1, 2, 3], [4]], 2).tolist()
    [[1, 2], [4, 0]]
    """
    array = np.zeros((len(rows), length), kind)
    for number, row in enumerate(rows):
        kept = row[:length]
        array[number, : len(kept)] = kept
    return array


def token_arrays(
    texts: Sequence[Sequence[str]], tokenizer: Tokenizer, length: int
) -> dict[str, np.ndarray]:
    """`tokens` int32 [row, length, ids of a token], 0 for no id, and `mask` bool [row, length].

    >>> arrays = token_arrays([["play", "jazz"], ["stop"]], hash_tokenizer(64), 3)
    >>> arrays["tokens"].shape, arrays["mask"].sum(1).tolist()
    ((2, 3, 7), [2, 1])
    """
    tokens = np.zeros((len(texts), length, len(tokenizer.sizes)), np.int32)
    mask = np.zeros((len(texts), length), bool)
    for number, text in enumerate(texts):
        if kept := text[:length]:
            tokens[number, : len(kept)] = [tokenizer(token) for token in kept]
            mask[number, : len(kept)] = True
    return {"tokens": tokens, "mask": mask}


def listed_tokenizer(words: Iterable[str], *, public: bool) -> Tokenizer:
    """Ids by a list of words. All words that are not listed share one id.

    >>> tokenizer = listed_tokenizer(["play", "jazz"], public=True)
    >>> tokenizer("Jazz"), tokenizer("tango")
    ((3,), (1,))

    Args:
      words: The list, for example of a public file of word vectors.
      public: Whether the list was made without the private data. A list read off the data
        reveals which words occur, outside any guarantee: `statement` then says so.
    """
    ids = {word.lower(): number for number, word in enumerate(words, 2)}
    if not ids:
        raise ValueError("`words` must not be empty.")
    statement = "token ids from a public word list"
    if not public:
        statement = "token ids from a vocabulary of the data: LEAKS which words occur in it"
    size = max(ids.values()) + 1
    return Tokenizer((size,), statement, lambda token: (ids.get(token.lower(), 1),))


def joined_tokenizer(*tokenizers: Tokenizer) -> Tokenizer:
    """One tokenizer from several: the second one's ids follow the first's.

    >>> listed = listed_tokenizer(["play"], public=True)
    >>> joined_tokenizer(listed, hash_tokenizer(8, hashes=1, affixes=0)).sizes
    (3, 9)
    """
    return Tokenizer(
        sum((tokenizer.sizes for tokenizer in tokenizers), ()),
        "; ".join(tokenizer.statement for tokenizer in tokenizers),
        lambda token: sum((tokenizer(token) for tokenizer in tokenizers), ()),
    )


class WordVectors(NamedTuple):
    """A public table of words and their vectors."""

    words: tuple[str, ...]
    vectors: Float[np.ndarray, "word dim"]


def read_word_vectors(path: str | Path) -> WordVectors:
    """The words and vectors of a file in the word2vec text format, plain or .gz.

    A line holds a word and its numbers. A first line of two numbers is the format's header.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "vectors.txt"
    >>> path.write_text("play 1 2")
    8
    >>> read_word_vectors(path).vectors.shape
    (1, 2)

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


def _vector(numbers: list[str], location: str, before: list[np.ndarray]) -> np.ndarray:
    try:
        vector = np.array(numbers, np.float32)
    except ValueError:
        raise ValueError(f"{location}: not a word followed by numbers.") from None
    if not vector.size or (before and vector.size != before[0].size):
        raise ValueError(
            f"{location}: {vector.size} numbers, must be as many as on the first line."
        )
    return vector


def _bucket(text: str, buckets: int) -> int:
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return 1 + int.from_bytes(digest, "little") % buckets


def _affixes(word: str) -> list[str]:
    shape = re.sub(r"[^\W\d_]+", "a", re.sub(r"\d", "0", word))
    ends = [f"{name}:{part}" for name, part in (("^2", word[:2]), ("^3", word[:3]))]
    ends += [f"{name}:{part}" for name, part in (("2$", word[-2:]), ("3$", word[-3:]))]
    return [*ends, f"shape:{shape}:{min(len(word), 8)}"]
