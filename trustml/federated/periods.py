"""Data that arrives over time: all at once, or period after period into bounded devices."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64

from trustml.federated.validation import check_whole

SETTINGS = ("static", "continual")

Rows = Int64[np.ndarray, " held"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Periods:
    """Which rows devices train on in each stage, and on which they are judged.

    "static" has one stage, which trains on all periods but the last and is judged on the last.
    "continual" has a stage for each period but the last: it trains on the rows of its period and on
    what the device's buffer still holds of earlier ones, and is judged on the next period.

    >>> periods = Periods(
    ...     setting="continual", period_of_row=np.array([0, 0, 1, 2]),
    ...     client_of_row=np.array([5, 5, 5, 5]), buffer=1,
    ... )
    >>> [(periods.train(t).tolist(), periods.test(t).tolist()) for t in range(periods.stages)]
    [([0, 1], [2]), ([1, 2], [3])]

    Args:
      setting: "static" or "continual".
      period_of_row: The period of each row, from 0; rows of one period are in their order.
      client_of_row: The device of each row; -1 for a row of nobody, which nobody trains on.
      buffer: Rows of earlier periods that a device keeps, the newest; older ones are deleted.

    Raises:
      ValueError: The arrays do not fit each other, or there are fewer than two periods.

    References:
      Dupuy et al., Learnings from Federated Learning in the Real World, 2022, for both settings.
    """

    setting: str
    period_of_row: Int64[np.ndarray, " row"]
    client_of_row: Int64[np.ndarray, " row"]
    buffer: int = 0

    def __post_init__(self):
        if self.setting not in SETTINGS:
            raise ValueError(
                f"`setting` must be one of {', '.join(SETTINGS)}, got {self.setting!r}."
            )
        check_whole("buffer", self.buffer, least=0)
        for name in ("period_of_row", "client_of_row"):
            array = np.asarray(getattr(self, name))
            if array.ndim != 1 or array.dtype.kind not in "iu":
                raise ValueError(
                    f"`{name}` must hold one whole number per row, got {array.dtype} of shape "
                    f"{array.shape}."
                )
            object.__setattr__(self, name, array.astype(np.int64))
        if len(self.period_of_row) != len(self.client_of_row):
            raise ValueError(
                f"`period_of_row` must have {len(self.client_of_row)} rows like `client_of_row`, "
                f"got {len(self.period_of_row)}."
            )
        if not len(self.period_of_row) or self.period_of_row.min() < 0 or self._last < 1:
            raise ValueError(
                "`period_of_row` must hold periods from 0 on, two or more: one to train on and one "
                "to be judged on."
            )

    @property
    def stages(self) -> int:
        """Trainings one after another."""
        return 1 if self.setting == "static" else self._last

    def train(self, stage: int) -> Rows:
        """The rows that devices hold in a stage, ascending."""
        stage = self._checked(stage)
        period, owned = self.period_of_row, self.client_of_row >= 0
        if self.setting == "static":
            return np.flatnonzero(owned & (period < self._last))
        return np.sort(
            np.concatenate([np.flatnonzero(owned & (period == stage)), self._kept(stage)])
        )

    def test(self, stage: int) -> Rows:
        """The rows that a stage is judged on: those of the next period, of nobody's too."""
        stage = self._checked(stage)
        following = self._last if self.setting == "static" else stage + 1
        return np.flatnonzero(self.period_of_row == following)

    def deleted(self, stage: int) -> Rows:
        """The rows that devices held in the stage before and hold no more."""
        if self._checked(stage) == 0:
            return np.zeros(0, np.int64)
        return np.setdiff1d(self.train(stage - 1), self.train(stage), assume_unique=True)

    def _kept(self, stage):
        """The newest `buffer` rows of each device from before a stage."""
        old = np.flatnonzero((self.client_of_row >= 0) & (self.period_of_row < stage))
        client, period = self.client_of_row[old], self.period_of_row[old]
        newest = np.lexsort((-old, -period, client))  # by client, and then the newest first
        client = client[newest]
        first = np.searchsorted(client, client)
        return old[newest[np.arange(len(old)) - first < self.buffer]]

    @property
    def _last(self):
        return int(self.period_of_row.max())

    def _checked(self, stage):
        stage = check_whole("stage", stage, least=0)
        if stage >= self.stages:
            raise ValueError(f"`stage` must be below {self.stages}, got {stage}.")
        return stage


def split_periods(client_of_row: Any, periods: int) -> Int64[np.ndarray, " row"]:
    """The period of each row where the data have no time: equal parts of each client's rows.

    >>> split_periods(np.array([0, 0, 1, 0, 0]), 2).tolist()
    [0, 0, 0, 1, 1]

    Args:
      client_of_row: The client of each row, whose rows are in their order; -1 counts as one too.
      periods: How many. A client with fewer rows has none in some of them.
    """
    client = np.asarray(client_of_row)
    periods = check_whole("periods", periods, least=1)
    order = np.argsort(client, kind="stable")
    ordered = client[order]
    first = np.searchsorted(ordered, ordered)
    count = np.searchsorted(ordered, ordered, side="right") - first
    found = np.empty(len(client), np.int64)
    found[order] = (np.arange(len(client)) - first) * periods // count
    return found
