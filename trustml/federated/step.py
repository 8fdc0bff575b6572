"""One federated round as a step of training: `trustml.fit` runs it, with ledger and resume."""

import functools
import math
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float, PyTree

from trustml.bookkeeping.values import to_float32
from trustml.clipping import bounded_sum, combine, partition
from trustml.federated.algorithms.algorithm import ROWS, Algorithm, Answer, Seen
from trustml.federated.clients import Clients
from trustml.federated.cohort import Batches, Cohort, Rounding, Work, gather_cohort
from trustml.federated.schedule import Schedule
from trustml.noise.chacha import chacha_blocks
from trustml.plan import PrivacyPlan
from trustml.sampling import Draw
from trustml.training import checks
from trustml.training.batches import Batch
from trustml.training.checks import AUTO
from trustml.training.mesh import OnMesh
from trustml.training.metrics import unit_metrics
from trustml.training.privatizer import privatize, whole_units
from trustml.training.steps import loss_key
from trustml.training.train_step import TrainState, TrainStep

_COINS = 0x434F494E  # "COIN" in counter word 15: neither noise nor losses meet these blocks
_WIDTHS = {"cpu": (1, 4), "other": (8, 32, 128)}  # clients at once, to be measured
_TRIED_STEPS = 4  # of each client, where widths are measured


class ServerState(NamedTuple):
    """What a federated run carries beside the parameters."""

    server: PyTree  # of the algorithm
    own: PyTree  # of clients, leaves [client, ...]; None where they keep nothing
    past: PyTree  # parameters of the latest rounds, leaves [round, ...]; None if all start anew


class _Found(NamedTuple):
    """Of the clients of a round, on all devices."""

    sums: PyTree
    info: Any  # `UnitInfo`; leaves [client]
    loss: Float[Array, " client"]
    own: PyTree
    values: PyTree  # stacked, where the algorithm combines them otherwise


