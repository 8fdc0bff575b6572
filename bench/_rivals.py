"""Programs timed on JAX: plain and clipped gradients, whole steps, and jax_privacy's."""

import math
import time
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _cases import Case
from _timing import Program, figures

import trustml
from trustml.clipping import combine, partition
from trustml.clipping.trainable import path_name

CLIP_NORM = 1.0
MICROBATCH = 8  # at most


def plain_gradient(case: Case):
    """The non-private gradient of the mean loss."""

    def mean_loss(trained, frozen, units):
        return jnp.mean(jax.vmap(case.loss, (None, 0))(combine(trained, frozen), units))

    return lambda p, u: jax.grad(mean_loss)(*partition(p, case.trainable), u)


def clipped(
    case: Case, strategy: str = "auto", clip_norm: float = CLIP_NORM, *, micro: bool = False
):
    """Sum of clipped per-example gradients, by one of our strategies."""
    grad = trustml.clipped_grad(
        case.loss,
        clip_norm=clip_norm,
        strategy=strategy,
        trainable=case.trainable,
        physical_batch_size=_microbatch(case) if micro else None,
    )
    return lambda p, u: grad(p, u)[0]


def jax_privacy_gradient(case: Case, *, micro: bool):
    """The same by jax_privacy; None where it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import jax_privacy
    except ImportError:
        return None
    grad = jax_privacy.clipped_grad(
        lambda trained, frozen, unit: case.loss(combine(trained, frozen), unit),
        l2_clip_norm=CLIP_NORM,
        batch_argnums=2,
        keep_batch_dim=False,
        microbatch_size=_microbatch(case) if micro else None,
    )
    return lambda p, u: grad(*partition(p, case.trainable), u)


def _microbatch(case: Case) -> int:
    """Examples at a time: jax_privacy wants a divisor."""
    return math.gcd(max(1, rows(case.units) // 2), MICROBATCH)


def rows(units) -> int:
    """How many examples there are."""
    return jax.tree.leaves(units)[0].shape[0]


def whole_step(case: Case, build, physical_batch_size: int | None = None) -> Program:
    """A training step with Adam on fixed-size draws, so that both sides compute as many rows.

    Args:
      case: The network; its examples are the logical batch.
      build: `trustml.private_step` or `trustml.baseline_step`.
      physical_batch_size: Examples computed at a time.
    """
    batch = rows(case.units)
    plan = trustml.PrivacyPlan(
        clip_norm=CLIP_NORM,
        noise_multiplier=1.0,
        sample_rate=1.0,
        steps=10_000,
        expected_batch=batch,
        num_units=batch,
        sampling="fixed",
        adjacency="replace-one",
        accountant="rdp",
    )
    step = build(
        case.loss,
        optax.adam(1e-3),
        plan,
        trainable=case.trainable,
        physical_batch_size=physical_batch_size,
    )
    draws = plan.batches(seed=0)
    held = {"state": step.init(case.params, key=0)}

    def prepare():
        held["draw"] = next(draws)
        held["batch"] = step.gather(held["draw"], case.units)
        return jax.block_until_ready(held["batch"].rows)

    def call(_):
        held["state"], metrics = step.update(held["state"], held["draw"], held["batch"])
        return jax.block_until_ready((held["state"].params, metrics.loss))

    prepare()
    group = jnp.asarray(held["draw"].group)
    start = time.perf_counter()
    program = step._program.lower(held["state"], held["batch"].rows, group).compile()
    seconds = time.perf_counter() - start
    step._compiled = program  # what `update` would compile once more, out of our sight
    call(None)
    return Program(call, prepare, compile_s=seconds, **figures(program))


def repeated(case: Case, logical: int) -> Case:
    """The case with its examples repeated up to a logical batch."""
    times = -(-logical // rows(case.units))
    repeat = lambda leaf: jnp.concatenate([leaf] * times)[:logical]  # noqa: E731
    return case._replace(units=jax.tree.map(repeat, case.units))


def write_arrays(case: Case, path: Path) -> None:
    """Writes weights, examples and clipped sums for a process without JAX to compare with.

    The bound is the norm of the first example, so that some are clipped and some are not.
    """
    trained, frozen = partition(case.params, case.trainable)
    first = jax.tree.map(lambda leaf: leaf[0], case.units)
    loss = lambda trained: case.loss(combine(trained, frozen), first)  # noqa: E731
    clip_norm = float(jax.jit(lambda trained: optax.tree.norm(jax.grad(loss)(trained)))(trained))
    sums = jax.jit(clipped(case, clip_norm=clip_norm))(case.params, case.units)
    units = case.units if isinstance(case.units, dict) else {"x": case.units}
    arrays: dict[str, Any] = {"clip_norm": np.float32(clip_norm)}
    for kind, tree in (("params", case.params), ("units", units), ("sums", sums)):
        for place, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
            arrays[f"{kind}/{path_name(place)}"] = np.asarray(leaf)
    np.savez(path, **arrays)
