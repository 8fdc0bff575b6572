"""A factorisation A = B C of prefix sums, described by its kind and a few numbers."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float64

from trustml.noise.matrix_factorization.sensitivity import (
    check_count,
    possible,
    toeplitz_sensitivity,
    tree_sensitivity,
)
from trustml.noise.matrix_factorization.series import first, reciprocal

KINDS = ("independent", "tree", "toeplitz", "banded", "blt")


@dataclasses.dataclass(frozen=True)
class Strategy:
    """How the noise of one step depends on that of the steps before.

    With A the matrix of prefix sums (ones on and below the diagonal) and A = B C, the steps get
    the noise stddev C^-1 Z, where the rows of Z are independent standard normals. The sum of the
    first t noises is then row t of B Z: what a step adds, later ones partly take back.

    | kind | C | copies of the weights kept | draws a step |
    |---|---|---|---|
    | independent | the identity | 0 | 1 |
    | tree | row t sums the steps t - 2^v + 1 to t, 2^v the largest power that divides t | 0 | 2 |
    | toeplitz | Toeplitz, the coefficients of 1 / sqrt(1 - x) | 0 | t: slow |
    | banded | Toeplitz, 1 and then `weights` | len(weights) | 1 |
    | blt | Toeplitz, the inverse is 1, -sum_j w_j, -sum_j w_j e_j, ... | len(weights) | 1 |

    Steps t count from 1 in this table; draws of the tree are an average. The tree is binary tree
    aggregation with the nodes that prefix sums use, of which exactly one ends at each step (a
    Fenwick tree): so C is square and nothing need be kept. Banded columns are not normalised: the
    last ones are cut and a little shorter, which keeps the noise independent of how many steps
    follow. Normalised, the mean loss of optimised ones was 0.5 % lower for 100 steps and 8 bands,
    0.2 % for 1,000 and 32. `best_strategy` chooses the numbers.

    >>> tree = Strategy("tree")
    >>> tree.matrix(4).astype(int)
    array([[1, 0, 0, 0],
           [1, 1, 0, 0],
           [0, 0, 1, 0],
           [1, 1, 1, 1]])
    >>> round(Strategy("toeplitz").mean_loss(100), 2), Strategy("independent").mean_loss(100)
    (5.62, 50.5)

    Args:
      kind: One of `KINDS`.
      weights: Of "banded", the coefficients after the first, which is 1; not negative, not
        growing. Of "blt", one for each buffer, not negative.
      decays: Of "blt", e_j in [0, 1), one for each buffer.

    Guarantee:
      Every C is lower triangular with ones on its diagonal, and never negative; every Toeplitz C
      has coefficients that do not grow. Of "blt": F(x) = 1 - sum_j w_j x / (1 - e_j x) falls
      between its poles 1 / e_j, and F(1) >= 0 is checked, so that F has one zero 1 / d_j, d_j <= 1,
      below each pole; C's series 1 / F has positive residues there, which makes its coefficients
      sums of a_j d_j^k with a_j > 0.

    Raises:
      ValueError: The numbers are not those of the kind, or out of range.

    References:
      Denisov, McMahan, Rush, Smith, Thakurta, Improved differential privacy for SGD via optimal
      private linear operators on adaptive streams, 2022. Fichtenberger, Henzinger, Upadhyay,
      Constant matters, 2023 (toeplitz). Choquette-Choo and others, (Amplified) banded matrix
      factorization, 2023 (banded). Dvijotham, McMahan, Pillutla, Steinke, Thakurta, Efficient and
      near-optimal noise generation for streaming differential privacy, 2024 (blt).
    """

    kind: str
    weights: tuple[float, ...] = ()
    decays: tuple[float, ...] = ()

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"`kind` must be one of {KINDS}, got {self.kind!r}.")
        if self.kind == "banded":
            _check_banded(self.weights)
        elif self.weights and self.kind != "blt":
            raise ValueError(f"`weights` are of 'banded' and 'blt', got some with {self.kind!r}.")
        if self.kind == "blt":
            _check_blt(self.weights, self.decays)
        elif self.decays:
            raise ValueError(f"`decays` are of 'blt' alone, got some with {self.kind!r}.")

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Strategy":
        """The strategy whose `dataclasses.asdict` is `fields`, also after a way through JSON."""
        return cls(
            kind=fields["kind"],
            weights=tuple(fields.get("weights", ())),
            decays=tuple(fields.get("decays", ())),
        )

    @property
    def memory(self) -> int:
        """Copies of the weights that the noise of the next step is made from."""
        return len(self.weights)

    def coefficients(self, steps: int) -> Float64[np.ndarray, " n"]:
        """The first column of C over `steps` steps, of which the others are shifts.

        Raises:
          ValueError: The strategy is the tree, which is not Toeplitz, or `steps` is below 1.
        """
        check_count("steps", steps)
        if self.kind == "tree":
            raise ValueError("`kind` 'tree' has no coefficients: take `matrix(steps)`.")
        if self.kind == "toeplitz":
            place = np.arange(1, steps)
            return np.cumprod(np.concatenate([[1.0], (2 * place - 1) / (2 * place)]))
        if self.kind == "blt":
            return reciprocal(self.inverse_coefficients(steps), steps)
        found = first(steps)
        found[1 : 1 + len(self.weights)] = self.weights[: steps - 1]
        return found

    def inverse_coefficients(self, steps: int) -> Float64[np.ndarray, " n"]:
        """The first column of C^-1 over `steps` steps; raises as `coefficients` does."""
        if self.kind == "toeplitz":
            return self.coefficients(steps) / (1 - 2 * np.arange(steps))
        if self.kind != "blt":
            return reciprocal(self.coefficients(steps), steps)
        check_count("steps", steps)
        found = first(steps)
        powers = np.asarray(self.decays) ** np.arange(steps - 1)[:, None]
        found[1:] = -powers @ np.asarray(self.weights)
        return found

    def matrix(self, steps: int) -> Float64[np.ndarray, "n n"]:
        """C itself, for tests and small `steps`."""
        check_count("steps", steps)
        end, step = np.ogrid[1 : steps + 1, 1 : steps + 1]
        if self.kind == "tree":
            return ((end - (end & -end) < step) & (step <= end)).astype(np.float64)
        return np.where(step <= end, self.coefficients(steps)[end - step], 0.0)

    def sensitivity(self, steps: int, participations: int = 1, min_separation: int = 1) -> float:
        """L2 sensitivity of C x to one unit whose contribution to a row of x has norm 1 at most.

        Args:
          steps: Rows of x.
          participations: Steps in which the unit takes part, at most.
          min_separation: Steps from one of them to the next, at least. A unit that may be drawn
            every b-th step has separation b.

        Guarantee:
          Noise of stddev sigma * clip * sensitivity on all of C x is one Gaussian mechanism of
          multiplier sigma under add-or-remove-one, and of sigma / 2 under replace-one; releasing
          x + stddev C^-1 Z is that mechanism and a bijection after it. It holds where rows of x
          are chosen knowing the earlier outputs, since C is lower triangular and the noise is
          Gaussian (Denisov and others, 2022), and for the first steps of a longer run. No sampling
          is assumed or rewarded.

          With "banded", let each unit have its own turn, which no other unit decides and which
          comes every b-th step, b > len(weights), and be drawn then by Poisson sampling at rate q.
          The rows of C x that one participation reaches end before the next begins, so that each
          is a Gaussian mechanism sampled at rate q, of sensitivity `sensitivity(steps)` with one
          participation; ceil(steps / b) of them compose (Choquette-Choo and others, 2023). The
          columns need no further scale: none is longer than that.

          Exact for all kinds but the tree, of which it is an upper bound when `participations` is
          more than 1; see `tree_sensitivity`.
        """
        check_count("steps", steps)
        check_count("participations", participations)
        check_count("min_separation", min_separation)
        times = possible(steps, participations, min_separation)
        if self.kind == "tree":
            return tree_sensitivity(steps, times, min_separation)
        return toeplitz_sensitivity(self.coefficients(steps), times, min_separation)

    def mean_loss(self, steps: int, participations: int = 1, min_separation: int = 1) -> float:
        """Mean over steps of the variance of a prefix sum, for sigma * clip = 1.

        It is sensitivity^2 times the mean squared norm of the rows of B.
        """
        scale = self.sensitivity(steps, participations, min_separation) ** 2
        return float(scale * self._variances(steps).mean())

    def max_loss(self, steps: int, participations: int = 1, min_separation: int = 1) -> float:
        """The variance of the noisiest prefix sum, for sigma * clip = 1."""
        scale = self.sensitivity(steps, participations, min_separation) ** 2
        return float(scale * self._variances(steps).max())

    def _variances(self, steps):
        """Squared norms of the rows of B."""
        if self.kind == "tree":
            return np.bitwise_count(np.arange(1, steps + 1)).astype(np.float64)
        return np.cumsum(np.cumsum(self.inverse_coefficients(steps)) ** 2)


def _check_banded(weights):
    row = np.array([1.0, *weights, 0.0])
    if not (np.diff(row) <= 0).all():
        raise ValueError(
            "`weights` of 'banded' must not be negative, nor grow, nor be above 1, got "
            f"{weights!r}."
        )


def _check_blt(weights, decays):
    if not weights or len(weights) != len(decays):
        raise ValueError(
            "`weights` and `decays` of 'blt' must be one each for every buffer, got "
            f"{len(weights)} and {len(decays)}."
        )
    if not all(0 <= decay < 1 for decay in decays):
        raise ValueError(f"`decays` must be in [0, 1), got {decays!r}.")
    total = sum(weight / (1 - decay) for weight, decay in zip(weights, decays, strict=True))
    if not (min(weights) >= 0 and total <= 1):
        raise ValueError(
            "`weights` of 'blt' must not be negative, and the sum of weight / (1 - decay) at most "
            f"1, got {weights!r}, whose sum is {total:.6g}."
        )
