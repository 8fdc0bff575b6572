"""A plan from a budget of privacy and compute alone, by published rules, each with its source.

Public numbers in, public numbers out: no rule reads data, so following them costs no privacy.
"""

import math
from typing import NamedTuple

from trustml.accounting import Accounting, SampledGaussian
from trustml.plan.checks import check_count, check_positive
from trustml.plan.privacy_plan import PrivacyPlan

_SLACK = 1.05  # how far above the least cumulative noise is near enough
_MORE_STEPS = 20  # times the least number of steps: beyond, a step's own cost counts
_SMALL = 4_500_000  # parameters of the smallest network in the scaling laws
_TOKENS = (1e3, 1e5)  # per parameter, at epsilon 1 to 10
# Rate times norm of a linear head's features; both as in `trustml.models.features` and its preset.
_FEATURES_RATE, _FEATURES_NORM = 0.196, 28.0


class Choice(NamedTuple):
    """One way to spend the compute."""

    expected_batch: int
    steps: int
    noise_multiplier: float  # by coarse accounting, to compare
    cumulative_noise: float  # noise_multiplier * sqrt(steps), which the rule keeps low


class AutoPlan(NamedTuple):
    """A plan, what goes with it, and why."""

    plan: PrivacyPlan
    learning_rate: float  # peak
    optimizer: str  # its name in optax
    reasons: tuple[str, ...]  # one line each, with its source
    choices: tuple[Choice, ...]  # what was compared, larger batches first


def auto_plan(
    num_units: int,
    epsilon: float,
    delta: float,
    *,
    epochs: float = 20.0,
    parameters: int | None = None,
    tokens_per_unit: float | None = None,
    pretrained: bool = False,
    features: bool = False,
    clip_norm: float | None = None,
    min_steps: int = 100,
    unit: str = "example",
) -> AutoPlan:
    """Batch, steps, noise, bound and learning rate for a budget of privacy and compute.

    Of all batches that spend the compute in at least `min_steps` steps, the smallest one whose
    cumulative noise, multiplier times root of the steps, is within 5 % of the least. The sum of all
    noise over a run stands against a sum of `epochs * num_units` bounded gradients, whatever the
    batch: beyond this point a larger batch buys little, and more steps are worth more.

    >>> found = auto_plan(1_000, 3.0, 1e-5, epochs=20)
    >>> found.plan.expected_batch * found.plan.steps == 20 * 1_000
    True
    >>> found.plan.epsilon(1e-5) <= 3.0
    True

    Args:
      num_units: Units in the data, public.
      epsilon: Budget.
      delta: Budget, below 1 / `num_units`.
      epochs: Compute: units processed over `num_units`.
      parameters: Trained values, at most. The learning rate and the tails of the noise follow.
      tokens_per_unit: For language models, to judge the size of the network.
      pretrained: Whether weights start from a pretrained model.
      features: Whether a linear head alone is trained, on frozen features of one norm.
      clip_norm: Bound of one unit's gradient; None for automatic clipping,
        which has none to choose.
      min_steps: Fewest steps in which the network can learn the task.
      unit: What one unit is.

    Guarantee:
      `plan` keeps within the budget. Nothing is claimed of its accuracy: these are starting points,
      and a choice among several by runs on private data is a release of its own (`private_search`).

    Raises:
      ValueError: A number is out of range, the compute does not allow `min_steps`, or no noise
        meets the budget.

    References:
      Rehn, Zhao, Heikkilä, Honkela, On optimal hyperparameters for differentially private deep
      transfer learning, 2025, section 6; the other sources are in `reasons`.
    """
    _check(num_units, epsilon, delta, epochs, min_steps)
    budget = epochs * num_units
    choices = _choices(num_units, epsilon, delta, budget, min_steps)
    least = min(choice.cumulative_noise for choice in choices)
    near = [choice for choice in choices if choice.cumulative_noise <= _SLACK * least]
    chosen = near[-1]
    size = {} if parameters is None else {"dimension": float(parameters)}
    plan = PrivacyPlan.calibrate(
        epsilon=epsilon,
        delta=delta,
        num_units=num_units,
        expected_batch=chosen.expected_batch,
        steps=chosen.steps,
        clip_norm=1.0 if clip_norm is None else clip_norm,
        clipping="automatic" if clip_norm is None else "flat",
        unit=unit,
        **size,
    )
    rate, why = (
        _rate_of_features()
        if features
        else _learning_rate(chosen.expected_batch, parameters, pretrained)
    )
    reasons = [
        _of_batch(choices, chosen, epochs, min_steps),
        _of_noise(plan, parameters),
        _of_bound(clip_norm),
        why,
        "Optimizer: Adam, as in Rehn et al., McKenna et al. and Li et al. `dp_adam_bc` is the same "
        "less the noise in its second moment (Tang et al. 2024), with a floor to be tuned.",
    ]
    if parameters is not None and tokens_per_unit is not None:
        reasons.append(_of_size(budget * tokens_per_unit / parameters))
    return AutoPlan(plan, rate, "adam", tuple(reasons), tuple(choices))


