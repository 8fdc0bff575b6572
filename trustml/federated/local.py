"""What one client computes: its parameters after local training, minus those before."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from trustml.clipping import combine, partition
from trustml.federated.users import Clients
from trustml.training import checks


def client_delta(
    loss_fn: Callable,
    optimizer: optax.GradientTransformation,
    *,
    batch_size: int,
    epochs: int = 1,
    rows_at_full_weight: int | None = None,
    trainable: Any = None,
) -> Callable:
    """Local training as a function of one client, for `trustml.bounded_sum`.

    The client goes through its rows in order, `batch_size` at a time, `epochs` times; each step
    takes the mean gradient over the rows that are there, and a batch of padding alone changes
    nothing, the optimizer's state included.

    Args:
      loss_fn: `loss_fn(params, row) -> scalar`.
      optimizer: Of the client; its state starts afresh in every round.
      batch_size: Rows per local step.
      epochs: Passes over the client's rows.
      rows_at_full_weight: With a number, the delta counts min(rows / number, 1) times, inside
        the bound; FedAvg's weights by rows are those of a number that no client exceeds. By
        default every client counts once.
      trainable: Which leaves are trained, as in `trustml.clipped_grad`.

    Returns:
      `f(params, client)`, `client` one unit of `Clients`, to the delta in float32. A client
      without rows has a delta of zero.

    Raises:
      ValueError: A number is not a positive integer, or the optimizer needs the loss.

    References:
      McMahan et al., Communication-Efficient Learning of Deep Networks from Decentralized Data,
      2017, algorithm 1. McMahan et al., Learning Differentially Private Recurrent Language Models,
      2018, for the capped weights.
    """
    counts = {"batch_size": batch_size, "epochs": epochs}
    for name, value in {**counts, "rows_at_full_weight": rows_at_full_weight or 1}.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"`{name}` must be a positive integer, got {value!r}.")
    checks.check_optimizer(optimizer, {"w": jnp.zeros(2)})

    def f(params, client: Clients):
        before, frozen = partition(params, trainable)
        step = _local_step(loss_fn, optimizer, frozen)
        state = (before, optimizer.init(_wide(before)))
        batches = _batches(client, batch_size)

        def epoch(state, _):
            return jax.lax.scan(step, state, batches)[0], None

        (after, _), _ = jax.lax.scan(epoch, state, length=epochs)
        delta = jax.tree.map(jnp.subtract, _wide(after), _wide(before))
        if rows_at_full_weight is None:
            return delta
        held = jnp.sum(client.mask, dtype=jnp.float32)
        weight = jnp.minimum(held / rows_at_full_weight, 1.0)
        return jax.tree.map(lambda leaf: leaf * weight, delta)

    return f


def _local_step(loss_fn, optimizer, frozen):
    def mean_loss(trained, rows, mask):
        losses = jax.vmap(lambda row: loss_fn(combine(trained, frozen), row))(rows)
        losses = jnp.where(mask, losses.astype(jnp.float32), 0.0)
        return losses.sum() / jnp.maximum(jnp.sum(mask, dtype=jnp.float32), 1.0)

    def step(state, batch):
        trained, opt_state = state
        rows, mask = batch
        grads = _wide(jax.grad(mean_loss)(trained, rows, mask))
        with checks.loose_promotion():
            updates, opt_state = optimizer.update(grads, opt_state, _wide(trained))
            moved = (optax.apply_updates(trained, updates), opt_state)
        held = mask.any()
        return jax.tree.map(lambda new, old: jnp.where(held, new, old), moved, state), None

    return step


def _batches(client: Clients, batch_size: int):
    """Rows and mask as [batch, row of the batch, ...]; padding points at a row that is there."""
    mask = jnp.asarray(client.mask)
    places = jnp.arange(mask.shape[0])
    # 0 * NaN is NaN in a backward pass: padding must not hold what a loss cannot take.
    places = jnp.where(mask, places, jnp.argmax(mask))
    spare = -mask.shape[0] % batch_size
    places = jnp.concatenate([places, jnp.full(spare, places[0])]).reshape(-1, batch_size)
    mask = jnp.concatenate([mask, jnp.zeros(spare, bool)]).reshape(-1, batch_size)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[places], client.rows), mask


def _wide(tree):
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), tree)
