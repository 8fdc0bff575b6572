"""The delta of one client: its parameters after local training, minus those before."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from trustml.bookkeeping.values import to_float32
from trustml.clipping import combine, partition
from trustml.federated.users import Clients
from trustml.training import checks


@dataclasses.dataclass(frozen=True)
class LocalTraining:
    """The local training of a round, as a function of one client: `f` for `trustml.bounded_sum`.

    The client goes through its rows in order, `batch_size` at a time, `epochs` times; each step
    takes the mean gradient over the rows that are there, and a batch of padding alone changes
    nothing, the optimizer's state included. Calling it with `(params, client)`, `client` one unit
    of `Clients`, gives the delta in float32: parameters after minus before. A client without rows
    has a delta of zero.

    Args:
      loss_fn: `loss_fn(params, row) -> scalar`.
      optimizer: Of the client; its state starts afresh in every round.
      batch_size: Rows per local step.
      epochs: Passes over the client's rows.
      rows_at_full_weight: With a number, the delta counts min(rows / number, 1) times, inside
        the bound; FedAvg's weights by rows are those of a number that no client exceeds. By
        default every client counts once.
      trainable: Which leaves are trained, as in `trustml.clipped_grad`.

    Raises:
      ValueError: A number is not a positive integer, or the optimizer needs the loss.

    References:
      McMahan et al., Communication-Efficient Learning of Deep Networks from Decentralized Data,
      2017, algorithm 1. McMahan et al., Learning Differentially Private Recurrent Language Models,
      2018, for the capped weights.
    """

    loss_fn: Callable
    optimizer: optax.GradientTransformation
    _: dataclasses.KW_ONLY
    batch_size: int
    epochs: int = 1
    rows_at_full_weight: int | None = None
    trainable: Any = None

    def __post_init__(self):
        for name in ("batch_size", "epochs", "rows_at_full_weight"):
            value = getattr(self, name)
            if value is None and name == "rows_at_full_weight":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"`{name}` must be a positive integer, got {value!r}.")
        checks.check_optimizer(self.optimizer, {"w": jnp.zeros(2)})

    def __call__(self, params: PyTree, client: Clients) -> PyTree:
        """The client's delta, weighted."""
        before, frozen = partition(params, self.trainable)
        step = _local_step(self.loss_fn, self.optimizer, frozen)
        batches = _batches(client, self.batch_size)

        def epoch(state, _):
            return jax.lax.scan(step, state, batches)[0], None

        state = (before, self.optimizer.init(to_float32(before)))
        (after, _), _ = jax.lax.scan(epoch, state, length=self.epochs)
        delta = jax.tree.map(jnp.subtract, to_float32(after), to_float32(before))
        if self.rows_at_full_weight is None:
            return delta
        held = jnp.sum(client.mask, dtype=jnp.float32)
        weight = jnp.minimum(held / self.rows_at_full_weight, 1.0)
        return jax.tree.map(lambda leaf: leaf * weight, delta)

    def mean_loss(self, params: PyTree, client: Clients) -> Float[Array, ""]:
        """Mean loss of the client's rows; zero without rows."""
        losses = jax.vmap(lambda row: self.loss_fn(params, row))(client.rows)
        return _masked_mean(losses, client.mask)


def _local_step(loss_fn, optimizer, frozen):
    def mean_loss(trained, rows, mask):
        losses = jax.vmap(lambda row: loss_fn(combine(trained, frozen), row))(rows)
        return _masked_mean(losses, mask)

    def step(state, batch):
        trained, opt_state = state
        rows, mask = batch
        grads = to_float32(jax.grad(mean_loss)(trained, rows, mask))
        with checks.loose_promotion():
            updates, opt_state = optimizer.update(grads, opt_state, to_float32(trained))
            moved = (optax.apply_updates(trained, updates), opt_state)
        held = mask.any()
        return jax.tree.map(lambda new, old: jnp.where(held, new, old), moved, state), None

    return step


def _masked_mean(losses, mask):
    held = jnp.maximum(jnp.sum(mask, dtype=jnp.float32), 1.0)
    return jnp.where(mask, losses.astype(jnp.float32), 0.0).sum() / held


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
