"""Where the time of a step goes: gradient, noise, optimizer."""

import itertools
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from trustml.training.privatizer import privatize
from trustml.training.train_step import TrainState, TrainStep

_TURNS = 7
_ENOUGH = 60.0  # seconds after which no further draw is timed: a step of a large model takes many


class SideTiming(NamedTuple):
    """Milliseconds of one way to train. Private: a step's time depends on the rows drawn."""

    step_ms: float
    parts_ms: dict[str, float]


def time_steps(
    step: TrainStep,
    params: PyTree,
    units: PyTree,
    *,
    baseline: TrainStep | None = None,
    turns: int = _TURNS,
) -> dict[str, SideTiming]:
    """Milliseconds of whole steps and of their parts, interleaved on the same draws.

    A step that has run is not compiled again. Noise and optimizer are timed by themselves, and the
    gradient is what remains of the step: XLA may overlap them, so the parts are estimates.

    Args:
      step: Of `private_step`. Its plan is drawn from with a known seed: nothing of this is kept.
      params: Weights.
      units: The whole data.
      baseline: Of `baseline_step`, on the same plan and weights, to time it too.
      turns: Draws at most, of which the first is left out: it may compile. Slow steps are timed
        on fewer; on that one alone if it takes a minute.

    Returns:
      By "private" and "baseline".
    """
    steps = {"private": step} | ({} if baseline is None else {"baseline": baseline})
    states = {name: one.init(params, key=0) for name, one in steps.items()}
    parts = _parts(step, step.init(params, key=0))
    times: dict[str, list[float]] = {name: [] for name in (*steps, *parts)}
    begin = time.perf_counter()
    for turn, draw in enumerate(itertools.islice(step.plan.batches(seed=0), turns)):
        if turn and time.perf_counter() - begin > _ENOUGH:
            break
        batch = step.gather(draw, units)
        jax.block_until_ready(batch.rows)
        for name, one in steps.items():
            began = time.perf_counter()
            states[name], metrics = one.update(states[name], draw, batch)
            jax.block_until_ready((states[name].params, metrics.loss))
            times[name].append(1e3 * (time.perf_counter() - began))
        for name, part in parts.items():
            began = time.perf_counter()
            jax.block_until_ready(part())
            times[name].append(1e3 * (time.perf_counter() - began))
    medians = {name: statistics.median(each[1:] or each) for name, each in times.items()}
    return {name: _side(name, medians) for name in steps}


def _side(name: str, medians: dict[str, float]) -> SideTiming:
    private = name == "private"
    own = {part: medians[part] for part in (("noise", "optimizer") if private else ("optimizer",))}
    remainder = max(0.0, medians[name] - sum(own.values()))
    gradient = "clipped gradient" if private else "gradient"
    return SideTiming(medians[name], {gradient: remainder, **own})


def _parts(step: TrainStep, state: TrainState) -> dict[str, Callable]:
    """Noise and optimizer of `step` as programs of their own: small beside the gradient's."""
    zeros = lambda leaf: jnp.zeros(leaf.shape, jnp.float32)  # noqa: E731
    sums = jax.tree.map(zeros, step.trained(state.params))
    clip = None if state.mechanism is None else state.mechanism.clip
    counts = jax.tree.map(zeros, clip)
    noise = jax.jit(lambda state: privatize(step.plan, sums, state, counts, step.spread(sums)))
    optimize = jax.jit(lambda state: step.apply(state, sums))
    return {"noise": lambda: noise(state), "optimizer": lambda: optimize(state)}
