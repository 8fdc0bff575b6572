"""The only place where sampling, bound, noise and accounting meet."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator
from typing import Any

import jax

from trustml.accounting import Accounting, SampledGaussian
from trustml.clipping.bounds import CLIPPINGS
from trustml.noise import tail_probability
from trustml.plan.statement import write_statement
from trustml.sampling import (
    Draw,
    Sampler,
    new_secret,
    overflow_probability,
    poisson_capacity,
    secret_from_seed,
)

_TRUNCATION = 1e-3  # how often a truncated batch is cut where the capacity is ours to choose


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
      noise_multiplier: Standard deviation of the noise on the sum over that bound.
      sample_rate: Probability of a unit to take part in a step.
      steps: Steps of the run.
      expected_batch: The divisor of every step. Never the size that was drawn.
      sampling: "poisson", "truncated_poisson" (cut at `capacity`) or "fixed".
      adjacency: "add-or-remove-one" or "replace-one".
      accountant: "pld", or "rdp", the only one for fixed batches.
      clipping: "flat", factor min(1, C / norm), or "automatic", factor C / (norm + 0.01).
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
    num_units: int = None  # type: ignore[assignment]  # settled in __post_init__
    capacity: int = None  # type: ignore[assignment]
    overflow_probability: float = 1e-12
    dimension: float = 1e9
    unit: str = "example"

    def __post_init__(self):
        self._accounting.check(self.sampling)
        if self.clipping not in CLIPPINGS:
            raise ValueError(f"`clipping` must be one of {CLIPPINGS}, got {self.clipping!r}.")
        for value in jax.tree.leaves(self.clip_norm) or [0.0]:
            _check_positive("clip_norm", value)
        if not (self.noise_multiplier >= 0 and math.isfinite(self.noise_multiplier)):
            raise ValueError(
                "`noise_multiplier` must be finite and not negative, "
                f"got {self.noise_multiplier!r}."
            )
        if not (0 < self.sample_rate <= 1):
            raise ValueError(f"`sample_rate` must be in (0, 1], got {self.sample_rate!r}.")
        _check_positive("expected_batch", self.expected_batch)
        _check_positive("dimension", self.dimension)
        _check_count("steps", self.steps)
        if not (0 < self.overflow_probability < 1):
            raise ValueError(
                f"`overflow_probability` must be in (0, 1), got {self.overflow_probability!r}."
            )
        self._settle_sizes()

    def _settle_sizes(self):
        if self.num_units is None:
            self._set("num_units", max(1, round(self.expected_batch / self.sample_rate)))
        _check_count("num_units", self.num_units)
        drawn = self.sample_rate * self.num_units
        if not (abs(drawn - self.expected_batch) <= max(0.5, 0.05 * drawn)):
            raise ValueError(
                f"`expected_batch`={self.expected_batch!r} must be near sample_rate * num_units "
                f"= {drawn:.6g}: it is what a step divides by."
            )
        if self.capacity is None:
            self._set("capacity", self._default_capacity())
        _check_count("capacity", self.capacity)
        if self.capacity > self._most_units:
            raise ValueError(f"`capacity` must be at most {self._most_units}, got {self.capacity}.")
        if self.sampling == "fixed" and not math.isclose(self.capacity, drawn, rel_tol=1e-9):
            raise ValueError(
                "`sample_rate` must be a whole batch over `num_units` when sampling is fixed, "
                f"got {self.sample_rate!r} of {self.num_units} units, which is {drawn:.6g}."
            )

    def _default_capacity(self):
        if self.sampling == "fixed":
            return max(1, round(self.sample_rate * self.num_units))
        per_step = self.overflow_probability / self.steps
        if self.sampling == "truncated_poisson":
            per_step = _TRUNCATION
        capacity = poisson_capacity(self._most_units, self.sample_rate, per_step)
        return min(capacity, self._most_units)

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
        if "noise_multiplier" in options or "sample_rate" in options:
            raise ValueError(
                "`noise_multiplier` and `sample_rate` follow from the budget; construct "
                "`PrivacyPlan` itself to choose them."
            )
        if not (0 < delta < 1):
            raise ValueError(f"`delta` must be in (0, 1), got {delta!r}.")
        _check_positive("epsilon", epsilon)
        _check_count("num_units", num_units)
        _check_positive("expected_batch", expected_batch)
        if not (expected_batch <= num_units):
            raise ValueError(
                f"`expected_batch` must be at most `num_units` ({num_units}), "
                f"got {expected_batch!r}."
            )
        # At epsilon 8 an overflow of delta / 1000 would itself cost three times delta.
        overflow = max(delta / 1000 / (1 + math.exp(min(epsilon, 600.0))), 1e-280)
        trial = cls(
            clip_norm=clip_norm,
            noise_multiplier=1.0,
            sample_rate=expected_batch / num_units,
            steps=steps,
            expected_batch=expected_batch,
            num_units=num_units,
            **{"overflow_probability": overflow, **options},
        )
        multiplier = trial._accounting.noise_multiplier(
            lambda noise: [(trial._release(noise), steps)],
            epsilon=epsilon,
            delta=delta,
            distance=trial._distance(steps),
        )
        return dataclasses.replace(trial, noise_multiplier=multiplier)

    @property
    def sensitivity(self) -> float:
        """Most that adding or removing one unit can move the sum, in l2 norm."""
        return math.hypot(*jax.tree.leaves(self.clip_norm))

    @property
    def stddev(self) -> float:
        """Standard deviation of the noise on every value of the sum."""
        return self.noise_multiplier * self.sensitivity

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that two plans share only if all their fields agree."""
        text = json.dumps(self.to_dict(), sort_keys=True, default=str)
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
        run = [(self._release(), steps)]
        accounting = self._accounting.coarse() if coarse else self._accounting
        return accounting.epsilon(run, delta=delta, distance=self._distance(steps))

    def delta(self, epsilon: float, *, steps: int | None = None) -> float:
        """Delta at `epsilon` after `steps` steps, all of them by default."""
        steps = self._steps_or_all(steps)
        run = [(self._release(), steps)]
        return self._accounting.delta(run, epsilon=epsilon, distance=self._distance(steps))

    def remaining_steps(self, *, epsilon: float, delta: float, done: int = 0) -> int:
        """How many more steps fit into `(epsilon, delta)` after `done`; 0 where none does."""
        release = self._release()
        return self._accounting.steps_within(
            release,
            epsilon=epsilon,
            delta=delta,
            spent=[(release, self._steps_or_all(done))],
            distance_per_step=self._distance(1),
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
            secret=secret,
            plan=self.fingerprint,
        )

    def batches(self, start: int = 0, seed: int | bytes | None = None) -> Iterator[Draw]:
        """The draws of steps `start` to `steps - 1`, exactly as accounted; see `sampler`."""
        if not (0 <= start <= self.steps):
            raise ValueError(f"`start` must be from 0 to `steps` ({self.steps}), got {start!r}.")
        return self.sampler(seed).draws(start, self.steps)

    def statement(
        self, delta: float, *, steps: int | None = None, reproducible: bool = False
    ) -> str:
        """What is promised, for which unit and adjacency, for which outputs, and what voids it.

        Args:
          delta: The delta to state.
          steps: Steps carried out, all by default.
          reproducible: Whether keys came from a seed given by hand.
        """
        steps = self._steps_or_all(steps)
        epsilon = self.epsilon(delta=delta, steps=steps)
        return write_statement(self, epsilon, delta, steps, reproducible)

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

    def _release(self, noise_multiplier=None):
        return SampledGaussian(
            sampling=self.sampling,
            noise_multiplier=self.noise_multiplier
            if noise_multiplier is None
            else noise_multiplier,
            sample_rate=self.sample_rate,
            num_units=self.num_units,
            batch_size=self.capacity,
        )

    def _distance(self, steps):
        """Total variation between what is accounted and what runs."""
        overflow = 0.0
        if self.sampling == "poisson":
            overflow = overflow_probability(self._most_units, self.sample_rate, self.capacity)
        return steps * (overflow + tail_probability(self.dimension))

    def _steps_or_all(self, steps):
        if steps is None:
            return self.steps
        if isinstance(steps, bool) or not (steps >= 0):
            raise ValueError(f"`steps` must not be negative, got {steps!r}.")
        return steps


def _check_positive(name, value):
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"`{name}` must be a number, got {type(value).__name__}.")
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"`{name}` must be positive and finite, got {value!r}.")


def _check_count(name, value):
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"`{name}` must be an integer, got {value!r}.")
    if not (value >= 1):
        raise ValueError(f"`{name}` must be at least 1, got {value!r}.")
