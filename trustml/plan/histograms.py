"""Private histograms: of bins that are fixed beforehand, and of values that nobody listed."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from scipy import special

from trustml.accounting import Accounting, SampledGaussian
from trustml.noise.discrete import MOST_DISTANCE, as_private_as, discrete_gaussian_like
from trustml.plan.checks import check_count, check_positive

_FINEST = 64.0  # least standard deviation in steps of the grid; counts are whole numbers of them
_VALUES = 1e7  # noisy counts of a plan, at most: what the law's distance is paid for
_GAUSSIAN = 0.5  # share of delta for the noise; the threshold gets the rest


@dataclasses.dataclass(frozen=True, kw_only=True)
class HistogramPlan:
    """Several histograms with discrete Gaussian noise, at one joint cost.

    A unit brings at most `rows_per_unit` rows, and a row counts in one bin of every histogram. So a
    unit that comes or goes moves all counts together by rows_per_unit sqrt(num_histograms) in l2
    norm, and a unit that is replaced by sqrt(2) as much. A value that nobody listed shows by its
    mere presence; so it is released only where its noisy count reaches a threshold, which the
    values of one unit alone reach with a probability that delta pays for.

    >>> plan = HistogramPlan.calibrate(epsilon=0.5, delta=1e-6, num_histograms=9, num_open=4)
    >>> plan.threshold, plan.epsilon <= 0.5
    (131, True)

    Args:
      stddev: Standard deviation of the noise of each count, of a real Gaussian that is no more
        private.
      delta: Of all histograms together.
      num_histograms: How many there are; which bins a later one has may depend on earlier ones.
      num_open: Of these, those of values that nobody listed.
      rows_per_unit: Largest number of rows of one unit.
      adjacency: "add-or-remove-one" or "replace-one".

    Guarantee:
      All histograms together are (`epsilon`, `delta`)-differentially private. Half of delta is the
      Gaussian mechanism's. The rest bounds the chance that a value which one unit alone has is
      released: of rows_per_unit such values in each open histogram none has more than
      rows_per_unit rows. (Without such a value, the outputs for two neighbours are those of the
      Gaussian mechanism on the common bins.)

    Raises:
      ValueError: A number is out of range.

    References:
      Korolova et al., Releasing search queries and clicks privately, 2009, for the threshold.
      Canonne, Kamath, Steinke, The discrete Gaussian for differential privacy, 2020.
    """

    stddev: float
    delta: float
    num_histograms: int
    num_open: int
    rows_per_unit: int = 1
    adjacency: str = "add-or-remove-one"

    def __post_init__(self):
        check_positive("stddev", self.stddev)
        check_count("num_histograms", self.num_histograms)
        check_count("rows_per_unit", self.rows_per_unit)
        if not 0 <= self.num_open <= self.num_histograms:
            raise ValueError(
                f"`num_open` must be from 0 to {self.num_histograms}, got {self.num_open!r}."
            )

    @classmethod
    def calibrate(
        cls,
        *,
        epsilon: float,
        delta: float,
        num_histograms: int,
        num_open: int,
        rows_per_unit: int = 1,
        adjacency: str = "add-or-remove-one",
    ) -> "HistogramPlan":
        """The plan with the least noise within `(epsilon, delta)`.

        Raises:
          ValueError: A number is out of range.
        """
        unit = cls(
            stddev=1.0,
            delta=delta,
            num_histograms=num_histograms,
            num_open=num_open,
            rows_per_unit=rows_per_unit,
            adjacency=adjacency,
        )
        multiplier = Accounting().noise_multiplier(
            _one_gaussian,
            epsilon=epsilon,
            delta=unit._delta_of_noise,
            distance=_VALUES * MOST_DISTANCE,
        )
        return dataclasses.replace(unit, stddev=multiplier * unit.sensitivity)

    @property
    def sensitivity(self) -> float:
        """Most that one unit moves all counts together, in l2 norm."""
        both = math.sqrt(2) if self.adjacency == "replace-one" else 1.0
        return both * self.rows_per_unit * math.sqrt(self.num_histograms)

    @property
    def epsilon(self) -> float:
        """What all histograms cost together, at `delta`."""
        return Accounting().epsilon(
            _one_gaussian(self.stddev / self.sensitivity),
            delta=self._delta_of_noise,
            distance=_VALUES * MOST_DISTANCE,
        )

    @property
    def threshold(self) -> int:
        """The least noisy count with which a value that nobody listed is released."""
        values = self.num_open * self.rows_per_unit
        values *= 2 if self.adjacency == "replace-one" else 1
        if not values:
            return 0
        # A discrete Gaussian passes t no more often than a real one passes t - 1 (Canonne et al.).
        tail = -special.ndtri((self.delta - self._delta_of_noise) / values)
        least = self.rows_per_unit + (tail * self._law.stddev + 1) / self._grid
        return math.ceil(least)

    @property
    def visible(self) -> float:
        """A noisy count that no empty bin is likely to reach, where bins are fixed beforehand."""
        return 4.5 * self.stddev

    def noisy_counts(
        self, counts: Int[np.ndarray, " bin"], key: jax.Array, number: int
    ) -> Float[np.ndarray, " bin"]:
        """The counts of fixed bins with noise, in steps of `1 / grid`; the promise covers them.

        Args:
          counts: Rows in each bin.
          key: 256 secret bits, of `trustml.noise.new_key`.
          number: Of the histogram, from 0: never two with one number under one key.
        """
        if not 0 <= number < self.num_histograms:
            raise ValueError(f"`number` must be below {self.num_histograms}, got {number!r}.")
        like = jax.ShapeDtypeStruct((len(counts),), jnp.float32)
        noise = discrete_gaussian_like(like, key, jnp.int32(number), self._law)
        # Exact in whole steps of the grid; the division is post-processing.
        return (np.asarray(counts, np.int64) * self._grid + np.asarray(noise)) / self._grid

    def released_values(
        self, counts: Mapping[str, int], key: jax.Array, number: int
    ) -> tuple[str, ...]:
        """The values whose noisy count reaches the threshold, in alphabetical order.

        Args:
          counts: Rows of each value that occurs.
          key: As in `noisy_counts`.
          number: As in `noisy_counts`.
        """
        names = sorted(name for name, count in counts.items() if count)
        if not names:
            return ()
        noisy = self.noisy_counts(np.array([counts[name] for name in names]), key, number)
        pairs = zip(names, noisy, strict=True)
        return tuple(name for name, count in pairs if count >= self.threshold)

    @property
    def _delta_of_noise(self) -> float:
        return self.delta * (_GAUSSIAN if self.num_open else 1.0)

    @property
    def _grid(self) -> int:
        """Steps of the noise's grid in one count."""
        return max(1, math.ceil(_FINEST / self.stddev))

    @property
    def _law(self) -> Any:
        return as_private_as(self.stddev * self._grid)


def _one_gaussian(noise_multiplier: float):
    step = SampledGaussian(sampling="poisson", noise_multiplier=noise_multiplier, sample_rate=1.0)
    return [(step, 1)]
