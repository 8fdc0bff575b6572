"""The numbers of a strategy that make prefix sums least noisy, by L-BFGS in float64."""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float64

from trustml.noise.matrix_factorization.sensitivity import check_count, possible
from trustml.noise.matrix_factorization.series import divided, first, repeated
from trustml.noise.matrix_factorization.strategy import Strategy

_MOST_BUFFERS = 10
_ITERATIONS = 2000
_LONGEST = 10.0  # time scale 1 / (1 - d) of a buffer over the steps; beyond it the loss is flat
_LEAST_GAP = 0.02  # of -log(1 - d): buffers that are not needed must not fall together
_ROUNDING = 6e-8  # of a number near 1 in float32


def best_strategy(
    kind: str,
    *,
    steps: int,
    memory: int = 0,
    participations: int = 1,
    min_separation: int = 1,
) -> Strategy:
    """The strategy of a kind with the lowest mean loss that the optimiser finds.

    The same arguments give the same numbers on one machine with one SciPy; elsewhere last digits
    may differ, so a run keeps the numbers (`dataclasses.asdict`) and not the arguments.

    >>> found = best_strategy("blt", steps=100, memory=2)
    >>> round(found.mean_loss(100), 3), round(found.max_loss(100), 3)
    (5.386, 6.811)

    Args:
      kind: One of `KINDS`.
      steps: Steps of the run.
      memory: Copies of the weights to keep: bands less one of "banded", buffers of "blt". 0 for
        the others.
      participations: Steps in which a unit takes part, at most. Only "blt" depends on it:
        "toeplitz" is that of one participation, and of "banded" all losses are as many times
        larger.
      min_separation: Steps from one participation to the next, at least.

    Guarantee:
      None rests on the optimiser: `Strategy.sensitivity` holds for any numbers. They are float32
      numbers, so that the noise drawn in float32 has the very factor that is accounted.

    Raises:
      ValueError: `memory` does not go with the kind, or a banded strategy would have more bands
        than steps lie between participations, or than steps.
    """
    check_count("steps", steps)
    check_count("participations", participations)
    check_count("min_separation", min_separation)
    if kind not in ("banded", "blt"):
        if memory != 0:
            raise ValueError(f"`memory` is of 'banded' and 'blt', got {memory!r} with {kind!r}.")
        return Strategy(kind)
    if isinstance(memory, bool) or not isinstance(memory, int) or not (memory >= 0):
        raise ValueError(f"`memory` must be a whole number of copies, got {memory!r}.")
    if kind == "banded":
        return _best_banded(steps, memory, participations, min_separation)
    if not (1 <= memory <= _MOST_BUFFERS):
        raise ValueError(f"`memory` of 'blt' must be from 1 to {_MOST_BUFFERS}, got {memory!r}.")
    times = possible(steps, participations, min_separation)
    return _best_blt(steps, memory, times, min_separation)


@functools.lru_cache(maxsize=32)  # a plan is made several times on its way to its noise
def _best_banded(steps, memory, participations, min_separation):
    most = steps if participations == 1 else min(steps, min_separation)
    if memory >= most:
        raise ValueError(
            f"`memory` of 'banded' must be below {most}, the steps and the separation of "
            f"participations, got {memory!r}."
        )
    if not memory:
        return Strategy("banded")
    ratio = 1 - 1 / (2 * np.arange(1, memory + 1))  # those of 1 / sqrt(1 - x)
    start = np.log(ratio / (1 - ratio))
    found = _lowest(lambda free: _banded_loss(free, steps), start, (-30.0, 30.0)).x
    weights = np.cumprod(1 / (1 + np.exp(-found))).astype(np.float32)
    return Strategy("banded", tuple(weights.tolist()))


def _banded_loss(free, steps):
    """Log of the mean loss and its gradient; `free` are the logits of c_j / c_{j-1}."""
    ratio = 1 / (1 + np.exp(-free))
    column = np.concatenate([[1.0], np.cumprod(ratio)])
    size, size_slope = column @ column, 2 * column
    rows = divided(np.ones(steps), column)  # the first column of B
    error, error_slope = _mean_row(rows)
    # B = A / C: what moves C moves B by - B / C, so the slope is divided by C backwards in time.
    back = divided(error_slope[::-1], column)[::-1]
    slope = size_slope / size
    slope -= [back[j:] @ rows[: steps - j] / error for j in range(len(column))]
    through = np.cumsum((slope * column)[:0:-1])[::-1]  # c_j holds all ratios up to its own
    return math.log(size * error), through * (1 - ratio)


