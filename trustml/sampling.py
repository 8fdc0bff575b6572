"""Which units take part in which step: fixed shapes, a secret seed, any step at any time."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32

SAMPLINGS = ("poisson", "truncated_poisson", "fixed")
_DOMAIN = b"trustml sampler, version 1\x00"


class _DrawFields(NamedTuple):
    step: int
    indices: Int32[np.ndarray, " capacity"]  # -1 where nothing was drawn
    group: Int32[np.ndarray, " capacity"]  # 0, or -1 for padding


class Draw(_DrawFields):
    """The units of one step, padded. Secret: amplification by sampling rests on hiding it."""

    plan: str | None = None  # fingerprint of the plan it was drawn for; not part of the tuple


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """Draws the units of step k from (secret, k): seekable, and the same after a restart.

    `poisson` takes each unit with probability `sample_rate`, independently. Its padded shape
    cannot hold every outcome: beyond `capacity` a uniform part is dropped, which
    `overflow_probability` bounds. `truncated_poisson` does the same by intention, and must be
    accounted as such. `fixed` takes `capacity` units without replacement.

    Args:
      sampling: One of `SAMPLINGS`, by the name under which the accountant knows it.
      num_units: Units in the data.
      sample_rate: Probability of a unit to take part in a step.
      capacity: Length of every draw.
      secret: 32 bytes, from `new_secret()`.
      plan: Fingerprint that the draws carry.

    Guarantee:
      Draws are what the named sampling says, independent across steps, for anybody who does not
      know `secret`. Void if `secret` is published together with the released model.
    """

    sampling: str
    num_units: int
    sample_rate: float
    capacity: int
    secret: bytes
    plan: str | None = None

    def __post_init__(self):
        if self.sampling not in SAMPLINGS:
            raise ValueError(f"`sampling` must be one of {SAMPLINGS}, got {self.sampling!r}.")
        if not isinstance(self.secret, bytes) or len(self.secret) != 32:
            raise TypeError("`secret` must be 32 bytes. Use `trustml.sampling.new_secret()`.")
        if not (0 < self.sample_rate <= 1):
            raise ValueError(f"`sample_rate` must be in (0, 1], got {self.sample_rate!r}.")
        # One more than there are units: a neighbouring data set must fit the same shape.
        most = self.num_units + (self.sampling != "fixed")
        if not (1 <= self.capacity <= most):
            raise ValueError(f"`capacity` must be from 1 to {most}, got {self.capacity!r}.")

    def draw(self, step: int) -> Draw:
        """The units of `step`, without drawing those before."""
        if not (step >= 0):
            raise ValueError(f"`step` must not be negative, got {step!r}.")
        generator = _generator(self.secret, step)
        size = self.capacity
        if self.sampling != "fixed":
            # Given its size, a Poisson sample is uniform; a uniform part of it is uniform too,
            # so choosing `capacity` of all units is dropping the surplus at random.
            size = min(size, int(generator.binomial(self.num_units, self.sample_rate)))
        indices = np.full(self.capacity, -1, np.int32)
        indices[:size] = generator.choice(self.num_units, size, replace=False)
        draw = Draw(step, indices, np.where(indices < 0, -1, 0).astype(np.int32))
        draw.plan = self.plan
        return draw

    def draws(self, start: int, stop: int) -> Iterator[Draw]:
        """The draws of steps `start` to `stop - 1`."""
        return (self.draw(step) for step in range(start, stop))


def new_secret() -> bytes:
    """A fresh sampler secret: 256 bits from the operating system."""
    return os.urandom(32)


def secret_from_seed(seed: int) -> bytes:
    """The sampler secret that `seed` stands for: repeatable, and guessable by who guesses it."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise TypeError(f"`seed` must be an integer, got {type(seed).__name__}.")
    if seed < 0:
        raise ValueError(f"`seed` must not be negative, got {seed}.")
    return hashlib.sha256(_DOMAIN + b"seed\x00" + str(int(seed)).encode()).digest()


def overflow_probability(num_units: int, sample_rate: float, capacity: int) -> float:
    """Probability that one Poisson sample holds more than `capacity` units: the exact tail."""
    from scipy.stats import binom

    return float(binom.sf(capacity, num_units, sample_rate))


def poisson_capacity(num_units: int, sample_rate: float, probability: float) -> int:
    """The smallest capacity that one Poisson sample exceeds with at most `probability`.

    >>> poisson_capacity(13_084, 256 / 13_084, 1e-11)
    369

    Args:
      num_units: Units in the data.
      sample_rate: Probability of a unit to take part.
      probability: For one step; a run of T steps that may overflow with tau gets tau / T.
    """
    if not (0 < probability < 1):
        raise ValueError(f"`probability` must be in (0, 1), got {probability!r}.")
    low, high = -1, num_units  # the tail at `low` is too heavy, at `high` it is 0
    while high - low > 1:
        middle = (low + high) // 2
        if overflow_probability(num_units, sample_rate, middle) <= probability:
            high = middle
        else:
            low = middle
    return max(high, 1)


def _generator(secret, step):
    # SHA-256 of the secret and the step: steps are unrelated streams, and none has to be replayed.
    digest = hashlib.sha256(_DOMAIN + secret + int(step).to_bytes(8, "little")).digest()
    entropy = np.random.SeedSequence(int.from_bytes(digest, "little"), pool_size=8)
    return np.random.Generator(np.random.Philox(entropy))
