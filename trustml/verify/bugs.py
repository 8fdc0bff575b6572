"""Would an audit notice if the trainer were wrong? Known errors are planted, and must be caught."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from trustml.audit.bounds.scores import epsilon_from_scores
from trustml.audit.canaries import GradientCanaries, canary_optimizer, make_canaries
from trustml.audit.canary_scores import (
    audit_canaries,
    canary_records,
    canary_scores,
    poisson_scores,
    spread_scores,
)
from trustml.plan import PrivacyPlan
from trustml.verify import faulty

_CAUGHT = 0.99  # confidence of the bounds that have to exceed the claim
_SOUND = 0.999  # of those that must not: a correct trainer fails a row in one of 1000 runs at most
_CANARIES = 4000  # of one training
_DELTA = 1e-6
_RUNS = 2000  # with the canary, and as many without it
_DELTA_OF_RUNS = 1e-2  # a plan promises its whole curve; so many runs tell most about this point
_CROWD = 64  # units of a run, the canary included


class BugCheck(NamedTuple):
    """One trainer under one attack."""

    trainer: str
    attack: str
    trials: str
    delta: float
    claimed: float  # epsilon of the plan
    audited: float  # lower bound on that of the trainer
    confidence: float  # of the bound
    planted: bool  # the trainer has an error on purpose, which must be caught

    @property
    def holds(self) -> bool:
        """Whether the claim is refuted where an error is planted, and stands where none is."""
        return self.audited > self.claimed if self.planted else self.audited <= self.claimed


def bug_checks(seed: int | None = None, *, runs: int = _RUNS) -> Iterator[BugCheck]:
    """Yields a correct trainer under every attack, and every planted error under the one that fits.

    About seventy seconds on one CPU core.

    Args:
      seed: Of coins, draws and noise; by default they are fresh.
      runs: Trainings with the canary where one canary is trained on many times.
    """
    rng = np.random.default_rng(seed)
    yield from one_training(rng)
    yield from _many_trainings(rng, runs)


def one_training(rng: np.random.Generator) -> Iterator[BugCheck]:
    """Many canaries in one training of a small network; nothing is assumed of the training.

    Guarantee:
      A correct trainer fails each of its rows with probability 0.001 at most, by the one-run
      audit of Steinke et al. (2023).
    """
    sums, spread = "what steps added up to", "variance over the steps"
    ratio = "likelihood ratio of a Poisson member"
    result = _trained(faulty.correct, rng)
    yield _one_run("correct", sums, result.total, result)
    yield _one_run("correct", ratio, result.ratio, result)
    yield _one_run("correct", spread, spread_scores(result.records), result)
    result = _trained(faulty.no_bound, rng)
    yield _one_run("no bound on a unit's gradient", sums, result.total, result)
    result = _trained(faulty.bounded_mean, rng)
    yield _one_run("bounds the mean of the batch", sums, result.total, result)
    result = _trained(faulty.same_noise, rng)
    yield _one_run("the same noise in every step", spread, spread_scores(result.records), result)


class _Trained(NamedTuple):
    """The result of one training with canaries, for an attack."""

    plan: PrivacyPlan
    made: GradientCanaries
    total: np.ndarray  # scores, [canary]
    records: np.ndarray  # [step, canary]

    @property
    def ratio(self) -> np.ndarray:
        """The score of `poisson_scores`, told the plan's numbers."""
        rate, noise = self.plan.sample_rate, self.plan.noise_multiplier
        return poisson_scores(self.records, sample_rate=rate, noise_multiplier=noise)


def _trained(trainer: Callable, rng: np.random.Generator) -> _Trained:
    """One training, with canaries whose gradients are a hundred clip norms long."""
    clip_norm = 0.5
    loss, params, units = _network(rng)
    made = make_canaries(loss, params, units, number=_CANARIES, size=100 * clip_norm, rng=rng)
    plan = PrivacyPlan(
        clip_norm=clip_norm,
        noise_multiplier=2.5,
        sample_rate=0.5,
        steps=8,
        expected_batch=made.num_units / 2,
        num_units=made.num_units,
    )
    optimizer = canary_optimizer(optax.sgd(0.5), records=plan.steps)
    params, state = trainer(made.loss, optimizer, plan)(made.params, made.units, rng)
    return _Trained(plan, made, canary_scores(params, plan), canary_records(state, plan))


def _network(rng: np.random.Generator):
    """A loss, weights and units: two classes in eight dimensions."""
    x = rng.normal(size=(500, 8)).astype(np.float32)
    units = {"x": x, "y": (x[:, 0] > 0).astype(np.int32)}
    first = 0.3 * rng.normal(size=(8, 16)).astype(np.float32)
    params = {"w1": jnp.asarray(first), "w2": jnp.zeros((16, 2))}

    def loss(params, unit):
        logits = jnp.tanh(unit["x"] @ params["w1"]) @ params["w2"]
        return -jnp.take(jax.nn.log_softmax(logits), unit["y"])

    return loss, params, units


