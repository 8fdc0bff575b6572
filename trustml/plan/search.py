"""Choosing settings on private data: the best of a secret, random number of private runs.

Ten runs and the best of them published would cost what ten runs cost. Where the number of runs is
random, and nobody learns it, the best costs little more than two or three.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from trustml.accounting import SUPPORTED, Run
from trustml.accounting.quiet import quietly
from trustml.accounting.renyi import new_accountant
from trustml.accounting.steps import dp_event
from trustml.plan.checks import check_positive
from trustml.plan.privacy_plan import PrivacyPlan
from trustml.plan.releases import SAMPLINGS, releases
from trustml.plan.selection import TEN, Trials, check_trials, draw_trials, selected_epsilon


class SearchCost(NamedTuple):
    """Epsilon of a search, and of one of its trials."""

    epsilon: float  # of the search, at `delta`
    delta: float
    one_run: float  # epsilon of one trial alone, at `delta`
    bound: str  # "profile" or "rdp": which of the two was the lower


class SearchResult(NamedTuple):
    """The best trial. Nothing else of a search may be released, nor how long it took."""

    candidate: Any  # None where a Poisson law came to no trial
    output: Any
    score: float
    cost: SearchCost


def search_cost(
    plan: PrivacyPlan, *, delta: float, trials: Trials = TEN, score: Run = ()
) -> SearchCost:
    """Epsilon of `private_search` under `plan`: the lower of two upper bounds.

    "profile": let K trials of one mechanism have the scores' distribution functions q and q' on two
    neighbouring data sets, and phi be the generating function of K. The density of the best is
    that of one trial times phi'(q). Where phi'(q) <= e^c phi'(q') for all that the mechanism's
    curve delta(epsilon) allows, the search has delta at most E[K] delta(epsilon - c): ours, after
    Koskela et al.; the constant c is computed by all points of the curve instead of one.
    "rdp": theorems 2 and 6 of Papernot and Steinke, by dp_accounting.

    >>> plan = PrivacyPlan(
    ...     clip_norm=1.0, noise_multiplier=8.0, sample_rate=0.1, steps=100, expected_batch=100
    ... )
    >>> cost = search_cost(plan, delta=1e-6, trials=Trials(mean=5, shape=0))
    >>> cost.one_run < cost.epsilon < 3 * cost.one_run
    True

    Args:
      plan: One trial's training.
      delta: Of the search.
      trials: The law of the number of trials.
      score: What computing the score of one trial releases of the same data: for Gaussian noise of
        fifty times what one unit can move the score,
        `[(SampledGaussian(sampling="poisson", noise_multiplier=50.0, sample_rate=1.0), 1)]`.

    Guarantee:
      An upper bound under the plan's adjacency, sampler overflow and noise tails of every trial
      included, for any set of candidates and any order by score. See `private_search` for what it
      asks of a trial.

    Raises:
      ValueError: A number is out of range.

    References:
      Papernot, Steinke, Hyperparameter tuning with Rényi differential privacy, 2022. Koskela,
      Redberg, Wang, Privacy profiles for private selection, 2024. Liu, Talwar, Private selection
      from private candidates, 2019.
    """
    check_trials(trials)
    if not (0 < delta < 1):
        raise ValueError(f"`delta` must be in (0, 1), got {delta!r}.")
    one_run, found = _bounds(plan, delta, trials, score, plan._accounting)
    bound = min(found, key=lambda name: found[name])
    return SearchCost(found[bound], delta, one_run, bound)


def calibrate_search(
    plan: PrivacyPlan, *, epsilon: float, delta: float, trials: Trials = TEN, score: Run = ()
) -> PrivacyPlan:
    """`plan` with the noise with which a whole search stays within `(epsilon, delta)`.

    >>> plan = PrivacyPlan(
    ...     clip_norm=1.0, noise_multiplier=1.0, sample_rate=1.0, steps=1, expected_batch=100
    ... )
    >>> trials = Trials(mean=5, shape=0)
    >>> found = calibrate_search(plan, epsilon=3.0, delta=1e-6, trials=trials)
    >>> 2.9 < search_cost(found, delta=1e-6, trials=trials).epsilon <= 3.0
    True

    Args:
      plan: Its noise is replaced.
      epsilon: Budget of the search.
      delta: Budget of the search.
      trials: The law of the number of trials.
      score: As in `search_cost`; it keeps its noise.

    Raises:
      ValueError: A number is out of range, or no noise suffices.
    """
    check_trials(trials)
    check_positive("epsilon", epsilon)

    def excess(noise):
        # Whether noisy counts leave enough for gradients is asked of the noise that is found.
        each = dataclasses.replace(plan, noise_multiplier=noise, clip_quantile=None)
        coarse = each._accounting.coarse()
        return min(_bounds(each, delta, trials, score, coarse)[1].values()) - epsilon

    low, high = 0.01, 1e4
    if excess(high) > 0:
        raise ValueError(
            f"`epsilon`={epsilon!r} cannot be met at delta={delta!r} by a search with a noise "
            f"multiplier up to {high:g}. Take fewer trials or steps, or a less exact score."
        )
    while high > 1.0005 * low:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    found = dataclasses.replace(plan, noise_multiplier=high)
    while search_cost(found, delta=delta, trials=trials, score=score).epsilon > epsilon:
        found = dataclasses.replace(found, noise_multiplier=1.0005 * found.noise_multiplier)
    return found


def private_search(
    train_and_score: Callable[[Any], tuple[Any, float]],
    candidates: Sequence[Any],
    *,
    plan: PrivacyPlan,
    delta: float,
    trials: Trials = TEN,
    score: Run = (),
    seed: int | None = None,
) -> SearchResult:
    """Trains a secret, random number of random candidates and keeps the best.

    >>> plan = PrivacyPlan(
    ...     clip_norm=1.0, noise_multiplier=8.0, sample_rate=1.0, steps=1, expected_batch=100
    ... )
    >>> train_and_score = lambda rate: (f"weights at {rate}", -abs(rate - 0.1))
    >>> private_search(train_and_score, [0.1, 0.1], plan=plan, delta=1e-6, seed=0).output
    'weights at 0.1'

    Args:
      train_and_score: `(output, score)` of a candidate: trains under `plan`, with fresh draws and a
        fresh key in every call (`plan.batches()`, `step.init(params)`; a seed would void the
        promise). The score is part of what is released: compute it from the output and public
        data, or with noise that `score` describes. Higher is better; not a number is the worst.
      candidates: Settings that no row of the data influenced; each may be tried repeatedly.
      plan: What every trial costs, whatever the candidate.
      delta: Of the cost that comes back.
      trials: The law of the number of trials.
      score: As in `search_cost`.
      seed: None for a fresh secret. An integer makes the number of trials and their candidates
        known to whoever guesses it: for tests.

    Guarantee:
      The result satisfies `cost`, provided the number of trials stays secret: also from who sees
      how long the search took, what was logged, or that it failed. Every other trial must be
      forgotten. Of equal scores the first is kept, which is a random one.

    Raises:
      ValueError: There is no candidate, or a number is out of range.
    """
    if not len(candidates):
        raise ValueError("`candidates` must hold at least one, got none.")
    cost = search_cost(plan, delta=delta, trials=trials, score=score)
    rng = np.random.default_rng(seed)
    best = SearchResult(None, None, -math.inf, cost)
    for trial in range(draw_trials(trials, rng)):
        candidate = candidates[int(rng.integers(len(candidates)))]
        output, found = train_and_score(candidate)
        found = -math.inf if math.isnan(found) else float(found)
        if trial == 0 or found > best.score:
            best = SearchResult(candidate, output, found, cost)
    return best


def _bounds(plan, delta, trials, score, accounting) -> tuple[float, dict[str, float]]:
    """Epsilon of one trial, and those of the search by name."""
    run, distance = [*releases(plan, plan.steps), *score], plan._distance(plan.steps)

    def epsilon_of(delta):
        return accounting.epsilon(run, delta=delta, distance=distance)

    def delta_of(epsilon):
        return accounting.delta(run, epsilon=epsilon, distance=distance)

    found = {"profile": selected_epsilon(epsilon_of, delta_of, delta=delta, trials=trials)}
    if "rdp" in SUPPORTED.get((SAMPLINGS[plan.sampling], plan.adjacency), ()):
        found["rdp"] = _by_rdp(plan, run, distance, delta, trials)
    return epsilon_of(delta), found


def _by_rdp(plan, run, distance, delta, trials) -> float:
    """By dp_accounting; the law of K trials adds E[K] times the distance of one."""
    from dp_accounting import dp_event as events

    if any(step.noise_multiplier == 0 for step, _ in run):
        return math.inf
    trial = events.ComposedDpEvent(
        [events.SelfComposedDpEvent(dp_event(step, plan.adjacency), count) for step, count in run]
    )
    accountant = new_accountant(plan.adjacency)
    quietly(accountant.compose, events.RepeatAndSelectDpEvent(trial, trials.mean, trials.shape))
    far = trials.mean * distance

    def fits(epsilon):
        return quietly(accountant.get_delta, epsilon) + (1 + math.exp(epsilon)) * far <= delta

    high = 1.0
    while not fits(high):
        high *= 2
        if high > 500:
            return math.inf
    low = 0.0
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high
