"""Where own rows come from: a file, a frame, or dicts in memory; all are read the same way."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from trustml.data.errors import DataError
from trustml.data.files import arrow
from trustml.data.files.formats import columns_of, is_rows, read_rows, splits_of, suffix_of
from trustml.data.own_rows import class_names

OWN_ROWS = "own-rows"  # the name of what no file holds
_Located = Iterator[tuple[str, dict[str, Any]]]


class Source(NamedTuple):
    """Rows of the user's own.

    Attributes:
      name: A short name, for the folder of a run.
      title: What messages call it.
      columns: Names of its columns.
      splits: Names of the splits that it has itself.
      rows: Maps a split (None for all rows) and `on_bad_row` to rows with their locations.
      declared: Maps a column to the classes that the source itself lists for it, or None.
      suffix: Of its file; empty for rows in memory.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    splits: tuple[str, ...]
    rows: Callable[[str | None, Callable[[str], None] | None], _Located]
    declared: Callable[[str], tuple[str, ...] | None]
    suffix: str = ""


def source_of(given: Any) -> Source:
    """The source behind a path, a pandas frame, dicts, a `datasets.Dataset`, or splits of these.

    >>> source_of([{"text": "fine", "label": "good"}]).columns
    ('text', 'label')

    Raises:
      DataError: It is none of these, or cannot be read.
    """
    if isinstance(given, str | Path):
        return _of_path(Path(given))
    if isinstance(given, Mapping):
        return _of_splits({str(name): _of_memory(rows) for name, rows in given.items()})
    return _of_memory(given)


def stem_of(path: str | Path) -> str:
    """The name of a file without its suffixes.

    >>> stem_of("data/messages.csv.gz")
    'messages'
    """
    path = Path(path)
    return path.name.removesuffix(".gz").removesuffix(suffix_of(path)) or path.name


def _of_path(path: Path) -> Source:
    saved = path.is_dir() and is_rows(path)
    return Source(
        name=stem_of(path),
        title=str(path),
        columns=columns_of(path),
        splits=splits_of(path),
        rows=lambda split, on_bad_row: read_rows(path, split=split, on_bad_row=on_bad_row),
        declared=lambda column: arrow.declared_names(path, column) if saved else None,
        suffix=suffix_of(path),
    )


def _of_splits(splits: dict[str, Source]) -> Source:
    first = next(iter(splits.values()), None)
    if first is None:
        raise DataError("`data` must hold rows, got a mapping without splits.")

    def rows(split, on_bad_row):
        for name in splits if split is None else [split]:
            yield from splits[name].rows(None, on_bad_row)

    return first._replace(splits=tuple(splits), rows=rows)


def _of_memory(given: Any) -> Source:
    if hasattr(given, "itertuples"):  # a pandas frame
        columns = tuple(map(str, given.columns))
        rows: Iterable[Any] = _Frame(given, columns)
    elif isinstance(given, Iterable) and not isinstance(given, Iterator | str | bytes):
        rows, columns = given, _columns_of_dicts(given)
    else:
        raise DataError(
            "`data` must be a file, a pandas frame or a list of dicts, got "
            f"{type(given).__name__}. Make a list of what can be read only once."
        )
    features = getattr(given, "features", None) or {}
    namers = {column: arrow.namer(feature) for column, feature in features.items()}

    def located(split, on_bad_row):
        del split, on_bad_row  # no row is broken before it is used
        for number, row in enumerate(rows, 1):
            named = {key: namers[key](value) for key, value in row.items()} if namers else row
            yield f"row {number}", named

    declared = lambda column: class_names(features.get(column))  # noqa: E731
    return Source(OWN_ROWS, "the data", columns, (), located, declared)


class _Frame:
    """The rows of a pandas frame as dicts, one at a time."""

    def __init__(self, frame: Any, columns: tuple[str, ...]):
        twice = next((name for name in columns if columns.count(name) > 1), None)
        if twice is not None:
            raise DataError(f"`data` must name each column once, got {twice!r} twice. Rename one.")
        self._frame, self._columns = frame, columns

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for values in self._frame.itertuples(index=False, name=None):
            yield dict(zip(self._columns, values, strict=True))


def _columns_of_dicts(rows: Iterable[Any]) -> tuple[str, ...]:
    first = next(iter(rows), None)
    if not isinstance(first, Mapping):
        got = "no row" if first is None else type(first).__name__
        raise DataError(f"`data` must hold rows that are dicts, got {got}.")
    return tuple(sys.intern(str(name)) for name in first)
