"""One step of training: bounded and noisy, or plain."""

import functools
import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree, UInt32

from trustml.clipping import clipped_grad, combine, partition
from trustml.clipping.microbatch import in_microbatches
from trustml.noise import check_key, key_from_seed, new_key
from trustml.noise.chacha import chacha_blocks
from trustml.noise.transform import noised
from trustml.plan import PrivacyPlan
from trustml.sampling import Draw
from trustml.training import checks
from trustml.training.batches import Batch, batch_shape, check_whole, gather
from trustml.training.checks import AUTO
from trustml.training.memory import largest_microbatch
from trustml.training.metrics import StepMetrics, loss_metrics, unit_metrics

_PURPOSE = 0x4C4F5353  # "LOSS" in counter word 15: the noise never meets these blocks


class TrainState(NamedTuple):
    """What a step carries. Secret while training: who knows `key` can subtract the noise."""

    params: PyTree
    opt_state: PyTree
    key: UInt32[Array, "8"]
    step: Int[Array, ""]  # updates so far; the next draw must be of this step


class TrainStep:
    """`init` and `update` of one way to train; see `private_step` and `baseline_step`.

    Attributes:
      plan: The plan whose draws `update` accepts.
      private: Whether the plan's guarantee holds for the weights.
      microbatch: Units computed at a time; "auto" until the first data are seen.
    """

    def __init__(
        self, sums_with, optimizer, plan: PrivacyPlan, trainable, *, private: bool, microbatch=None
    ):
        checks.check_optimizer(optimizer, {"w": jnp.zeros(2)})
        checks.check_microbatch(microbatch)
        self.plan, self.private, self.microbatch = plan, private, microbatch
        self._sums_with, self._optimizer, self._trainable = sums_with, optimizer, trainable
        self._fingerprint = plan.fingerprint
        self._program: Any = None
        self._compiled: Any = None
        self._at: tuple[Any, int] = (None, -1)
        if microbatch != AUTO:
            self._program = self._compiled = self._jitted(microbatch)

    def init(self, params: PyTree, key: UInt32[Array, "8"] | int | None = None) -> TrainState:
        """The state before the first step; `params` are copied.

        Args:
          params: Weights to start from.
          key: None for a fresh 256-bit key. A key of `trustml.noise`, or an integer seed for
            `key_from_seed`, makes the run repeatable for whoever has it.

        Raises:
          ValueError: The parameters hold batch statistics, or the optimizer needs the loss.
        """
        if key is None:
            key = new_key()
        elif isinstance(key, int):
            key = key_from_seed(key)
        params = jax.tree.map(checks.strong_copy, params)
        trained = _wide(partition(params, self._trainable)[0])
        checks.check_no_batch_statistics(partition(params, self._trainable)[0])
        checks.check_optimizer(self._optimizer, trained)
        opt_state = jax.tree.map(checks.strong_copy, self._optimizer.init(trained))
        key = checks.strong_copy(check_key(key))
        return TrainState(params, opt_state, key, jnp.zeros((), jnp.int32))

    def update(
        self, state: TrainState, draw: Draw, units: PyTree
    ) -> tuple[TrainState, StepMetrics]:
        """One step on the units of `draw`. One compiled program serves all draws.

        Args:
          state: Of `init` or the last update. It is donated: do not use it again.
          draw: The draw of `plan.batches()` for the step the state is at.
          units: The whole data, leading axis = unit: NumPy arrays are gathered on the host, JAX
            arrays on the device. Or the `Batch` that `gather` made of this draw.

        Returns:
          `(state, metrics)`; the metrics are private.

        Raises:
          ValueError: The draw is of another plan or step, or the data of another size.
        """
        # Asking the device would wait for the last step; what we returned ourselves we know.
        step = self._at[1] if self._at[0] is state.step else int(state.step)
        checks.check_draw(draw, self._fingerprint, step, self.plan.steps)
        batch = units if isinstance(units, Batch) else self.gather(draw, units)
        if batch.draw is not draw:
            raise ValueError("`units` must be the batch gathered for `draw`, got another one.")
        group = jnp.asarray(draw.group)
        if self._program is None:
            self._choose_microbatch(state, batch.rows, group)
        state, metrics = self._compiled(state, batch.rows, group)
        self._at = (state.step, step + 1)
        return state, metrics

    def gather(self, draw: Draw, units: PyTree) -> Batch:
        """The rows of `draw`, ahead of time; `update` takes them in place of the whole data."""
        return gather(draw, units, self.plan.num_units)

    def program(self, state: TrainState, units: PyTree) -> str:
        """SHA-256 of the text of the step's program, before XLA compiles it.

        It covers the loss, the optimizer and its schedule, bound, noise, strategy and micro-batch:
        what two processes share if and only if they carry out the same step.

        Raises:
          ValueError: The data are of another size than the plan says.
        """
        check_whole(units, self.plan.num_units)
        rows = batch_shape(units, self.plan.capacity)
        group = jax.ShapeDtypeStruct((self.plan.capacity,), jnp.int32)
        if self._program is None:
            self._choose_microbatch(state, rows, group)
        lowered = self._program.lower(state, rows, group)
        return hashlib.sha256(lowered.as_text().encode()).hexdigest()

    def _choose_microbatch(self, state, rows, group):
        programs = {}

        def compiled(microbatch):
            programs[microbatch] = self._jitted(microbatch)
            return programs[microbatch].lower(state, rows, group).compile()

        found = largest_microbatch(compiled, self.plan.capacity)
        self.microbatch, self._compiled = found
        self._program = programs[self.microbatch]

    def _jitted(self, microbatch):
        sums_of = self._sums_with(microbatch)
        return jax.jit(functools.partial(self._run, sums_of), donate_argnums=0)

    def _run(self, sums_of, state, rows, group):
        trained, frozen = partition(state.params, self._trainable)
        sums, metrics = sums_of(state, rows, group)
        # The public expected batch: dividing by the drawn size would release it.
        mean = jax.tree.map(lambda leaf: leaf / self.plan.expected_batch, sums)
        with checks.loose_promotion():
            updates, opt_state = self._optimizer.update(mean, state.opt_state, _wide(trained))
            trained = optax.apply_updates(trained, updates)
        params = combine(trained, frozen)
        return TrainState(params, opt_state, state.key, state.step + 1), metrics


