"""A value with its interval."""

from collections.abc import Callable
from typing import NamedTuple


class Estimate(NamedTuple):
    """A value, and an interval that covers the true one with a stated confidence.

    Attributes:
      value: Computed from the sample.
      low: Lower end of the interval.
      high: Upper end of the interval.
      interval: Method and confidence, such as "Wilson, 95 %".
    """

    value: float
    low: float
    high: float
    interval: str

    def map(self, increasing: Callable[[float], float]) -> "Estimate":
        """The estimate of an increasing function of the value, with the same confidence.

        >>> Estimate(0.5, 0.25, 1.0, "Wilson, 95 %").map(lambda rate: 2 * rate)
        Estimate(value=1.0, low=0.5, high=2.0, interval='Wilson, 95 %')
        """
        value, low, high = map(increasing, self[:3])
        return Estimate(value, low, high, self.interval)


def interval_name(method: str, confidence: float) -> str:
    """The text that a report shows for an interval.

    >>> interval_name("Clopper-Pearson", 0.95)
    'Clopper-Pearson, 95 %'
    """
    return f"{method}, {100 * confidence:.6g} %"
