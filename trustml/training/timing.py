"""Where the time of a step goes: gradient, clipping, noise, optimizer."""

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from trustml.clipping import clipped_grad, partition
from trustml.noise import key_from_seed
from trustml.noise.transform import add_noise
from trustml.plan import PrivacyPlan
from trustml.training.checks import loose_promotion
from trustml.training.microbatch_means import as_units, mean_loss
from trustml.training.steps import baseline_step, private_step

TURNS = 7


class SideTiming(NamedTuple):
    """Milliseconds of one way to train. Private: a step's time depends on the rows drawn."""

    step_ms: float
    parts_ms: dict[str, float]


def time_steps(
    loss_fn: Callable,
    optimizer: optax.GradientTransformation,
    plan: PrivacyPlan,
    params: PyTree,
    units: PyTree,
    *,
    strategy: str = "auto",
    physical_batch_size: int | None = None,
    baseline: bool = True,
    trainable: Any = None,
    shorten: Callable | None = None,
    turns: int = TURNS,
) -> dict[str, SideTiming]:
    """Times whole steps, and their parts by themselves, interleaved on the same draws.

    Compiling is left out. Parts overlap in a whole step, so they may add up to more than it.

    Args:
      loss_fn: As for `private_step`, without a key of its own.
      optimizer: As for `private_step`.
      plan: Whose draws are taken, with a known seed: nothing of these steps is kept.
      params: Weights.
      units: The whole data.
      strategy: As for `private_step`.
      physical_batch_size: As for `private_step`, a number or None.
      baseline: Whether to time the non-private step too.
      trainable: As for `private_step`.
      shorten: As for `private_step`.
      turns: Draws, of which the first is left out.

    Returns:
      By "private" and "baseline".
    """
    turns = min(turns, plan.steps)
    alike: dict[str, Any] = {"physical_batch_size": physical_batch_size, "trainable": trainable}
    options = {**alike, "strategy": strategy}
    steps = {"private": private_step(loss_fn, optimizer, plan, **options, shorten=shorten)}
    if baseline:
        steps["baseline"] = baseline_step(loss_fn, optimizer, plan, **alike, shorten=shorten)
    parts = _parts(loss_fn, optimizer, plan, params, options)
    states = {name: step.init(params, key=0) for name, step in steps.items()}
    found: dict[str, list[float]] = {name: [] for name in (*steps, *parts)}
    for draw in [draw for _, draw in zip(range(turns), plan.batches(seed=0), strict=False)]:
        batch = steps["private"].gather(draw, units)
        jax.block_until_ready(batch.rows)
        for name, step in steps.items():
            began = time.perf_counter()
            states[name], metrics = step.update(states[name], draw, batch)
            jax.block_until_ready((states[name].params, metrics.loss))
            found[name].append(1e3 * (time.perf_counter() - began))
        for name, part in parts.items():
            began = time.perf_counter()
            jax.block_until_ready(part(batch.rows, jnp.asarray(draw.group)))
            found[name].append(1e3 * (time.perf_counter() - began))
    medians = {name: statistics.median(times[1:] or times) for name, times in found.items()}
    return {name: _side(name, medians) for name in steps}


def _side(name: str, medians: dict[str, float]) -> SideTiming:
    own = ("clipped gradient", "noise", "optimizer") if name == "private" else ("optimizer",)
    parts = {part: medians[part] for part in own}
    if name == "baseline":
        # A plain step is its gradient and the optimizer; there is nothing else in it.
        parts["gradient"] = max(0.0, medians[name] - medians["optimizer"])
    return SideTiming(medians[name], parts)


def _parts(loss_fn, optimizer, plan, params, options) -> dict[str, Callable]:
    gradient = _gradient(loss_fn, plan, options)
    trained, _ = partition(params, options["trainable"])
    sums = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.float32), trained)
    state, key = optimizer.init(trained), key_from_seed(0)

    def optimize(sums, state, params):
        with loose_promotion():
            updates, state = optimizer.update(sums, state, params)
            return optax.apply_updates(params, updates), state

    noise = jax.jit(lambda sums, step: add_noise(sums, plan.stddev, key, step))
    optimize = jax.jit(optimize)
    return {
        "clipped gradient": lambda rows, group: gradient(params, rows, group),
        "noise": lambda rows, group: noise(sums, jnp.zeros((), jnp.int32)),
        "optimizer": lambda rows, group: optimize(sums, state, trained),
    }


def _gradient(loss_fn, plan, options) -> Callable:
    """What a private step sums: gradients of units, or of the means of micro-batches."""
    bounds = {"clip_norm": plan.clip_norm, "clipping": plan.clipping}
    if not plan.num_microbatches:
        grad = clipped_grad(loss_fn, **bounds, **options)
        return lambda params, rows, group: grad(params, rows, group)[0]
    loss = mean_loss(loss_fn, has_aux=False)
    means = clipped_grad(loss, has_aux=True, **bounds, **{**options, "physical_batch_size": None})
    apart = jax.jit(lambda rows, group: as_units(rows, group, plan.num_microbatches))
    return lambda params, rows, group: means(params, *apart(rows, group))[0]
