"""The words that say what a plan promises."""

import math
from collections.abc import Sequence
from typing import Any

from trustml.formatting import round_up
from trustml.plan.charges import Charge


def write_statement(
    plan: Any,
    epsilon: float,
    delta: float,
    steps: int,
    method: str,
    reproducible: bool,
    charges: Sequence[Charge] = (),
) -> str:
    """The words of `PrivacyPlan.statement`; `method` is what `epsilon` was computed by."""
    change = {
        "add-or-remove-one": f"adding or removing one {plan.unit}",
        "replace-one": f"replacing one {plan.unit} by another",
    }[plan.adjacency]
    if math.isfinite(epsilon):
        claim = f"({round_up(epsilon, places=4)}, {delta})-differential privacy"
    else:
        claim = f"no differential privacy: epsilon is infinite at delta = {delta}"
    lines = [
        f"Promise: {claim} under {change}.",
        f"Unit of privacy: one {plan.unit}, of {plan.num_units} (a public number).",
        _mechanism(plan, steps),
        *map(_charge, charges),
        f"Accountant: {method}; the delta includes sampler overflow and the "
        f"finite tails of the noise for up to {plan.dimension:g} trained values.",
        "Covers: the trained weights of every step, and what is computed from them without the "
        "data. Not covered: losses, norms and other metrics, reports, the baseline, timing, and "
        "choices tuned on the same data; these are private quantities.",
        _assumptions(plan),
        f"Void if: a row that is sampled is not all that is read of one {plan.unit}; the loss of "
        "one unit reads another; draws or noise keys become known or are used twice; batches come "
        "from anything but the plan's own sampler; any field of the plan was taken from the data; "
        "or the same data serves another run that is not added to this one.",
    ]
    if reproducible:
        lines.append(
            "Reproducible run: keys come from a seed given by hand. Who knows or guesses the seed "
            "can subtract the noise, and against them nothing is promised. Two runs with one seed "
            "on data that differ cancel each other's noise, for anybody who has both."
        )
    return "\n".join(lines)


def _charge(charge: Charge) -> str:
    return (
        f"Released before: the {charge.what}, by {charge.how}: epsilon "
        f"{round_up(charge.epsilon, places=4)} at delta {charge.delta}, which the promise counts "
        "(epsilons and deltas add up: basic composition)."
    )


def _mechanism(plan: Any, steps: int) -> str:
    rate, batch = f"{plan.sample_rate:.6g}", f"{plan.expected_batch:g}"
    method = {
        "poisson": f"Poisson sampling at rate {rate}",
        "truncated_poisson": f"Poisson sampling at rate {rate} truncated to {plan.capacity}",
        "fixed": f"batches of {plan.capacity} drawn without replacement",
        "cyclic_poisson": (
            f"Poisson sampling at rate {rate}, in {plan.cycle_length} random groups that take turns"
        ),
        "balls_in_bins": (
            f"batches of about {batch} by one random step of every epoch for each {plan.unit}, "
            "counted as one full participation an epoch"
        ),
        "shuffled": (
            f"batches of {plan.capacity} in a fresh order every epoch, counted as one full "
            "participation an epoch, without amplification by shuffling"
        ),
    }[plan.sampling]
    bounded = f"each {plan.unit}'s gradient"
    if plan.num_microbatches:
        bounded = (
            f"the mean gradient of each of {plan.num_microbatches} micro-batches, which one "
            f"{plan.unit} can move by twice as much,"
        )
    return (
        f"Mechanism: {steps} steps of {method}; {bounded} bounded to an l2 norm of "
        f"{plan.clip_bound:g} ({_bound(plan)} clipping); {_noise(plan)} of multiplier "
        f"{plan.noise_multiplier:g} on the sum; division by {plan.divisor:g}."
    )


def _bound(plan: Any) -> str:
    if plan.clip_quantile is None:
        return plan.clipping
    return f"at first, then adapting to a quantile of {plan.clip_quantile:g} by noisy counts;"


def _noise(plan: Any) -> str:
    if plan.noise == "independent":
        decay = f", times {plan.noise_decay:g} from epoch to epoch," if plan.noise_decay < 1 else ""
        return f"Gaussian noise{decay}"
    if plan.noise == "discrete_gaussian":
        return f"discrete Gaussian noise on a grid of {plan.grid_spacing:.3g}"
    return f"Gaussian noise correlated over steps ({plan.noise} factorisation)"


def _assumptions(plan: Any) -> str:
    if plan.noise == "discrete_gaussian":
        return (
            "Assumes: that rounding within the sum, before it is put on the grid, moves it by no "
            "more than the bound allows. The noise is exact as floats are: attacks on lattices "
            "find nothing. Excluded: who watches the machine's caches."
        )
    return (
        "Assumes: real-number arithmetic. Attacks on the lattice of floating-point noise and on "
        "rounding of the sum are excluded."
    )
