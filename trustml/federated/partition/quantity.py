"""Clients of unequal sizes."""

from collections.abc import Sequence

import numpy as np


def quantity_rows(
    rows: int, clients: int, beta: float, generator: np.random.Generator
) -> Sequence[np.ndarray]:
    """The rows of each client: one each, and the rest by one draw of Dirichlet(beta, ..., beta).

    FedNLP draws until each client has a row, which for many clients never ends.

    >>> sum(len(held) for held in quantity_rows(100, 8, 5.0, np.random.default_rng(0)))
    100

    Raises:
      ValueError: `beta` is so small that floats cannot hold the draw.

    References:
      Lin et al., FedNLP, 2022: the quantity partition.
    """
    weights = generator.gamma(beta, size=clients)
    if not (weights.sum() > 0):
        raise ValueError(
            f"`beta` must be larger for {clients} clients, got {beta:g}: every share came out as 0."
        )
    ends = np.cumsum(weights) / weights.sum() * (rows - clients) + np.arange(1, clients + 1)
    return np.split(generator.permutation(rows), np.floor(ends + 1e-9).astype(np.int64)[:-1])
