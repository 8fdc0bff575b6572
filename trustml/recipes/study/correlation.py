"""Rank correlation of few cells: an interval, and a test that is exact."""

import itertools
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

FEWEST = 5  # cells below which a correlation says nothing
_EVERY_ORDER = 200_000  # orders of the cells up to which all are looked at
_DRAWN = 20_000  # orders that are drawn where there are more


class Correlation(NamedTuple):
    """How the order of some cells by claimed epsilon agrees with that by something found.

    Args:
      spearman: Coefficient of the ranks; None where it is not known, and why is in `note`.
      low: Lower end of its interval.
      high: Upper end of its interval.
      kendall: Kendall's coefficient tau-b.
      by_chance: The coefficient's absolute value stays within this in 95 % of all orders.
      p: Share of orders whose coefficient is as far from 0 or further.
      exact: Whether all orders were looked at, or some that were drawn.
      cells: How many.
      note: What is to be known beside.
    """

    spearman: float | None
    low: float | None
    high: float | None
    kendall: float | None
    by_chance: float | None
    p: float | None
    exact: bool
    cells: int
    note: str


def correlation(
    claimed: Float[np.ndarray, " cell"],
    found: Float[np.ndarray, " cell"],
    strata: Int[np.ndarray, " cell"],
) -> Correlation:
    """Correlates by rank, with an interval and a test that hold for few cells.

    Args:
      claimed: Epsilon of each cell.
      found: What is compared with it.
      strata: Cells of one number differ in epsilon (and luck) alone. Orders are shuffled within
        them: the test is of "epsilon makes no difference in any of them".

    Guarantee:
      The test is exact: p is at most a level with at most that probability if, within strata, the
      order of what was found has nothing to do with epsilon. The 95 % interval is an
      approximation: in simulations of 5 to 16 cells it held the true coefficient in 94 % or more,
      but only 89 % where that was 0.98. A bootstrap over 5 cells held it in 46 % to 96 %.

    References:
      Bonett and Wright, Sample size requirements for estimating Pearson, Kendall and Spearman
      correlations, 2000, for the standard error.
      Kendall and Gibbons, Rank Correlation Methods, 1990, for the test.
    """
    size = len(claimed)
    if size < FEWEST:
        said = f"nothing can be said of fewer than {FEWEST} cells"
        return _unknown(size, said)
    if np.ptp(claimed) == 0:
        return _unknown(size, "all cells claim the same")
    if np.ptp(found) == 0:
        return _unknown(size, f"it is {found[0]:.4g} in all cells")
    from scipy.stats import kendalltau

    one, other = _ranks(claimed), _ranks(found)
    value = float(one @ other)
    orders, exact = _orders(one, other, strata)
    size_of = np.abs(orders)
    p = float(np.mean(size_of >= abs(value) - 1e-12))
    if not exact:  # the order that was found is one of them
        p = (p * len(orders) + 1) / (len(orders) + 1)
    low, high = _interval(value, size)
    return Correlation(
        value,
        low,
        high,
        float(kendalltau(claimed, found).statistic),
        float(np.quantile(size_of, 0.95, method="higher")),
        p,
        exact,
        size,
        "",
    )


def _unknown(size: int, why: str) -> Correlation:
    return Correlation(None, None, None, None, None, None, False, size, why)


def _ranks(values) -> np.ndarray:
    """Centred ranks of length one: their products are Spearman's coefficients."""
    from scipy.stats import rankdata

    ranks = rankdata(values) - (len(values) + 1) / 2
    return ranks / np.linalg.norm(ranks)


def _orders(one, other, strata) -> tuple[np.ndarray, bool]:
    """Coefficients of every order within strata, or of some; and whether of every one."""
    parts = [np.flatnonzero(strata == name) for name in np.unique(strata)]
    number = math.prod(math.factorial(len(part)) for part in parts)
    exact = number <= _EVERY_ORDER
    rng = np.random.default_rng(0)
    total = np.zeros(1)
    for part in parts:
        if exact:
            orders = np.array(list(itertools.permutations(other[part])))
            total = np.add.outer(total, orders @ one[part]).ravel()
        else:
            orders = rng.permuted(np.tile(other[part], (_DRAWN, 1)), axis=1)
            total = total + orders @ one[part]
    return total, exact


def _interval(value: float, size: int) -> tuple[float, float]:
    """By Fisher's transform; the perfect order counts as half an exchange of neighbours away."""
    most = 1 - 6 / (size**3 - size)
    held = min(max(value, -most), most)
    half = 1.959964 * math.sqrt((1 + held**2 / 2) / (size - 3))
    return math.tanh(math.atanh(held) - half), math.tanh(math.atanh(held) + half)
