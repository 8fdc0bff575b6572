"""The clients of a round, computed: one after another or side by side, on one device or several."""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float, PyTree, UInt32

from trustml.clipping import bounded_sum, combine
from trustml.clipping.sums import UnitInfo
from trustml.federated.algorithms.algorithm import Algorithm, Answer
from trustml.federated.cohort import Batches, Cohort, Work
from trustml.noise.chacha import chacha_blocks
from trustml.training.mesh import OnMesh
from trustml.training.steps import loss_key

_COINS = 0x434F494E  # "COIN" in counter word 15: neither noise nor losses meet these blocks


class ServerState(NamedTuple):
    """What a federated run carries beside the parameters."""

    server: PyTree  # of the algorithm
    own: PyTree  # of clients, leaves [client, ...]; None where they keep nothing
    past: PyTree  # trained leaves of the latest rounds; None if all start from the newest


class Shared(NamedTuple):
    """What all clients of a round are given."""

    params: PyTree
    server: PyTree
    past: PyTree  # trained leaves of the latest rounds, leaves [round, ...]
    step: Any
    key: Any


class Answers(NamedTuple):
    """Of the clients of a round, on all devices."""

    sums: PyTree
    info: UnitInfo  # leaves [client]
    loss: Float[Array, " client"]
    own: PyTree  # leaves [client, ...]
    values: PyTree  # likewise, where the algorithm combines them otherwise

    def taken(self, group) -> Bool[Array, " client"]:
        """Who answered with finite numbers."""
        factors = jnp.stack(jax.tree.leaves(self.info.clip_factor)).min(0)
        norms = jnp.stack(jax.tree.leaves(self.info.norm)).max(0)
        return (group >= 0) & (factors > 0) & jnp.isfinite(norms)


class Coins(NamedTuple):
    """By which coin each client stays in a round that it was drawn for.

    Guarantee:
      A Poisson draw at the largest rate becomes one at each client's own rate: every client has a
      coin of its own in every round, by the secret key, whoever else was drawn. So a plan's
      statement at that largest rate holds for all, and a client's own epsilon is that of its own
      rate; see `trustml.federated.rates.price`. Rates must be public and fixed before: they show
      the activity of every client, which must be public. If a client's data decide its rate or that
      of others, seeing who takes part is seeing the data, and nothing is claimed.
    """

    largest: UInt32[np.ndarray, " client"]  # the largest word that keeps it
    any_does: Bool[np.ndarray, " client"]

    @classmethod
    def of_rates(cls, rates: Any, most: float, clients: int) -> "Coins":
        """Coins that keep a client with probability rate / most, or just below.

        Raises:
          ValueError: A rate is above `most`, or they are not one per client.
        """
        rates = np.asarray(rates, np.float64)
        if rates.shape != (clients,) or not ((rates >= 0) & (rates <= most)).all():
            raise ValueError(
                f"`rates` must be {clients} numbers from 0 to the plan's `sample_rate` of "
                f"{most:g}, got {rates.shape} from {rates.min():g} to {rates.max():g}: the plan "
                "covers no client that takes part more often."
            )
        words = np.floor(rates / most * 2.0**32)
        return cls(np.maximum(words - 1, 0).astype(np.uint32), words > 0)

    def kept(self, state: Any, places) -> Bool[Array, "*client"]:
        """Who stays, by key, round and client alone."""
        largest, any_does = (jnp.asarray(part).at[places].get(mode="clip") for part in self)
        zero = jnp.zeros_like(places, jnp.uint32)
        step = zero + state.step.astype(jnp.uint32)
        counter = (places.astype(jnp.uint32), zero, step, zero + jnp.uint32(_COINS))
        return any_does & (chacha_blocks(state.key, counter)[0] <= largest)


@dataclasses.dataclass(frozen=True, eq=False)
class Execution:
    """How the answers of a round come about.

    Args:
      algorithm: What a client does.
      clip_norm: Bound of an answer; infinity only drops what is not finite.
      clipping: As in `trustml.bounded_sum`.
      kept_rounds: Rounds whose parameters are kept; 0 if all clients start from the newest.
      on_mesh: Devices that share the clients.
    """

    algorithm: Algorithm
    clip_norm: Any = math.inf
    clipping: str = "flat"
    kept_rounds: int = 0
    on_mesh: OnMesh | None = None

    def answers(self, width: int, state: Any, cohort: Cohort, group, clip: Any = None) -> Answers:
        """The bounded sum of the answers, and what came with them.

        Args:
          width: Clients computed side by side on a device.
          state: Of the training.
          cohort: Who takes part.
          group: 0, or -1 for who does not answer; [device, client].
          clip: Bounds that take the place of `clip_norm`.
        """
        held = state.opt_state
        own = jax.tree.map(lambda leaf: leaf.at[cohort.work.place].get(mode="clip"), held.own)
        shared = Shared(state.params, held.server, held.past, state.step, loss_key(state))
        on_device = functools.partial(self._on_device, width)
        if self.on_mesh is None:
            return on_device((shared, clip), cohort, group, own)
        data, whole = PartitionSpec("data"), PartitionSpec()
        spread = jax.shard_map(
            functools.partial(on_device, axis="data"),
            mesh=self.on_mesh.mesh,
            in_specs=(whole, data, data, data),
            out_specs=Answers(whole, data, data, data, data),  # type: ignore[arg-type]
            check_vma=False,
        )
        return spread((shared, clip), cohort, group, own)

    def _on_device(self, width, for_all, cohort: Cohort, group, own, axis=None) -> Answers:
        """The clients of one device; every leaf of a cohort has the device axis, of length 1."""
        cohort, group, own = jax.tree.map(lambda leaf: leaf[0], (cohort, group, own))
        shared, clip = for_all
        total = bounded_sum(
            self._weighted,
            clip_norm=self.clip_norm,
            clipping=self.clipping,
            physical_batch_size=width,
            has_aux=True,
        )
        of_device = (shared, cohort.rows, cohort.order)
        sums, info = total(of_device, (cohort.work, own), group, clip_norm=clip)
        answer = info.aux
        if axis is not None:
            sums = jax.lax.psum(sums, axis)
        return Answers(sums, info._replace(aux=None), answer.loss, answer.own, answer.value)

    def _weighted(self, of_device, unit: tuple[Work, PyTree]) -> tuple[PyTree, Answer]:
        """One client's answer times its weight; and its loss, its state, and what is combined."""
        shared, rows, order = of_device
        work, own = unit
        params, weight = shared.params, work.weight
        if self.algorithm.stale is not None:
            params = self._earlier(shared, work)
            weight = weight * self.algorithm.stale(work.version)
        key = jax.random.fold_in(shared.key, work.place)
        batches = Batches(rows, order, work)
        found = self.algorithm.answer(params, shared.server, own, batches, key)
        value = jax.tree.map(lambda leaf: weight * leaf, found.value)
        kept = found.value if self.algorithm.combine is not None else None
        return value, Answer(kept, found.loss, found.own)

    def _earlier(self, shared: Shared, work: Work) -> PyTree:
        """The parameters that a client starts from, where these may be old."""
        at = (shared.step - work.version) % self.kept_rounds
        frozen = jax.tree.map(
            lambda leaf, new: None if leaf is not None else new,
            shared.past,
            shared.params,
            is_leaf=lambda leaf: leaf is None,
        )
        return combine(jax.tree.map(lambda leaf: leaf[at], shared.past), frozen)
