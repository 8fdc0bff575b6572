"""The partitions by name, and the one function that draws them."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from trustml.federated.partition.cluster import cluster_of_row
from trustml.federated.partition.iid import iid_rows
from trustml.federated.partition.label import label_rows
from trustml.federated.partition.natural import natural_clients
from trustml.federated.partition.quantity import quantity_rows
from trustml.federated.partition.result import (
    Partition,
    PartitionMethod,
    client_of_row,
    data_fingerprint,
)
from trustml.federated.partition.shards import shard_rows
from trustml.federated.streams import stream
from trustml.federated.validation import check_number, check_whole


class _Setting(NamedTuple):
    default: float
    whole: bool = False


class _Rows(NamedTuple):
    """What partitions may go by; None where it was not given."""

    rows: int
    labels: np.ndarray | None
    features: np.ndarray | None
    owner: np.ndarray | None


# Each method with its settings. A default is declared here alone.
METHODS: Mapping[str, Mapping[str, _Setting]] = {
    "natural": {},
    "iid": {},
    "shards": {"per_client": _Setting(2, whole=True)},
    "label": {"alpha": _Setting(0.1)},
    "quantity": {"beta": _Setting(5.0)},
    "cluster": {"clusters": _Setting(10, whole=True), "alpha": _Setting(0.1)},
}


def parse_partition(text: str) -> PartitionMethod:
    """The partition that a word of the command names, its settings filled in.

    >>> parse_partition("label:alpha=0.5")
    PartitionMethod(name='label', settings={'alpha': 0.5})
    >>> str(parse_partition("cluster:clusters=4"))
    'cluster:clusters=4,alpha=0.1'

    Args:
      text: "natural", "iid", "shards:per_client=2", "label:alpha=0.1", "quantity:beta=5" or
        "cluster:clusters=10,alpha=0.1". What is left out is as shown here.

    Raises:
      ValueError: No such method or setting, or a number out of range.
    """
    name, _, rest = text.partition(":")
    given: dict[str, float] = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise ValueError(
                f"`partition` must give each setting as NAME=NUMBER, got {part!r} in {text!r}."
            )
        given[key.strip()] = _number(key.strip(), value)
    return _checked(PartitionMethod(name, given))


def partition(
    method: PartitionMethod | str,
    clients: int | None = None,
    seed: int = 0,
    *,
    rows: int | None = None,
    labels: Any = None,
    features: Any = None,
    owner: Any = None,
    data: str | None = None,
) -> Partition:
    """Who holds which row: the same for the same method, seed and data.

    >>> drawn = partition("iid", clients=3, seed=0, rows=10)
    >>> drawn.sizes.tolist(), str(drawn.method)
    ([4, 3, 3], 'iid')

    Args:
      method: As `parse_partition` takes or makes it.
      clients: How many; of "natural" as many as there are owners, or None.
      seed: From 0 to 2**32 - 1.
      rows: How many rows there are, where nothing below says so.
      labels: Numbers or names, one per row; "shards" and "label" go by them.
      features: A vector per row; "cluster" goes by them.
      owner: Whose row it is; "natural" goes by it, with -1 for nobody's.
      data: Fingerprint of the rows; by default that of labels and owners, or of their number.

    Raises:
      ValueError: The method needs something that is not there, or more clients than rows.
    """
    method = parse_partition(method) if isinstance(method, str) else _checked(method)
    given = _given(rows, labels, features, owner)
    seed = check_whole("seed", seed, least=0)
    if seed >= 2**32:
        raise ValueError(f"`seed` must be below 2**32 for a partition, got {seed}.")
    if method.name == "natural":
        found = natural_clients(_needed("owner", given.owner, method))
        _check_natural(found, clients)
    else:
        count = _checked_clients(clients, given.rows, method)
        found = client_of_row(given.rows, _DRAWN[method.name](given, count, method.settings, seed))
    return Partition(found, method, seed, data or _fingerprint(given))


def _shards(given, clients, settings, seed):
    label = _numbered(_needed("labels", given.labels, "shards"))
    return shard_rows(label, clients, settings["per_client"], stream(seed, 0, "shards"))


def _label(given, clients, settings, seed):
    label = _numbered(_needed("labels", given.labels, "label"))
    return label_rows(label, clients, settings["alpha"], seed)


def _cluster(given, clients, settings, seed):
    features = _needed("features", given.features, "cluster")
    label = _numbered(cluster_of_row(features, settings["clusters"], seed))
    return label_rows(label, clients, settings["alpha"], seed)


_DRAWN: Mapping[str, Callable] = {
    "iid": lambda given, clients, _, seed: iid_rows(given.rows, clients, stream(seed, 0, "iid")),
    "shards": _shards,
    "label": _label,
    "quantity": lambda given, clients, settings, seed: quantity_rows(
        given.rows, clients, settings["beta"], stream(seed, 0, "quantity")
    ),
    "cluster": _cluster,
}


def _checked(method):
    if method.name not in METHODS:
        names = ", ".join(METHODS)
        raise ValueError(f"`partition` must be one of {names}, got {method.name!r}.")
    known = METHODS[method.name]
    for name in method.settings:
        if name not in known:
            takes = f"takes {', '.join(known)}" if known else "takes no settings"
            raise ValueError(f"`partition` {method.name} {takes}, got {name!r}.")
    settings: dict[str, float] = {}
    for name, setting in known.items():
        value = method.settings.get(name, setting.default)
        if setting.whole:
            value = int(value) if isinstance(value, float) and value.is_integer() else value
            settings[name] = check_whole(name, value, least=1)
        else:
            settings[name] = check_number(name, value, least=0, above=True)
    return PartitionMethod(method.name, settings)


def _number(name, value):
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"`{name}` must be a number, got {value!r}.") from None


def _given(rows, labels, features, owner):
    """The arrays, of one length."""
    arrays = {"labels": labels, "features": features, "owner": owner}
    found = {name: None if one is None else np.asarray(one) for name, one in arrays.items()}
    for name, one in found.items():
        if one is None:
            continue
        if one.ndim != (2 if name == "features" else 1):
            raise ValueError(f"`{name}` must have one entry per row, got shape {one.shape}.")
        if rows is not None and len(one) != rows:
            raise ValueError(f"`{name}` must have {rows} rows like the others, got {len(one)}.")
        rows = len(one)
    if rows is None:
        raise ValueError("`rows` must say how many rows there are, got none and no array of them.")
    return _Rows(check_whole("rows", rows, least=1), **found)


def _needed(name, value, method):
    if value is None:
        raise ValueError(
            f"`partition` {method} needs `{name}`, got none: use data that has them, or another "
            "partition such as iid."
        )
    return value


def _numbered(labels):
    """Labels as numbers from 0, in their order."""
    return np.unique(labels, return_inverse=True)[1]


def _check_natural(found, clients):
    if (found < -1).any():
        row = int(np.flatnonzero(found < -1)[0])
        raise ValueError(f"`owner` must be at least -1, got {found[row]} in row {row}.")
    owners = len(np.unique(found[found >= 0]))
    if not owners:
        raise ValueError("`owner` must name somebody, got -1 for every row.")
    if clients is not None and clients != owners:
        raise ValueError(
            f"`clients` must be left out of the partition natural, which has {owners}, "
            f"got {clients}."
        )


def _checked_clients(clients, rows, method):
    if clients is None:
        raise ValueError(f"`clients` must say how many the partition {method} makes, got None.")
    clients = check_whole("clients", clients, least=1)
    if clients > rows:
        raise ValueError(
            f"`clients` must be at most the {rows} rows, got {clients}: a client needs a row."
        )
    return clients


def _fingerprint(given):
    arrays = [one for one in (given.labels, given.owner) if one is not None]
    return data_fingerprint(arrays or [np.array(given.rows)])
