"""Epsilon, delta and the noise they ask for. Float64, imports no JAX."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from trustml.accounting.curves import FINE, Method, methods, rounding
from trustml.accounting.least import MAX_NOISE_MULTIPLIER, least_noise
from trustml.accounting.prices import lowest_delta, lowest_epsilon, overhead
from trustml.accounting.steps import (
    ACCOUNTANTS,
    ADJACENCIES,
    Run,
    check_one_of,
    check_step,
    check_supported,
)
from trustml.formatting import round_down, round_up

_COARSE = 1e-3  # eight times quicker than 1e-4, and the same epsilon to four digits
_POINTS = 3e6  # about a second of work, 300 MB
_LESS = 8  # times as little work where even that asks for a coarser grid
_TRIES = 6  # with "pld", of which each takes up to a second
_NONE = 1e-100  # noise that floats cannot square
_CALIBRATING = 2.7e6  # which asks for some ten distributions


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
      grid: Finest spacing of the privacy losses that "pld" keeps; a coarser one is quicker and
        looser.
      points: The work that "pld" may take, in losses kept. A run that asks for more is priced on a
        coarser grid, or by "rdp" where that would say no more; `method` tells.

    Guarantee:
      Results are upper bounds. With `distance`, the total variation distance between the run
      that is described and the one that is carried out (a sampler that overflows, noise with
      finite tails), they hold for the latter: delta grows by (1 + e^epsilon) distance.
      That holds of every grid and of both accountants. What floats lose in composing privacy
      losses (up to 1e-16 of delta a step) is added to delta where it counts.

    References:
      Mironov, Talwar, Zhang, Rényi differential privacy of the sampled Gaussian mechanism, 2019.
      Doroshenko et al., Connect the dots, 2022. Wang, Balle, Kasiviswanathan, Subsampled Rényi
      differential privacy, 2019, Theorem 27. Ganesh, Truncated Poisson, arXiv 2508.15089.
    """

    adjacency: str = "add-or-remove-one"
    accountant: str = "pld"
    grid: float = FINE
    points: float = _POINTS

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
        return self._priced(run, delta, distance)[0]

    def method(self, run: Run, *, delta: float, distance: float = 0.0) -> Method:
        """The accountant behind `epsilon`, and the grid where it is a coarser one."""
        return self._priced(run, delta, distance)[1]

    def delta(self, run: Run, *, epsilon: float, distance: float = 0.0) -> float:
        """The delta that holds at `epsilon`, at most 1."""
        if not (epsilon >= 0):
            raise ValueError(f"`epsilon` must not be negative, got {epsilon!r}.")
        if _without_noise(run):
            return 1.0
        steps = self._checked(run)
        found = lowest_delta(steps, self.adjacency, self._methods(steps), epsilon)
        if steps and found < 10 * rounding(steps):  # where `epsilon` would not ask "pld"
            by_rdp = lowest_delta(steps, self.adjacency, (Method("rdp"),), epsilon)
            found = min(found, by_rdp)
        return min(1.0, found + overhead(epsilon, distance))

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
        if overhead(epsilon, distance) >= delta:
            raise ValueError(
                f"`delta`={delta!r} cannot be met at epsilon={epsilon!r} with any noise: sampler "
                f"overflow and noise tails alone cost {round_up(overhead(epsilon, distance))}. "
                f"{_way_out(epsilon, delta, distance)}"
            )

        start: dict[str, Any] = {"start": 1.0, "ratio": 0.5}
        if self.accountant == "pld":
            guess = self._guess(make_run, epsilon=epsilon, delta=delta)
            start = {"start": guess, "ratio": 0.9995, "tries": _TRIES}
        large = self._is_large(make_run(start["start"]), delta)
        points = min(self.points, _CALIBRATING) / (_LESS if large else 1)
        trial = dataclasses.replace(self, points=points)
        excess = trial._excess(make_run, epsilon=epsilon, delta=delta, distance=distance)
        multiplier = least_noise(excess, **start)
        if multiplier is None:
            run = make_run(MAX_NOISE_MULTIPLIER)
            nearest = self.epsilon(run, delta=delta, distance=distance)
            raise ValueError(
                f"`epsilon`={epsilon!r} cannot be met at delta={delta!r} with a noise multiplier "
                f"up to {MAX_NOISE_MULTIPLIER:g}. The nearest that can is "
                f"epsilon={round_up(nearest, 4)}; or take fewer steps or a smaller batch."
            )
        more = 1.0005
        while self.epsilon(make_run(multiplier), delta=delta, distance=distance) > epsilon:
            multiplier *= more  # RDP's two conversions differ in the last digits
            more *= more
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
            far = distance(count)
            return self._delta_near(make_run(count), epsilon, delta, distance=far) <= delta

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

        def without_replacing(multiplier):
            run = make_run(multiplier)
            return [(dataclasses.replace(step, sampling="poisson"), count) for step, count in run]

        rdp = Accounting("add-or-remove-one", "rdp")
        rough = rdp._excess(without_replacing, epsilon=epsilon, delta=delta)
        start = least_noise(rough, start=1.0, ratio=0.5) or 1.0
        excess = self.coarse()._excess(make_run, epsilon=epsilon, delta=delta)
        return least_noise(excess, start=start, ratio=0.9, tries=_TRIES) or start

    def _is_large(self, run, delta) -> bool:
        """Whether `run` asks for a coarser grid where ten distributions like it are needed."""
        trial = dataclasses.replace(self, points=min(self.points, _CALIBRATING))
        steps = self._checked(run)
        return not all(method.as_asked for method in trial._methods(steps, delta)[:1])

    def _excess(self, make_run, *, epsilon, delta, distance=0.0):
        """By how much a run costs more than its budget, as a function of its noise."""

        def excess(multiplier):
            found = self._delta_near(make_run(multiplier), epsilon, delta, distance)
            return math.log(max(found, 1e-300) / delta)

        return excess

    def _delta_near(self, run, epsilon, delta, distance):
        """Delta at `epsilon`, by what `epsilon` would ask at `delta`."""
        if _without_noise(run):
            return 1.0
        steps = self._checked(run)
        found = lowest_delta(steps, self.adjacency, self._methods(steps, delta), epsilon)
        return min(1.0, found + overhead(epsilon, distance))

    def _priced(self, run, delta, distance) -> tuple[float, Method]:
        _check_delta(delta)
        if _without_noise(run):
            return math.inf, Method(self.accountant)
        steps = self._checked(run)
        if not steps:
            return 0.0, Method(self.accountant)
        return lowest_epsilon(steps, self.adjacency, self._methods(steps, delta), delta, distance)

    def _methods(self, steps, delta=None) -> tuple[Method, ...]:
        if not steps:
            return ()
        found = methods(steps, self.adjacency, self.accountant, self.grid, self.points, delta)
        return tuple(found)

    def _checked(self, run):
        """The steps that were carried out, as a key."""
        for step, count in run:
            self.check(step.sampling)
            check_step(step)
            if count < 0:
                raise ValueError(f"`run` must not hold negative counts, got {count!r}.")
        return tuple((step, int(count)) for step, count in run if count)


def _without_noise(run) -> bool:
    """Whether some step adds none, or less than floats can square."""
    return any(count > 0 and 0 <= step.noise_multiplier < _NONE for step, count in run)


def _way_out(epsilon, delta, distance):
    """The nearest budget above what overflow and tails cost."""
    needed = 2 * overhead(epsilon, distance)
    below = math.log(delta / (2 * distance)) if delta > 2 * distance else 0.0
    ways = [f"a delta above {round_up(needed)}"] if needed < 1 else []
    ways += [f"an epsilon below {round_down(below, 4)}"] if below > 0 else []
    ways += ["fewer steps", "a smaller `dimension`", "a smaller `overflow_probability`"]
    return f"Use {', '.join(ways[:-1])} or {ways[-1]}."


def _check_delta(delta):
    if not (0 < delta < 1):
        raise ValueError(f"`delta` must be in (0, 1), got {delta!r}.")


def _check_budget(epsilon, delta):
    if not (epsilon > 0 and math.isfinite(epsilon)):
        raise ValueError(f"`epsilon` must be positive and finite, got {epsilon!r}.")
    _check_delta(delta)