def _check(num_units, epsilon, delta, epochs, min_steps) -> None:
    check_count("num_units", num_units)
    check_count("min_steps", min_steps)
    check_positive("epsilon", epsilon)
    check_positive("epochs", epochs)
    if not (0 < delta < 1 / num_units):
        raise ValueError(
            f"`delta` must be below 1 / `num_units` ({1 / num_units:.3g}), got {delta!r}: with "
            "more, publishing one unit whole would keep the promise."
        )
    if not (epochs * num_units >= min_steps):
        raise ValueError(
            f"`epochs` must allow `min_steps` ({min_steps}) batches of a unit, got {epochs!r} of "
            f"{num_units} units."
        )


def _choices(num_units, epsilon, delta, budget, min_steps) -> list[Choice]:
    """Batches that halve, from the largest that leaves enough steps."""
    accounting = Accounting().coarse()
    batch = min(num_units, int(budget // min_steps))
    found: list[Choice] = []
    while batch >= 1:
        steps = round(budget / batch)
        if found and steps > _MORE_STEPS * min_steps:
            break

        def run(noise, batch=batch, steps=steps):
            rate = batch / num_units
            step = SampledGaussian(sampling="poisson", noise_multiplier=noise, sample_rate=rate)
            return [(step, steps)]

        noise = accounting.noise_multiplier(run, epsilon=epsilon, delta=delta)
        found.append(Choice(batch, steps, noise, noise * math.sqrt(steps)))
        batch //= 2
    return found


def _of_batch(choices, chosen, epochs, min_steps) -> str:
    tried = ", ".join(f"{each.expected_batch}: {each.cumulative_noise:.4g}" for each in choices)
    return (
        f"Batch {chosen.expected_batch}, {chosen.steps} steps ({epochs:g} epochs): the smallest "
        f"batch whose cumulative noise (by batch, {tried}) is within 5 % of the least, with "
        f"{min_steps} steps or more (rule: Rehn et al. 2025, section 6; 5 %, the halving and the "
        "least number of steps: our choice)."
    )


def _of_noise(plan: PrivacyPlan, parameters: int | None) -> str:
    ratio = plan.stddev / plan.expected_batch
    norm = ""
    if parameters is not None:
        norm = (
            f", a norm of {ratio * math.sqrt(parameters):.3g} over {parameters} parameters where a "
            f"mean gradient has at most {plan.clip_bound:g}"
        )
    return (
        f"Noise multiplier {plan.noise_multiplier:.4g}: the least for the budget (PLD accounting); "
        f"noise-batch ratio {ratio:.3g}{norm} (through this ratio privacy and batch enter the "
        "scaling laws of McKenna et al. 2025)."
    )


def _of_bound(clip_norm) -> str:
    if clip_norm is None:
        return (
            "Clipping: automatic, so that there is no bound to choose (Bu et al. 2023, who find it "
            "as accurate as a tuned one). On hard tasks under tight privacy Rehn et al. 2025 find "
            "it weaker than a larger bound: then give `clip_norm`."
        )
    return (
        f"Clipping: flat at {clip_norm:g}, as given. A bound below nearly all norms does best in "
        "Li et al. 2022; a larger one on hard tasks under tight privacy in Rehn et al. 2025."
    )


def _rate_of_features() -> tuple[float, str]:
    return _FEATURES_RATE / _FEATURES_NORM, (
        f"Learning rate {_FEATURES_RATE / _FEATURES_NORM:.3g}: {_FEATURES_RATE:g} over the norm of "
        f"a row's features, {_FEATURES_NORM:g} in `trustml train`, whatever the batch (measured on "
        "four sets of short texts and confirmed on two others, at epsilon 1 to 8 and batches of "
        "1,024 to 8,192; with 64 classes half of it costs a point, twice 2 to 3, four times 5 to "
        "9). The first number to vary, on public data."
    )


def _learning_rate(batch, parameters, pretrained) -> tuple[float, str]:
    if pretrained:
        start, at = 5e-4, 1_000
        source = "X. Li's for BERT on SST-2 at epsilon 8"
    elif parameters is not None and parameters < _SMALL:
        start, at = 3e-2, 2_048
        source = "in the middle of this library's presets for small networks"
    else:
        start, at = 2.0**-8, 1_024
        source = (
            "2^-8: McKenna et al. 2025 find 2^-7 best without noise for 4.5 to 778 million "
            "parameters, and somewhat less with noise"
        )
    rate = start * math.sqrt(batch / at)
    return rate, (
        f"Learning rate {rate:.3g}: {start:.3g} at a batch of {at} ({source}), by the root of the "
        "batch (Rehn et al. 2025: the best often scaled so); the pairing is our choice. The first "
        "number to vary, on public data."
    )


def _of_size(ratio: float) -> str:
    low, high = _TOKENS
    advice = "within the range"
    if ratio < low:
        advice = "below it: a smaller network, or more compute, should do better"
    elif ratio > high:
        advice = "above it: a larger network may do better, if privacy and data allow"
    return (
        f"Size: {ratio:.3g} tokens per parameter; {low:g} to {high:g} is good at epsilon 1 to 10 "
        f"for networks trained from scratch (McKenna et al. 2025, section 4.3): {advice}."
    )
