"""One step of training: from a draw and a state to the next state."""

import functools
import hashlib
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Int, PyTree, UInt32

from trustml.bookkeeping.values import to_float32
from trustml.clipping import combine, partition
from trustml.clipping.gradient import TUNE
from trustml.noise import check_key, key_from_seed, new_key
from trustml.plan import PrivacyPlan
from trustml.sampling import Draw
from trustml.training import checks
from trustml.training.batches import Batch, batch_shapes, check_whole, gather
from trustml.training.checks import AUTO
from trustml.training.memory import enough_units, largest_physical_batch, out_of_memory
from trustml.training.mesh import OnMesh
from trustml.training.metrics import StepMetrics
from trustml.training.privatizer import MechanismState, begin, restore_noise_state


class TrainState(NamedTuple):
    """State between steps. Secret while training: who knows `key` can subtract the noise."""

    params: PyTree
    opt_state: PyTree
    key: UInt32[Array, "8"]
    step: Int[Array, ""]  # updates so far; the next draw must be of this step
    mechanism: MechanismState | None = None  # of a private step


class TrainStep:
    """`init` and `update` of one way to train; see `private_step` and `baseline_step`.

    Attributes:
      plan: The plan whose draws `update` accepts.
      private: Whether the plan's guarantee holds for the weights.
      strategy: How gradients are clipped; "tune" until the first data are seen.
      physical_batch_size: Units computed at a time; "auto" until the first data are seen. None
        for all.
      on_mesh: Where rows and state lie; None on one device.
    """

    measures_width = False  # whether "auto" is measured, and may be another number next time

    def __init__(
        self,
        sums_with,
        optimizer,
        plan: PrivacyPlan,
        trainable,
        *,
        private: bool,
        strategy: str = "auto",
        physical_batch_size=None,
        on_mesh: OnMesh | None = None,
        loss: Callable = lambda params, unit: 0.0,
        measure: Callable = lambda state, rows: {"auto": 0.0},
        shorten: Callable | None = None,
    ):
        checks.check_optimizer(optimizer, {"w": jnp.zeros(2)})
        checks.check_physical_batch_size(physical_batch_size)
        self.plan, self.private = plan, private
        self.strategy, self.on_mesh = strategy, on_mesh
        self.physical_batch_size = physical_batch_size
        self._layout: Any = None  # on a mesh, the shardings of a state
        self._sums_with, self._optimizer, self._trainable = sums_with, optimizer, trainable
        self._shorten = checks.check_shorten(shorten, on_mesh)
        self._loss = loss  # `loss(params, unit)`, whose size says how many units are enough
        self._measure = measure  # milliseconds of strategies, from a state and rows
        self._fingerprint = plan.fingerprint
        self._program: Any = None
        self._uncut: Any = None  # shapes of a drawn batch before it is shortened
        self._waited_for: Any = None  # the program whose first step has ended
        self._at: tuple[Any, int] = (None, -1)
        if on_mesh is not None:  # its program waits for the state's layout
            on_mesh.check_physical_batch_size(physical_batch_size)
        elif physical_batch_size != AUTO and strategy != TUNE:
            self._program = self._jitted(physical_batch_size)

    def init(self, params: PyTree, key: UInt32[Array, "8"] | int | None = None) -> TrainState:
        """The state before the first step; `params` are copied.

        Args:
          params: Weights to start from. On a mesh they stay as they lie on it, and others are put
            on every device; what the optimizer keeps for a weight lies as the weight does.
          key: None for a fresh 256-bit key. A key of `trustml.noise`, or an integer seed for
            `key_from_seed`, makes the run repeatable for whoever has it.

        Raises:
          ValueError: The parameters hold batch statistics or lie on other devices than the mesh,
            or the optimizer needs the loss.
        """
        if key is None:
            key = new_key()
        elif isinstance(key, int):
            key = key_from_seed(key)
        if self.on_mesh is None:
            return self._start(params, key)
        self._lay(jax.tree.map(lambda leaf: leaf.sharding, self.shapes(params)))
        start = jax.jit(self._start, out_shardings=self._layout)
        return start(self.on_mesh.place(params), self.on_mesh.shared(check_key(key)))

    def shapes(self, params: PyTree) -> TrainState:
        """Shapes of the state from `init`, to compile for devices that are not at hand.

        Args:
          params: Arrays or `jax.ShapeDtypeStruct`, with shardings where they have one.
        """
        key = jax.ShapeDtypeStruct((8,), jnp.uint32)
        found = jax.eval_shape(self._start, params, key)
        return found if self.on_mesh is None else self.on_mesh.laid_out(found, params)

    def _start(self, params, key):
        params = jax.tree.map(checks.strong_copy, params)
        trained = to_float32(self.trained(params))
        checks.check_no_batch_statistics(self.trained(params))
        checks.check_optimizer(self._optimizer, trained)
        opt_state = jax.tree.map(checks.strong_copy, self._optimizer.init(trained))
        key = checks.strong_copy(check_key(key))
        mechanism = begin(self.plan, trained) if self.private else None
        return TrainState(params, opt_state, key, jnp.zeros((), jnp.int32), mechanism)

    def restore_noise_state(self, state: TrainState) -> TrainState:
        """`state`, read from a checkpoint, with what its noise carries made from its key anew."""
        return (
            restore_noise_state(self.plan, state, self.trained(state.params))
            if self.private
            else state
        )

    def trained(self, params: PyTree) -> PyTree:
        """The leaves that steps change, None in place of the others."""
        return partition(params, self._trainable)[0]

    def frozen(self, params: PyTree) -> PyTree:
        """The leaves that stay as they are, None in place of the others."""
        return partition(params, self._trainable)[1]

    def update(
        self, state: TrainState, draw: Draw, units: PyTree
    ) -> tuple[TrainState, StepMetrics]:
        """One step on the units of `draw`. One compiled program serves all draws.

        Args:
          state: Of `init` or the last update. It is donated: do not use it again.
          draw: The draw of `plan.batches()` for the step the state is at.
          units: The whole data, leading axis = unit: NumPy arrays are gathered on the host, JAX
            arrays on the device, and of a `RowSource` the rows of the draw alone are read. Or the
            `Batch` that `gather` made of this draw.

        Returns:
          `(state, metrics)`; the metrics are private.

        Raises:
          ValueError: The draw is of another plan or step, or the data of another size.
          MemoryError: The step does not fit; the message says what would. The state is lost.
        """
        # Asking the device would wait for the last step; what we returned ourselves we know.
        step = self._at[1] if self._at[0] is state.step else int(state.step)
        checks.check_draw(draw, self._fingerprint, step, self.plan.steps)
        batch = units if isinstance(units, Batch) else self.gather(draw, units)
        if batch.draw is not draw:
            raise ValueError("`units` must be the batch gathered for `draw`, got another one.")
        if batch.shards != self._shards:
            raise ValueError(
                f"`units` must be gathered by this step, for a mesh of {self._shards} shards, got "
                f"a batch for {batch.shards}."
            )
        group = jnp.asarray(draw.group) if batch.group is None else batch.group
        state = self._prepared(state, batch.rows, group)
        try:
            state, metrics = self._program(state, batch.rows, group)
            if self._waited_for is not self._program:
                # Programs run on while Python does; later, nobody would know what did not fit.
                jax.block_until_ready(metrics)
                self._waited_for = self._program
        except jax.errors.JaxRuntimeError as error:
            if not re.search("RESOURCE_EXHAUSTED|[Oo]ut of memory", str(error)):
                raise
            raise self._out_of_memory(state, batch.rows, group) from error
        self._at = (state.step, step + 1)
        return state, metrics

    def gather(self, draw: Draw, units: PyTree) -> Batch:
        """The rows of `draw`, ahead of time; `update` takes them in place of the whole data."""
        if self.on_mesh is not None:
            self.on_mesh.check_draws(draw)
        batch = gather(draw, units, self.plan.num_units, self.on_mesh)
        if self._shorten is None or self._cuts_slices:
            return batch
        self._uncut = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), batch.rows
        )
        return batch._replace(rows=self._shorten(batch.rows, np.asarray(draw.group) >= 0))

    def program(self, state: TrainState, units: PyTree) -> str:
        """SHA-256 of the text of the step's program, before XLA compiles it.

        It covers the loss, the optimizer and its schedule, bound, noise, strategy, micro-batch and
        mesh: what two processes share if and only if they carry out the same step.

        Raises:
          ValueError: The data are of another size than the plan says.
        """
        return hashlib.sha256(self.lower(state, units).as_text().encode()).hexdigest()

    def lower(self, state: TrainState, units: PyTree) -> Any:
        """The step's program, a `jax.stages.Lowered`: compiled, it says what the step takes.

        Args:
          state: Of `init`, or its `shapes`.
          units: The whole data, or its shapes.

        Raises:
          ValueError: The data are of another size than the plan says.
        """
        check_whole(units, self.plan.num_units)
        rows, group = batch_shapes(units, self.plan.capacity, self.on_mesh)
        if self.on_mesh is not None:
            self._lay(jax.tree.map(lambda leaf: leaf.sharding, state))
        state = self._prepared(state, rows, group)
        return self._program.lower(state, rows, group)

    @property
    def _cuts_slices(self) -> bool:
        """Whether the program cuts its slices, or will if it finds that there are several."""
        size, capacity = self.physical_batch_size, self.plan.capacity
        several = size == AUTO or (size or capacity) < capacity
        return several and checks.cuts_of(self._shorten) is not None

    @property
    def _shards(self) -> int:
        return 1 if self.on_mesh is None else self.on_mesh.shards

    def _prepared(self, state, rows, group):
        """The state where it belongs; and the program for it, if there is none yet."""
        if self.on_mesh is not None:
            state = self.on_mesh.settled(state)
            if self._layout is None:
                self._lay(jax.tree.map(lambda leaf: leaf.sharding, state))
        if self._program is None and self.strategy == TUNE:
            self._choose_strategy(state, rows)
        if self._program is None and self.physical_batch_size == AUTO:
            self._choose_physical_batch(state, rows if self._uncut is None else self._uncut, group)
        elif self._program is None:
            self._program = self._jitted(self.physical_batch_size)
        return state

    def spread(self, sums: PyTree) -> PyTree | None:
        """On a mesh: how the weights lie that `sums` belong to."""
        if self._layout is None:
            return None
        return jax.tree.map(
            lambda leaf, lies: None if leaf is None else lies,
            sums,
            self._layout.params,
            is_leaf=lambda leaf: leaf is None,
        )

    def constrain_sharding(self, sums: PyTree) -> PyTree:
        """Within the program: `sums` as their weights lie, so that noise is drawn there."""
        spread = self.spread(sums)
        return sums if spread is None else jax.lax.with_sharding_constraint(sums, spread)

    def _lay(self, layout):
        if layout != self._layout:
            self._layout, self._program = layout, None

    def _choose_strategy(self, state, rows):
        size, capacity = self.physical_batch_size, self.plan.capacity
        size = self._enough_units(capacity, state, rows) if size == AUTO else size or capacity
        alike = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((min(size, len(leaf)), *leaf.shape[1:]), leaf.dtype),
            rows,
        )
        found = self._measure(state, alike)
        self.strategy = min(found, key=lambda name: found[name])

    def _enough_units(self, capacity: int, state, rows) -> int:
        unit = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), rows)
        return enough_units(capacity, self._loss, state.params, unit)

    def _choose_physical_batch(self, state, rows, group):
        programs = {}

        def compiled(share):
            programs[share] = self._jitted(share and share * self._shards)
            # JAX keeps what it compiled: the step of these shapes does not compile again.
            return programs[share].lower(state, rows, group).compile()

        capacity = -(-self.plan.capacity // self._shards)
        most = self._enough_units(capacity, state, rows)
        share, _ = largest_physical_batch(compiled, capacity, most=most)
        self.physical_batch_size, self._program = share and share * self._shards, programs[share]

    def _out_of_memory(self, state, rows, group) -> MemoryError:
        """An error that says what would fit."""
        share = (
            None if self.physical_batch_size is None else self.physical_batch_size // self._shards
        )
        most = share or -(-self.plan.capacity // self._shards)
        shapes = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding),
            (state, rows, group),
        )

        def compiled(share, strategy=None):
            program = self._jitted(share and share * self._shards, strategy)
            return program.lower(*shapes).compile()

        other = "ghost" if self.private and self.strategy != "ghost" else None
        return out_of_memory(compiled, share, most, self._shards, other)

    def _jitted(self, physical_batch_size, strategy=None):
        sums_of = self._sums_with(self, strategy or self.strategy, physical_batch_size)
        run = functools.partial(self._run, sums_of)
        if self.on_mesh is None:
            return jax.jit(run, donate_argnums=0)
        pinned = (self._layout, self.on_mesh.whole)  # or what XLA prefers moves the state
        return jax.jit(run, donate_argnums=0, out_shardings=pinned)

    def _run(self, sums_of, state, rows, group):
        if self.on_mesh is None:
            sums, metrics, mechanism = sums_of(state, rows, group)
        else:
            params = self.on_mesh.gathered(state.params, self._layout.params)
            sums, metrics, mechanism = sums_of(state._replace(params=params), rows, group)
            order = functools.partial(self.on_mesh.in_order, size=self.plan.capacity)
            metrics = metrics._replace(aux=jax.tree.map(order, metrics.aux))
        return self.apply(state, sums, mechanism), metrics

    def apply(
        self, state: TrainState, sums: PyTree, mechanism: MechanismState | None = None
    ) -> TrainState:
        """The next state, from the sums of a step: their mean through the optimizer.

        Args:
          state: Before the step.
          sums: Noisy ones of a private step, like its trained weights.
          mechanism: After the step.
        """
        trained, frozen = partition(state.params, self._trainable)
        # A public number: dividing by the drawn size would release it.
        divisor = self.plan.divisor if self.private else self.plan.expected_batch
        mean = jax.tree.map(lambda leaf: leaf / divisor, sums)
        with checks.loose_promotion():
            updates, opt_state = self._optimizer.update(mean, state.opt_state, to_float32(trained))
            trained = optax.apply_updates(trained, updates)
        params = combine(trained, frozen)
        return TrainState(params, opt_state, state.key, state.step + 1, mechanism)
