"""The releases of a plan's steps, in the accountant's terms."""

import math
from typing import Any

from trustml.accounting import Run, SampledGaussian
from trustml.noise import tail_probability
from trustml.noise.discrete import MOST_DISTANCE
from trustml.sampling import overflow_probability, poisson_capacity

# Each way to sample, and what the accountant is told of it. "cyclic_poisson" is Poisson sampling
# within a group whose turn comes every `cycle_length` steps. A unit of "shuffled" or
# "balls_in_bins" takes part in one step of each epoch: one full participation an epoch, without
# amplification.
SAMPLINGS = {
    "poisson": "poisson",
    "truncated_poisson": "truncated_poisson",
    "fixed": "fixed",
    "cyclic_poisson": "poisson",
    "balls_in_bins": "poisson",
    "shuffled": "poisson",
}
BY_THEMSELVES = ("poisson", "truncated_poisson", "fixed")  # steps drawn independently
_ONCE_AN_EPOCH = ("balls_in_bins", "shuffled")
CORRELATED = ("tree", "toeplitz", "banded", "blt")
NOISES = ("independent", "discrete_gaussian", *CORRELATED)
COUNT_NOISE = 1 / 20  # of the expected batch: noise on how many units stay whole (Andrew et al.)
_MOST_EPOCHS = 200  # that are charged each by itself: each costs up to a second
_TRUNCATION = 1e-3  # how often a truncated batch is cut where the capacity is ours to choose


def participation(plan: Any) -> dict[str, int]:
    """How often and how far apart a unit takes part, for noise that is correlated over steps."""
    # "banded" is amplified instead: each of a unit's steps counts by itself.
    if plan.noise not in CORRELATED or plan.noise == "banded":
        return {}
    return {
        "participations": math.ceil(plan.steps / plan.cycle_length),
        "min_separation": plan.cycle_length,
    }


def epoch(plan: Any) -> int:
    """Steps in which as many units are drawn as there are."""
    return math.ceil(1 / plan.sample_rate - 1e-9)


def releases(plan: Any, steps: int, noise_multiplier: float | None = None) -> Run:
    """The first `steps` steps, as sampled Gaussian mechanisms that compose.

    Args:
      plan: The plan.
      steps: Steps carried out.
      noise_multiplier: Instead of the plan's, to calibrate.

    Guarantee:
      Noise never grows from step to step. So a run that repeated some steps under another key and
      ends as many earlier costs no more than as many first steps: a ledger may count steps.
    """
    noise = plan.noise_multiplier if noise_multiplier is None else noise_multiplier
    noise *= plan.clip_bound / plan.sensitivity  # means of micro-batches move by 2C
    if not steps:
        return []
    if plan.noise in CORRELATED and plan.noise != "banded":
        # One Gaussian mechanism on all sums at once, whose sensitivity `noise_scale` holds.
        return [(_gaussian(noise, 1.0), 1)]
    if plan.sampling == "cyclic_poisson":
        rate = min(1.0, plan.sample_rate * plan.cycle_length)
        return [(_gaussian(noise, rate), math.ceil(steps / plan.cycle_length))]
    if plan.sampling in _ONCE_AN_EPOCH:
        return [(_gaussian(noise, 1.0), math.ceil(steps / epoch(plan)))]
    return [
        (_sampled(plan, noise * plan.noise_decay**number), count)
        for number, count in _by_epoch(plan, steps)
    ]


def _by_epoch(plan, steps):
    """The number of an epoch, and the steps that are charged as its own.

    Of many epochs, neighbours are all charged as the last of them, whose noise is the least.
    """
    if plan.noise_decay == 1:
        return [(0, steps)]
    length, epochs = epoch(plan), math.ceil(steps / epoch(plan))
    together = math.ceil(epochs / _MOST_EPOCHS)
    ends = [min(first + together, epochs) for first in range(0, epochs, together)]
    starts = [first * length for first in range(0, epochs, together)]
    return [
        (end - 1, min(end * length, steps) - start) for start, end in zip(starts, ends, strict=True)
    ]


def _sampled(plan, noise) -> SampledGaussian:
    return SampledGaussian(
        sampling=SAMPLINGS[plan.sampling],
        noise_multiplier=noise,
        sample_rate=plan.sample_rate,
        num_units=plan.num_units,
        batch_size=plan.capacity,
    )


def _gaussian(noise, rate) -> SampledGaussian:
    return SampledGaussian(sampling="poisson", noise_multiplier=noise, sample_rate=rate)


def distance(plan: Any, steps: int) -> float:
    """Total variation between what is accounted and what runs."""
    overflow = 0.0
    if (
        plan.sampling in ("poisson", "cyclic_poisson", "balls_in_bins")
        and not plan.num_microbatches
    ):
        overflow = overflow_probability(plan._most_units, plan.sample_rate, plan.capacity)
    tails = tail_probability(plan.dimension)
    if plan.noise == "discrete_gaussian":
        tails = plan.dimension * MOST_DISTANCE
    return steps * (overflow + tails)


def default_capacity(plan: Any) -> int:
    """Length of the padded draws where it is ours to choose."""
    most, rate = plan._most_units, plan.sample_rate
    if plan.sampling in ("fixed", "shuffled"):
        return max(1, round(rate * plan.num_units))
    if plan.num_microbatches:
        # What a full micro-batch leaves out changes its own mean alone: no privacy rests on it.
        mean = plan.expected_batch / plan.num_microbatches
        return plan.num_microbatches * math.ceil(mean + 2 * math.sqrt(mean))
    per_step = plan.overflow_probability / plan.steps
    if plan.sampling == "truncated_poisson":
        return min(poisson_capacity(most, rate, _TRUNCATION), plan.num_units)
    return min(poisson_capacity(most, rate, per_step), most)


def gradient_noise(plan: Any, bounds: int) -> float:
    """Noise multiplier of the gradients where adaptive bounds take their part of the budget.

    A count has sensitivity 1/2 and noise `COUNT_NOISE` of the batch: its multiplier is twice that.
    Gaussian mechanisms on the same units compose by the sum of their inverse squares.

    Args:
      plan: The plan.
      bounds: Counts released a step: 0 if bounds are fixed, else one for each bound.

    Raises:
      ValueError: The counts alone cost more than the plan's noise allows.

    References:
      Andrew et al., Differentially Private Learning with Adaptive Clipping, 2021, theorem 1.
    """
    if not (bounds and plan.noise_multiplier):
        return plan.noise_multiplier
    count = 2 * COUNT_NOISE * plan.expected_batch
    left = plan.noise_multiplier**-2 - bounds * count**-2
    if not (left > 0):
        raise ValueError(
            f"`expected_batch`={plan.expected_batch!r} is too small for adaptive bounds under "
            f"`noise_multiplier`={plan.noise_multiplier:.4g}: the noisy counts of {bounds} bounds "
            f"need at least {10 * plan.noise_multiplier * math.sqrt(bounds):.0f} units a step."
        )
    return left**-0.5
