"""The two ways to train, with bounds and noise or without; the rest of a step is the same."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from trustml.bookkeeping.values import to_float32
from trustml.clipping import ClippedGrad, combine, partition
from trustml.clipping.gradient import TUNE
from trustml.clipping.losses import check_loss, takes_key
from trustml.clipping.microbatch import in_microbatches
from trustml.clipping.sums import keys_of_units
from trustml.noise.chacha import chacha_blocks
from trustml.plan import PrivacyPlan
from trustml.training import checks
from trustml.training.mesh import OnMesh
from trustml.training.metrics import loss_metrics, of_rows, unit_metrics
from trustml.training.microbatch_means import as_units, mean_loss
from trustml.training.privatizer import privatize, whole_units
from trustml.training.scaling import Scaling
from trustml.training.train_step import TrainStep

_PURPOSE = 0x4C4F5353  # "LOSS" in counter word 15: the noise never meets these blocks


def private_step(
    loss_fn: Callable,
    optimizer: optax.GradientTransformation,
    plan: PrivacyPlan,
    *,
    trainable: Any = None,
    strategy: str = "auto",
    physical_batch_size: int | str | None = None,
    has_aux: bool = False,
    mesh: jax.sharding.Mesh | None = None,
    shorten: Callable | None = None,
    scale_by: Callable | None = None,
) -> TrainStep:
    """Differentially private training steps, as `plan` says.

    Clipped per-unit gradients are summed, noise of `plan.stddev` is added to the sum, the whole
    is divided by `plan.divisor`, and the optimizer sees nothing else. Where the plan says so, the
    units are the means of micro-batches, bounds adapt, or noise decays or is correlated.

    >>> plan = PrivacyPlan(
    ...     clip_norm=1.0, noise_multiplier=0.5, sample_rate=1.0, steps=2, expected_batch=4
    ... )
    >>> loss = lambda w, x: 0.5 * (w - x) ** 2
    >>> step = private_step(loss, optax.sgd(1.0), plan)
    >>> state, units = step.init(jnp.zeros(())), jnp.array([1.0, 1.0, 1.0, 1.0])
    >>> for draw in plan.batches():
    ...     state, metrics = step.update(state, draw, units)
    >>> int(state.step), int(metrics.batch_size)
    (2, 4)

    Args:
      loss_fn: `loss_fn(params, unit) -> scalar` for one unit without a batch axis; with a third
        argument it gets a key of the unit's own, for dropout.
      optimizer: An optax transformation that needs gradients and weights only.
      plan: Sampling, bound and noise.
      trainable: Mask or predicate on names of the leaves to train; the others stay as they are.
      strategy: How gradients are clipped, see `clipped_grad`. "tune" measures the ways there are on
        made-up rows before the first step, and keeps the quickest as `step.strategy`.
      physical_batch_size: Units computed at a time, where a logical batch exceeds memory; gradients
        are accumulated. "auto" takes as many as compiled programs say will fit in half of the
        memory; on a CPU no more than are faster, as the sizes of the loss tell.
      has_aux: The loss returns `(loss, aux)`.
      mesh: Devices that share rows, and weights if they lie so; see `trustml.training.mesh`. The
        result is that of one device up to rounding.
      shorten: `(rows, taken) -> rows` cuts padding off a drawn batch, see `trustml.data.buckets`;
        a program is compiled for each shape. One with levels, as that has, cuts each
        micro-batch instead, where there are several, to what its rows hold.
      scale_by: `scale_by(opt_state) -> scales` of the trained weights: gradients are scaled so
        before they are bounded, and back after the noise. `trustml.training.scale_of` is
        scale-then-privatise by an adaptive optimizer's second moments.

    Guarantee:
      The weights after all steps satisfy what `plan.statement` says, if every draw comes from
      `plan.batches()` and no state is used twice. The metrics do not.

    Raises:
      ValueError: The optimizer needs the loss value, or the mesh cannot share the micro-batch.
      NotImplementedError: The mesh cannot serve the plan's mechanism or `scale_by`.
    """
    keyed = takes_key(loss_fn)
    on_mesh = None if mesh is None else OnMesh(mesh)
    checks.check_mechanism(plan, mesh, physical_batch_size, scale_by)
    means = plan.num_microbatches
    unit_loss = mean_loss(loss_fn, has_aux=has_aux) if means else loss_fn
    scaling = Scaling(scale_by, trainable)

    def gradient(strategy, physical_batch_size):
        return ClippedGrad(
            scaling.loss(unit_loss),
            clip_norm=plan.clip_norm,
            strategy=strategy,
            num_groups=1,
            physical_batch_size=physical_batch_size,
            has_aux=has_aux or bool(means),
            trainable=scaling.trainable,
            clipping=plan.clipping,
            shards=1 if on_mesh is None else on_mesh.shards,
            cuts=checks.cuts_of(shorten),
        )

    def sums_with(step, strategy, physical_batch_size):
        return _noisy_sums(step, gradient(strategy, physical_batch_size), scaling, keyed)

    def measure(state, rows):
        key = loss_key(state) if keyed else None
        if means:
            rows, _ = as_units(rows, jnp.zeros(plan.capacity, jnp.int32), means)
        return gradient(TUNE, None).tune(scaling.at(state)[0], rows, key)

    return TrainStep(
        sums_with,
        optimizer,
        plan,
        trainable,
        private=True,
        strategy=strategy,
        physical_batch_size=physical_batch_size,
        on_mesh=on_mesh,
        loss=_of_a_unit(loss_fn, keyed),
        measure=measure,
        shorten=shorten,
    )


def _noisy_sums(step: TrainStep, grad: ClippedGrad, scaling: Scaling, keyed: bool) -> Callable:
    """`sums_of(state, rows, group) -> (noisy sums, metrics, mechanism)` of a private step."""
    plan, means = step.plan, step.plan.num_microbatches

    def sums_of(state, rows, group):
        units, owner = as_units(rows, group, means) if means else (rows, group)
        key, clip = loss_key(state) if keyed else None, state.mechanism.clip
        at, back = scaling.at(state)
        sums, info = grad(at, units, owner, key, clip)
        counts = None if clip is None else whole_units(info, owner, clip)
        sums = step.constrain_sharding(scaling.sums(sums))
        sums, mechanism = privatize(plan, sums, state, counts, step.spread(sums))
        seen = unit_metrics(info, owner)
        return back(sums), of_rows(seen, group) if means else seen, mechanism

    return sums_of


def baseline_step(
    loss_fn: Callable,
    optimizer: optax.GradientTransformation,
    plan: PrivacyPlan,
    *,
    trainable: Any = None,
    strategy: str = "auto",
    physical_batch_size: int | str | None = None,
    has_aux: bool = False,
    mesh: jax.sharding.Mesh | None = None,
    shorten: Callable | None = None,
) -> TrainStep:
    """Ordinary training on the draws of `plan`: no bound, no noise, no privacy.

    The gradient of the summed loss over `plan.expected_batch`, with the arguments of
    `private_step`, of which `strategy` is not read: what privacy costs is the difference.

    >>> plan = PrivacyPlan(
    ...     clip_norm=1.0, noise_multiplier=0.5, sample_rate=1.0, steps=2, expected_batch=4
    ... )
    >>> loss = lambda w, x: 0.5 * (w - x) ** 2
    >>> step = baseline_step(loss, optax.sgd(1.0), plan)
    >>> draw, units = next(plan.batches()), jnp.array([1.0, 3.0, 5.0, 7.0])
    >>> float(step.update(step.init(jnp.zeros(())), draw, units)[0].params)
    4.0

    Guarantee:
      None. Its weights and metrics are private quantities.
    """
    del strategy
    keyed = takes_key(loss_fn)
    on_mesh = None if mesh is None else OnMesh(mesh)
    shards = 1 if on_mesh is None else on_mesh.shards

    def total(trained, frozen, units, group):
        losses = jax.vmap(lambda *unit: loss_fn(combine(trained, frozen), *unit))(*units)
        losses, aux = losses if has_aux else (losses, None)
        losses = losses.astype(jnp.float32)
        return jnp.sum(jnp.where(group >= 0, losses, 0.0)), (losses, aux)

    def sums_with(step, _, physical_batch_size):
        def sums_of(state, rows, group):
            trained, frozen = partition(state.params, trainable)
            size = group.shape[0]
            keys = (keys_of_units(loss_key(state), size, shards),) if keyed else ()
            check_loss(loss_fn, state.params, rows, *keys, has_aux=has_aux)

            def core(units, group):
                grads, info = jax.grad(total, has_aux=True)(trained, frozen, units, group)
                # Of padding alone the gradient is 0 times whatever stands there.
                drawn = jnp.any(group >= 0)
                return jax.tree.map(
                    lambda leaf: jnp.where(drawn, leaf, 0.0), to_float32(grads)
                ), info

            units = (rows, *keys)
            sums, (losses, aux) = in_microbatches(
                core, units, group, physical_batch_size, shards, checks.cuts_of(shorten)
            )
            return step.constrain_sharding(sums), loss_metrics(losses, aux, group), state.mechanism

        return sums_of

    options: dict[str, Any] = {
        "physical_batch_size": physical_batch_size,
        "on_mesh": on_mesh,
        "loss": _of_a_unit(loss_fn, keyed),
        "shorten": shorten,
    }
    return TrainStep(sums_with, optimizer, plan, trainable, private=False, **options)


def _of_a_unit(loss_fn: Callable, keyed: bool) -> Callable:
    """`loss(params, unit)`, to be traced."""
    if not keyed:
        return loss_fn
    return lambda params, unit: loss_fn(params, unit, jax.random.key(0, impl="threefry2x32"))


def loss_key(state):
    """A key for the losses of this step, from a part of the stream that noise never uses."""
    counter = (jnp.uint32(0), jnp.uint32(0), state.step.astype(jnp.uint32), jnp.uint32(_PURPOSE))
    words = chacha_blocks(state.key, counter)
    # 64 bits are enough: dropout hides no unit, and of ChaCha's output they give no way back.
    return jax.random.wrap_key_data(jnp.stack(words[:2]), impl="threefry2x32")
