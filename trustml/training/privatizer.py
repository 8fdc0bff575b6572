"""The mechanism of a private step: adaptive bounds; decaying, discrete and correlated noise."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from trustml.noise.box_muller import gaussian_like
from trustml.noise.correlated import CorrelatedState, correlated_noise
from trustml.noise.discrete import as_private_as
from trustml.noise.grid import add_discrete_noise
from trustml.noise.transform import add_noise
from trustml.plan import PrivacyPlan, releases
from trustml.plan.releases import CORRELATED, COUNT_NOISE

_RATE = 0.2  # of adaptive bounds, as Andrew et al. use it throughout
_LEAST, _MOST = 1e-8, 1e8  # of an adaptive bound


class MechanismState(NamedTuple):
    """The state of a mechanism between steps.

    `noise` is as secret as the key: no checkpoint holds it, `restore_noise_state` makes it anew.
    """

    clip: PyTree | None = None  # bounds that adapt, float32 scalars: covered by the promise
    noise: CorrelatedState | None = None


def begin(plan: PrivacyPlan, trained: PyTree) -> MechanismState:
    """The state before the first step.

    Args:
      plan: The plan.
      trained: The trained weights, or their shapes.

    Raises:
      ValueError: There are more of them than the plan says.
    """
    size = sum(leaf.size for leaf in jax.tree.leaves(trained))
    if not (size <= plan.dimension):
        raise ValueError(
            f"`params` must have at most the plan's `dimension` of trained values, "
            f"{plan.dimension:g}, got {size}: what is promised grows with it."
        )
    clip = None
    if plan.clip_quantile is not None:
        clip = jax.tree.map(jnp.float32, plan.clip_norm)
    stream = _stream(plan)
    return MechanismState(clip, None if stream is None else stream.init(trained))


def restore_noise_state(plan: PrivacyPlan, state: Any, trained: PyTree) -> Any:
    """A training state that was read from a checkpoint, with the noise that it was saved without.

    Args:
      plan: The plan.
      state: Its key is that of the run, its step the number of steps done.
      trained: The trained weights, or their shapes.
    """
    stream = _stream(plan)
    if stream is None:
        return state
    noise = stream.init(trained)
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.float32), trained)
    if noise.buffers is None:
        noise = noise._replace(step=jnp.asarray(state.step, jnp.int32))
    else:

        @jax.jit
        def again(key, done):
            body = lambda at, noise: stream.update(key, at, noise, like)[1]  # noqa: E731
            return jax.lax.fori_loop(jnp.int32(0), done, body, noise)

        noise = again(state.key, jnp.asarray(state.step, jnp.int32))
    return state._replace(mechanism=state.mechanism._replace(noise=noise))


def kept_of(trained: PyTree, state: Any) -> dict[str, PyTree]:
    """The part of a state that a checkpoint holds: never the key, nor correlated noise."""
    kept = {"params": trained, "opt_state": state.opt_state}
    clip = None if state.mechanism is None else state.mechanism.clip
    return kept if clip is None else {**kept, "clip": clip}


def privatize(
    plan: PrivacyPlan, sums: PyTree, state: Any, counts: PyTree, spread: PyTree | None
) -> tuple[PyTree, MechanismState]:
    """The noisy sums of a step, and the mechanism's next state.

    Args:
      plan: The plan.
      sums: Bounded sums, float32.
      state: The training state: key, step and mechanism.
      counts: Of `whole_units`, where bounds adapt.
      spread: On a mesh, how the weights lie.
    """
    mechanism = state.mechanism
    if mechanism.clip is not None:
        return _with_counts(plan, sums, counts, state)
    if plan.noise == "discrete_gaussian":
        spacing = plan.grid_spacing
        law = as_private_as(plan.stddev / spacing)
        return add_discrete_noise(sums, spacing, law, state.key, state.step, spread), mechanism
    stream = _stream(plan)
    if stream is None:
        return add_noise(sums, _stddev(plan, state.step), state.key, state.step, spread), mechanism
    noise, after = stream.update(state.key, state.step, mechanism.noise, sums)
    return jax.tree.map(jnp.add, sums, noise), mechanism._replace(noise=after)


def whole_units(info: Any, group: Any, clip: PyTree) -> PyTree:
    """For each bound, how many units stay within it, less half of all: sensitivity 1/2.

    Args:
      info: `UnitInfo` of the step.
      group: Of each unit; -1 for padding.
      clip: Bounds, float32 scalars; `info.norm` is shaped like them.
    """

    def one(norms: Float[Array, " unit"], bound) -> Float[Array, ""]:
        within = jnp.where(norms <= bound, 0.5, -0.5)  # NaN is not within
        return jnp.sum(jnp.where(group >= 0, within, 0.0))

    return jax.tree.map(one, info.norm, clip)


def _with_counts(plan, sums, counts, state):
    """Andrew et al. 2021, algorithm 1: the bound moves towards a quantile of the norms."""
    clip = state.mechanism.clip
    normals, of_counts = gaussian_like((sums, counts), state.key, state.step)
    bound = jnp.sqrt(sum(jnp.square(value) for value in jax.tree.leaves(clip)))
    stddev = jnp.float32(plan.stddev / plan.clip_bound) * bound
    noisy = jax.tree.map(lambda value, normal: value + stddev * normal, sums, normals)
    batch = plan.expected_batch

    def moved(bound, count, normal):
        within = (count + COUNT_NOISE * batch * normal) / batch + 0.5
        return jnp.clip(bound * jnp.exp(-_RATE * (within - plan.clip_quantile)), _LEAST, _MOST)

    return noisy, state.mechanism._replace(clip=jax.tree.map(moved, clip, counts, of_counts))


def _stddev(plan, step):
    """That of `step`, which is traced: float32 numbers, none below those of the plan."""
    if plan.noise_decay == 1:
        return plan.stddev
    each = releases.epoch(plan)
    wanted = np.array([plan.stddev_at(at) for at in range(0, plan.steps, each)])
    found = wanted.astype(np.float32)
    table = np.where(found < wanted, np.nextafter(found, np.float32(np.inf)), found)
    return jnp.asarray(table)[step // each]


def _stream(plan):
    """The correlated noise of a plan; None where steps have noise of their own."""
    return _stream_of(plan.strategy, plan.stddev, plan.steps) if plan.noise in CORRELATED else None


@functools.lru_cache(maxsize=8)
def _stream_of(strategy, stddev, steps):
    return correlated_noise(strategy, stddev, steps=steps)
