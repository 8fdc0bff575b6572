"""The only place where sampling, bound, noise and accounting meet."""

import dataclasses
import functools
import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax

from trustml.accounting import Accounting
from trustml.noise.grid import grid_sensitivity, grid_spacing
from trustml.noise.matrix_factorization import Strategy, best_strategy
from trustml.plan import releases as steps_
from trustml.plan.calibration import calibrated
from trustml.plan.charges import Charge, epsilon_with, total_charge
from trustml.plan.checks import check_batch, check_capacity, check_count, check_fields
from trustml.plan.statement import write_statement
from trustml.sampling import Draw, Sampler, new_secret, secret_from_seed
from trustml.strict_json import dumps


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrivacyPlan:
    """Noisy sums of bounded, sampled units: public numbers from which everything else follows.

    The sampler, the noise and the accountant read the same fields, so they cannot disagree.
    Every field is public: none may be taken from the data.

    >>> plan = PrivacyPlan(
    ...     clip_norm=1.0, noise_multiplier=3.0, sample_rate=0.1, steps=512, expected_batch=100
    ... )
    >>> round(plan.epsilon(delta=1e-6), 2), plan.num_units, plan.capacity
    (3.77, 1000, 182)

    Args:
      clip_norm: L2 bound C of one unit: a float, or a pytree prefix of the trained parameters
        for a bound per layer; the whole then has the bound sqrt(sum of squares).
      noise_multiplier: Standard deviation of the noise on the sum over that bound; of the first
        epoch where it decays.
      sample_rate: Probability of a unit to take part in a step.
      steps: Steps of the run.
      expected_batch: The divisor of every step. Never the size that was drawn.
      sampling: "poisson", "truncated_poisson" (cut at `capacity`) or "fixed". "cyclic_poisson":
        each unit falls into one of `cycle_length` groups, which take turns. "balls_in_bins" (each
        unit in one random step of an epoch) and "shuffled" are accounted as what they are: one full
        participation an epoch, without amplification.
      cycle_length: Groups of "cyclic_poisson".
      adjacency: "add-or-remove-one" or "replace-one".
      accountant: "pld", or "rdp", the only one for fixed batches. A plan that is too large for
        "pld" is accounted more coarsely; `accounted_by` and `statement` say how.
      clipping: "flat", factor min(1, C / norm); "automatic", C / (norm + 0.01) (AUTO-S); or
        "automatic_v", C / norm (AUTO-V).
      clip_quantile: Part of the units that adaptive bounds leave whole; None keeps `clip_norm`,
        which then is where they start. The noisy counts are paid for within `noise_multiplier`.
      num_microbatches: With eDP-SGD, means that a step bounds, each over the units that fell to one
        micro-batch by chance, instead of every unit; they move by 2C. 0 bounds every unit.
      noise: "independent"; "discrete_gaussian", sums and noise in whole steps of a grid, so that no
        lattice of floats shows: give `dimension`, by which the grid is made;
        "tree", "toeplitz", "banded" or "blt", whose noise of one step takes back part of that of
        earlier ones (see `trustml.noise.matrix_factorization`).
      noise_memory: Copies of the weights that "banded" (its bands less one) or "blt" (its buffers)
        keeps.
      noise_decay: Factor on the noise from one epoch of ceil(1 / sample_rate) steps to the next.
      num_units: Units in the data, public; by default expected_batch / sample_rate.
      capacity: Length of the padded draws; by default as large as `overflow_probability` asks.
      overflow_probability: Chance that any step of the run draws more than `capacity`; it is
        paid for in delta.
      dimension: Trained values, at most: what the finite tails of the noise cost grows with it.
        The default costs a thousand steps at epsilon 8 a delta of 4e-14.
      unit: What one unit is: "utterance", "document", "user". The statement prints it.

    Guarantee:
      `epsilon(delta)` bounds what `private_step` releases over `steps` draws of `batches`, sampler
      overflow and noise tails included. `statement` says what it covers and what voids it.

    Raises:
      ValueError: A number is out of range, or the accountant cannot describe the combination.
    """

    clip_norm: Any
    noise_multiplier: float
    sample_rate: float
    steps: int
    expected_batch: float
    sampling: str = "poisson"
    adjacency: str = "add-or-remove-one"
    accountant: str = "pld"
    clipping: str = "flat"
    clip_quantile: float | None = None
    num_microbatches: int = 0
    noise: str = "independent"
    noise_memory: int = 0
    noise_decay: float = 1.0
    cycle_length: int = 1
    num_units: int = None  # type: ignore[assignment]  # settled in __post_init__
    capacity: int = None  # type: ignore[assignment]
    overflow_probability: float = 1e-12
    dimension: float = 1e9
    unit: str = "example"

    def __post_init__(self):
        check_fields(self)
        if self.num_units is None:
            self._set("num_units", max(1, round(self.expected_batch / self.sample_rate)))
        check_count("num_units", self.num_units)
        check_batch(self)
        if self.capacity is None:
            self._set("capacity", steps_.default_capacity(self))
        check_capacity(self)
        self._gradient_noise  # noqa: B018  # refuses counts that cost more than there is

    def _set(self, name, value):
        object.__setattr__(self, name, value)  # frozen, and still under construction

    @classmethod
    def calibrate(
        cls,
        *,
        epsilon: float,
        delta: float,
        num_units: int,
        expected_batch: float,
        steps: int,
        clip_norm: Any,
        **options: Any,
    ) -> "PrivacyPlan":
        """The plan with the least noise that stays within `(epsilon, delta)`.

        >>> plan = PrivacyPlan.calibrate(
        ...     epsilon=1.0, delta=1e-6, num_units=1000,
        ...     expected_batch=100, steps=512, clip_norm=1.0,
        ... )
        >>> round(plan.noise_multiplier, 2)
        9.66

        Args:
          epsilon: Budget. What the plan costs never exceeds it.
          delta: Budget, of which sampler overflow takes a thousandth at most.
          num_units: Units in the data, public.
          expected_batch: Units per step on average, and the divisor.
          steps: Steps of the run.
          clip_norm: As in the class.
          **options: Other fields of the class.

        Raises:
          ValueError: No plan meets the budget; the message names the nearest that does.
        """
        return calibrated(
            cls,
            epsilon=epsilon,
            delta=delta,
            num_units=num_units,
            expected_batch=expected_batch,
            steps=steps,
            clip_norm=clip_norm,
            **options,
        )

    @property
    def clip_bound(self) -> float:
        """L2 bound of one unit over all of its clip norms together."""
        return math.hypot(*jax.tree.leaves(self.clip_norm))

    @property
    def sensitivity(self) -> float:
        """Most that adding or removing one unit can move the sum, in l2 norm.

        The mean of a micro-batch stays in a ball of radius C, but may move anywhere in it: by 2C.
        On a grid the rounding of the sum is included.
        """
        moved = (2 if self.num_microbatches else 1) * self.clip_bound
        if self.noise != "discrete_gaussian":
            return moved
        return grid_sensitivity(moved, self.grid_spacing, self.dimension)

    @property
    def grid_spacing(self) -> float:
        """Spacing of the grid of noisy sums; 0 where there is no grid."""
        if self.noise != "discrete_gaussian":
            return 0.0
        return grid_spacing(self.clip_bound, self.dimension)

    @property
    def divisor(self) -> float:
        """The public number that divides the noisy sum of a step."""
        return self.num_microbatches or self.expected_batch

    @property
    def stddev(self) -> float:
        """Standard deviation of the noise on every value of the sum; see `stddev_at`."""
        return self._gradient_noise * self.clip_bound * self.noise_scale

    @functools.cached_property
    def strategy(self) -> Strategy:
        """The matrix factorization that correlates the noise of steps, if any does."""
        if self.noise not in steps_.CORRELATED:
            return Strategy("independent")
        how = steps_.participation(self)
        return best_strategy(self.noise, steps=self.steps, memory=self.noise_memory, **how)

    @functools.cached_property
    def noise_scale(self) -> float:
        """The factor on the noise: the strategy's sensitivity to the steps of one unit."""
        return self.strategy.sensitivity(self.steps, **steps_.participation(self))

    def stddev_at(self, step: int) -> float:
        """The standard deviation at `step`; `stddev` is that of the first epoch."""
        return self.stddev * self.noise_decay ** (step // steps_.epoch(self))

    @property
    def renewable(self) -> bool:
        """Whether steps are releases by themselves, so that a run may go on under a new key."""
        return self.noise not in steps_.CORRELATED and self.sampling in steps_.BY_THEMSELVES

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that two plans share only if all their fields agree."""
        text = dumps(self.to_dict(), sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def epsilon(self, delta: float, *, steps: int | None = None, coarse: bool = False) -> float:
        """Epsilon at `delta` after `steps` steps, all of them by default; infinite without noise.

        Args:
          delta: The delta that the epsilon goes with.
          steps: Steps carried out.
          coarse: Whether a bound that is a little higher and quicker to compute will do.

        Raises:
          ValueError: `delta` is not in (0, 1), or `steps` is negative.
        """
        steps = self._steps_or_all(steps)
        accounting = self._accounting.coarse() if coarse else self._accounting
        run = steps_.releases(self, steps)
        return accounting.epsilon(run, delta=delta, distance=self._distance(steps))

    def accounted_by(self, delta: float, *, steps: int | None = None) -> str:
        """The accountant behind `epsilon(delta, steps=steps)`, in words.

        The plan's accountant; where the plan is too large for that, or `delta` too small for
        floats, "PLD on a grid of 0.002 (why)" or "RDP (why)". Each is an upper bound.

        >>> plan = PrivacyPlan(
        ...     clip_norm=1.0, noise_multiplier=3.0, sample_rate=0.1, steps=512, expected_batch=100
        ... )
        >>> plan.accounted_by(delta=1e-6)
        'PLD'

        Args:
          delta: The delta that epsilon is asked at.
          steps: Steps carried out, all by default.
        """
        steps = self._steps_or_all(steps)
        run = steps_.releases(self, steps)
        distance = self._distance(steps)
        return str(self._accounting.method(run, delta=delta, distance=distance))

    def delta(self, epsilon: float, *, steps: int | None = None) -> float:
        """Delta at `epsilon` after `steps` steps, all of them by default."""
        steps = self._steps_or_all(steps)
        run = steps_.releases(self, steps)
        return self._accounting.delta(run, epsilon=epsilon, distance=self._distance(steps))

    def remaining_steps(self, *, epsilon: float, delta: float, done: int = 0) -> int:
        """How many more steps fit into `(epsilon, delta)` after `done`; 0 where none does.

        Under correlated noise at most those that the plan has left.
        """
        done = self._steps_or_all(done)
        left = {"limit": self.steps - done} if self.noise in steps_.CORRELATED else {}
        if left == {"limit": 0}:
            return 0
        return self._accounting.steps_within(
            lambda count: steps_.releases(self, done + count),
            epsilon=epsilon,
            delta=delta,
            distance=lambda count: self._distance(done + count),
            **left,
        )

    def sampler(self, seed: int | bytes | None = None) -> Sampler:
        """The sampler of this plan.

        Args:
          seed: None for a fresh secret; the 32 bytes of an earlier one; or an integer, which makes
            the draws repeatable for whoever guesses it.
        """
        if seed is None:
            secret = new_secret()
        else:
            secret = seed if isinstance(seed, bytes) else secret_from_seed(seed)
        return Sampler(
            sampling=self.sampling,
            num_units=self.num_units,
            sample_rate=self.sample_rate,
            capacity=self.capacity,
            cycle_length=self.cycle_length,
            num_microbatches=self.num_microbatches,
            secret=secret,
            plan=self.fingerprint,
        )

    def batches(self, start: int = 0, seed: int | bytes | None = None) -> Iterator[Draw]:
        """The draws of steps `start` to `steps - 1`, exactly as accounted; see `sampler`."""
        if not (0 <= start <= self.steps):
            raise ValueError(f"`start` must be from 0 to `steps` ({self.steps}), got {start!r}.")
        return self.sampler(seed).draws(start, self.steps)

    def statement(
        self,
        delta: float,
        *,
        steps: int | None = None,
        reproducible: bool = False,
        charges: Sequence[Charge] = (),
    ) -> str:
        """The promise in words: unit, adjacency, outputs that it covers, and what voids it.

        Args:
          delta: The delta to state.
          steps: Steps carried out, all by default.
          reproducible: Whether keys came from a seed given by hand.
          charges: What was released beside the steps; the promise counts it.
        """
        steps = self._steps_or_all(steps)
        epsilon = epsilon_with(self, charges, delta, steps=steps)
        method = self.accounted_by(delta - total_charge(charges)[1], steps=steps)
        return write_statement(self, epsilon, delta, steps, method, reproducible, charges)

    def to_dict(self) -> dict[str, Any]:
        """Every field, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "PrivacyPlan":
        """The plan that `to_dict` described.

        Raises:
          ValueError: A field is unknown or missing.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(fields) - known):
            raise ValueError(f"`fields` must name fields of PrivacyPlan, got {unknown}.")
        try:
            return cls(**fields)
        except TypeError as error:
            raise ValueError(
                f"`fields` must hold every field without a default: {error}."
            ) from None

    @property
    def _accounting(self):
        return Accounting(self.adjacency, self.accountant)

    @property
    def _most_units(self):
        # Of two neighbours under add-or-remove one has a unit more than the data described.
        return self.num_units + (self.adjacency == "add-or-remove-one")

    @functools.cached_property
    def _gradient_noise(self):
        bounds = 0 if self.clip_quantile is None else len(jax.tree.leaves(self.clip_norm))
        return steps_.gradient_noise(self, bounds)

    def _distance(self, steps):
        return steps_.distance(self, steps)

    def _steps_or_all(self, steps):
        if steps is None:
            return self.steps
        if isinstance(steps, bool) or not (steps >= 0):
            raise ValueError(f"`steps` must not be negative, got {steps!r}.")
        if self.noise in steps_.CORRELATED and steps > self.steps:
            raise ValueError(
                f"`steps` must be at most the plan's {self.steps}, which its correlated noise is "
                f"made for, got {steps!r}. Make a plan of more steps."
            )
        return steps