class FederatedStep(TrainStep):
    """`init` and `update` of federated rounds; the units are `Clients`.

    Args:
      algorithm: Such as `fedavg(loss_fn, optax.sgd(0.1))`.
      plan: A `PrivacyPlan` whose units are clients, or a `Schedule`: who takes part without one.
      clients: All clients; `update` and `fit` are given them again.
      private: Whether deltas are bounded and made noisy; by default with a `PrivacyPlan`.
      clients_at_once: Computed side by side on a device; "auto" measures before the first round.
      rows_at_full_weight: With a plan, a client counts min(rows / number, 1) times, within the
        bound. By default all count alike.
      rates: With a plan, each client's own probability to take part in a round, at most the
        plan's `sample_rate`. They must be public: from activity that is, or that is capped.
      mesh: Devices that share the clients of a round.
      seed: Of the order of rows.

    Guarantee:
      With a `PrivacyPlan`, the parameters after all rounds satisfy `plan.statement` for the
      addition or removal of a client with everything it holds, if every draw comes from the plan,
      whether a client answers depends on it alone, and the server, which sees every delta, is
      trusted. With `rates`, a drawn client stays with probability rate / sample_rate, by a coin of
      the secret key: the promise for all is that of the plan's rate, a client's own is smaller. The
      metrics are not covered.

    Raises:
      ValueError: The algorithm sends more than a plan can bound, or counts do not match.
      NotImplementedError: The plan has micro-batches, which no client is part of.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        plan: PrivacyPlan | Schedule,
        clients: Clients,
        *,
        private: bool | None = None,
        clients_at_once: int | str = AUTO,
        rows_at_full_weight: int | None = None,
        rates: Float[np.ndarray, " client"] | None = None,
        mesh: jax.sharding.Mesh | None = None,
        seed: int = 0,
    ):
        private = isinstance(plan, PrivacyPlan) if private is None else private
        if private:
            _check_private(algorithm, plan)
        if plan.num_units != len(clients):
            raise ValueError(
                f"`plan` must be of {len(clients)} clients, as `clients` holds, got one of "
                f"{plan.num_units}."
            )
        local = algorithm.local
        super().__init__(
            lambda *_: None,
            optax.identity(),
            plan,  # type: ignore[arg-type]
            local.trainable,
            private=private,
            on_mesh=None if mesh is None else OnMesh(mesh),
        )
        self.algorithm, self.clients = algorithm, clients
        self.physical_batch_size, self._program = _check_width(clients_at_once), None
        self._rounding = Rounding(local.batch_size, local.epochs, seed)
        self._full = rows_at_full_weight
        self._limits = None if rates is None else _limits(rates, plan, len(clients))
        late = getattr(plan, "most_late", 0)
        self._kept_rounds = late + 1 if algorithm.stale is not None else 0

    def _start(self, params, key):
        state = super()._start(params, key)
        trained = self.trained(state.params)
        own = past = None
        if self.algorithm.keep is not None:
            one = self.algorithm.keep(state.params)
            own = jax.tree.map(lambda leaf: _repeated(leaf, len(self.clients)), one)
        if self._kept_rounds:
            past = jax.tree.map(lambda leaf: _repeated(leaf, self._kept_rounds), trained)
        server = jax.tree.map(checks.strong_copy, self.algorithm.init(to_float32(trained)))
        return state._replace(opt_state=ServerState(server, own, past))

    def gather(self, draw: Draw, units: PyTree) -> Batch:
        """The cohort of `draw`, ahead of time."""
        if not isinstance(units, Clients) or len(units) != len(self.clients):
            raise TypeError(
                f"`units` must be the {len(self.clients)} `Clients` of the step, got "
                f"{type(units).__name__}."
            )
        places = np.where(draw.group < 0, -1, draw.indices).astype(np.int64)
        versions = getattr(draw, "versions", np.zeros(len(places), np.int32))
        # In the order of the clients: so sums do not depend on how they were drawn.
        order = np.argsort(np.where(places < 0, len(units), places), kind="stable")
        spare = -len(places) % self._shards
        cohort = gather_cohort(
            units,
            *(
                np.concatenate([part[order], np.full(spare, fill, part.dtype)])
                for part, fill in (
                    (places, -1),
                    (self._weights(units, places, draw), 0),
                    (versions, 0),
                )
            ),
            round=draw.step,
            rounding=self._rounding,
            devices=self._shards,
        )
        if self.on_mesh is None:
            placed = jax.tree.map(jnp.asarray, cohort)
        else:
            placed = jax.device_put(cohort, self.on_mesh.rows)
        return Batch(draw, placed, placed.group, self._shards)

    def _weights(self, clients: Clients, places, draw: Draw) -> Float[np.ndarray, " client"]:
        """What each answer is multiplied by, before the bound where there is one."""
        there = places >= 0
        counts = np.where(there, clients.counts[places], 0)
        if self.private:
            full = self._full
            return np.where(there, 1.0 if full is None else np.minimum(counts / full, 1.0), 0.0)
        if self._absolute:
            return getattr(draw, "scale", there) / max(getattr(draw, "draws", there.sum()), 1)
        found = (counts if self.algorithm.weights == ROWS else there) * getattr(draw, "scale", 1.0)
        return found / max(found.sum(), 1.0)

    @property
    def _absolute(self) -> bool:
        """Whether weights stand as they are, whoever answers with numbers that are not finite."""
        return self.algorithm.stale is not None or getattr(self.plan, "unbiased", False)

    def lower(self, state: TrainState, units: PyTree) -> Any:
        """The program of the smallest cohort; see `TrainStep.lower`."""
        nobody = Draw(0, *(np.full(self.plan.capacity, -1, np.int32) for _ in range(2)))
        batch = self.gather(nobody, units)
        if self.on_mesh is not None:
            self._lay(jax.tree.map(lambda leaf: leaf.sharding, state))
        state = self._prepared(state, batch.rows, batch.group)
        return self._program.lower(state, batch.rows, batch.group)

    def _choose_physical_batch(self, state, rows, group):
        """Measures how many clients at once are quickest, on the first steps of a round."""
        few = jnp.minimum(rows.work.steps, _TRIED_STEPS)
        tried = rows._replace(work=rows.work._replace(steps=few))
        kind = jax.devices()[0].platform
        most = group.shape[1]
        widths = sorted({min(width, most) for width in _WIDTHS.get(kind, _WIDTHS["other"])})
        taken = {}
        for width in widths if len(widths) > 1 else ():
            program = self._jitted(width)
            taken[width] = min(self._seconds(program, state, tried, group) for _ in range(3))
        self.physical_batch_size = min(taken, key=lambda width: taken[width], default=widths[0])
        self._program = self._jitted(self.physical_batch_size)

    @staticmethod
    def _seconds(program, state, rows, group) -> float:
        copy = jax.block_until_ready(jax.tree.map(jnp.copy, state))
        began = time.perf_counter()
        jax.block_until_ready(program(copy, rows, group))
        return time.perf_counter() - began

    def _jitted(self, physical_batch_size, strategy=None):
        del strategy
        run = functools.partial(self._round, physical_batch_size)
        if self.on_mesh is None:
            return jax.jit(run, donate_argnums=0)
        return jax.jit(run, donate_argnums=0, out_shardings=(self._layout, self.on_mesh.whole))

    def _round(self, width, state: TrainState, cohort: Cohort, group):
        held: ServerState = state.opt_state
        if self._limits is not None:
            kept = _kept(state, cohort.work.place, self._limits)
            group = jnp.where(kept, group, -1)
            steps = jnp.where(kept, cohort.work.steps, 0)
            cohort = cohort._replace(work=cohort.work._replace(steps=steps))
        found = self._answers(width, state, cohort, group)
        flat = group.reshape(-1)
        metrics = unit_metrics(self._told(found, cohort.work.weight.reshape(-1)), flat)
        places, taken = cohort.work.place.reshape(-1), _finite(found.info, flat)
        own = _put(held.own, places, found.own, taken)
        if self.private:
            clip = state.mechanism.clip
            counts = None if clip is None else whole_units(found.info, flat, clip)
            noisy, mechanism = privatize(self.plan, found.sums, state, counts, None)
            mean = jax.tree.map(lambda leaf: leaf / self.plan.divisor, noisy)
        else:
            mechanism = state.mechanism
            mean = self._mean(found, cohort.work.weight.reshape(-1), taken)
        trained, frozen = partition(state.params, self._trainable)
        answered = jnp.sum(taken, dtype=jnp.float32)
        moved = self.algorithm.apply(trained, held.server, mean, Seen(answered, len(self.clients)))
        if not self.private:  # nobody answered: all stays as it is
            stays = (trained, held.server)
            moved = jax.tree.map(lambda new, old: jnp.where(answered > 0, new, old), moved, stays)
        trained, server = moved
        past = held.past
        if past is not None:
            at = (state.step + 1) % self._kept_rounds
            past = jax.tree.map(lambda all, leaf: all.at[at].set(leaf), past, trained)
        after = ServerState(server, own, past)
        params = combine(trained, frozen)
        return TrainState(params, after, state.key, state.step + 1, mechanism), metrics

    def _answers(self, width, state: TrainState, cohort: Cohort, group) -> _Found:
        held: ServerState = state.opt_state
        own = jax.tree.map(lambda leaf: leaf.at[cohort.work.place].get(mode="clip"), held.own)
        clip = state.mechanism.clip if self.private else None
        shared = (state.params, held.server, held.past, loss_key(state), state.step, clip)
        on_device = functools.partial(self._on_device, width)
        if self.on_mesh is None:
            return on_device(shared, cohort, group, own)
        data, whole = PartitionSpec("data"), PartitionSpec()
        spread = jax.shard_map(
            functools.partial(on_device, axis="data"),
            mesh=self.on_mesh.mesh,
            in_specs=(whole, data, data, data),
            out_specs=_Found(whole, data, data, data, data),
            check_vma=False,
        )
        return spread(shared, cohort, group, own)

    def _on_device(self, width, shared, cohort: Cohort, group, own, axis=None) -> _Found:
        """The clients of one device; every leaf of a cohort has the device axis, of length 1."""
        cohort, group, own = jax.tree.map(lambda leaf: leaf[0], (cohort, group, own))
        *for_all, clip = shared
        total = bounded_sum(
            self._weighted,
            clip_norm=self.plan.clip_norm if self.private else math.inf,
            clipping=self.plan.clipping if self.private else "flat",
            physical_batch_size=width,
            has_aux=True,
        )
        of_device = (*for_all, cohort.rows, cohort.order)
        sums, info = total(of_device, (cohort.work, own), group, clip_norm=clip)
        answer = info.aux
        if axis is not None:
            sums = jax.lax.psum(sums, axis)
        values = answer.value if self.algorithm.combine is not None else None
        return _Found(sums, info._replace(aux=None), answer.loss, answer.own, values)

    def _weighted(self, shared, unit: tuple[Work, PyTree]) -> tuple[PyTree, Answer]:
        params, server, past, key, step, rows, order = shared
        work, own = unit
        weight = work.weight
        if past is not None:
            at = (step - work.version) % self._kept_rounds
            params = combine(jax.tree.map(lambda leaf: leaf[at], past), self.frozen(params))
            weight = weight * self.algorithm.stale(work.version)
        of_client = jax.random.fold_in(key, work.place)
        found = self.algorithm.answer(params, server, own, Batches(rows, order, work), of_client)
        value = jax.tree.map(lambda leaf: weight * leaf, found.value)
        kept = found.value if self.algorithm.combine is not None else None
        return value, Answer(kept, found.loss, found.own)

    def _told(self, found: _Found, weights) -> Any:
        """What metrics are made of; without a bound, norms are those before the weights."""
        info = found.info._replace(loss=found.loss)
        if self.private:
            return info
        share = jnp.where(weights > 0, weights, 1.0)
        return info._replace(norm=jax.tree.map(lambda norm: norm / share, info.norm))

    def _mean(self, found: _Found, weights, taken: Bool[Array, " client"]) -> PyTree:
        if self.algorithm.combine is not None:
            return self.algorithm.combine(found.values, taken.astype(jnp.float32))
        if self._absolute:
            return found.sums
        # Who was not finite left a gap; a single client's weight of one is exact.
        whole = jnp.sum(jnp.where(taken, weights, 0.0))
        share = jnp.where(whole > 0, whole, 1.0)
        return jax.tree.map(lambda leaf: leaf / share, found.sums)


def _check_private(algorithm: Algorithm, plan: Any) -> None:
    if not isinstance(plan, PrivacyPlan):
        raise ValueError(f"`plan` must be a `PrivacyPlan`, got {type(plan).__name__}.")
    if not algorithm.bounded:
        raise ValueError(
            "`algorithm` must send the change of the parameters alone where a plan bounds it, such "
            "as `fedavg(loss_fn, client)`; got one that sends or combines more."
        )
    if algorithm.keep is not None:
        raise ValueError(
            "`algorithm` must keep no state at the clients where a plan is to cover what is "
            "trained, got one that does."
        )
    if plan.num_microbatches:
        raise NotImplementedError(
            "`plan` must have clients for units in federated rounds, got `num_microbatches`="
            f"{plan.num_microbatches}."
        )


def _check_width(clients_at_once: int | str) -> int | str:
    whole = isinstance(clients_at_once, int) and not isinstance(clients_at_once, bool)
    if clients_at_once != AUTO and not (whole and clients_at_once >= 1):
        raise ValueError(
            f'`clients_at_once` must be a positive integer or "auto", got {clients_at_once!r}.'
        )
    return clients_at_once


def _limits(rates, plan: Any, clients: int) -> tuple[np.ndarray, np.ndarray]:
    """The largest word of each client's coin that keeps it, and whether any does."""
    rates = np.asarray(rates, np.float64)
    if rates.shape != (clients,) or not ((rates >= 0) & (rates <= plan.sample_rate)).all():
        raise ValueError(
            f"`rates` must be {clients} numbers from 0 to the plan's `sample_rate` of "
            f"{plan.sample_rate:g}, got {rates.shape} from {rates.min():g} to {rates.max():g}: the "
            "plan covers no client that takes part more often."
        )
    words = np.floor(rates / plan.sample_rate * 2.0**32)  # rounded down: never above the rate
    return np.maximum(words - 1, 0).astype(np.uint32), words > 0


