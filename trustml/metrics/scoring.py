"""Metrics as functions of sums over rows: parts, groups and resamples share one rule."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from trustml.stats import Estimate, percentile_estimate, resample, wilson_interval


class Metric(NamedTuple):
    """A figure that a report shows.

    Attributes:
      name: Its key.
      label: Its name for readers.
      percent: Whether it is a share that reads in percent.
      lower_is_better: True of perplexities.
    """

    name: str
    label: str
    percent: bool = False
    lower_is_better: bool = False


class Scoring(NamedTuple):
    """How predictions of one kind of task are scored.

    Attributes:
      metrics: Those that a report shows, the headline first.
      counts: (rows of the data, predictions) to float64 [row, count]. Counts of disjoint rows add.
      values: Sums of counts to every figure by name.
      shares: Columns (part, whole) of the metrics that are plain shares of rows.
    """

    metrics: tuple[Metric, ...]
    counts: Callable[[Sequence[Any], Any], np.ndarray]
    values: Callable[[np.ndarray], dict[str, float]]
    shares: dict[str, tuple[int, int]]

    def scores(self, counts: Float[np.ndarray, "row count"]) -> dict[str, float]:
        """Every figure of these rows."""
        return self.values(counts.sum(0))

    def estimates(
        self,
        counts: Float[np.ndarray, "row count"],
        owners: np.ndarray | None = None,
        *,
        resamples: int = 1000,
        seed: int = 0,
    ) -> dict[str, Estimate]:
        """The metrics of a report with 95 % intervals: Wilson's for shares, else the bootstrap.

        Args:
          counts: One row of counts for each row of the data.
          owners: A number for each row. Rows of one number share a person or document and are
            resampled together. None: each row by itself.
          resamples: Of the bootstrap.
          seed: Of the bootstrap.

        Raises:
          ValueError: There are no rows.
        """
        if not len(counts):
            raise ValueError("`counts` must have at least one row, got none.")
        values = self.scores(counts)
        shares = self.shares if owners is None else {}
        names = [metric.name for metric in self.metrics if metric.name not in shares]
        estimates = self._bootstrap(names, values, counts, owners, resamples, seed) if names else {}
        for name, columns in shares.items():
            part, whole = (round(counts[:, column].sum()) for column in columns)
            estimates[name] = Estimate(
                values[name], *wilson_interval(part / whole, whole), "Wilson, 95 %"
            )
        return {metric.name: estimates[metric.name] for metric in self.metrics}

    def _bootstrap(self, names, values, counts, owners, resamples, seed) -> dict[str, Estimate]:
        def statistic(rows):
            of_rows = self.scores(rows)
            return [of_rows[name] for name in names]

        units = counts if owners is None else _sums_by_owner(counts, owners)
        method = "bootstrap" if owners is None else "bootstrap of owners"
        rng = np.random.default_rng(seed)
        columns = resample(units, statistic, resamples=resamples, rng=rng).T
        return {
            name: percentile_estimate(values[name], column, method=method)
            for name, column in zip(names, columns, strict=True)
        }


def _sums_by_owner(counts, owners):
    _, owner = np.unique(owners, return_inverse=True)
    sums = np.zeros((owner.max() + 1, counts.shape[1]))
    np.add.at(sums, owner, counts)
    return sums
