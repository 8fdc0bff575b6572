"""Files of membership scores: what an audit takes from them, refused where it is no sample."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from trustml.recipes.scores.table import Table, read_table

SHADOWS = ("target_scores", "shadow_scores", "shadow_members")
POPULATION = ("population_scores", "population_shadow_scores")
_POPULATION_MEMBERS = "population_shadow_members"
_OF_SHADOWS = (*SHADOWS, *POPULATION, _POPULATION_MEMBERS)
_OWN = ("score", "member", "id", *_OF_SHADOWS)


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
    indices: Int[np.ndarray, " unit"]


class Scores(NamedTuple):
    """What a file holds. Private."""

    score: Float[np.ndarray, " unit"]
    member: Bool[np.ndarray, " unit"]
    slices: Slices | None
    shadows: ShadowScores | None
    unread: tuple[str, ...]  # columns that nothing was taken from


def read_scores(path: Path, by: str | None = None) -> Scores:
    """Reads `score` and `member`, and what else the file has for an audit.

    Args:
      path: A .csv file with a header, or an .npz file.
      by: Column of the slices.

    Raises:
      ValueError: The file cannot be read, a column is missing or holds what it must not, or the
        members and the others share a unit.
    """
    table = read_table(path)
    _check_columns(table, by)
    score, member = table.numbers("score", (None,)), table.truths("member")
    _check_units(table, score, member)
    shadows = _shadows(table, len(score))
    read = {*_OWN, by} if shadows else {"score", "member", "id", by}
    unread = tuple(name for name in table.columns if name not in read)
    slices = None if by is None else _slices(table, by, len(score))
    return Scores(score, member, slices, shadows, unread)


def _check_columns(table: Table, by: str | None) -> None:
    held = ", ".join(table.columns) or "nothing"
    missing = [name for name in ("score", "member") if name not in table.columns]
    if missing:
        raise ValueError(
            f"`FILE` must hold the columns `score` and `member`, got no `{missing[0]}` in "
            f"{table.path}, which holds {held}."
        )
    if by is not None and (by not in table.columns or by in _OWN):
        free = [name for name in table.columns if name not in _OWN]
        raise ValueError(
            f"`--by` must be a column of slices in {table.path}, got {by!r}; it has "
            f"{', '.join(free) or 'none'}."
        )


def _check_units(table: Table, score, member) -> None:
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


def _check_ids(table: Table, member) -> None:
    ids = table.labels("id", len(member))
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
            f"{table.path}: every interval takes rows as independent. Keep one score of each unit."
        )


def _slices(table: Table, by: str, units: int) -> Slices:
    labels = table.labels(by, units)
    if labels.dtype.kind == "U" and (labels == "").any():
        row = int(np.flatnonzero(labels == "")[0])
        raise ValueError(
            f"`{by}` must name a slice in every row, got none at {table.row_name(row)}."
        )
    names, indices = np.unique(labels, return_inverse=True)
    return Slices(tuple(str(name) for name in names), indices.astype(np.int64))


def _shadows(table: Table, units: int) -> ShadowScores | None:
    columns = table.columns
    if table.lines is not None or not any(name in columns for name in _OF_SHADOWS):
        return None
    _check_together(table, SHADOWS)
    target, shadows, members = SHADOWS
    count = columns[shadows].shape[0] if columns[shadows].ndim else 0
    scores = ShadowScores(
        table.numbers(target, (units,)),
        table.numbers(shadows, (count, units)),
        table.truths(members, (count, units)),
    )
    if not any(name in columns for name in (*POPULATION, _POPULATION_MEMBERS)):
        return scores
    _check_together(table, POPULATION)
    own, of_shadows = POPULATION
    others = columns[own].size
    scores = scores._replace(
        population=table.numbers(own, (others,)),
        population_shadows=table.numbers(of_shadows, (count, others)),
    )
    if _POPULATION_MEMBERS not in columns:
        return scores
    trained = table.truths(_POPULATION_MEMBERS, (count, others))
    return scores._replace(population_members=trained)


def _check_together(table: Table, names: Sequence[str]) -> None:
    missing = [name for name in names if name not in table.columns]
    if missing:
        raise ValueError(
            f"`FILE` must hold {', '.join(names)} together, got no `{missing[0]}` in {table.path}, "
            f"which holds {', '.join(table.columns)}."
        )