def _one_run(trainer: str, attack: str, scores: np.ndarray, result: _Trained) -> BugCheck:
    planted = trainer != "correct"
    confidence = _CAUGHT if planted else _SOUND
    found = audit_canaries(scores, result.made.included, delta=_DELTA, confidence=confidence)
    claimed = result.plan.epsilon(_DELTA)
    trials = f"{_CANARIES} canaries"
    return BugCheck(trainer, attack, trials, _DELTA, claimed, found.epsilon, confidence, planted)


def _many_trainings(rng: np.random.Generator, runs: int = _RUNS) -> Iterator[BugCheck]:
    """One canary against a crowd whose gradients all point the other way, in run after run.

    Guarantee:
      A correct trainer fails each of its rows with probability 0.001 at most: the runs' coins
      and keys are independent, and the bounds of Clopper and Pearson are exact.
    """
    for experiment in experiments():
        yield many_runs(experiment, rng, runs)


class _Experiment(NamedTuple):
    """A trainer and an attack on one canary."""

    trainer: str
    make: Callable  # of `trustml.verify.faulty`
    plan: Callable[[int], PrivacyPlan]  # for so many units
    attack: str
    score: Callable  # (records of one run [step], plan) -> float


def experiments() -> tuple[_Experiment, ...]:
    """Trainers whose errors show in many runs, and the correct one under the same attacks."""
    # The whole data in one step: noise of the size of a bound.
    full = functools.partial(_plan, sample_rate=1.0, steps=1, noise_multiplier=1.0)
    whole = (full, "sum of one full batch")
    # An epoch of eight steps: Poisson samples of it cost little.
    epoch = functools.partial(_plan, sample_rate=1 / 8, steps=8, noise_multiplier=0.8)
    shuffles = (epoch, "likelihood ratio of shuffled batches")
    return (
        _Experiment("correct", faulty.correct, *whole, _full_sum),
        _Experiment("half of the noise", faulty.half_noise, *whole, _full_sum),
        _Experiment("divides by the units drawn", faulty.drawn_divisor, *whole, _full_sum),
        _Experiment("correct", faulty.correct, *shuffles, _shuffle_ratio),
        _Experiment("shuffles", faulty.shuffled, *shuffles, _shuffle_ratio),
    )


def _plan(units: int, *, sample_rate: float, **options: Any) -> PrivacyPlan:
    """A plan for the crowd with the canary or without it: its public numbers are the same."""
    return PrivacyPlan(
        clip_norm=1.0,
        sample_rate=sample_rate,
        expected_batch=_CROWD * sample_rate,
        num_units=units,
        **options,
    )


def many_runs(experiment: _Experiment, rng: np.random.Generator, runs: int = _RUNS) -> BugCheck:
    """`runs` trainings of the crowd with the canary, and as many of the crowd alone."""
    trainer, attack, plan = experiment.trainer, experiment.attack, experiment.plan(_CROWD)
    planted = trainer != "correct"
    confidence = _CAUGHT if planted else _SOUND
    having, lacking = (_scores(experiment, units, rng, runs) for units in (_CROWD, _CROWD - 1))
    found = epsilon_from_scores(having, lacking, delta=_DELTA_OF_RUNS, confidence=confidence)
    claimed = plan.epsilon(_DELTA_OF_RUNS)
    trials = f"{2 * runs} runs"
    return BugCheck(
        trainer, attack, trials, _DELTA_OF_RUNS, claimed, found.epsilon, confidence, planted
    )


def _scores(experiment, units: int, rng, runs: int) -> np.ndarray:
    """The score of each run on so many units; the last of `_CROWD` is the canary."""
    plan = experiment.plan(units)
    signs = np.where(np.arange(units) == _CROWD - 1, 1, -1).astype(np.int32)
    params = {"model": {}, "canaries": jnp.zeros(1)}
    optimizer = canary_optimizer(optax.identity(), records=plan.steps)
    train = experiment.make(_crowd_loss, optimizer, plan)
    scores = np.empty(runs)
    for run in range(runs):
        _, state = train(params, signs, rng)
        scores[run] = experiment.score(canary_records(state, plan)[:, 0], plan)
    return scores


def _crowd_loss(params, sign):
    """Ten bounds long, up for the canary and down for all others."""
    return 10 * sign.astype(jnp.float32) * params["canaries"][0]


def _full_sum(records, plan: PrivacyPlan) -> float:
    """Above what the crowd alone adds to the sum of the whole data."""
    return float(records[0] + plan.expected_batch - 1)


def _shuffle_ratio(records, plan: PrivacyPlan) -> float:
    """Log-likelihood ratio of shuffled batches with the canary to those without it.

    With it a batch of the crowd is two above the others, any of them; without it the last one is a
    unit short, so one above.
    """
    above = records + round(plan.expected_batch)
    variance = plan.noise_multiplier**2
    having = np.logaddexp.reduce((2 * above - 2) / variance) - np.log(len(above))
    return float(having - (above[-1] - 0.5) / variance)
