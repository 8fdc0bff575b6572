"""Files of membership scores, read and checked: what is wrong is named by column and row."""

import csv
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

SHADOWS = ("target_scores", "shadow_scores", "shadow_members")
POPULATION = ("population_scores", "population_shadow_scores")
POPULATION_MEMBERS = "population_shadow_members"
_OWN = ("score", "member", "id", *SHADOWS, *POPULATION, POPULATION_MEMBERS)
_TRUTH = {"0": False, "1": True, "false": False, "true": True}


class ShadowScores(NamedTuple):
    """Logit-scaled confidences of the model under attack and of its shadows. Private."""

    target: Float[np.ndarray, " unit"]
    shadows: Float[np.ndarray, "shadow unit"]
    members: Bool[np.ndarray, "shadow unit"]  # who trained which shadow
    population: Float[np.ndarray, " other"] | None = None
    population_shadows: Float[np.ndarray, "shadow other"] | None = None
    population_members: Bool[np.ndarray, "shadow other"] | None = None


class Slices(NamedTuple):
    """Which slice each unit lies in."""

    names: tuple[str, ...]
    places: Int[np.ndarray, " unit"]


class Scores(NamedTuple):
    """What a file holds. Private."""

    score: Float[np.ndarray, " unit"]
    member: Bool[np.ndarray, " unit"]
    slices: Slices | None
    shadows: ShadowScores | None
    unread: tuple[str, ...]  # columns that nothing was taken from


class _Table(NamedTuple):
    """Columns by name, and where each row of them lies."""

    path: Path
    columns: dict[str, Any]  # arrays; of CSV text, which fills arrays only where it is read
    lines: Sequence[int] | None  # of CSV: where rows end

    def where(self, row: int) -> str:
        """A row as messages name it."""
        return f"row {row} of {self.path}" if not self.lines else f"{self.path}:{self.lines[row]}"

    def first(self, wrong: Bool[np.ndarray, "..."]) -> tuple[tuple[int, ...], str]:
        """The first place that is marked, as an index and as messages name it."""
        place = tuple(map(int, np.argwhere(wrong)[0]))
        return place, self.where(place[0]) if len(place) == 1 else f"{place} of {self.path}"


def read_scores(path: Path, by: str | None = None) -> Scores:
    """Reads `score` and `member`, and what else the file has for an audit.

    Args:
      path: A .csv file with a header, or an .npz file.
      by: Column of the slices.

    Raises:
      ValueError: The file cannot be read, a column is missing or holds what it must not, or the
        members and the others share a unit.
    """
    table = _read(path)
    held = ", ".join(table.columns) or "nothing"
    missing = [name for name in ("score", "member") if name not in table.columns]
    if missing:
        raise ValueError(
            f"`FILE` must hold the columns `score` and `member`, got no `{missing[0]}` in {path}, "
            f"which holds {held}."
        )
    if by is not None and (by not in table.columns or by in _OWN):
        free = [name for name in table.columns if name not in _OWN]
        raise ValueError(
            f"`--by` must be a column of slices in {path}, got {by!r}; it has "
            f"{', '.join(free) or 'none'}."
        )
    score, member = _vector(table, "score"), _truths(table, "member")
    _check_units(table, score, member)
    shadows = _shadows(table, len(score))
    read = {*_OWN, by} if shadows else {"score", "member", "id", by}
    unread = tuple(name for name in table.columns if name not in read)
    slices = None if by is None else _slices(table, by, len(score))
    return Scores(score, member, slices, shadows, unread)


def _read(path: Path) -> _Table:
    readers = {".csv": _read_csv, ".npz": _read_npz}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"`FILE` must be named .csv or .npz, got {path}.")
    if not path.is_file():
        raise ValueError(f"`FILE` must be a file that is there, got {path}.")
    try:
        return reader(path)
    except OSError as error:
        raise ValueError(f"`FILE` must be readable, got {path}: {error.strerror}.") from None


def _read_csv(path: Path) -> _Table:
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            head = [name.strip() for name in next(reader, [])]
            for row in reader:
                if row and len(row) != len(head):
                    raise ValueError(
                        f"`FILE` must have {len(head)} cells in every row, as its header has, got "
                        f"{len(row)} in {path}:{reader.line_num}."
                    )
                if row:
                    rows.append(row)
                    lines.append(reader.line_num)
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"`FILE` must be CSV in UTF-8, got {path}: {error}.") from None
    for name in head:
        if head.count(name) > 1:
            raise ValueError(f"`FILE` must name each column once, got `{name}` twice in {path}.")
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(head)
    return _Table(path, dict(zip(head, columns, strict=True)), lines)


