"""Own rows in three parts, with what was decided on the way and what is assumed public."""

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from trustml.data.errors import DataError
from trustml.data.examples import SPLITS, Examples, Splits
from trustml.data.files.checks import (
    by_size,
    check_evaluated,
    check_labels,
    check_units,
    on_skipped,
)
from trustml.data.files.collecting import (
    ONE_LABEL,
    UNKNOWN,
    Collected,
    Known,
    collect,
    public_names,
)
from trustml.data.files.columns import ColumnChoice, choose_columns
from trustml.data.files.options import EVALUATED, ROW, FileOptions
from trustml.data.files.parts import choose_parts, shares_of
from trustml.data.files.plain_text import in_paragraphs
from trustml.data.files.sources import Source, source_of
from trustml.data.tables import Table

_TRAIN = ("train", "training")
_TEST = ("test", "testing")
_VALID = ("valid", "validation", "val", "dev")


class OwnData(NamedTuple):
    """Own rows, ready for training.

    Attributes:
      splits: The parts.
      decisions: How columns, task and parts were chosen, in one sentence each.
      assumed_public: What was read off the rows and yet is treated as public, for the statement.
      skipped: How many bad rows were left out, and why the first were; empty where none. Private,
        cells of rows among it: for the terminal of whoever has the rows.
      columns: The column behind each name of the task.
    """

    splits: Splits
    decisions: tuple[str, ...]
    assumed_public: tuple[str, ...]
    skipped: tuple[str, ...]
    columns: dict[str, str]


class _Part(NamedTuple):
    """Some rows of what was collected, as one part."""

    collected: Collected
    rows: np.ndarray


class _Schema(NamedTuple):
    """What all parts share."""

    source: Source
    chosen: ColumnChoice
    options: FileOptions
    known: Known
    groups: tuple[str, ...]


def load_own(given: Any, options: FileOptions | None = None) -> OwnData:
    """Rows of a file, a pandas frame or dicts in three parts, by unit and without chance.

    A hash of the unit (of the text, where a row is the unit) with a fixed public salt decides its
    part. So equal texts share a part, and the parts are the same in every run.

    >>> rows = [{"text": f"word {n}", "label": "odd" if n % 2 else "even"} for n in range(100)]
    >>> own = load_own(rows)
    >>> own.splits.train.labels, len(own.splits.train), len(own.splits.test)
    (('even', 'odd'), 83, 8)

    Args:
      given: A path as of `read_rows`; a frame; a list of dicts or a `datasets.Dataset`; or a
        mapping from split names to these, with "train" and maybe "validation" and "test".
      options: How to read them.

    Raises:
      DataError: Columns cannot be guessed, a row cannot be used, or all rows have one label or one
        unit, which no budget protects.
    """
    options = options or FileOptions()
    source = source_of(given)
    chosen = choose_columns(source, options)
    declared = _declared(source, chosen, options)
    train = collect(source, _split(source, _TRAIN), chosen, options, declared)
    known = _known(source, chosen, declared, train)
    check_units(source, options, train)
    others = _others(source, chosen, options, known)
    every = {"train": train, **others}
    groups = _groups(every.values())
    parts, how = _parts(source, chosen, options, train, others)
    schema = _Schema(source, chosen, options, known, groups)
    return OwnData(
        Splits(*(_examples(name, parts[name], schema) for name in SPLITS)),
        (*chosen.decisions, *_on_text(source), *how),
        _assumed(chosen, options, declared, known, groups),
        on_skipped(every.values()),
        chosen.names,
    )


def _split(source: Source, names: tuple[str, ...]) -> str | None:
    """The split of a source that goes by one of these names."""
    return next((name for name in source.splits if name.lower() in names), None)


def _declared(source: Source, chosen: ColumnChoice, options: FileOptions) -> Known:
    """The labels that options or the source itself list, and the slots."""
    columns = {
        role: source.declared(chosen.names[role]) or ()
        for role in ("label", "tags")
        if role in chosen.names
    }
    kinds = tuple(dict.fromkeys(tag[2:] for tag in columns.get("tags", ()) if tag[1:2] == "-"))
    labels = options.labels or (kinds if chosen.task == "tag" else columns.get("label", ()))
    return Known(labels, kinds if chosen.task == "nlu" else ())


def _known(source: Source, chosen: ColumnChoice, declared: Known, train: Collected) -> Known:
    """The labels and slots, read off the rows where nothing lists them."""
    if chosen.task == "tabular":  # a class that its schema does not list is learned privately
        return declared
    seen: tuple[dict[str, None], dict[str, None]] = ({}, {})
    for row in train.rows:
        for names, found in zip(seen, public_names(chosen.task, row), strict=True):
            names.update(dict.fromkeys(found))
    labels, slots = (tuple(sorted(names, key=by_size)) for names in seen)
    if not declared.labels:
        check_labels(source, chosen, labels, len(train.rows))
    return Known(declared.labels or labels, declared.slots or slots)


