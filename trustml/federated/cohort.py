"""What the clients of a round compute on: their rows, in batches, in an order of the round's own.

Rows lie flat and batches name rows, so a client costs what it holds. The order of a client's rows
is a function of (seed, round, client, epoch) alone: who else takes part changes nothing of it.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, UInt

from trustml.federated.clients import Clients

_START = np.uint64(0x6A09E667F3BCC908)  # so that seed and round do not stand for each other
_BITS, _64 = np.uint64(40), np.uint64(64)  # of a key that orders rows; a tie is one in 2**20
_LEAST = 64  # rows and batches of the smallest program


class Work(NamedTuple):
    """What one client has to do: the unit of a round. Leaves [client] in a cohort."""

    first: Int[Any, "*client"]  # of its batches, in `Cohort.order`
    steps: Int[Any, "*client"]  # batches of all epochs
    in_epoch: Int[Any, "*client"]  # batches of one epoch
    rows: Int[Any, "*client"]
    weight: Float[Any, "*client"]  # of its answer in the sum
    place: Int[Any, "*client"]  # of the client in `Clients`
    version: Int[Any, "*client"]  # rounds by which the parameters it starts from are old


class Cohort(NamedTuple):
    """The clients of one round, dealt to devices. Each leaf has a leading device axis."""

    rows: Any  # pytree [device, row, ...]
    order: Int[Any, "device step batch"]  # rows of each batch; -1 where a batch is not full
    work: Work  # leaves [device, client]
    group: Int[Any, "device client"]  # 0, or -1 for who does not answer


class Batches(NamedTuple):
    """The batches of one client, within a program."""

    rows: Any
    order: Int[Any, "step batch"]
    work: Work

    def take(self, step) -> tuple[Any, Bool[Any, " batch"]]:
        """Rows of the client's batch number `step`, and which of them are there."""
        which = jax.lax.dynamic_index_in_dim(self.order, self.work.first + step, keepdims=False)
        held = which >= 0
        # 0 * NaN is NaN in a backward pass: for a row that is missing stands one of its own.
        which = jnp.where(held, which, which[0])
        return jax.tree.map(lambda leaf: leaf.at[which].get(mode="clip"), self.rows), held


class Rounding(NamedTuple):
    """How rows become batches."""

    batch_size: int
    epochs: int
    seed: int


def gather_cohort(
    clients: Clients,
    places: Int[np.ndarray, " client"],
    weights: Float[np.ndarray, " client"],
    versions: Int[np.ndarray, " client"],
    *,
    round: int,
    rounding: Rounding,
    devices: int = 1,
) -> Cohort:
    """The cohort of a round.

    Args:
      clients: All of them.
      places: Who takes part; -1 for nobody.
      weights: Of each answer.
      versions: Rounds by which the parameters are old that each starts from.
      round: Its number.
      rounding: How rows become batches.
      devices: How many share the clients; the one with the least work takes the next largest.
    """
    counts = np.where(places < 0, 0, clients.counts[places])
    dealt = _deal(counts, devices)
    parts = [
        _of_device(clients, places[mine], weights[mine], versions[mine], round, rounding)
        for mine in dealt
    ]
    rows = _bucket(max(len(part.wanted) for part in parts))
    steps = _bucket(max(len(part.order) for part in parts))
    order = np.full((devices, steps, rounding.batch_size), -1, np.int32)
    for table, part in zip(order, parts, strict=True):
        table[: len(part.order)] = part.order
    work = jax.tree.map(lambda *leaves: np.stack(leaves), *(part.work for part in parts))
    group = np.where(work.place < 0, -1, 0).astype(np.int32)
    return Cohort(_flat(clients.rows, [part.wanted for part in parts], rows), order, work, group)


class _Part(NamedTuple):
    wanted: np.ndarray  # rows of all clients
    order: np.ndarray  # [step, batch]
    work: Work


def _of_device(clients, places, weights, versions, round, rounding) -> _Part:
    counts = np.where(places < 0, 0, clients.counts[places])
    starts = np.cumsum(counts) - counts
    wanted = np.repeat(clients.offsets[places] - starts, counts) + np.arange(counts.sum())
    order, first, in_epoch = _order(clients.ids[places], counts, round, rounding)
    work = Work(
        first.astype(np.int32),
        (in_epoch * rounding.epochs).astype(np.int32),
        in_epoch.astype(np.int32),
        counts.astype(np.int32),
        weights.astype(np.float32),
        places.astype(np.int32),
        versions,
    )
    return _Part(wanted, order, work)


def _order(ids, counts, round: int, rounding: Rounding):
    """Rows of every batch, the first batch of each client, and its batches in an epoch."""
    size, epochs = rounding.batch_size, rounding.epochs
    in_epoch = -(-counts // size)
    first = np.cumsum(in_epoch * epochs) - in_epoch * epochs
    order = np.full((int((in_epoch * epochs).sum()), size), -1, np.int32)
    owner = np.repeat(np.arange(len(counts)), counts)
    rank = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    base = _mixed(_mixed(_mixed(_START, np.uint64(rounding.seed)), np.uint64(round)), _words(ids))
    for epoch in range(epochs):
        keys = _mixed(_mixed(base, np.uint64(epoch))[owner], _words(rank))
        # One sort: rows of a client stay together, by the upper bits of their keys.
        shuffled = np.argsort((owner.astype(np.uint64) << _BITS) | (keys >> (_64 - _BITS)))
        batch = first[owner] + epoch * in_epoch[owner] + rank // size
        order[batch, rank % size] = shuffled
    return order, first, in_epoch


def _words(numbers: np.ndarray) -> np.ndarray:
    return numbers.astype(np.int64).view(np.uint64)


def _mixed(state: UInt[Any, "*n"], value: UInt[Any, "*n"]) -> UInt[Any, "*n"]:
    """Steele et al. 2014, SplitMix64: 64 bits that look random, of two numbers."""
    with np.errstate(over="ignore"):
        word = (state ^ value) + np.uint64(0x9E3779B97F4A7C15)
        word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return word ^ (word >> np.uint64(31))


def _deal(counts: np.ndarray, devices: int) -> list[np.ndarray]:
    """Which clients each device takes, as many each; ascending, so that sums have an order."""
    if devices == 1:
        return [np.arange(len(counts))]
    each = len(counts) // devices
    mine: list[list[int]] = [[] for _ in range(devices)]
    load = np.zeros(devices)
    for client in np.argsort(-counts, kind="stable"):
        free = [place for place in range(devices) if len(mine[place]) < each]
        device = min(free, key=lambda place: load[place])
        mine[device].append(int(client))
        load[device] += counts[client]
    return [np.sort(np.array(part, int)) for part in mine]


def _bucket(number: int) -> int:
    """Programs are compiled for powers of two; what a cohort does not fill costs no time."""
    return max(_LEAST, 1 << max(0, number - 1).bit_length())


def _flat(rows, wanted, size: int):
    def one(leaf):
        found = np.empty((len(wanted), size, *leaf.shape[1:]), leaf.dtype)
        for part, which in zip(found, wanted, strict=True):
            np.take(leaf, which, axis=0, out=part[: len(which)], mode="clip")
            part[len(which) :] = 0
        return found

    return jax.tree.map(one, rows)
