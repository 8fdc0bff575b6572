"""Membership inference: how well scores tell members, and the attack by the loss alone."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from trustml.audit.roc import Roc, area_under_curve, check_sample, point_within, roc_curve
from trustml.stats import Estimate, clopper_pearson, interval_name


class TprAtFpr(NamedTuple):
    """Members found while at most `rate` of the non-members are accused."""

    rate: float
    tpr: Estimate | None  # None where the sample cannot show so low a rate; `note` says why
    fpr: Estimate | None  # at the same threshold; its true value may exceed `rate`
    note: str = ""


class MembershipResult(NamedTuple):
    """Success of an attack. Private: it was measured on the members."""

    auc: Estimate
    tpr_at_fpr: tuple[TprAtFpr, ...]
    advantage: Estimate  # largest TPR - FPR over all thresholds
    balanced_accuracy: Estimate  # (1 + advantage) / 2
    roc: Roc
    members: int
    nonmembers: int
    confidence: float  # of each interval by itself


def attack_result(
    member_scores: ArrayLike,
    nonmember_scores: ArrayLike,
    *,
    rates: Sequence[float] = (0.01, 0.001),
    confidence: float = 0.95,
) -> MembershipResult:
    """Judges an attack by its scores: "a member" is who scores at least a threshold.

    A weak attack that finds nothing bounds nothing. What is found is real.

    >>> found = attack_result([0.9, 0.8, 0.7], [0.8, 0.2, 0.1])
    >>> round(found.auc.value, 4), round(found.advantage.value, 4)
    (0.8333, 0.6667)

    Args:
      member_scores: Scores of units that the model was trained on, a vector; higher is more like a
        member.
      nonmember_scores: Scores of units of the same distribution that it was not trained on.
      rates: False positive rates to report at; a rate r needs at least 1 / r non-members.
      confidence: Of every interval: DeLong for the area, Clopper-Pearson for rates,
        Dvoretzky-Kiefer-Wolfowitz for the advantage, which thus covers the choice of threshold.
        They take units as independent, each with one score; see `pooled_result` where it has
        several.

    Raises:
      ValueError: A sample is too short or holds NaN, or a rate is not in (0, 1).

    References:
      Carlini et al., Membership Inference Attacks From First Principles, 2022, for low false
      positive rates.
    """
    check_rates(rates)
    member = check_sample("member_scores", member_scores, least=2)
    nonmember = check_sample("nonmember_scores", nonmember_scores, least=2)
    roc = roc_curve(member, nonmember)
    advantage = _advantage(roc, len(member), len(nonmember), confidence)
    return MembershipResult(
        auc=area_under_curve(member, nonmember, confidence),
        tpr_at_fpr=tuple(_at_rate(rate, member, nonmember, roc, confidence) for rate in rates),
        advantage=advantage,
        balanced_accuracy=advantage.map(lambda value: (1 + value) / 2),
        roc=roc,
        members=len(member),
        nonmembers=len(nonmember),
        confidence=confidence,
    )


def loss_threshold_attack(
    member_losses: ArrayLike,
    nonmember_losses: ArrayLike,
    *,
    rates: Sequence[float] = (0.01, 0.001),
    confidence: float = 0.95,
) -> MembershipResult:
    """The attack that calls a unit a member if its loss is at most a threshold.

    A weak attack: finding nothing bounds nothing. What it finds is real.

    >>> found = loss_threshold_attack([0.1, 0.2, 0.3], [0.2, 0.8, 0.9])
    >>> round(found.auc.value, 4), round(found.advantage.value, 4)
    (0.8333, 0.6667)

    Args:
      member_losses: Losses of units that the model was trained on, a vector.
      nonmember_losses: Losses of units of the same distribution that it was not trained on.
      rates: As for `attack_result`.
      confidence: As for `attack_result`.

    Raises:
      ValueError: A sample is too short or holds NaN, or a rate is not in (0, 1).

    References:
      Yeom, Giacomelli, Fredrikson and Jha, Privacy Risk in Machine Learning, 2018.
    """
    member = -check_sample("member_losses", member_losses, least=2)
    nonmember = -check_sample("nonmember_losses", nonmember_losses, least=2)
    return attack_result(member, nonmember, rates=rates, confidence=confidence)


def check_rates(rates: Sequence[float]) -> None:
    """Refuses false positive rates that are not strictly between 0 and 1."""
    for rate in rates:
        if not (0 < rate < 1):
            raise ValueError(f"`rates` must be in (0, 1), got {rate!r}.")


def too_few(rate: float, nonmembers: int) -> str:
    """Why so many non-members cannot show `rate`, or nothing where they can."""
    needed = math.ceil(1 / rate - 1e-9)
    if nonmembers >= needed:
        return ""
    return f"too few: FPR {rate:g} needs {needed} non-members, got {nonmembers}"


def _at_rate(rate, member, nonmember, roc, confidence) -> TprAtFpr:
    note = too_few(rate, len(nonmember))
    if note:
        return TprAtFpr(rate, None, None, note)
    last = point_within(roc.fpr, rate)
    found, accused = (int((score >= roc.threshold[last]).sum()) for score in (member, nonmember))
    return TprAtFpr(
        rate,
        clopper_pearson(found, len(member), confidence),
        clopper_pearson(accused, len(nonmember), confidence),
    )


def _advantage(roc, members, nonmembers, confidence) -> Estimate:
    value = float((roc.tpr - roc.fpr).max())
    # Massart's constant, half of the error probability for each of the two samples: the bands hold
    # at all thresholds at once, so also at the one that the data chose.
    half = (1 - confidence) / 2
    reach = sum(math.sqrt(math.log(2 / half) / (2 * size)) for size in (members, nonmembers))
    name = interval_name("Dvoretzky-Kiefer-Wolfowitz", confidence)
    return Estimate(value, max(0.0, value - reach), min(1.0, value + reach), name)


def unit_losses(
    loss_fn: Callable, params: Any, units: Any, *, batch_size: int = 256
) -> Float[np.ndarray, " unit"]:
    """The loss of each unit, as the attack reads it.

    >>> unit_losses(lambda w, x: (w - x) ** 2, jnp.float32(1.0), jnp.array([1.0, 3.0])).tolist()
    [0.0, 4.0]

    Args:
      loss_fn: `loss_fn(params, unit) -> scalar` for one unit without a batch axis.
      params: The weights under attack.
      units: Pytree, leading axis = unit.
      batch_size: Units computed at a time.

    Returns:
      Float64 [unit]. Private.
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"`batch_size` must be a positive integer, got {batch_size!r}.")
    sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(units)}
    if len(sizes) != 1 or () in sizes or (0,) in sizes:
        raise ValueError(
            "`units` must be a pytree whose leaves share one leading unit axis of at least one "
            f"unit, got {sorted(sizes)}."
        )
    return np.asarray(_losses(loss_fn, params, units, batch_size), np.float64)


@functools.partial(jax.jit, static_argnums=(0, 3))
def _losses(loss_fn, params, units, batch_size):
    def one(unit):
        return loss_fn(params, unit).astype(jnp.float32)

    return jax.lax.map(one, units, batch_size=batch_size)
