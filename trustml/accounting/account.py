"""Epsilon, delta and the noise they ask for. Float64, imports no JAX."""

import contextlib
import dataclasses
import functools
import logging
import math
from collections.abc import Callable
from typing import Any

from trustml.accounting.steps import (
    ACCOUNTANTS,
    ADJACENCIES,
    Run,
    check_one_of,
    check_supported,
    dp_event,
)

MAX_NOISE_MULTIPLIER = 1e5
_COARSE = 1e-3  # eight times quicker than 1e-4, and the same epsilon to four digits


@dataclasses.dataclass(frozen=True)
class Accounting:
    """Prices runs under one adjacency with one accountant.

    >>> from trustml.accounting import SampledGaussian
    >>> step = SampledGaussian(sampling="poisson", noise_multiplier=3.0, sample_rate=0.1)
    >>> round(Accounting("add-or-remove-one", "pld").epsilon([(step, 512)], delta=1e-6), 4)
    3.7697

    Args:
      adjacency: "add-or-remove-one" or "replace-one".
      accountant: "pld", or "rdp", which is looser but covers fixed batches.
      grid: Spacing of the privacy losses that "pld" keeps; a coarser one is quicker and looser.

    Guarantee:
      Results are upper bounds. With `distance`, the total variation distance between the run
      that is described and the one that is carried out (a sampler that overflows, noise with
      finite tails), they hold for the latter: delta grows by (1 + e^epsilon) distance.

    References:
      Mironov, Talwar, Zhang, Rényi differential privacy of the sampled Gaussian mechanism, 2019.
      Doroshenko et al., Connect the dots, 2022. Wang, Balle, Kasiviswanathan, Subsampled Rényi
      differential privacy, 2019, Theorem 27. Ganesh, Truncated Poisson, arXiv 2508.15089.
    """

    adjacency: str = "add-or-remove-one"
    accountant: str = "pld"
    grid: float = 1e-4

    def __post_init__(self):
        check_one_of("adjacency", self.adjacency, ADJACENCIES)
        check_one_of("accountant", self.accountant, ACCOUNTANTS)

    def coarse(self) -> "Accounting":
        """The same with a wider grid: bounds a little higher, several times quicker."""
        return dataclasses.replace(self, grid=_COARSE)

    def check(self, sampling: str) -> None:
        """Raises ValueError unless this accountant can describe `sampling`."""
        check_supported(sampling, self.adjacency, self.accountant)

    def epsilon(self, run: Run, *, delta: float, distance: float = 0.0) -> float:
        """The smallest epsilon that holds at `delta`; infinite where none does."""
        _check_delta(delta)
        if _without_noise(run):
            return math.inf
        composed = self._compose(run)
        if composed is None:
            return 0.0
        value = float(_quietly(composed.get_epsilon, delta))
        if distance == 0 or not math.isfinite(value):
            return max(value, 0.0)
        # From below: more epsilon costs more overhead, which asks for more epsilon.
        for _ in range(200):
            left = delta - _overhead(value, distance)
            if left <= 0:
                return math.inf
            needed = float(_quietly(composed.get_epsilon, left))
            if needed <= value:
                return value
            value = needed + 1e-7 * max(needed, 1e-3)
        return math.inf

    def delta(self, run: Run, *, epsilon: float, distance: float = 0.0) -> float:
        """The delta that holds at `epsilon`, at most 1."""
        if not (epsilon >= 0):
            raise ValueError(f"`epsilon` must not be negative, got {epsilon!r}.")
        if _without_noise(run):
            return 1.0
        composed = self._compose(run)
        mechanism = 0.0 if composed is None else float(_quietly(composed.get_delta, epsilon))
        return min(1.0, mechanism + _overhead(epsilon, distance))

    def noise_multiplier(
        self,
        make_run: Callable[[float], Run],
        *,
        epsilon: float,
        delta: float,
        distance: float = 0.0,
    ) -> float:
        """The least noise, within 0.06 % upward, with which a run stays within its budget.

        Args:
          make_run: The run for a given noise multiplier.
          epsilon: Budget; what comes back never costs more.
          delta: Budget, of which `distance` takes its part first.
          distance: As in `epsilon`; it must not depend on the noise.

        Raises:
          ValueError: No noise suffices; the message names the nearest budget that can be met.
        """
        _check_budget(epsilon, delta)
        if _overhead(epsilon, distance) >= delta:
            raise ValueError(
                f"`delta`={delta!r} cannot be met at epsilon={epsilon!r} with any noise: sampler "
                f"overflow and noise tails alone cost {_overhead(epsilon, distance):.3g}. "
                f"{_way_out(epsilon, delta, distance)}"
            )

        def excess(multiplier):
            run = make_run(multiplier)
            return _log_ratio(self.delta(run, epsilon=epsilon, distance=distance), delta)

        guess, ratio = 1.0, 0.5
        if self.accountant == "pld":
            guess, ratio = self._guess(make_run, epsilon=epsilon, delta=delta), 0.9995
        multiplier = _least_noise(excess, start=guess, ratio=ratio)
        if multiplier is None:
            run = make_run(MAX_NOISE_MULTIPLIER)
            nearest = self.epsilon(run, delta=delta, distance=distance)
            raise ValueError(
                f"`epsilon`={epsilon!r} cannot be met at delta={delta!r} with a noise multiplier "
                f"up to {MAX_NOISE_MULTIPLIER:g}. The nearest that can is epsilon={nearest:.4g}; "
                "or take fewer steps or a smaller batch."
            )
        while self.epsilon(make_run(multiplier), delta=delta, distance=distance) > epsilon:
            multiplier *= 1.0005  # RDP's two conversions differ in the last digits
        return multiplier

    def steps_within(
        self,
        make_run: Callable[[int], Run],
        *,
        epsilon: float,
        delta: float,
        distance: Callable[[int], float] = lambda count: 0.0,
        limit: int = 10_000_000,
    ) -> int:
        """How many steps fit into the budget; 0 where none does.

        Args:
          make_run: The run of a given number of steps; more steps must not cost less.
          epsilon: Budget of the whole.
          delta: Budget of the whole.
          distance: As in `epsilon`, of so many steps.
          limit: Answers stop here.
        """
        _check_budget(epsilon, delta)

        def fits(count):
            run = make_run(count)
            return self.delta(run, epsilon=epsilon, distance=distance(count)) <= delta

        if not fits(1):
            return 0
        low, high = 1, 2
        while high < limit and fits(high):
            low, high = high, 2 * high
        high = min(high, limit + 1)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        return low

    def _guess(self, make_run, *, epsilon, delta):
        """Near the answer: a fine PLD costs up to seconds a try, a coarse one a tenth, RDP less."""
        rdp = Accounting("add-or-remove-one", "rdp")
        coarse = self.coarse()

        def rdp_excess(multiplier):
            run = [
                (dataclasses.replace(step, sampling="poisson"), count)
                for step, count in make_run(multiplier)
            ]
            return _log_ratio(rdp.delta(run, epsilon=epsilon), delta)

        def excess(multiplier):
            return _log_ratio(coarse.delta(make_run(multiplier), epsilon=epsilon), delta)

        start = _least_noise(rdp_excess, start=1.0, ratio=0.5) or 1.0
        return _least_noise(excess, start=start, ratio=0.9) or start

    def _compose(self, run):
        return _composed(self, tuple((step, count) for step, count in run))

    def _compose_anew(self, run):
        if not any(count for _, count in run):
            return None
        accountant = self._new_accountant()
        for step, count in run:
            self.check(step.sampling)
            if count < 0:
                raise ValueError(f"`run` must not hold negative counts, got {count!r}.")
            if count:
                _quietly(accountant.compose, dp_event(step, self.adjacency), int(count))
        return accountant

    def _new_accountant(self) -> Any:
        from dp_accounting import NeighboringRelation, pld, rdp

        relation = {
            "add-or-remove-one": NeighboringRelation.ADD_OR_REMOVE_ONE,
            "replace-one": NeighboringRelation.REPLACE_ONE,
        }[self.adjacency]
        if self.accountant == "pld":
            return pld.PLDAccountant(relation, self.grid)
        return rdp.RdpAccountant(neighboring_relation=relation)


