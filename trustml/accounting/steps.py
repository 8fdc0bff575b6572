"""A step described, and its form in the accountant's terms.

Multipliers are always the noise's standard deviation over the bound C of one unit, under either
adjacency; what each accountant wants instead is decided in `dp_event`, and nowhere else.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

ADJACENCIES = ("add-or-remove-one", "replace-one")
ACCOUNTANTS = ("pld", "rdp")
_SAMPLINGS = ("poisson", "truncated_poisson", "fixed")

# Which accountants can describe which sampling under which adjacency.
SUPPORTED = {
    ("poisson", "add-or-remove-one"): ("pld", "rdp"),
    ("poisson", "replace-one"): ("pld",),
    ("truncated_poisson", "add-or-remove-one"): ("pld",),
    ("truncated_poisson", "replace-one"): ("pld",),
    ("fixed", "replace-one"): ("rdp",),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampledGaussian:
    """One step: Gaussian noise on a sum of bounded units that were sampled.

    Args:
      sampling: "poisson", "truncated_poisson" or "fixed".
      noise_multiplier: Standard deviation of the noise over the bound C of one unit.
      sample_rate: Probability of a unit to take part.
      num_units: Units in the data; not read for "poisson".
      batch_size: Size of a fixed batch, or where a truncated one is cut; not read for "poisson".
    """

    sampling: str
    noise_multiplier: float
    sample_rate: float
    num_units: int = 0
    batch_size: int = 0


Run = Sequence[tuple[SampledGaussian, int]]  # steps of each kind; they compose exactly


def check_supported(sampling: str, adjacency: str, accountant: str) -> None:
    """Refuses what the accountant cannot describe, and names what can.

    >>> check_supported("fixed", "replace-one", "rdp")
    >>> check_supported("fixed", "replace-one", "pld")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: `accountant`='pld' cannot account `sampling`='fixed' under...
    """
    check_one_of("sampling", sampling, _SAMPLINGS)
    if accountant in SUPPORTED.get((sampling, adjacency), ()):
        return
    possible = [
        f"adjacency={relation!r} with accountant={name!r}"
        for (kind, relation), names in SUPPORTED.items()
        for name in names
        if kind == sampling
    ]
    raise ValueError(
        f"`accountant`={accountant!r} cannot account `sampling`={sampling!r} under "
        f"`adjacency`={adjacency!r}. For this sampling use {' or '.join(possible)}."
    )


def dp_event(step: SampledGaussian, adjacency: str) -> Any:
    """`step` in dp_accounting's terms."""
    import dp_accounting as dp

    check_step(step)
    gaussian = dp.GaussianDpEvent(step.noise_multiplier)
    if step.sampling == "poisson":
        if step.sample_rate == 1:
            return gaussian
        return dp.PoissonSampledDpEvent(step.sample_rate, gaussian)
    if step.sampling == "truncated_poisson":
        # One of two neighbours under add-or-remove has a unit more than the data described;
        # the chance of truncation grows with the size, so the larger one is the bound.
        more = 1 if adjacency == "add-or-remove-one" else 0
        return dp.TruncatedSubsampledGaussianDpEvent(
            dataset_size=step.num_units + more,
            sampling_probability=step.sample_rate,
            truncated_batch_size=step.batch_size,
            noise_multiplier=step.noise_multiplier,
        )
    # Replacing a unit moves the sum by 2C. PLD doubles by itself, RDP does not: with std / C
    # it would report 7.7 for a true 51.
    return dp.SampledWithoutReplacementDpEvent(
        step.num_units, step.batch_size, dp.GaussianDpEvent(step.noise_multiplier / 2)
    )


def truncation(step: SampledGaussian, adjacency: str) -> tuple[float, float]:
    """How often a batch with a given unit is cut, and how often that unit is then kept.

    As in dp_accounting's distribution for truncated Poisson sampling.
    """
    from scipy.stats import binom

    event = dp_event(step, adjacency)
    size, rate, batch = event.dataset_size, step.sample_rate, step.batch_size
    cut = binom.sf(batch - 1, size - 1, rate)
    kept = binom.sf(batch, size, rate) * batch / cut / size if cut > 0 else rate
    return float(cut), float(min(max(kept, 1e-300), 1.0))


def relation(adjacency: str) -> Any:
    """`adjacency` in dp_accounting's terms."""
    from dp_accounting import NeighboringRelation

    return {
        "add-or-remove-one": NeighboringRelation.ADD_OR_REMOVE_ONE,
        "replace-one": NeighboringRelation.REPLACE_ONE,
    }[adjacency]


def check_one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    """Refuses a name that is not in the list."""
    if value not in allowed:
        raise ValueError(f"`{name}` must be one of {allowed}, got {value!r}.")


def check_step(step: SampledGaussian) -> None:
    """Refuses numbers that describe no step."""
    if not (step.noise_multiplier >= 0 and math.isfinite(step.noise_multiplier)):
        raise ValueError(
            f"`noise_multiplier` must be finite and not negative, got {step.noise_multiplier!r}."
        )
    if not (0 < step.sample_rate <= 1):
        raise ValueError(f"`sample_rate` must be in (0, 1], got {step.sample_rate!r}.")
    if step.sampling != "poisson" and not (1 <= step.batch_size <= step.num_units):
        raise ValueError(
            f"`batch_size` must be from 1 to `num_units` ({step.num_units}), "
            f"got {step.batch_size!r}."
        )
