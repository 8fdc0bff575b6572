"""Clients whose labels are distributed unlike everyone's."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, Int64


def label_rows(
    label: Int[np.ndarray, " row"], clients: int, alpha: float, seed: int
) -> Sequence[Int64[np.ndarray, " held"]]:
    """The rows of each client: equal sizes, labels by Dirichlet(alpha times everyone's shares).

    FedNLP's partition, number by number: the same lists as its code gives from
    `numpy.random.seed(seed)`. What a label cannot give any more, the others give by what they have
    left; the last client takes the rest.

    >>> held = label_rows(np.repeat([0, 1, 2], [6, 3, 3]), 3, alpha=1.0, seed=0)
    >>> held[0].tolist()
    [8, 6, 11, 10]

    Args:
      label: From 0; each occurs.
      clients: At most as many as there are rows.
      alpha: The smaller, the fewer labels a client sees.
      seed: From 0 to 2**32 - 1.

    Raises:
      ValueError: `alpha` is so small that floats cannot hold a draw.

    References:
      Lin et al., FedNLP: Benchmarking Federated Learning Methods for Natural Language Processing
      Tasks, 2022; data/advanced_partition/niid_label.py at commit 488cedc.
    """
    generator = np.random.RandomState(seed)  # the stream that FedNLP's numbers take
    pools = _Pools(label, generator)
    shares = _drawn(alpha * (pools.lengths / len(label)), clients, generator, alpha)
    size, held = len(label) // clients, []
    for client in range(clients):
        left = len(label) - client * size
        mine = pools.take(_counts(shares[client], left if left < 2 * size else size))
        if client == clients - 1:
            mine = np.concatenate([mine, pools.take(pools.lengths - pools.used)])
        held.append(mine)
    return held


class _Pools:
    """The shuffled rows of each label, label after label, and how many of each are given away."""

    def __init__(self, label, generator):
        pools = [np.flatnonzero(label == one) for one in range(int(label.max()) + 1)]
        for pool in pools:
            generator.shuffle(pool)
        self.rows = np.concatenate(pools)
        self.lengths = np.array([len(pool) for pool in pools])
        self.starts = np.cumsum(self.lengths) - self.lengths
        self.used = np.zeros(len(pools), np.int64)

    def take(self, counts):
        """The next rows of each label, in order of labels."""
        missing = np.maximum(self.used + counts - self.lengths, 0)
        if not missing.any():  # most clients
            return self._advance(counts)
        found = []
        for one, count in enumerate(counts):
            short = max(0, self.used[one] + count - self.lengths[one])  # by earlier refills too
            found.append(self._advance_one(one, count - short))
            if short:
                found += [self._advance_one(*part) for part in self._refill(one, short)]
        return np.concatenate(found)

    def _advance(self, counts):
        ends = np.cumsum(counts)
        first = self.starts + self.used - (ends - counts)
        self.used += counts
        return self.rows[np.repeat(first, counts) + np.arange(ends[-1])]

    def _advance_one(self, one, count):
        start = self.starts[one] + self.used[one]
        self.used[one] += count
        return self.rows[start : start + count]

    def _refill(self, empty, short):
        """What other labels give instead, those with the least left first: pairs (label, rows)."""
        left = self.lengths - self.used
        left[empty] = 0
        given = np.minimum(np.ceil(left / max(1, left.sum()) * short), left).astype(np.int64)
        order = np.argsort(left, kind="stable")
        ends = np.minimum(np.cumsum(given[order]), short)
        return zip(order.tolist(), np.diff(ends, prepend=0).tolist(), strict=True)


def _drawn(concentration, clients, generator, alpha):
    """A distribution of labels for each client."""
    # FedNLP draws one more, first, and leaves it.
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = generator.dirichlet(concentration, size=clients + 1)[1:]
    if not np.isfinite(shares).all():
        raise ValueError(
            f"`alpha` must be larger, got {alpha:g}: with {len(concentration)} labels a client's "
            "shares all came out as 0."
        )
    return shares


def _counts(shares, size):
    """Rows of each label: rounded shares until `size` is full; the last label adds what lacks."""
    ends = np.minimum(np.cumsum(np.rint(shares * size)), size).astype(np.int64)
    ends[-1] = size
    return np.diff(ends, prepend=0)