@functools.lru_cache(maxsize=8)
def _composed(accounting, run):
    # Composing costs seconds, asking nothing; a statement, a report and a plot ask about one run.
    return accounting._compose_anew(run)


def _without_noise(run) -> bool:
    """Whether some step adds none, which not every accountant can be asked about."""
    return any(count > 0 and step.noise_multiplier == 0 for step, count in run)


def _overhead(epsilon, distance):
    return 0.0 if distance == 0 else (1 + math.exp(min(epsilon, 700.0))) * distance


def _way_out(epsilon, delta, distance):
    """The nearest budget above what overflow and tails cost."""
    needed = 2 * _overhead(epsilon, distance)
    below = math.log(delta / (2 * distance)) if delta > 2 * distance else 0.0
    ways = [f"a delta above {needed:.3g}"] if needed < 1 else []
    ways += [f"an epsilon below {below:.4g}"] if below > 0 else []
    ways += ["fewer steps", "a smaller `dimension`", "a smaller `overflow_probability`"]
    return f"Use {', '.join(ways[:-1])} or {ways[-1]}."


def _log_ratio(value, target):
    return math.log(max(value, 1e-300) / target)


def _least_noise(excess, *, start, ratio):
    """The least x, within 6e-4 of itself upward, with `excess(x) <= 0`; None if there is none."""
    from scipy.optimize import brentq

    excess = functools.cache(excess)
    high = start
    while excess(high) > 0:
        if high >= MAX_NOISE_MULTIPLIER:
            return None
        high = min(high / ratio, MAX_NOISE_MULTIPLIER)
        ratio *= ratio
    low = high * ratio
    while excess(low) <= 0:
        ratio *= ratio
        low, high = low * ratio, low
        if high < 1e-2:  # below, epsilon is in the thousands and PLD grids become huge
            return high
    if low > 0.9994 * high:
        return high
    found = 1.0001 * brentq(excess, low, high, rtol=1e-4)
    while excess(found) > 0:
        found *= 1.0001
    return found


@contextlib.contextmanager
def _silent_absl():
    # RDP says of every order that did not converge that it leaves it out; the result stays a bound.
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _quietly(function, *args):
    with _silent_absl():
        return function(*args)


def _check_delta(delta):
    if not (0 < delta < 1):
        raise ValueError(f"`delta` must be in (0, 1), got {delta!r}.")


def _check_budget(epsilon, delta):
    if not (epsilon > 0 and math.isfinite(epsilon)):
        raise ValueError(f"`epsilon` must be positive and finite, got {epsilon!r}.")
    _check_delta(delta)
