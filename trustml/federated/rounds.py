"""One round: clients train, their bounded deltas are summed, the server's optimizer steps."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from trustml.bookkeeping.values import to_float32
from trustml.clipping import bounded_sum, combine, partition
from trustml.clipping.sums import check_group
from trustml.federated.local import LocalTraining
from trustml.federated.users import Clients, check_clients
from trustml.noise.transform import add_noise
from trustml.plan import PrivacyPlan
from trustml.training import StepMetrics, TrainStep, checks


class FederatedState(NamedTuple):
    """The server's state between rounds."""

    params: PyTree
    opt_state: PyTree
    round: Int[Array, ""]  # rounds so far


class RoundMetrics(NamedTuple):
    """Metrics of a round. Private: no noise was added to any of them."""

    loss: Float[Array, ""]  # mean over clients of the mean loss of their rows, before training
    clients: Int[Array, ""]  # that answered
    norm: Float[Array, ""]  # mean l2 norm of a delta before the bound
    clipped: Float[Array, ""]  # part of the deltas that the bound scaled down
    dropped: Int[Array, ""]  # clients whose delta was not finite; they contributed zero


class FederatedStep(NamedTuple):
    """A pair in the style of optax; see `federated_step`."""

    init: Callable  # params -> FederatedState
    update: Callable  # (state, clients, group=None) -> (FederatedState, RoundMetrics)


def federated_step(
    local: LocalTraining,
    server_optimizer: optax.GradientTransformation,
    *,
    expected_clients: float,
    clip_norm: Any = math.inf,
    physical_batch_size: int | None = None,
) -> FederatedStep:
    """Federated averaging without noise; the server may use any optax optimizer (FedOpt).

    The server sees minus the sum of the clients' deltas over `expected_clients` as a gradient:
    `optax.sgd(1.0)` then adds the mean delta, which is FedAvg.

    >>> import numpy as np
    >>> from trustml.federated.users import split_by_user
    >>> rows = {"x": np.array([1.0, 3.0, 5.0], np.float32), "user": np.array([0, 0, 1])}
    >>> clients = split_by_user(rows)
    >>> loss = lambda w, row: 0.5 * (w - row["x"]) ** 2
    >>> local = LocalTraining(loss, optax.sgd(1.0), batch_size=2)
    >>> step = federated_step(local, optax.sgd(1.0), expected_clients=2)
    >>> state, metrics = step.update(step.init(jnp.zeros(())), clients)
    >>> float(state.params), int(metrics.clients)  # clients move to 2 and to 5: the mean
    (3.5, 2)

    Args:
      local: What a client does in a round.
      server_optimizer: Such as `optax.sgd(1.0)`, `optax.adam(1e-2)`.
      expected_clients: The public divisor: clients that answer a round on average, or what their
        weights add up to. Never counted in the round.
      clip_norm: L2 bound of one delta; by default only deltas that are not finite are dropped.
      physical_batch_size: Clients computed at a time.

    Returns:
      `init(params)` and `update(state, clients, group=None)`, where `group` is 0 for clients that
      answer and -1 for those that do not.

    Guarantee:
      One client moves the sum by at most `clip_norm`. Without noise that is no privacy: see
      `private_federated_step`.

    Raises:
      ValueError: A number is out of range, or an optimizer needs the value of the loss.

    References:
      McMahan et al., Communication-Efficient Learning of Deep Networks from Decentralized Data,
      2017. Reddi et al., Adaptive Federated Optimization, 2021.
    """
    if not (expected_clients > 0 and math.isfinite(expected_clients)):
        raise ValueError(
            f"`expected_clients` must be positive and finite, got {expected_clients!r}."
        )
    checks.check_optimizer(server_optimizer, {"w": jnp.zeros(2)})
    sums_of = _round_sums(local, clip_norm, "flat", physical_batch_size)

    def init(params):
        params = jax.tree.map(checks.strong_copy, params)
        trained = to_float32(partition(params, local.trainable)[0])
        opt_state = jax.tree.map(checks.strong_copy, server_optimizer.init(trained))
        return FederatedState(params, opt_state, jnp.zeros((), jnp.int32))

    @jax.jit
    def run(state, clients, group):
        sums, metrics = sums_of(state.params, clients, group)
        trained, frozen = partition(state.params, local.trainable)
        gradient = jax.tree.map(lambda leaf: -leaf / expected_clients, sums)
        with checks.loose_promotion():
            updates, opt_state = server_optimizer.update(
                gradient, state.opt_state, to_float32(trained)
            )
            trained = optax.apply_updates(trained, updates)
        return FederatedState(combine(trained, frozen), opt_state, state.round + 1), metrics

    def update(state: FederatedState, clients: Clients, group=None):
        check_clients(clients)
        return run(state, clients, check_group(group, len(clients.mask), 1))

    return FederatedStep(init, update)