def private_step(
    loss_fn: Callable,
    optimizer: optax.GradientTransformation,
    plan: PrivacyPlan,
    *,
    trainable: Any = None,
    strategy: str = "auto",
    microbatch: int | str | None = None,
    has_aux: bool = False,
) -> TrainStep:
    """Differentially private training steps, as `plan` says.

    Clipped per-unit gradients are summed, noise of `plan.stddev` is added to the sum, the whole
    is divided by `plan.expected_batch`, and the optimizer sees nothing else.

    Args:
      loss_fn: `loss_fn(params, unit) -> scalar` for one unit without a batch axis; with a third
        argument it gets a key of the unit's own, for dropout.
      optimizer: An optax transformation that needs gradients and weights only.
      plan: Sampling, bound and noise.
      trainable: Mask or predicate on names of the leaves to train; the others stay as they are.
      strategy: How gradients are clipped, see `clipped_grad`.
      microbatch: Units computed at a time, where a logical batch exceeds memory; gradients are
        accumulated. "auto" takes the most that compiled programs say will fit.
      has_aux: The loss returns `(loss, aux)`.

    Guarantee:
      The weights after all steps satisfy what `plan.statement` says, if every draw comes from
      `plan.batches()` and no state is used twice. The metrics do not.

    Raises:
      ValueError: The optimizer needs the loss value.
    """
    keyed = checks.takes_key(loss_fn)

    def sums_with(microbatch):
        grad = clipped_grad(
            loss_fn,
            clip_norm=plan.clip_norm,
            strategy=strategy,
            microbatch=microbatch,
            has_aux=has_aux,
            trainable=trainable,
            clipping=plan.clipping,
        )

        def sums_of(state, rows, group):
            key = _loss_key(state) if keyed else None
            sums, info = grad(state.params, rows, group, key)
            return noised(sums, plan.stddev, state.key, state.step), unit_metrics(info, group)

        return sums_of

    return TrainStep(sums_with, optimizer, plan, trainable, private=True, microbatch=microbatch)


def baseline_step(
    loss_fn: Callable,
    optimizer: optax.GradientTransformation,
    plan: PrivacyPlan,
    *,
    trainable: Any = None,
    strategy: str = "auto",
    microbatch: int | str | None = None,
    has_aux: bool = False,
) -> TrainStep:
    """Ordinary training on the draws of `plan`: no bound, no noise, no privacy.

    The gradient of the summed loss over `plan.expected_batch`, with the arguments of
    `private_step`, of which `strategy` is not read: what privacy costs is the difference.

    Guarantee:
      None. Its weights and metrics are private quantities.
    """
    del strategy
    keyed = checks.takes_key(loss_fn)

    def total(trained, frozen, units, group):
        losses = jax.vmap(lambda *unit: loss_fn(combine(trained, frozen), *unit))(*units)
        losses, aux = losses if has_aux else (losses, None)
        losses = losses.astype(jnp.float32)
        return jnp.sum(jnp.where(group >= 0, losses, 0.0)), (losses, aux)

    def sums_with(microbatch):
        def sums_of(state, rows, group):
            trained, frozen = partition(state.params, trainable)
            keys = (_keys_of_units(_loss_key(state), group.shape[0]),) if keyed else ()

            def core(units, group):
                grads, info = jax.grad(total, has_aux=True)(trained, frozen, units, group)
                return _wide(grads), info

            sums, (losses, aux) = in_microbatches(core, (rows, *keys), group, microbatch)
            return sums, loss_metrics(losses, aux, group)

        return sums_of

    return TrainStep(sums_with, optimizer, plan, trainable, private=False, microbatch=microbatch)


def _loss_key(state):
    """A key for the losses of this step, from a part of the stream that noise never uses."""
    counter = (jnp.uint32(0), jnp.uint32(0), state.step.astype(jnp.uint32), jnp.uint32(_PURPOSE))
    words = chacha_blocks(state.key, counter)
    return jax.random.wrap_key_data(jnp.stack(words[:2]), impl="threefry2x32")


def _keys_of_units(key, size):
    return jax.vmap(lambda index: jax.random.fold_in(key, index))(jnp.arange(size))


def _wide(tree):
    """Float32 gradients and optimizer state, whatever the weights' own dtype."""
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), tree)