def _others(
    source: Source, chosen: ColumnChoice, options: FileOptions, known: Known
) -> dict[str, Collected]:
    """The rows that are given for validation and evaluation."""
    given = {"valid": (source, _split(source, _VALID)), "test": (source, _split(source, _TEST))}
    if isinstance(options.eval_split, Path):
        given["test"] = (_evaluation(source, options.eval_split), "")
    elif options.eval_split is not None:
        given["test"] = (source, None)
    made = {}
    for name, (where, split) in given.items():
        if split is not None:
            made[name] = collect(where, split or None, chosen, options, Known())
            check_evaluated(where, chosen, made[name], known)
    return made


def _evaluation(source: Source, path: Path) -> Source:
    made = source_of(path)
    if source.title == made.title:
        raise DataError(f"`--eval-split` must be another file than the data, got {path}.")
    return made


def _groups(collected: Iterable[Collected]) -> tuple[str, ...]:
    """Every group in order, the unknown one last; none where no column names groups."""
    names = set(itertools.chain.from_iterable(one.groups for one in collected))
    return tuple(sorted(names, key=lambda name: (name == UNKNOWN, by_size(name))))


def _parts(
    source: Source,
    chosen: ColumnChoice,
    options: FileOptions,
    train: Collected,
    others: dict[str, Collected],
) -> tuple[dict[str, _Part], tuple[str, ...]]:
    """The three parts, and how they were made."""
    if options.stratify and chosen.task not in (*ONE_LABEL, "tabular"):
        raise DataError(f"`--stratify` needs one label a row, which {chosen.task!r} has not.")
    evaluated = options.eval_split if isinstance(options.eval_split, float) else EVALUATED
    shares = shares_of(0.0 if "test" in others else evaluated, valid="valid" not in others)
    units = train.units()
    strata = train.strata(chosen.task)[units.first] if options.stratify else None
    of_row = choose_parts(units.draws, shares, strata)[units.of_row]
    parts = {
        name: _Part(train, np.flatnonzero(of_row == number)) for number, name in enumerate(SPLITS)
    }
    parts |= {name: _Part(one, np.arange(len(one.rows))) for name, one in others.items()}
    how = _how(options, shares)
    if not len(parts["valid"].rows):
        parts["valid"] = parts["test"]
        how = (*how, "too few rows for a part for validation: that for evaluation serves as one")
    for name in ("train", "test"):
        if not len(parts[name].rows):
            raise DataError(
                f"{source.title} has {len(units.draws)} units, too few to cut a part for "
                "evaluation. Give more rows, or a file for that by `--eval-split`."
            )
    return parts, how


def _how(options: FileOptions, shares: tuple[float, float]) -> tuple[str, ...]:
    cut = [
        f"{100 * share:.3g} % of the units for {what}"
        for share, what in zip(shares, ("evaluation", "validation"), strict=True)
        if share
    ]
    if not cut:
        return ()
    own = "the row's text" if options.table is None else "the row's values"
    unit = own if options.owner is None else options.owner
    by = f"by a hash of {unit} with a fixed public salt"
    return (f"{' and '.join(cut)}, chosen {by}{', label by label' if options.stratify else ''}",)


def _examples(name: str, part: _Part, schema: _Schema) -> Examples:
    source, chosen, options, known, groups = schema
    collected, rows = part
    number_of = {group: number for number, group in enumerate(groups)}
    owners = collected.owners
    return Examples(
        name=source.name,
        split=name,
        task=chosen.task,
        rows=_taken(collected.rows, rows),
        unit=ROW,
        labels=known.labels,
        value_range=options.value_range,
        table=options.table,
        slots=known.slots,
        owner_kind=options.owner,
        owners=tuple(owners[row] for row in rows) if options.owner else None,
        groups=groups or ("everyone",),
        group_of=tuple(number_of[collected.groups[row]] for row in rows) if groups else None,
        source=f"{Path(source.title).name}, {name} part",
        licence="not stated",
    )


def _on_text(source: Source) -> tuple[str, ...]:
    if source.suffix != ".txt":
        return ()
    paragraphs = in_paragraphs(Path(source.title))
    how = "a paragraph, as blank lines divide them" if paragraphs else "a line, as none is blank"
    return (f"one row is {how}",)


def _taken(every: Sequence[Any], rows: np.ndarray) -> Sequence[Any]:
    return every.take(rows) if isinstance(every, Table) else tuple(every[row] for row in rows)


def _assumed(
    chosen: ColumnChoice,
    options: FileOptions,
    declared: Known,
    known: Known,
    groups: tuple[str, ...],
) -> tuple[str, ...]:
    """What was read off the rows and is treated as public."""
    assumed = []
    if known.labels and not declared.labels:
        assumed.append(f"the list of {len(known.labels)} labels")
    if known.slots and not declared.slots:
        assumed.append(f"the list of {len(known.slots)} slots")
    if groups:
        assumed.append(f"the list of {len(groups)} groups")
    if options.stratify:
        assumed.append("which rows are held out, since each label has its share there")
    return tuple(assumed)