def private_federated_step(
    local: LocalTraining,
    server_optimizer: optax.GradientTransformation,
    plan: PrivacyPlan,
    *,
    physical_batch_size: int | None = None,
) -> TrainStep:
    """Federated averaging with differential privacy for clients, as `plan` says.

    A training step whose unit is a client: the deltas are bounded and summed, noise of
    `plan.stddev` is added to the sum, the whole is divided by `plan.expected_batch`, and the
    server's optimizer sees nothing else. It runs by `update(state, draw, clients)` on the draws of
    `plan.batches()`, or by `trustml.fit` with the clients for data.

    >>> import numpy as np
    >>> from trustml.federated.users import split_by_user
    >>> rows = {"x": np.array([1.0, 3.0, 5.0], np.float32), "user": np.array([0, 0, 1])}
    >>> clients = split_by_user(rows)
    >>> loss = lambda w, row: 0.5 * (w - row["x"]) ** 2
    >>> local = LocalTraining(loss, optax.sgd(1.0), batch_size=2)
    >>> plan = PrivacyPlan(
    ...     clip_norm=1.0, noise_multiplier=0.0, sample_rate=1.0, steps=1, expected_batch=2,
    ...     unit="user",
    ... )
    >>> step = private_federated_step(local, optax.sgd(1.0), plan)
    >>> state, _ = step.update(step.init(jnp.zeros(())), next(plan.batches()), clients)
    >>> round(float(state.params), 3)  # both deltas are bounded to 1
    1.0

    Args:
      local: What a client does in a round.
      server_optimizer: Of the server; `optax.sgd(1.0)` adds the noisy mean delta.
      plan: Its units are clients: say so by `unit="user"`. `num_units` is the public number of
        clients.
      physical_batch_size: Clients computed at a time.

    Guarantee:
      The parameters after all rounds satisfy `plan.statement` for the addition or removal of a
      client with everything it holds, if every draw comes from `plan.batches()`, drop-outs follow
      `drop_out`, and the server, which sees every delta, is trusted. The metrics do not.

    Raises:
      ValueError: An optimizer needs the value of the loss.
      NotImplementedError: The plan's mechanism is more than a bound and independent noise.

    References:
      McMahan et al., Learning Differentially Private Recurrent Language Models, 2018.
    """
    _check_simple(plan)
    sums_of = _round_sums(local, plan.clip_norm, plan.clipping, physical_batch_size)

    def noisy_sums(state, clients, group):
        check_clients(clients)
        deltas, found = sums_of(state.params, clients, group)
        noisy = add_noise(jax.tree.map(jnp.negative, deltas), plan.stddev, state.key, state.step)
        seen = StepMetrics(found.loss, found.clients, found.norm, found.clipped, found.dropped)
        return noisy, seen, state.mechanism

    return TrainStep(lambda *_: noisy_sums, server_optimizer, plan, local.trainable, private=True)


def _check_simple(plan: PrivacyPlan) -> None:
    others = {
        "noise": plan.noise != "independent",
        "noise_decay": plan.noise_decay != 1,
        "num_microbatches": plan.num_microbatches != 0,
        "clip_quantile": plan.clip_quantile is not None,
    }
    for name, present in others.items():
        if present:
            raise NotImplementedError(
                f"`plan` must have independent noise and fixed bounds of each client in federated "
                f"rounds, got `{name}`={getattr(plan, name)!r}."
            )


def _round_sums(local: LocalTraining, clip_norm, clipping, physical_batch_size):
    """`(params, clients, group)` to the sum of bounded deltas and the metrics."""
    deltas = bounded_sum(
        local, clip_norm=clip_norm, physical_batch_size=physical_batch_size, clipping=clipping
    )
    # The same sum without a bound: metrics are private quantities, which get no noise.
    losses = bounded_sum(
        local.mean_loss, clip_norm=math.inf, physical_batch_size=physical_batch_size
    )

    def sums_of(params, clients, group):
        sums, info = deltas(params, clients, group)
        start, _ = losses(params, clients, group)
        return sums, _metrics(info, start, group)

    return sums_of


def _metrics(info, losses, group) -> RoundMetrics:
    present = group >= 0
    count = jnp.maximum(jnp.sum(present), 1).astype(jnp.float32)
    # Bounds per layer give one vector each; a delta's norm is that of all together.
    norm = jnp.sqrt(sum(jnp.square(part) for part in jax.tree.leaves(info.norm)))
    finite = present & jnp.isfinite(norm)
    kept = jnp.stack(jax.tree.leaves(info.clip_factor)).min(0)
    return RoundMetrics(
        loss=losses / count,
        clients=jnp.sum(present),
        norm=jnp.sum(jnp.where(finite, norm, 0.0)) / count,
        clipped=jnp.sum(finite & (kept < 1), dtype=jnp.float32) / count,
        dropped=jnp.sum(present & ~finite),
    )
