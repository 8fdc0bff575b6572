"""Sets of arrays: MNIST, Adult and word vectors."""

import io

import numpy as np

from trustml.data.catalogue import Entry
from trustml.data.content import Content, read_lines
from trustml.data.errors import DataError
from trustml.data.readers.block import choose
from trustml.data.readers.raw_items import OpenFile, RawItems

_ADULT_NUMBERS = (
    "age", "fnlwgt", "education_num", "capital_gain", "capital_loss", "hours_per_week",
)  # fmt: skip
_ADULT_COLUMNS = (
    "age", "workclass", "fnlwgt", "education", "education_num", "marital_status", "occupation",
    "relationship", "race", "sex", "capital_gain", "capital_loss", "hours_per_week",
    "native_country", "income",
)  # fmt: skip
_INCOMES = ("<=50K", ">50K")


def _read_mnist(entry: Entry, open_file: OpenFile) -> RawItems:
    """`images` uint8 [image, 28, 28], `labels` int32 [image], `part` int32 [image].

    `part` is 0 for train, 1 for valid, 2 for test, by a hash of the image alone.
    """
    del entry
    images = _idx(open_file("t10k-images-idx3-ubyte"), rank=3)
    content = open_file("t10k-labels-idx1-ubyte")
    labels = _idx(content, rank=1)
    if len(labels) != len(images) or images.shape[1:] != (28, 28):
        raise DataError(
            f"{content.path}: {len(labels)} labels, must be as many as images of 28 by 28, "
            f"got images {images.shape}."
        )
    if labels.max() > 9:
        raise DataError(f"{content.path}: label {labels.max()} must be from 0 to 9.")
    part = [choose(image.tobytes(), (0.8, 0.1, 0.1)) for image in images]
    arrays = {
        "images": images,
        "labels": labels.astype(np.int32),
        "part": np.array(part, np.int32),
    }
    return RawItems(arrays=arrays)


def _idx(content: Content, rank: int) -> np.ndarray:
    """The IDX format: two zeros, the type 8 (bytes), the rank, the sizes in 32 bits, the values."""
    start = 4 + 4 * rank
    if content.data[:4] != bytes([0, 0, 8, rank]) or len(content.data) < start:
        raise DataError(f"{content.path} must be an IDX file of rank {rank}; fetch it anew.")
    shape = tuple(int(each) for each in np.frombuffer(content.data[4:start], ">u4"))
    values = np.frombuffer(content.data, np.uint8, offset=start)
    if values.size != np.prod(shape):
        raise DataError(
            f"{content.path} holds {values.size} values, must hold {np.prod(shape)}; it is cut "
            "off: fetch it anew."
        )
    return values.reshape(shape)


def _read_adult(entry: Entry, open_file: OpenFile) -> RawItems:
    """A column each: int32 for numbers, text for the rest ("?" for unknown), and `part` int32.

    `income` is "<=50K" or ">50K". `part` is 0 for the publisher's train, 2 for its test part.
    """
    del entry
    rows: list[list[str]] = []
    parts: list[int] = []
    for name, part in (("adult.data", 0), ("adult.test", 2)):
        for location, line in read_lines(open_file(name)):
            if line.startswith("|"):  # the test file's comment
                continue
            rows.append(_person(line, location))
            parts.append(part)
    columns = dict(zip(_ADULT_COLUMNS, zip(*rows, strict=True), strict=True))
    arrays = {
        name: np.array(column, np.int32 if name in _ADULT_NUMBERS else np.str_)
        for name, column in columns.items()
    }
    return RawItems(arrays={**arrays, "part": np.array(parts, np.int32)})


def _person(line: str, location: str) -> list[str]:
    fields = [field.strip() for field in line.removesuffix(".").split(",")]
    if len(fields) != len(_ADULT_COLUMNS):
        raise DataError(f"{location}: {len(fields)} fields, must be {len(_ADULT_COLUMNS)}.")
    if fields[-1] not in _INCOMES:
        raise DataError(f"{location}: income {fields[-1]!r} must be {' or '.join(_INCOMES)}.")
    for name, field in zip(_ADULT_COLUMNS, fields, strict=True):
        if name in _ADULT_NUMBERS and not field.isdigit():
            raise DataError(f"{location}: {name} must be a whole number, got {field!r}.")
    return fields


def _read_vectors(entry: Entry, open_file: OpenFile) -> RawItems:
    """`frequent` and `weat`, float32 [word, 300], with their words in `lists`.

    Both lie in one space; the frequent words' vectors have unit length, the others have not.
    """
    del entry
    lists: dict[str, tuple[str, ...]] = {}
    arrays = {}
    for name, file in (
        ("frequent", "gnews_top1000_300d.txt"),
        ("weat", "gnews_weat_words_300d.txt"),
    ):
        lists[name], arrays[name] = _vectors(open_file(file))
    return RawItems(lists=lists, arrays=arrays)


def _vectors(content: Content) -> tuple[tuple[str, ...], np.ndarray]:
    words, rows = [], []
    for location, line in read_lines(content):
        word, _, numbers = line.strip().partition(" ")
        if " " not in numbers:  # the header of the word2vec format
            continue
        try:
            row = np.loadtxt(io.StringIO(numbers), np.float32, ndmin=1)
        except ValueError:
            raise DataError(
                f"{location}: must be a word and its numbers, got {line!r:.60}."
            ) from None
        if row.shape != (300,):
            raise DataError(f"{location}: {row.size} numbers, must be 300.")
        words.append(word)
        rows.append(row)
    if not rows:
        raise DataError(f"{content.path} holds no vectors; fetch it anew.")
    return tuple(words), np.stack(rows)


READERS = {"mnist": _read_mnist, "adult": _read_adult, "word_vectors": _read_vectors}
