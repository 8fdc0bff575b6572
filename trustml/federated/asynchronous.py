"""Asynchronous rounds in virtual time: who answers when follows from devices' delays alone."""

import dataclasses
import functools
import heapq
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from trustml.federated.availability import Availability
from trustml.federated.schedule import RoundDraw, Schedule
from trustml.federated.selection import choose
from trustml.federated.streams import stream


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Asynchronous(Schedule):
    """Devices work all the time; the server moves at every `clients_per_round` answers.

    `concurrency` devices are at work at any time. One that is done gives way to another, which
    starts from the newest parameters; one that drops out gives way too. How fast devices are and
    how often they drop out `availability` says; its days and deadlines are those of rounds that
    wait. For `trustml.federated.fedbuff`.

    >>> schedule = Asynchronous(
    ...     steps=2, clients_per_round=2, concurrency=3, activity=np.array([4, 4, 4])
    ... )
    >>> first, second = schedule.batches(seed=0)
    >>> first.versions.tolist(), bool(first.seconds <= second.seconds)
    ([0, 0], True)

    Args:
      concurrency: Devices at work at a time.
      events: In place of all that: `(client, version it starts from)` of each answer, in order.

    Raises:
      ValueError: A number is out of range.

    References:
      Nguyen et al., Federated Learning with Buffered Asynchronous Aggregation, 2022.
    """

    concurrency: int = 0
    events: Sequence[tuple[int, int]] | None = None

    def __post_init__(self):
        if not (self.events is not None or self.concurrency >= 1):
            raise ValueError(f"`concurrency` must be at least 1, got {self.concurrency!r}.")
        if self.selection.unbiased or self.selection.replacement:
            raise ValueError(
                "`selection` must be neither unbiased nor with replacement for devices that "
                f"answer when they are done, got {self.selection}."
            )
        super().__post_init__()

    @property
    def capacity(self) -> int:
        """Answers in a full buffer."""
        return self.clients_per_round

    @functools.cached_property
    def most_late(self) -> int:  # type: ignore[override]
        """Rounds by which parameters may be old: older answers are not taken."""
        if self.events is not None:
            return max(at // self.capacity - version for at, (_, version) in enumerate(self.events))
        # An answer within this many rounds is all but sure; what is later counts as lost.
        return max(1, math.ceil(4 * self.concurrency / self.clients_per_round))

    def to_dict(self) -> dict[str, Any]:
        """The schedule as the ledger's first line holds it."""
        events = None if self.events is None else [list(event) for event in self.events]
        return {**super().to_dict(), "concurrency": self.concurrency, "events": events}

    def drawn(self, secret: bytes, round: int) -> RoundDraw:
        """The answers that fill the buffer of a round."""
        clients, versions, seconds, lost = self._timeline(secret)[round]
        ones = np.ones(len(clients))
        return self.packed(round, clients, ones, len(clients), seconds, lost, round - versions)

    def _timeline(self, secret: bytes) -> list[tuple[Any, Any, float, int]]:
        return _timeline(self, secret)


@functools.lru_cache(maxsize=4)
def _timeline(schedule: Asynchronous, secret: bytes):
    """Clients, versions, time and losses of every round: a discrete-event simulation."""
    size = schedule.capacity
    if schedule.events is not None:
        found = np.array(schedule.events, np.int64).reshape(-1, size, 2)
        return [(part[:, 0], part[:, 1], math.nan, 0) for part in found]
    devices = schedule.availability or Availability()
    steps = schedule.activity if schedule.local_steps is None else schedule.local_steps
    takes = devices.durations(secret, np.arange(schedule.num_units), np.maximum(steps, 1))
    waiting = _Waiting(schedule, secret)
    running: list[tuple[float, int, int, int]] = []
    rounds: list[tuple[Any, Any, float, int]] = []
    buffer: list[tuple[int, int]] = []
    lost = started = 0

    def start(now: float, version: int) -> None:
        nonlocal started
        client = waiting.next({entry[2] for entry in running})
        heapq.heappush(running, (now + takes[client], started, client, version))
        started += 1

    for _ in range(min(schedule.concurrency, schedule.num_units)):
        start(0.0, 0)
    while len(rounds) < schedule.steps:
        now, number, client, version = heapq.heappop(running)
        dropped = stream(secret, number, "dropout").random() < devices.dropout
        if dropped or len(rounds) - version > schedule.most_late:
            lost += 1
        else:
            buffer.append((client, version))
        if len(buffer) == size:
            clients, versions = np.array(buffer, np.int64).T
            rounds.append((clients, versions, now, lost))
            buffer, lost = [], 0
        start(now, len(rounds))
    return rounds


class _Waiting:
    """The devices that start one after another, each chosen among those that are free."""

    def __init__(self, schedule: Asynchronous, secret: bytes):
        self._schedule, self._secret, self._turn = schedule, secret, 0

    def next(self, busy: set[int]) -> int:
        schedule = self._schedule
        free = np.ones(schedule.num_units, bool)
        free[list(busy)] = False
        if not (schedule.selection.weights(schedule.activity) * free).any():
            free[:] = True  # all that may be chosen are at work: one takes a second task
        chosen = choose(
            schedule.selection,
            schedule.activity,
            1,
            seed=self._secret,
            round=self._turn,
            available=free,
        )
        self._turn += 1
        return int(chosen.places[0])
