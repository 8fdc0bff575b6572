"""Parquet files, and data sets that `datasets` saved on disk; both need the extra `files`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from trustml.data.errors import DataError
from trustml.data.files.lines import Rows
from trustml.data.own_rows import class_names
from trustml.formatting import one_line

_MARKS = ("state.json", "dataset_dict.json")  # files that only a saved data set has
_BATCH = 1024  # rows that are Python objects at a time


def read_parquet(path: Path) -> Rows:
    """Each row of a Parquet file."""
    number = 0
    with _parquet(path) as file:
        for batch in file.iter_batches(_BATCH):
            for row in batch.to_pylist():
                number += 1
                yield f"{path} row {number}", row


def columns_of_parquet(path: Path) -> tuple[str, ...]:
    """The names of the columns."""
    with _parquet(path) as file:
        return tuple(file.schema_arrow.names)


def is_saved(path: Path) -> bool:
    """Whether a folder holds a data set that `datasets` saved."""
    return any((path / mark).is_file() for mark in _MARKS)


def read_saved(path: Path, split: str | None) -> Rows:
    """Each row of a saved data set, or of one of its splits; classes come by their names."""
    number = 0
    for part in _saved(path, split).values():
        names = {column: namer(feature) for column, feature in part.features.items()}
        for row in part:
            number += 1
            yield (
                f"{path} row {number}",
                {column: names[column](value) for column, value in row.items()},
            )


def columns_of_saved(path: Path) -> tuple[str, ...]:
    """The names of the columns."""
    return tuple(next(iter(_saved(path, None).values())).column_names)


def splits_of_saved(path: Path) -> tuple[str, ...]:
    """The names of its splits; none where it has none."""
    return tuple(name for name in _saved(path, None) if name)


def declared_names(path: Path, column: str) -> tuple[str, ...] | None:
    """The classes that the features of a saved data set declare for a column."""
    return class_names(next(iter(_saved(path, None).values())).features[column])


def namer(feature: Any) -> Callable[[Any], Any]:
    """Turns the numbers of a class label into its names; other values stay."""
    names = class_names(feature)
    if names is None:
        return lambda value: value
    name = lambda value: None if value is None or value < 0 else names[value]  # noqa: E731
    return lambda value: list(map(name, value)) if isinstance(value, list) else name(value)


def _saved(path: Path, split: str | None) -> dict[str, Any]:
    """The parts of a saved data set by name; one without splits is the part ""."""
    try:
        from datasets import DatasetDict, load_from_disk
    except ImportError:
        raise _missing(path, "datasets") from None
    try:
        saved = load_from_disk(str(path))
    except Exception as error:  # of many kinds: a broken file, a missing one, another version
        raise DataError(
            f"{path} cannot be read by `datasets`: {one_line(error).rstrip('.')}."
        ) from None
    parts = dict(saved) if isinstance(saved, DatasetDict) else {"": saved}
    return parts if split is None else {split: parts[split]}


def _parquet(path: Path) -> Any:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise _missing(path, "pyarrow") from None
    try:
        return parquet.ParquetFile(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(
            f"{path} cannot be read as Parquet: {one_line(error).rstrip('.')}."
        ) from None


def _missing(path: Path, package: str) -> DataError:
    return DataError(
        f"{path} needs the package {package}, which is not installed. Install the extra: "
        'pip install "trustml-jax[files]", or from a checkout pip install -e ".[files]".'
    )
