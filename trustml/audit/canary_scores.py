"""Scores of canaries from the result of a training, and the epsilon that they refute."""

import math
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, PyTree

from trustml.audit.bounds.one_run import one_run_audit
from trustml.audit.bounds.result import EpsilonBound
from trustml.audit.canaries import CanaryState
from trustml.plan import PrivacyPlan
from trustml.plan.checks import check_count, check_positive


def canary_scores(params: PyTree, plan: PrivacyPlan) -> Float[np.ndarray, " canary"]:
    """The sum of a training for each canary, in bounds: read from the final weights alone.

    With a bound per unit: the steps that a canary took part in, plus noise of standard deviation
    `plan.noise_multiplier` times sqrt(steps); without it, about zero. Higher is more like a
    member.

    >>> plan = PrivacyPlan(
    ...     clip_norm=2.0, noise_multiplier=1.0, sample_rate=1.0, steps=1, expected_batch=10
    ... )
    >>> canary_scores({"canaries": np.array([-0.2, 0.0])}, plan).tolist()
    [1.0, -0.0]

    Args:
      params: Of the trained state, with the vector `canaries`, which started at zero.
      plan: That of the training.
    """
    return -np.asarray(params["canaries"], np.float64) * (plan.divisor / _bound(plan))


def canary_records(state: CanaryState, plan: PrivacyPlan) -> Float[np.ndarray, "step canary"]:
    """The share of each step in the sum of each canary, in bounds; see `canary_scores`.

    >>> plan = PrivacyPlan(
    ...     clip_norm=2.0, noise_multiplier=1.0, sample_rate=1.0, steps=1, expected_batch=10
    ... )
    >>> state = CanaryState(None, np.array([[0.2, 0.0]]), np.int32(1))
    >>> canary_records(state, plan).tolist()
    [[1.0, 0.0]]

    Args:
      state: `opt_state` of the trained state, of a `canary_optimizer` with `records`.
      plan: That of the training.

    Raises:
      ValueError: The optimizer kept none, or fewer than there were steps.
    """
    records = np.zeros((0, 0)) if state.records is None else np.asarray(state.records, np.float64)
    done, kept = int(state.step), len(records)
    if not (done <= kept):
        raise ValueError(
            f"`state` must hold a record of each of its {done} steps, got room for {kept}. Make "
            "it with `canary_optimizer(..., records=plan.steps)`."
        )
    return records[:done] * (plan.divisor / _bound(plan))


def _bound(plan):
    """The clip norm that a canary meets."""
    return plan.clip_norm["canaries"] if isinstance(plan.clip_norm, dict) else plan.clip_norm


def poisson_scores(
    records: Float[np.ndarray, "step canary"], *, sample_rate: float, noise_multiplier: float
) -> Float[np.ndarray, " canary"]:
    """Log-likelihood ratio of members, who take part in each step with `sample_rate`, to others.

    Of Poisson sampling with independent noise no score finds more members at any false positive
    rate (Neyman and Pearson), if canaries are long enough to be bounded. Of another training it is
    one score among others, and an audit by it is as valid.

    >>> poisson_scores(np.ones((2, 1)), sample_rate=1.0, noise_multiplier=1.0).tolist()
    [1.0]

    Args:
      records: Of `canary_records`.
      sample_rate: Of the plan.
      noise_multiplier: Standard deviation of the noise, in bounds.
    """
    _check_rate(sample_rate)
    ratios = _spike_ratios(records, noise_multiplier)
    absent = math.log1p(-sample_rate) if sample_rate < 1 else -math.inf
    return np.logaddexp(absent, math.log(sample_rate) + ratios).sum(0)


def shuffled_scores(
    records: Float[np.ndarray, "step canary"], *, epoch: int, noise_multiplier: float
) -> Float[np.ndarray, " canary"]:
    """Log-likelihood ratio of members, who take part in one step of each epoch, to others.

    >>> shuffled_scores(np.ones((2, 1)), epoch=2, noise_multiplier=1.0).round(9).tolist()
    [0.5]

    Args:
      records: Of `canary_records`.
      epoch: Steps of an epoch; as many of them as there are must be whole.
      noise_multiplier: As in `poisson_scores`.
    """
    check_count("epoch", epoch)
    if len(records) % epoch:
        raise ValueError(
            f"`records` must hold whole epochs of {epoch} steps, got {len(records)} steps."
        )
    ratios = _spike_ratios(records, noise_multiplier).reshape(-1, epoch, records.shape[1])
    return (np.logaddexp.reduce(ratios, axis=1) - math.log(epoch)).sum(0)


def spread_scores(records: Float[np.ndarray, "step canary"]) -> Float[np.ndarray, " canary"]:
    """Variance over the steps: noise that steps share cancels, and leaves who took part when.

    >>> spread_scores(np.array([[7.0, 7.0], [8.0, 7.0]])).tolist()
    [0.25, 0.0]
    """
    return np.var(records, axis=0)


def audit_canaries(
    scores: Float[np.ndarray, " canary"],
    included: Bool[np.ndarray, " canary"],
    *,
    delta: float,
    confidence: float = 0.95,
    **options: Any,
) -> EpsilonBound:
    """The largest epsilon that the scores of one training's canaries refute.

    >>> included = np.arange(100) < 50
    >>> found = audit_canaries(np.where(included, 1.0, 0.0), included, delta=1e-5)
    >>> 2 < found.epsilon < 4  # every guess is right, and there are a hundred
    True

    Args:
      scores: Of every canary, in or out; higher is more like a member.
      included: The coins, of `GradientCanaries`. The scores must not have read them.
      delta: The delta of the promise under audit.
      confidence: Probability, over coins and training, that the training is no better.
      **options: As for `one_run_audit`.

    Guarantee:
      That of `one_run_audit`. It assumes nothing of the training: not that canaries are
      independent, nor that the noise is what it should be.

    Raises:
      ValueError: There are not as many coins as scores, or see `one_run_audit`.
    """
    scores, included = np.asarray(scores, np.float64), np.asarray(included)
    if included.dtype != bool or included.shape != scores.shape:
        raise ValueError(
            f"`included` must hold a truth value for each of the {scores.size} scores, got "
            f"{included.dtype} of shape {included.shape}."
        )
    return one_run_audit(
        scores[included], scores[~included], delta=delta, confidence=confidence, **options
    )


def _spike_ratios(records, noise_multiplier):
    """Log-likelihood ratios of one bound plus noise to noise, step by step."""
    check_positive("noise_multiplier", noise_multiplier)
    return (2 * np.asarray(records, np.float64) - 1) / (2 * noise_multiplier**2)


def _check_rate(rate):
    if not (0 < rate <= 1):
        raise ValueError(f"`sample_rate` must be in (0, 1], got {rate!r}.")
