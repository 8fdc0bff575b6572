"""Clients that see few labels each."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int


def shard_rows(
    label: Int[np.ndarray, " row"], clients: int, per_client: int, generator: np.random.Generator
) -> Sequence[np.ndarray]:
    """The rows of each client: `per_client` shards of rows that were sorted by label.

    >>> rows = shard_rows(np.array([0, 1, 0, 1]), 2, 1, np.random.default_rng(0))
    >>> sorted(held.tolist() for held in map(np.sort, rows))
    [[0, 2], [1, 3]]

    Raises:
      ValueError: There are more shards than rows.

    References:
      McMahan et al., Communication-Efficient Learning of Deep Networks from Decentralized Data,
      2017, section 3: the pathological non-IID partition.
    """
    shards = clients * per_client
    if shards > len(label):
        raise ValueError(
            f"`per_client` times `clients` must be at most the {len(label)} rows, got {per_client} "
            f"times {clients}: make fewer clients, or fewer shards each."
        )
    mixed = generator.permutation(len(label))
    by_label = mixed[np.argsort(label[mixed], kind="stable")]
    cut = np.array_split(by_label, shards)
    order = generator.permutation(shards).reshape(clients, per_client)
    return [np.concatenate([cut[shard] for shard in mine]) for mine in order]
