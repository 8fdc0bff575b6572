"""One federated round as a step of training: `trustml.fit` runs it, with ledger and resume."""

import functools
import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Bool, Float, PyTree

from trustml.bookkeeping.values import to_float32
from trustml.clipping import combine, partition
from trustml.federated.algorithms.algorithm import ROWS, Algorithm, Seen
from trustml.federated.checks import check_private, check_schedule, check_width
from trustml.federated.clients import Clients
from trustml.federated.cohort import Cohort, Rounding, gather_cohort
from trustml.federated.execution import Answers, Coins, Execution, ServerState
from trustml.federated.schedule import Schedule
from trustml.federated.validation import check_whole
from trustml.federated.widths import quickest_width
from trustml.plan import PrivacyPlan
from trustml.sampling import Draw
from trustml.training import checks
from trustml.training.batches import Batch
from trustml.training.checks import AUTO
from trustml.training.mesh import OnMesh
from trustml.training.metrics import StepMetrics, unit_metrics
from trustml.training.privatizer import MechanismState, privatize, whole_units
from trustml.training.train_step import TrainState, TrainStep


class FederatedStep(TrainStep):
    """`init` and `update` of federated rounds; the units are `Clients`.

    >>> from trustml.federated import fedavg
    >>> clients = Clients.from_arrays(np.float32([1, 3, 5]), np.array([0, 0, 1]))
    >>> algorithm = fedavg(lambda w, x: 0.5 * (w - x) ** 2, optax.sgd(1.0), weights="clients")
    >>> schedule = Schedule(steps=1, clients_per_round=2, activity=clients.counts)
    >>> step = FederatedStep(algorithm, schedule, clients)
    >>> draw = next(schedule.batches(seed=0))
    >>> float(step.update(step.init(jnp.zeros(())), draw, clients)[0].params)
    3.5

    Args:
      algorithm: Such as `fedavg(loss_fn, optax.sgd(0.1))`.
      plan: A `PrivacyPlan` whose units are clients, or a `Schedule`: who takes part without one.
      clients: All clients; `update` and `fit` are given them again.
      private: Whether answers are bounded and made noisy; by default with a `PrivacyPlan`.
      clients_at_once: Computed side by side on a device; "auto" measures before the first round,
        which a run in a folder refuses.
      rows_at_full_weight: With a plan, a client counts min(rows / number, 1) times, within the
        bound. By default all count alike.
      rates: With a plan, each client's own probability to take part in a round, at most the
        plan's `sample_rate`. They must be public, as the activity they are made of.
      mesh: Devices that share the clients of a round.
      seed: Of the order of rows.

    Guarantee:
      With a `PrivacyPlan`, the parameters after all rounds satisfy `plan.statement` for the
      addition or removal of a client with everything it holds, if every draw comes from the plan,
      whether a client answers depends on it alone, and the server, which sees every answer, is
      trusted. With `rates`, a drawn client stays with probability rate / sample_rate, by a coin of
      the secret key: the promise for all is that of the plan's rate, a client's own is smaller. The
      metrics are not covered.

    Raises:
      ValueError: The algorithm sends more than a plan can bound, or counts do not match.
      NotImplementedError: The plan has micro-batches, which no client is part of.
    """

    measures_width = True

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
            check_private(algorithm, plan, rates)
        else:
            check_schedule(algorithm, plan)
        if plan.num_units != len(clients):
            raise ValueError(
                f"`plan` must be of {len(clients)} clients, as `clients` holds, got one of "
                f"{plan.num_units}."
            )
        local, on_mesh = algorithm.local, None if mesh is None else OnMesh(mesh)
        super().__init__(
            lambda *_: None,
            optax.identity(),
            plan,  # type: ignore[arg-type]
            local.trainable,
            private=private,
            on_mesh=on_mesh,
        )
        self.algorithm, self.clients = algorithm, clients
        self.physical_batch_size, self._program = check_width(clients_at_once), None
        self._rounding = Rounding(local.batch_size, local.epochs, seed)
        if rows_at_full_weight is not None:
            check_whole("rows_at_full_weight", rows_at_full_weight, least=1)
        self._full = rows_at_full_weight
        # Public either way: how many answer on average.
        self._divisor = getattr(plan, "divisor", 1.0) if rates is None else float(np.sum(rates))
        self._coins = None
        if rates is not None:
            self._coins = Coins.of_rates(rates, getattr(plan, "sample_rate", 1.0), len(clients))
        kept_rounds = getattr(plan, "most_late", 0) + 1 if algorithm.stale is not None else 0
        bound: dict[str, Any] = {}
        if isinstance(plan, PrivacyPlan) and private:
            bound = {"clip_norm": plan.clip_norm, "clipping": plan.clipping}
        self._execution = Execution(algorithm, kept_rounds=kept_rounds, on_mesh=on_mesh, **bound)

    def _start(self, params, key):
        state = super()._start(params, key)
        trained = self.trained(state.params)
        own = past = None
        if self.algorithm.keep is not None:
            own = _repeated(self.algorithm.keep(state.params), len(self.clients))
        if self._execution.kept_rounds:
            past = _repeated(trained, self._execution.kept_rounds)
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
        weights = self._weights(units, places, draw)
        # In the order of the clients: so sums do not depend on how they were drawn.
        order = np.argsort(np.where(places < 0, len(units), places), kind="stable")
        spare = -len(places) % self._shards
        cohort = gather_cohort(
            units,
            *(
                np.concatenate([part[order], np.full(spare, fill, part.dtype)])
                for part, fill in ((places, -1), (weights, 0), (versions, 0))
            ),
            round=draw.step,
            rounding=self._rounding,
            devices=self._shards,
        )
        placed = jax.device_put(cohort, None if self.on_mesh is None else self.on_mesh.rows)
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

    def program(self, state: TrainState, units: PyTree) -> str:
        """SHA-256 of the program, and of what makes a cohort before it; see `TrainStep.program`."""
        coins = b"" if self._coins is None else self._coins.largest.tobytes()
        rates = hashlib.sha256(coins).hexdigest()
        told = f"{self._rounding} {self._full} {rates} {super().program(state, units)}"
        return hashlib.sha256(told.encode()).hexdigest()

    def lower(self, state: TrainState, units: PyTree) -> Any:
        """The program of the smallest cohort; see `TrainStep.lower`."""
        nobody = Draw(0, *(np.full(self.plan.capacity, -1, np.int32) for _ in range(2)))
        batch = self.gather(nobody, units)
        if self.on_mesh is not None:
            self._lay(jax.tree.map(lambda leaf: leaf.sharding, state))
        state = self._prepared(state, batch.rows, batch.group)
        return self._program.lower(state, batch.rows, batch.group)

    def _choose_physical_batch(self, state, rows, group):
        width = quickest_width(self._jitted, state, rows, group)
        self.physical_batch_size, self._program = width, self._jitted(width)

    def _jitted(self, physical_batch_size, strategy=None):
        del strategy
        run = functools.partial(self._round, physical_batch_size)
        if self.on_mesh is None:
            return jax.jit(run, donate_argnums=0)
        return jax.jit(run, donate_argnums=0, out_shardings=(self._layout, self.on_mesh.whole))

    def _round(self, width: int, state: TrainState, cohort: Cohort, group):
        held: ServerState = state.opt_state
        if self._coins is not None:
            kept = self._coins.kept(state, cohort.work.place) & (group >= 0)
            # Those who stay come first, in their order: the others are not computed.
            order = jnp.argsort(~kept, axis=1, stable=True)
            work = jax.tree.map(lambda leaf: jnp.take_along_axis(leaf, order, 1), cohort.work)
            cohort = cohort._replace(work=work)
            group = jnp.where(jnp.take_along_axis(kept, order, 1), 0, -1)
        clip = state.mechanism.clip if state.mechanism is not None else None
        found = self._execution.answers(width, state, cohort, group, clip)
        flat, weights = group.reshape(-1), cohort.work.weight.reshape(-1)
        taken = found.taken(flat)
        own = _put(held.own, cohort.work.place.reshape(-1), found.own, taken)
        mean, mechanism = self._mean(state, found, flat, weights)
        answered = jnp.sum(taken, dtype=jnp.float32)
        if self.private:  # whether anybody answered, and how many, is not to be seen
            answered = jnp.float32(self._divisor)
        trained, server = self._moved(state, mean, answered)
        past = self._with_newest(held.past, trained, state.step)
        params = combine(trained, partition(state.params, self._trainable)[1])
        after = TrainState(
            params, ServerState(server, own, past), state.key, state.step + 1, mechanism
        )
        return after, self._metrics(found, flat, weights)

    def _mean(self, state, found: Answers, group, weights) -> tuple[PyTree, MechanismState | None]:
        """The mean answer, and the mechanism after it."""
        if self.private:
            assert state.mechanism is not None
            clip = state.mechanism.clip
            counts = None if clip is None else whole_units(found.info, group, clip)
            noisy, mechanism = privatize(self.plan, found.sums, state, counts, None)
            return jax.tree.map(lambda leaf: leaf / self._divisor, noisy), mechanism
        taken = found.taken(group)
        if self.algorithm.combine is not None:
            return self.algorithm.combine(found.values, taken.astype(jnp.float32)), None
        if self._absolute:
            return found.sums, None
        # Who was not finite left a gap; a single client's weight of one is exact.
        whole = jnp.sum(jnp.where(taken, weights, 0.0))
        share = jnp.where(whole > 0, whole, 1.0)
        return jax.tree.map(lambda leaf: leaf / share, found.sums), None

    def _moved(self, state: TrainState, mean: PyTree, answered) -> tuple[PyTree, PyTree]:
        """Trained leaves and server state after the round."""
        stays = (partition(state.params, self._trainable)[0], state.opt_state.server)
        moved = self.algorithm.apply(*stays, mean, Seen(answered, len(self.clients)))
        if self.private:
            return moved
        return jax.tree.map(lambda new, old: jnp.where(answered > 0, new, old), moved, stays)

    def _with_newest(self, past: PyTree, trained: PyTree, step) -> PyTree:
        if past is None:
            return None
        at = (step + 1) % self._execution.kept_rounds
        return jax.tree.map(lambda all, leaf: all.at[at].set(leaf), past, trained)

    def _metrics(self, found: Answers, group, weights) -> StepMetrics:
        info = found.info._replace(loss=found.loss)
        if not self.private:  # norms are those before the weights
            share = jnp.where(weights > 0, weights, 1.0)
            info = info._replace(norm=jax.tree.map(lambda norm: norm / share, info.norm))
        return unit_metrics(info, group)


def _put(own: PyTree, places, new: PyTree, taken: Bool[Any, " client"]) -> PyTree:
    """The states of clients, with those of a round in their places."""
    size = None if own is None else jax.tree.leaves(own)[0].shape[0]
    where = jnp.where(taken, places, size or 0)  # beyond the end: dropped
    return jax.tree.map(lambda all, part: all.at[where].set(part, mode="drop"), own, new)


def _repeated(tree: PyTree, number: int) -> PyTree:
    return jax.tree.map(lambda leaf: jnp.tile(leaf, (number, *(1,) * leaf.ndim)), tree)
