"""The words that say what a plan promises."""

import math
from typing import Any


def write_statement(plan: Any, epsilon: float, delta: float, steps: int, reproducible: bool) -> str:
    """The words of `PrivacyPlan.statement`."""
    change = {
        "add-or-remove-one": f"adding or removing one {plan.unit}",
        "replace-one": f"replacing one {plan.unit} by another",
    }[plan.adjacency]
    method = {
        "poisson": f"Poisson sampling at rate {plan.sample_rate:.6g}",
        "truncated_poisson": (
            f"Poisson sampling at rate {plan.sample_rate:.6g} truncated to {plan.capacity}"
        ),
        "fixed": f"batches of {plan.capacity} drawn without replacement",
    }[plan.sampling]
    if math.isfinite(epsilon):
        # Rounded up: what is printed must not claim more than what was computed.
        claim = f"({math.ceil(epsilon * 1e4) / 1e4:.4f}, {delta:g})-differential privacy"
    else:
        claim = f"no differential privacy: epsilon is infinite at delta = {delta:g}"
    lines = [
        f"Promise: {claim} under {change}.",
        f"Unit of privacy: one {plan.unit}, of {plan.num_units} (a public number).",
        f"Mechanism: {steps} steps of {method}; each unit's gradient bounded to an l2 norm of "
        f"{plan.sensitivity:g} ({plan.clipping} clipping); Gaussian noise of multiplier "
        f"{plan.noise_multiplier:g} on the sum; division by {plan.expected_batch:g}.",
        f"Accountant: {plan.accountant.upper()}; the delta includes sampler overflow and the "
        f"finite tails of the noise for up to {plan.dimension:g} trained values.",
        "Covers: the trained weights of every step, and what is computed from them without the "
        "data. Not covered: losses, norms and other metrics, reports, the baseline, timing, and "
        "choices tuned on the same data; these are private quantities.",
        "Assumes: real-number arithmetic. Attacks on the lattice of floating-point noise and on "
        "rounding of the sum are excluded.",
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
