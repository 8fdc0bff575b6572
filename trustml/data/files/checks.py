"""What own rows must not be, and what is said of those left out."""

import itertools
from collections.abc import Iterable

from trustml.data.errors import DataError
from trustml.data.files.collecting import ONE_LABEL, SHOWN, Collected, Known, public_names
from trustml.data.files.columns import ColumnChoice
from trustml.data.files.options import FileOptions
from trustml.data.files.sources import Source

_LABELS_TO_ROWS = 0.5  # more labels than this share of the rows are no classes
_FEWEST_TO_JUDGE = 20  # rows


def check_labels(source: Source, chosen: ColumnChoice, labels: tuple[str, ...], rows: int) -> None:
    """Refuses labels that were read off the rows and can be no classes."""
    if chosen.task == "tag" and not labels:
        raise DataError(f"{source.title}: must hold tags B- and I- of an entity, got O alone.")
    if chosen.task not in (*ONE_LABEL, "multilabel"):
        return
    column = chosen.names["label"]
    if len(labels) < 2:
        raise DataError(
            f"{source.title}: the label in column {column!r} must have two values or more, got "
            f"{', '.join(labels) or 'none'} in all {rows} rows. Name another by `--label`."
        )
    if rows >= _FEWEST_TO_JUDGE and len(labels) > _LABELS_TO_ROWS * rows:
        raise DataError(
            f"{source.title}: column {column!r} has {len(labels)} values in {rows} rows, too many "
            "for classes. Name another by `--label`, or list all labels by `--labels`."
        )


def check_units(source: Source, options: FileOptions, train: Collected) -> None:
    """Refuses a column of units with one value."""
    if options.owner is not None and len(train.owner_numbers) < 2:
        raise DataError(
            f"{source.title}: the unit in column {options.owner!r} must have many values, got one "
            "in all rows: nothing can hide the only unit. Name another by `--unit`."
        )


def check_evaluated(
    where: Source, chosen: ColumnChoice, collected: Collected, known: Known
) -> None:
    """Refuses labels that the training does not know: to leave them out would flatter the model."""
    if chosen.task == "tabular" and not known.labels:
        return  # the classes are learned privately
    every = [set(names) for names in known]
    for row in collected.rows:
        for names, allowed in zip(public_names(chosen.task, row), every, strict=True):
            unknown = next((name for name in names if name not in allowed), None)
            if unknown is not None:
                raise DataError(
                    f"{where.title}: rows to evaluate on have the label {unknown!r}, which the "
                    "rows to train on do not have. List all labels by `--labels`, or drop the rows."
                )


def by_size(name: str) -> tuple[bool, float, str]:
    """Numbers by size, then names by alphabet.

    >>> sorted(["b", "10", "9"], key=by_size)
    ['9', '10', 'b']
    """
    number = name.removeprefix("-").isdecimal()
    return not number, float(name) if number else 0.0, name


def on_skipped(collected: Iterable[Collected]) -> tuple[str, ...]:
    """How many bad rows were left out, and why the first of them were."""
    collected = list(collected)
    number = sum(one.skipped for one in collected)
    if not number:
        return ()
    reasons = list(itertools.chain.from_iterable(one.reasons for one in collected))[:SHOWN]
    more = f"; and {number - len(reasons)} more" if number > len(reasons) else ""
    rows = "row was" if number == 1 else "rows were"
    return (f"{number} bad {rows} left out: {'; '.join(map(_bare, reasons))}{more}",)


def _bare(reason: str) -> str:
    return reason.removesuffix(".").removesuffix("; drop the row")
