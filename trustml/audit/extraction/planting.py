"""Canaries among the rows of a data set, so that a training meets them as it meets any row."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from trustml.audit.extraction.templates import Canary, check_template
from trustml.data.examples import Examples
from trustml.data.rows import Tagged, Utterance
from trustml.plan.checks import check_count


class Planted(NamedTuple):
    """Data with canaries in it."""

    train: Examples
    valid: Examples
    places: tuple[tuple[int, ...], ...]  # of each canary: the rows of `train` that hold it


def insert_canaries(
    train: Examples,
    valid: Examples,
    canaries: Sequence[Canary],
    *,
    repetitions: int,
    rng: np.random.Generator,
    intent: str | None = None,
) -> Planted:
    """Puts `repetitions` copies of each canary at random places among the training rows.

    The validation part gets them in the same ratio to its rows, rounded up. What the copies of
    one canary share is one owner, where rows have owners; their group is the first.

    A promise of differential privacy for one row says less of a canary with R copies: R times the
    epsilon, and a larger delta. A promise for owners covers all copies of one owner at once.

    >>> from trustml.audit.extraction import draw_canary, make_template
    >>> rows = (Tagged(("wake", "me"), ("O", "O")),)
    >>> fields = {"task": "tag", "rows": rows, "unit": "sentence", "labels": ("time",)}
    >>> data = Examples(name="demo", split="train", **fields)
    >>> canary = draw_canary(make_template("pin", 2), np.random.default_rng(0))
    >>> planted = insert_canaries(
    ...     data, data, [canary], repetitions=3, rng=np.random.default_rng(0)
    ... )
    >>> len(planted.train), len(planted.places[0]), planted.train.labels
    (4, 3, ('time', 'canary'))

    Args:
      train: Rows of a "tag" or "nlu" task.
      valid: More of them, under the same schema.
      canaries: Different ones; the same words with other secrets are allowed.
      repetitions: R, copies of each canary in `train`.
      rng: Chooses the places.
      intent: The label of the canaries' rows, for "nlu" alone, where it is needed.

    Raises:
      ValueError: No canary or fewer than one copy, a canary that stands in the data already, a
        slot that the schema has already, or an intent that the task lacks.
    """
    check_count("repetitions", repetitions)
    for canary in canaries:
        check_template(canary.template)
    _check_new(canaries, train, valid)
    _check_intent(intent, train)
    slots = tuple(dict.fromkeys(canary.template.slot for canary in canaries))
    rows = [_row(canary, intent) for canary in canaries]
    share = math.ceil(repetitions * len(valid) / len(train))
    first = max((*(train.owners or ()), *(valid.owners or ())), default=-1) + 1
    owners = range(first, first + len(rows))
    more = _extended(train, rows, owners, repetitions, slots, rng)
    fewer, _ = _extended(valid, rows, owners, share, slots, rng)
    return Planted(more[0], fewer, more[1])


def _extended(examples, rows, owners, copies, slots, rng):
    """`examples` with `copies` of each of `rows`, and where those of each stand."""
    total = len(examples) + copies * len(rows)
    chosen = rng.choice(total, copies * len(rows), replace=False).reshape(len(rows), copies)
    origin = np.full(total, -1)  # the canary of each place, -1 for a row of the data
    for place, own in enumerate(chosen):
        origin[own] = place

    def mixed(old, new):
        rest = iter(old)
        return tuple(new[place] if place >= 0 else next(rest) for place in origin)

    changed: dict[str, Any] = {"rows": mixed(examples.rows, rows)}
    if examples.owners is not None:
        changed["owners"] = mixed(examples.owners, list(owners))
    if examples.group_of is not None:
        changed["group_of"] = mixed(examples.group_of, [0] * len(rows))
    schema = "labels" if examples.task == "tag" else "slots"
    changed[schema] = (*getattr(examples, schema), *slots)
    places = tuple(tuple(np.sort(own).tolist()) for own in chosen)
    return dataclasses.replace(examples, **changed), places


def _row(canary: Canary, intent: str | None):
    tags = canary.template.tags
    return Tagged(canary.tokens, tags) if intent is None else Utterance(canary.tokens, tags, intent)


def _check_new(canaries, train, valid):
    """Refuses canaries that the data, or the canaries themselves, hold already."""
    said = [tuple(word.lower() for word in canary.tokens) for canary in canaries]
    if not said or len(set(said)) < len(said):
        raise ValueError(f"`canaries` must be different, and at least one, got {len(said)}.")
    if {train.task, valid.task} - {"tag", "nlu"} or train.tags != valid.tags:
        raise ValueError(
            "`train` and `valid` must be of a tag or nlu task under one schema, got "
            f"{train.task!r} and {valid.task!r}."
        )
    slot = next(
        (each.template.slot for each in canaries if f"B-{each.template.slot}" in train.tags), None
    )
    if slot is not None:
        raise ValueError(f"`slot` must be new to the data, got {slot!r}; name another one.")
    known = {tuple(word.lower() for word in row.tokens) for row in (*train.rows, *valid.rows)}
    old = next((words for words in said if words in known), None)
    if old is not None:
        raise ValueError(
            f"`canaries` must not stand in the data already, got {' '.join(old)!r}; draw another."
        )


def _check_intent(intent, train):
    if train.task == "tag" and intent is not None:
        raise ValueError(f"`intent` is of an nlu task alone, got {intent!r} for a tag task.")
    if train.task == "nlu" and intent not in train.labels:
        raise ValueError(f"`intent` must be one of {', '.join(train.labels)}, got {intent!r}.")
