"""Runs what was read: hoisted values once, the data part per unit with taps and captures.

A *tap* is a value of zero added to a site's output: its cotangent is the unit's cotangent there. A
*capture* is a data input of a site that the gradient needs. Inside a loop both get the loop's axis.
"""

import functools

import jax
import jax.numpy as jnp

from trustml.bookkeeping.values import Block, Data, Hoisted, Loop, Site


@jax.custom_jvp
def tap(value, zero):
    """`value`, with a second path for tangents, so that zeros are never read or added."""
    del zero
    return value


@tap.defjvp
def _tap_jvp(primals, tangents):
    return primals[0], tangents[0] + tangents[1]


def bind(eqn, *values):
    """Applies one equation to values, under the settings it was traced with."""
    with eqn.ctx.manager:
        found = eqn.primitive.bind(*values, **eqn.primitive.get_bind_params(eqn.params))
    return tuple(found) if eqn.primitive.multiple_results else (found,)


def over_loops(function, loops, stacks):
    """Maps `function` over leading loop axes; `stacks[i]` says which loops argument i has."""
    for loop in reversed(loops):
        axes = tuple(0 if loop in stack else None for stack in stacks)
        function = jax.vmap(function, in_axes=axes, axis_size=loop.length)
    return function


class HoistedValues:
    """Evaluates hoisted values on demand, each equation once."""

    def __init__(self, inputs):
        self.inputs = inputs
        self._known: dict = {}
        self._equations: dict = {}

    def __getitem__(self, value: Hoisted):
        if value not in self._known:
            self._known[value] = self._compute(value)
        return self._known[value]

    def __setitem__(self, value: Hoisted, array):
        self._known[value] = array

    def _compute(self, value: Hoisted):
        if value.kind == "input":
            return self.inputs[value.index]
        if value.kind == "const":
            return value.value
        if value.kind in ("slice", "unslice"):
            return self[value.parents[0]]
        if value.kind == "repeat":
            array = self._parent(value.parents[0])
            place = len(value.stack)
            shape = (*array.shape[:place], value.index, *array.shape[place:])
            return jnp.broadcast_to(jnp.expand_dims(array, place), shape)
        key = (id(value.eqn), value.parents)
        if key not in self._equations:
            stacks = [getattr(parent, "stack", ()) for parent in value.parents]
            function = over_loops(functools.partial(bind, value.eqn), value.stack, stacks)
            self._equations[key] = function(*(self._parent(parent) for parent in value.parents))
        return self._equations[key][value.output]

    def _parent(self, parent):
        return self[parent] if isinstance(parent, Hoisted) else parent.array()


def zero_taps(site: Site, batch: int) -> list:
    """Taps for a batch: one array per differentiable output, [loops, unit, ...]."""
    lengths = [loop.length for loop in site.loops]
    avals = [site.outputs[place].aval for place in site.tapped()]
    return [jnp.zeros((*lengths, batch, *aval.shape), aval.dtype) for aval in avals]


def run_block(block: Block, hoisted: dict, inputs, taps: dict, gauges: dict):
    """Runs a block for one unit.

    Args:
      block: What to run.
      hoisted: Hoisted values as this iteration sees them (no axis for entered loops).
      inputs: Arrays for `block.inputs`.
      taps: Per site its taps, with axes for the loops still to be entered.
      gauges: Per metered site, instead, `(meter, zeros)`; the same in every iteration.

    Returns:
      `(outputs, captures)`; `captures[site]` is a list, with axes for the loops inside the block.
    """
    env = dict(zip(block.inputs, inputs, strict=True))
    captures: dict = {}

    def read(value):
        if isinstance(value, Data):
            return env[value]
        return hoisted[value] if isinstance(value, Hoisted) else value.array()

    for step in block.steps:
        values = [read(value) for value in step.inputs]
        if step.kind == "scan":
            results, found = _run_scan(step, hoisted, values, taps, gauges)
            captures.update(found)
        elif step.kind == "remat":
            results, found = _run_remat(step, hoisted, values, taps, gauges)
            captures.update(found)
        else:
            results = (values[0],) if step.eqn is None else bind(step.eqn, *values)
            if step.site in taps:
                results = list(results)
                # A value without a unit axis, a loop counter's say, must get one from the tap.
                join = tap if step.outputs[0].batched else jnp.add
                for place, zero in zip(step.site.tapped(), taps[step.site], strict=True):
                    results[place] = join(results[place], zero)
                captures[step.site] = [values[place] for place in step.site.captured()]
            elif step.site in gauges:
                meter, zeros = gauges[step.site]
                results = meter.through(values, results, zeros)
        env.update(zip(step.outputs, results, strict=True))
    return [read(value) for value in block.outputs], captures