def _kept(state: TrainState, places, limits) -> Bool[Array, "*client"]:
    """Who stays of a draw, by coins that depend on key, round and client alone."""
    largest, any_does = (jnp.asarray(part).at[places].get(mode="clip") for part in limits)
    zero = jnp.zeros_like(places, jnp.uint32)
    step = zero + state.step.astype(jnp.uint32)
    counter = (places.astype(jnp.uint32), zero, step, zero + jnp.uint32(_COINS))
    return any_does & (chacha_blocks(state.key, counter)[0] <= largest)


def _finite(info, group) -> Bool[Array, " client"]:
    """Who answered with finite numbers."""
    factors = jnp.stack(jax.tree.leaves(info.clip_factor)).min(0)
    norms = jnp.stack(jax.tree.leaves(info.norm)).max(0)
    return (group >= 0) & (factors > 0) & jnp.isfinite(norms)


def _put(own: PyTree, places, new: PyTree, taken) -> PyTree:
    """The states of clients, with those of a round in their places."""
    size = None if own is None else jax.tree.leaves(own)[0].shape[0]
    where = jnp.where(taken, places, size or 0)  # beyond the end: dropped
    return jax.tree.map(lambda all, part: all.at[where].set(part, mode="drop"), own, new)


def _repeated(leaf, number: int):
    return jnp.broadcast_to(leaf, (number, *leaf.shape)) + jnp.zeros((), leaf.dtype)
