"""From rows to the clients of a run: whose each row is, and which rows nobody trains on."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Int

from trustml.data.examples import Examples
from trustml.data.tables import Table
from trustml.federated import Clients
from trustml.federated.partition import (
    Partition,
    load_partition,
    parse_partition,
    partition,
)
from trustml.models.tasks import Task
from trustml.models.tasks.task import Encoded
from trustml.recipes.federate.config import FederateConfig

NATURAL = "natural"
_LABELS = {"classify": "label", "nlu": "intent"}
_FEWEST = 2  # clients


class Population(NamedTuple):
    """The clients of a run.

    Attributes:
      clients: Examples that they train on.
      held_out: Rows that nobody trains on, and `places`: whose each is, by place in `clients`;
        None where no client has rows to spare.
      places: See `held_out`.
      kind: What one client is, such as "role".
      partition: How rows became clients.
      row_of: The row of the training part that each example of `clients` was cut from.
    """

    clients: Clients
    held_out: Examples | None
    places: Int[np.ndarray, " row"]
    kind: str
    partition: Partition
    row_of: Int[np.ndarray, " example"]

    def holding(self, rows: Bool[np.ndarray, " row"]) -> "Population":
        """The same with some of the rows; who has none of them is no client.

        `places` stay as they are: they hold as long as every client has a row.

        Args:
          rows: Which rows of the training part they hold.

        Raises:
          ValueError: Nobody holds one.
        """
        held = rows[self.row_of]
        if not held.any():
            raise ValueError("`--periods` must leave rows in each period, got one without any.")
        owner = np.repeat(self.clients.ids, self.clients.counts)
        kept = jax.tree.map(lambda leaf: leaf[held], self.clients.rows)
        clients = Clients.from_arrays(kept, owner[held])
        return self._replace(clients=clients, row_of=self.row_of[held])


def make_population(
    config: FederateConfig, train: Examples, task: Task, made: Partition | None = None
) -> Population:
    """The clients that the settings ask for.

    Args:
      config: The settings.
      train: The training part.
      task: Its encoding.
      made: The partition of a resumed run.

    Raises:
      ValueError: The settings contradict each other or the data.
    """
    encoded = task.encode(train)
    made = make_partition(config, train, encoded) if made is None else made
    if made.data != train.fingerprint:
        raise ValueError(
            f"`--data` must be the data of the run that is resumed, got others: {config.data}."
        )
    whose = made.client_of_row
    kept = hold_out(whose, config.held_out)
    wanted = np.flatnonzero(((whose >= 0) & ~kept)[encoded.row_of])
    if not wanted.size:
        raise ValueError(f"`--partition` {made.method} leaves no client a row to train on.")
    owner, row_of = whose[encoded.row_of[wanted]], encoded.row_of[wanted]
    clients = Clients.from_arrays(encoded.take(wanted), owner)
    if len(clients) < _FEWEST:
        raise ValueError(
            f"`--clients` must give at least {_FEWEST} with rows to train on, got {len(clients)}."
        )
    places = np.minimum(np.searchsorted(clients.ids, whose), len(clients) - 1)
    aside = np.flatnonzero(kept & (clients.ids[places] == whose))
    held_out = rows_of(train, aside) if aside.size else None
    natural = made.method.name == NATURAL
    kind = str(train.owner_kind) if natural and train.owner_kind else "client"
    row_of = row_of[np.argsort(owner, kind="stable")]  # as `Clients` orders examples
    return Population(clients, held_out, places[aside], kind, made, row_of)


def make_partition(config: FederateConfig, train: Examples, encoded: Encoded) -> Partition:
    """Whose each row of the training part is.

    Raises:
      ValueError: The data do not say whose rows are, or the method needs what they have not.
    """
    _check_unit(config, train)
    word = config.partition or (NATURAL if train.owners is not None else None)
    if word is None:
        raise ValueError(
            "`--partition` must be given, such as `--partition label:alpha=0.5 --clients 100`: "
            f"{train.name} does not say whose its rows are. Of your own file `--unit COLUMN` says "
            "it."
        )
    if Path(word).suffix == ".json":
        return load_partition(word, data=train.fingerprint)
    method = parse_partition(word)
    if method.name != NATURAL and config.clients is None:
        raise ValueError(f"`--clients` must be given with `--partition` {word}, got none.")
    return partition(
        method,
        config.clients,
        config.seed or 0,
        rows=len(train),
        labels=labels_of(train),
        features=_features_of(encoded),
        owner=None if train.owners is None else np.array(train.owners),
        data=train.fingerprint,
    )


def _check_unit(config: FederateConfig, train: Examples) -> None:
    if config.unit not in (None, train.owner_kind):
        whose = f"its rows belong to a {train.owner_kind}" if train.owner_kind else "of nobody's"
        raise ValueError(
            f"`--unit` must be a column of your own file, got {config.unit!r} for {train.name}, "
            f"where {whose}."
        )


def _features_of(encoded: Encoded) -> Any:
    """Vectors of whole rows, where the model reads such."""
    features = encoded.arrays.get("features")
    if features is None or features.ndim != 2:
        return None
    return features if len(features) == len(np.unique(encoded.row_of)) else None


def hold_out(whose: Int[np.ndarray, " row"], share: float) -> Bool[np.ndarray, " row"]:
    """Which rows nobody trains on: of each client with two or more at least one.

    They lie evenly in the client's order. The choice depends on the client alone, so that a plan's
    promise for whole clients stays as it is.

    >>> hold_out(np.array([0, 0, 0, 0, 1, 2, 2]), 0.5).tolist()
    [False, True, False, True, False, False, True]

    Args:
      whose: The client of each row; -1 for nobody's.
      share: Part of a client's rows.

    Raises:
      ValueError: `share` is not at least 0 and below 1.
    """
    if not (0 <= share < 1):
        raise ValueError(f"`--held-out` must be at least 0 and below 1, got {share!r}.")
    _, client, counts = np.unique(whose, return_inverse=True, return_counts=True)
    order = np.argsort(client, kind="stable")
    rank = np.empty(len(whose), np.int64)
    rank[order] = np.arange(len(whose)) - np.repeat(np.cumsum(counts) - counts, counts)
    kept = np.where(counts >= 2, np.maximum(1, np.floor(counts * share)), 0).astype(np.int64)
    if not share:
        kept[:] = 0
    size, number = counts[client], kept[client]
    return (whose >= 0) & ((rank + 1) * number // size > rank * number // size)


def labels_of(train: Examples) -> Int[np.ndarray, " row"] | None:
    """The label of each row, as a number; None where a task has none."""
    if isinstance(train.rows, Table):
        return np.asarray(train.rows.label_indices(train.labels))
    if train.task not in _LABELS:
        return None
    place = {label: number for number, label in enumerate(train.labels)}
    return np.array([place[getattr(row, _LABELS[train.task])] for row in train.rows])


def rows_of(train: Examples, rows: Int[np.ndarray, " chosen"]) -> Examples:
    """Some rows, to be evaluated; nobody's.

    Args:
      train: Of any part.
      rows: Their places.
    """
    if isinstance(train.rows, Table):
        kept: Any = train.rows.take(rows)
    else:
        kept = tuple(train.rows[row] for row in rows)
    groups = train.group_of and tuple(train.group_of[row] for row in rows)
    return dataclasses.replace(train, rows=kept, owner_kind=None, owners=None, group_of=groups)