@functools.lru_cache(maxsize=32)
def _best_blt(steps, buffers, times, apart):
    longest = _LONGEST * steps + 1
    least = max(_LEAST_GAP, _ROUNDING * longest)
    bounds = math.log(least), math.log(math.log(longest) + 1)
    found = []
    # Zeros and poles of 1 / sqrt(1 - x) lie dense on time scales from 1 to `steps`. Where a unit
    # returns, the optimum may lie near those of its separation, and either start may miss it.
    for scale in (2 * steps + 2, 2 * apart + 2):
        start = np.log(-np.diff(np.append(np.linspace(math.log(scale), 0.5, 2 * buffers), 0.0)))
        found.append(_lowest(lambda free: _blt_loss(free, steps, times, apart), start, bounds))
    best = min(found, key=lambda one: one.fun)
    return Strategy("blt", *_partial_fractions(*_interlaced(best.x)))


def _interlaced(free):
    """Poles and zeros, d_1 > e_1 > d_2 > ... > e_m in (0, 1), as 1 - exp(-sums of exp(free))."""
    place = -np.expm1(-np.cumsum(np.exp(free)[::-1])[::-1])
    return place[::2], place[1::2]


def _blt_loss(free, steps, times, apart):
    """Log of the mean loss and its gradient, for C = prod_j (1 - e_j x) / (1 - d_j x)."""
    poles, zeros = _interlaced(free)
    column, rows = first(steps), np.ones(steps)
    for pole, zero in zip(poles, zeros, strict=True):
        column = divided(_times(column, zero), np.array([1.0, -pole]))
        rows = divided(_times(rows, pole), np.array([1.0, -zero]))
    pattern = repeated(column, times, apart)
    size, size_slope = pattern @ pattern, 2 * repeated(pattern[::-1], times, apart)[::-1]
    error, error_slope = _mean_row(rows)
    slope = np.empty(len(free))
    for places, sign in ((slice(0, None, 2), 1), (slice(1, None, 2), -1)):
        for at, place in zip(range(len(free))[places], (poles, zeros)[sign < 0], strict=True):
            # d log C / d d_j = x / (1 - d_j x), and B = A / C moves against it.
            geometric = np.array([1.0, -place])
            moved = [divided(_delayed(one), geometric) for one in (column, rows)]
            slope[at] = sign * (size_slope @ moved[0] / size - error_slope @ moved[1] / error)
    gaps = np.exp(free)
    remaining = np.exp(-np.cumsum(gaps[::-1])[::-1])
    beyond = max(0.0, gaps.sum() - math.log(_LONGEST * steps + 1))
    through = np.cumsum(slope * remaining) + 2 * beyond
    return math.log(size * error) + beyond**2, through * gaps


def _mean_row(rows):
    """Mean squared norm of the rows of a Toeplitz matrix, and its slope."""
    steps = len(rows)
    share = np.arange(steps, 0, -1) / steps
    return share @ rows**2, 2 * share * rows


def _delayed(series):
    return np.concatenate([[0.0], series[:-1]])


def _times(series, place):
    """Series * (1 - place x)."""
    return series - place * _delayed(series)


def _partial_fractions(poles, zeros):
    """Weights and decays of prod_j (1 - d_j x) / (1 - e_j x) = 1 - sum_j w_j x / (1 - e_j x)."""
    decays = zeros.astype(np.float32).astype(np.float64)
    weights = [
        -np.prod(decay - poles) / np.prod(np.delete(decay - decays, place))
        for place, decay in enumerate(decays)
    ]
    return tuple(np.array(weights, np.float32).tolist()), tuple(decays.tolist())


def _lowest(loss: Callable, start: Float64[np.ndarray, " m"], bounds: tuple) -> Any:
    from scipy.optimize import minimize

    return minimize(
        loss,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[bounds] * len(start),
        options={"maxiter": _ITERATIONS, "maxfun": 4 * _ITERATIONS, "ftol": 1e-11, "gtol": 1e-8},
    )