def _read_npz(path: Path) -> _Table:
    broken = (ValueError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError(f"`FILE` must be an archive of `numpy.savez`, got {path}.")
        file.seek(0)
        try:
            with np.load(file, allow_pickle=False) as found:
                arrays = {name: found[name] for name in found.files}
        except broken as error:
            raise ValueError(f"`FILE` must be of plain arrays, got {path}: {error}.") from None
    return _Table(path, {k: v for k, v in arrays.items() if isinstance(v, np.ndarray)}, None)


def _vector(table: _Table, name: str) -> Float[np.ndarray, " unit"]:
    values = table.columns[name]
    if table.lines is None:
        _check_shape(table, name, values, (None,))
        return _finite(table, name, values)
    found = np.empty(len(values))
    for row, text in enumerate(values):
        try:
            found[row] = float(text)
        except ValueError:
            raise ValueError(
                f"`{name}` must be a number in every row, got {text!r} at {table.where(row)}."
            ) from None
    return _finite(table, name, found)


def _finite(table: _Table, name: str, values: np.ndarray) -> Float[np.ndarray, "..."]:
    if values.dtype.kind not in "iuf":
        raise ValueError(f"`{name}` must hold numbers, got {values.dtype} in {table.path}.")
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        place, at = table.first(~np.isfinite(values))
        raise ValueError(
            f"`{name}` must be finite, got {values[place]} at {at}. Leave the unit out, or give it "
            "a finite score that ranks it."
        )
    return values


def _truths(table: _Table, name: str) -> Bool[np.ndarray, "..."]:
    values = table.columns[name]
    if table.lines is None:
        kinds = values.dtype.kind in "biuf"
        wrong = np.ones(values.shape, bool) if not kinds else (values != 0) & (values != 1)
        found = values == 1
    else:
        texts = [text.strip().lower() for text in values]
        values = np.array(texts, np.str_)
        wrong = np.array([text not in _TRUTH for text in texts], bool)
        found = np.array([_TRUTH.get(text, False) for text in texts], bool)
    if wrong.any():
        place, at = table.first(wrong)
        got = values[place].item()
        raise ValueError(f"`{name}` must be 0, 1, true or false, got {got!r} at {at}.")
    return np.asarray(found, bool)


def _check_units(table: _Table, score, member) -> None:
    """Refuses what is no sample of members and of others."""
    if member.shape != score.shape:
        raise ValueError(
            f"`member` must be as long as `score`, {score.shape}, got {member.shape} in "
            f"{table.path}."
        )
    members = int(member.sum())
    others = len(member) - members
    if min(members, others) < 2:
        raise ValueError(
            f"`member` must name two members and two others at least, got {members} and {others} "
            f"in {table.path}. Score units of both kinds."
        )
    if "id" in table.columns:
        _check_ids(table, member)


def _check_ids(table: _Table, member) -> None:
    ids = _labels(table, "id", len(member))
    both = np.intersect1d(ids[member], ids[~member])
    if both.size:
        raise ValueError(
            f"`id` must be that of a member or of another, got {both[0].item()!r} in both sets "
            f"({both.size} ids are) in {table.path}. A unit is in the training data or it is not; "
            "where rows are runs of one unit, leave the column `id` out."
        )
    names, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise ValueError(
            f"`id` must occur once, got {names[counts > 1][0].item()!r} in several rows of "
            f"{table.path}: every interval takes rows as apart. Keep one score of each unit."
        )


def _labels(table: _Table, name: str, units: int) -> np.ndarray:
    """A column of names or whole numbers, one for each unit."""
    values = np.asarray(table.columns[name])
    _check_shape(table, name, values, (units,))
    if values.dtype.kind not in "biuU":
        raise ValueError(
            f"`{name}` must hold text or whole numbers, got {values.dtype} in {table.path}."
        )
    return np.char.strip(values) if values.dtype.kind == "U" else values


def _slices(table: _Table, by: str, units: int) -> Slices:
    labels = _labels(table, by, units)
    if labels.dtype.kind == "U" and (labels == "").any():
        row = int(np.flatnonzero(labels == "")[0])
        raise ValueError(f"`{by}` must name a slice in every row, got none at {table.where(row)}.")
    names, places = np.unique(labels, return_inverse=True)
    return Slices(tuple(str(name) for name in names), places.astype(np.int64))


def _shadows(table: _Table, units: int) -> ShadowScores | None:
    held = table.columns
    if table.lines is not None or not any(name in held for name in _OWN[3:]):
        return None
    _check_together(table, SHADOWS)
    target, shadows, members = SHADOWS
    count = held[shadows].shape[0] if held[shadows].ndim else 0
    given = ShadowScores(
        _array(table, target, (units,)),
        _array(table, shadows, (count, units)),
        _array(table, members, (count, units), truths=True),
    )
    if not any(name in held for name in (*POPULATION, POPULATION_MEMBERS)):
        return given
    _check_together(table, POPULATION)
    own, of_shadows = POPULATION
    others = held[own].size
    said = _array(table, own, (others,)), _array(table, of_shadows, (count, others))
    given = given._replace(population=said[0], population_shadows=said[1])
    if POPULATION_MEMBERS not in held:
        return given
    who = _array(table, POPULATION_MEMBERS, (count, others), truths=True)
    return given._replace(population_members=who)


def _check_together(table: _Table, names) -> None:
    missing = [name for name in names if name not in table.columns]
    if missing:
        raise ValueError(
            f"`FILE` must hold {', '.join(names)} together, got no `{missing[0]}` in {table.path}, "
            f"which holds {', '.join(table.columns)}."
        )


def _array(table: _Table, name: str, shape, *, truths: bool = False) -> np.ndarray:
    values = table.columns[name]
    _check_shape(table, name, values, shape)
    return _truths(table, name) if truths else _finite(table, name, values)


def _check_shape(table: _Table, name: str, values: np.ndarray, shape) -> None:
    """None in `shape` is any length; nothing may be empty."""
    fits = values.ndim == len(shape) and all(
        have == want or want is None for have, want in zip(values.shape, shape, strict=True)
    )
    if not (fits and values.size):
        wanted = "a vector" if shape == (None,) else f"of shape {tuple(shape)}, not empty,"
        raise ValueError(f"`{name}` must be {wanted} in {table.path}, got shape {values.shape}.")
