"""The units of each step: fixed shapes, a secret seed, any step at any time."""

import functools
import hashlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32

SAMPLINGS = (
    "poisson",
    "truncated_poisson",
    "fixed",
    "cyclic_poisson",
    "balls_in_bins",
    "shuffled",
)
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
    accounted as such. `fixed` takes `capacity` units without replacement. `cyclic_poisson` deals
    each unit to one of `cycle_length` groups at random, once, and samples the group whose turn it
    is. `balls_in_bins` deals each unit to one step of an epoch at random, anew every epoch;
    `shuffled` cuts a fresh order of all units into batches. With `num_microbatches` each drawn unit
    falls into one at random, and a draw holds them one after the other.

    Args:
      sampling: One of `SAMPLINGS`, by the name under which the accountant knows it.
      num_units: Units in the data.
      sample_rate: Probability of a unit to take part in a step.
      capacity: Length of every draw.
      cycle_length: Groups of `cyclic_poisson`.
      num_microbatches: Equal parts of every draw; 0 for none.
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
    cycle_length: int = 1
    num_microbatches: int = 0

    def __post_init__(self):
        if self.sampling not in SAMPLINGS:
            raise ValueError(f"`sampling` must be one of {SAMPLINGS}, got {self.sampling!r}.")
        if not isinstance(self.secret, bytes) or len(self.secret) != 32:
            raise TypeError("`secret` must be 32 bytes. Use `trustml.sampling.new_secret()`.")
        if not (0 < self.sample_rate <= 1):
            raise ValueError(f"`sample_rate` must be in (0, 1], got {self.sample_rate!r}.")
        # One more than there are units: a neighbouring data set must fit the same shape.
        most = (self.num_units + (self.sampling != "fixed")) * max(1, self.num_microbatches)
        if not (1 <= self.capacity <= most):
            raise ValueError(f"`capacity` must be from 1 to {most}, got {self.capacity!r}.")

    def draw(self, step: int) -> Draw:
        """The units of `step`, without drawing those before."""
        if not (step >= 0):
            raise ValueError(f"`step` must not be negative, got {step!r}.")
        generator = _generator(self.secret, step)
        indices = np.full(self.capacity, -1, np.int32)
        chosen = self._chosen(step, generator)
        if self.num_microbatches:
            places, kept = _dealt(len(chosen), self.num_microbatches, self.capacity, generator)
            indices[places] = chosen[kept]
        else:
            chosen = chosen[: self.capacity]
            indices[: len(chosen)] = chosen
        draw = Draw(step, indices, np.where(indices < 0, -1, 0).astype(np.int32))
        draw.plan = self.plan
        return draw

    def _chosen(self, step, generator):
        """The units of a step in random order: what exceeds the capacity is dropped at random."""
        if self.sampling == "fixed":
            return generator.choice(self.num_units, self.capacity, replace=False)
        epoch = math.ceil(1 / self.sample_rate - 1e-9)
        if self.sampling == "shuffled":
            order = self._of_epoch(step // epoch, epoch)
            return order[step % epoch * self.capacity :][: self.capacity]
        if self.sampling == "balls_in_bins":
            bins = self._of_epoch(step // epoch, epoch)
            return generator.permutation(np.flatnonzero(bins == step % epoch))
        if self.sampling == "cyclic_poisson":
            pool = np.flatnonzero(self._groups == step % self.cycle_length)
            size = generator.binomial(len(pool), min(1.0, self.sample_rate * self.cycle_length))
            return generator.choice(pool, size, replace=False)
        # Given its size, a Poisson sample is uniform; a uniform part of it is uniform too, so
        # choosing `capacity` of all units is dropping the surplus at random.
        size = int(generator.binomial(self.num_units, self.sample_rate))
        if not self.num_microbatches:
            size = min(size, self.capacity)
        return generator.choice(self.num_units, size, replace=False)

    def _of_epoch(self, number, steps):
        """The order of all units in an epoch, or the step of each; kept, as its steps share it."""
        if (known := self._epochs.get(number)) is not None:
            return known
        generator = _generator(self.secret, number, b"epoch")
        if self.sampling == "shuffled":
            found = generator.permutation(self.num_units)
        else:
            found = generator.integers(steps, size=self.num_units)
        self._epochs.clear()
        self._epochs[number] = found
        return found

    @functools.cached_property
    def _epochs(self):
        return {}

    @functools.cached_property
    def _groups(self):
        return _generator(self.secret, 0, b"groups").integers(
            self.cycle_length, size=self.num_units
        )

    def draws(self, start: int, stop: int) -> Iterator[Draw]:
        """The draws of steps `start` to `stop - 1`."""
        return (self.draw(step) for step in range(start, stop))


def new_secret() -> bytes:
    """A fresh sampler secret: 256 bits from the operating system.

    >>> len(new_secret()), new_secret() == new_secret()
    (32, False)
    """
    return os.urandom(32)


def secret_from_seed(seed: int) -> bytes:
    """The sampler secret of `seed`: repeatable, and no secret from whoever guesses the seed.

    >>> secret_from_seed(7) == secret_from_seed(7) != secret_from_seed(8)
    True
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise TypeError(f"`seed` must be an integer, got {type(seed).__name__}.")
    if seed < 0:
        raise ValueError(f"`seed` must not be negative, got {seed}.")
    return hashlib.sha256(_DOMAIN + b"seed\x00" + str(int(seed)).encode()).digest()


def overflow_probability(num_units: int, sample_rate: float, capacity: int) -> float:
    """Probability that one Poisson sample holds more than `capacity` units: the exact tail.

    >>> round(overflow_probability(num_units=2, sample_rate=0.5, capacity=1), 12)
    0.25
    """
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


def _dealt(size, num_microbatches, capacity, generator):
    """Positions of units in a draw, each in a random micro-batch, and the units that fit.

    Whether a unit is left out depends on those of its own micro-batch alone.
    """
    each = capacity // num_microbatches
    owner = generator.integers(num_microbatches, size=size)
    order = np.argsort(owner, kind="stable")
    sizes = np.bincount(owner, minlength=num_microbatches)
    within = np.arange(size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    kept = order[within < each]
    return owner[kept] * each + within[within < each], kept


def _generator(secret, number, purpose=b""):
    # Whoever knows the draws knows which units took part: amplification by sampling is then void.
    # SHA-256 of the secret and the step: steps are unrelated streams, and none has to be replayed.
    digest = hashlib.sha256(_DOMAIN + secret + int(number).to_bytes(8, "little") + purpose).digest()
    entropy = np.random.SeedSequence(int.from_bytes(digest, "little"), pool_size=8)
    return np.random.Generator(np.random.Philox(entropy))
