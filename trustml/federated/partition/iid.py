"""Equal parts of shuffled rows."""

from collections.abc import Sequence

import numpy as np


def iid_rows(rows: int, clients: int, generator: np.random.Generator) -> Sequence[np.ndarray]:
    """The rows of each client: as many as of any other, up to one.

    >>> [len(held) for held in iid_rows(5, 2, np.random.default_rng(0))]
    [3, 2]
    """
    return np.array_split(generator.permutation(rows), clients)
