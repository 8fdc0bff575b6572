"""The local training of a client: what every algorithm shares."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from trustml.bookkeeping.layout import in_loops
from trustml.bookkeeping.values import to_float32
from trustml.clipping import combine, partition
from trustml.clipping.losses import takes_key
from trustml.federated.cohort import Batches
from trustml.training import checks


class Trained(NamedTuple):
    """What a client has after its local training."""

    params: PyTree  # the trained leaves, in the types they had
    delta: PyTree  # these minus those before, float32
    loss: Float[Array, ""]  # mean over the rows it went through, each before its step


@dataclasses.dataclass(frozen=True)
class LocalTraining:
    """Steps of an optimizer over a client's own rows.

    Rows are shuffled in every epoch and taken `batch_size` at a time; a step takes the mean
    gradient over the rows that are there.

    Args:
      loss_fn: `loss_fn(params, row) -> scalar`; with a third argument it gets a key of the row's
        own, for dropout.
      optimizer: Of the client; its state starts afresh in every round.
      batch_size: Rows per local step.
      epochs: Passes over the client's rows.
      trainable: Which leaves are trained, as in `trustml.clipped_grad`.

    Raises:
      ValueError: A number is not a positive integer, or the optimizer needs the loss.
    """

    loss_fn: Callable
    optimizer: optax.GradientTransformation
    batch_size: int = 10
    epochs: int = 1
    trainable: Any = None

    def __post_init__(self):
        for name in ("batch_size", "epochs"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"`{name}` must be a positive integer, got {value!r}.")
        checks.check_optimizer(self.optimizer, {"w": jnp.zeros(2)})

    def train(
        self, params: PyTree, batches: Batches, key: Any, adjust: Callable | None = None
    ) -> Trained:
        """Trains from `params`; `adjust(gradient, trained)` may change each gradient before."""
        before, frozen = partition(params, self.trainable)
        grad = in_loops(jax.value_and_grad(self._batch_loss))

        def step(number, state):
            trained, opt_state, total = state
            rows, held = batches.take(number)
            of_step = jax.random.fold_in(key, number) if self._keyed else None
            loss, grads = grad(trained, frozen, rows, held, of_step)
            grads = to_float32(grads)
            if adjust is not None:
                grads = adjust(grads, trained)
            with checks.loose_promotion():
                updates, opt_state = self.optimizer.update(grads, opt_state, to_float32(trained))
                trained = optax.apply_updates(trained, updates)
            return trained, opt_state, total + loss * jnp.sum(held, dtype=jnp.float32)

        start = (before, self.optimizer.init(to_float32(before)), jnp.zeros((), jnp.float32))
        after, _, total = jax.lax.fori_loop(0, batches.work.steps, step, start)
        epochs = batches.work.rows.astype(jnp.float32) * self.epochs
        delta = jax.tree.map(jnp.subtract, to_float32(after), to_float32(before))
        return Trained(after, delta, total / jnp.maximum(epochs, 1.0))

    def whole_gradient(self, params: PyTree, batches: Batches, key: Any) -> tuple[Any, PyTree]:
        """Mean loss over all rows of the client and its gradient, float32, both at `params`."""
        trained, frozen = partition(params, self.trainable)
        grad = in_loops(jax.value_and_grad(self._batch_loss))
        held_rows = jnp.maximum(batches.work.rows.astype(jnp.float32), 1.0)

        def step(number, total):
            rows, held = batches.take(number)
            of_step = jax.random.fold_in(key, number) if self._keyed else None
            found = to_float32(grad(trained, frozen, rows, held, of_step))
            share = jnp.sum(held, dtype=jnp.float32) / held_rows
            return jax.tree.map(lambda total, part: total + share * part, total, found)

        zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.float32), trained)
        start = (jnp.zeros((), jnp.float32), zero)
        return jax.lax.fori_loop(0, batches.work.in_epoch, step, start)

    @property
    def _keyed(self) -> bool:
        return takes_key(self.loss_fn)

    def _batch_loss(self, trained, frozen, rows, held, key):
        keys = () if key is None else (jax.random.split(key, held.shape[0]),)
        losses = jax.vmap(lambda *row: self.loss_fn(combine(trained, frozen), *row))(rows, *keys)
        number = jnp.maximum(jnp.sum(held, dtype=jnp.float32), 1.0)
        return jnp.where(held, losses.astype(jnp.float32), 0.0).sum() / number