def _inner(step, taps):
    return {site: taps[site] for site in step.block.sites() if site in taps}


def _run_remat(step, hoisted, values, taps, gauges):
    needed = {value: hoisted[value] for value in step.block.hoisted()}
    keys = list(needed)
    sites = list(_inner(step, taps))
    metered = _inner(step, gauges)
    meters = [meter for meter, _ in metered.values()]

    def body(values, held, inner_taps, zeros):
        outputs, captures = run_block(
            step.block,
            dict(zip(keys, held, strict=True)),
            values,
            dict(zip(sites, inner_taps, strict=True)),
            dict(zip(metered, zip(meters, zeros, strict=True), strict=True)),
        )
        return outputs, [captures[site] for site in sites]

    run = jax.checkpoint(body, **step.options)
    outputs, captures = run(
        values,
        list(needed.values()),
        [taps[site] for site in sites],
        [zeros for _, zeros in metered.values()],
    )
    return outputs, dict(zip(sites, captures, strict=True))


def _run_scan(step, hoisted, values, taps, gauges):
    num_consts, num_carry = step.carry
    consts, rest = values[:num_consts], values[num_consts:]
    carry, xs = rest[:num_carry], rest[num_carry:]
    needed = step.block.hoisted()
    moving = [value for value in needed if step.loop in value.stack]
    still = {value: hoisted[value] for value in needed if step.loop not in value.stack}
    sites = list(_inner(step, taps))

    def body(carry, slices):
        xs, held, inner_taps = slices
        outputs, captures = run_block(
            step.block,
            still | dict(zip(moving, held, strict=True)),
            [*consts, *carry, *xs],
            dict(zip(sites, inner_taps, strict=True)),
            gauges,
        )
        return tuple(outputs[:num_carry]), (
            outputs[num_carry:],
            [captures[site] for site in sites],
        )

    carry = tuple(
        jnp.asarray(value, dtype=target.aval.dtype)
        for value, target in zip(carry, step.outputs, strict=False)
    )
    loop: Loop = step.loop
    final, (ys, captures) = jax.lax.scan(
        body,
        carry,
        (xs, [hoisted[value] for value in moving], [taps[site] for site in sites]),
        length=loop.length,
        reverse=loop.reverse,
        unroll=loop.unroll,
    )
    return [*final, *ys], dict(zip(sites, captures, strict=True))


class Forward:
    """One forward pass of a batch, whose backward passes are asked for one by one.

    Attributes:
      outputs: Leaves [unit, ...], the loss first.
      captures: Per tapped site its captured arrays, [loops, unit, ...].
    """

    def __init__(self, block: Block, sites, hoisted: HoistedValues, units, meters=None):
        """Runs the data part under vmap.

        Args:
          block: The data part of a loss.
          sites: Where to tap.
          hoisted: What no unit touches.
          units: Leaves with a leading unit axis.
          meters: By site, what measures instead of a tap.
        """
        batch = units[0].shape[0]
        depth = [len(site.loops) for site in sites]
        held = {value: hoisted[value] for value in block.hoisted()}
        self._sites, self._meters = tuple(sites), dict(meters or {})

        def losses(taps, zeros):
            def one_unit(taps, zeros, *unit):
                gauges = zip(self._meters.values(), zeros, strict=True)
                outputs, captures = run_block(
                    block,
                    held,
                    unit,
                    dict(zip(sites, taps, strict=True)),
                    dict(zip(self._meters, gauges, strict=True)),
                )
                return outputs, [captures[site] for site in sites]

            axes = (depth, 0, *(0 for _ in units))
            outputs, captures = jax.vmap(one_unit, in_axes=axes, out_axes=(0, depth))(
                taps, zeros, *units
            )
            return outputs[0], (outputs, captures)

        taps = [zero_taps(site, batch) for site in sites]
        zeros = [[jnp.zeros(batch)] * len(meter.clusters) for meter in self._meters.values()]
        _, self._pull, (self.outputs, captures) = jax.vjp(losses, taps, zeros, has_aux=True)
        self.captures = dict(zip(sites, captures, strict=True))

    def cotangents(self, weights=None) -> dict:
        """Every unit's cotangents at tapped outputs, of its own loss or of a multiple of it."""
        return self.measured(weights)[0]

    def measured(self, weights=None) -> tuple[dict, list]:
        """The same, and per meter the squared norms of its clusters, [unit] each."""
        losses = self.outputs[0]
        seed = jnp.ones_like(losses) if weights is None else weights.astype(losses.dtype)
        cotangents, squares = self._pull(seed)
        return dict(zip(self._sites, cotangents, strict=True)), squares
