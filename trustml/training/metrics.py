"""Metrics of a step, without noise: private."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class StepMetrics(NamedTuple):
    """Metrics of one step. Private: no noise was added to any of them."""

    loss: Float[Array, ""]  # mean over the units drawn
    batch_size: Int[Array, ""]
    norm: Float[Array, ""]  # mean l2 norm of a unit's gradient before the bound; 0 if not bounded
    clipped: Float[Array, ""]  # part of the units that the bound scaled down
    dropped: Int[Array, ""]  # units whose gradient was not finite
    aux: Any = None  # auxiliary output of the loss, stacked over the padded draw


def unit_metrics(info, group) -> StepMetrics:
    """Metrics of a private step, from a `UnitInfo` and the groups of the padded draw."""
    plain = loss_metrics(info.loss, info.aux, group)
    present = group >= 0
    count = jnp.maximum(plain.batch_size, 1).astype(jnp.float32)
    # Per-layer bounds give one vector each; a unit's norm is that of all together.
    squares = [jnp.square(norm) for norm in jax.tree.leaves(info.norm)]
    norm = jnp.sqrt(sum(squares[1:], squares[0]))
    finite = present & jnp.isfinite(norm)
    kept = jnp.stack(jax.tree.leaves(info.clip_factor)).min(0)
    return plain._replace(
        norm=jnp.sum(jnp.where(finite, norm, 0.0)) / count,
        clipped=jnp.sum(finite & (kept < 1), dtype=jnp.float32) / count,
        dropped=jnp.sum(present & ~finite),
    )


def of_rows(seen: StepMetrics, group) -> StepMetrics:
    """The same, of the rows of micro-batches; norms and bounds stay those of their means."""
    losses, aux = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), seen.aux)
    plain = loss_metrics(losses.astype(jnp.float32), aux, group)
    return seen._replace(loss=plain.loss, batch_size=plain.batch_size, aux=aux)


def loss_metrics(losses, aux, group) -> StepMetrics:
    """Metrics of a step without bounds."""
    present = group >= 0
    size = jnp.sum(present)
    total = jnp.sum(jnp.where(present, losses, 0.0))
    mean = total / jnp.maximum(size, 1).astype(jnp.float32)
    zero = jnp.zeros((), jnp.float32)
    return StepMetrics(mean, size, zero, zero, jnp.zeros((), jnp.int32), aux)
