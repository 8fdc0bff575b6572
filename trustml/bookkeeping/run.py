"""Runs a traced loss: hoisted values once, the data part per unit with taps and captures.

A *tap* is a value of zero added to a site's output: its cotangent is the unit's cotangent there. A
*capture* is a data input of a site that the gradient needs. Inside a loop both get the loop's axis.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

from trustml.bookkeeping.layout import bind_anywhere
from trustml.bookkeeping.values import Block, Data, Hoisted, Loop, Site, bind


@jax.custom_jvp
def _tap(value, zero):
    """`value`, with a second path for tangents, so that zeros are never read or added."""
    del zero
    return value


@_tap.defjvp
def _tap_jvp(primals, tangents):
    return primals[0], tangents[0] + tangents[1]


@custom_vmap
def of_each_unit(results, other):
    """`results`; under vmap with a unit axis, which `other` has.

    Of a value that is the same for all units (an initial state, what a loop counts), vmap would
    hand a tap or a meter one cotangent: the sum of those of all units.
    """
    del other
    return results


@of_each_unit.def_vmap
def _(size, batched, results, other):
    del other
    results = jax.tree.map(functools.partial(spread, size), batched[0], results)
    return results, jax.tree.map(lambda _: True, results)


def spread(size: int, has_axis: bool, array):
    """`array` with a unit axis in front, if it has none."""
    return array if has_axis else jnp.broadcast_to(array, (size, *jnp.shape(array)))


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


def _zero_taps(site: Site, batch: int) -> list:
    """Taps for a batch: one array per differentiable output, [loops, unit, ...]."""
    lengths = [loop.length for loop in site.loops]
    avals = [site.outputs[place].aval for place in site.tapped()]
    return [jnp.zeros((*lengths, batch, *aval.shape), aval.dtype) for aval in avals]


class _Gauges(NamedTuple):
    """The meters of sites, in place of taps."""

    meters: dict  # by site
    ports: dict  # by site, see `meters.Ports`; sums with axes for the loops still to be entered
    baton: Any  # passes through every metered site, in order


def _run_block(block: Block, hoisted: dict, inputs, taps: dict, gauges: _Gauges):
    """Runs a block for one unit.

    Args:
      block: What to run.
      hoisted: Hoisted values as this iteration sees them (no axis for entered loops).
      inputs: Arrays for `block.inputs`.
      taps: Per site its taps, with axes for the loops still to be entered.
      gauges: Of the metered sites.

    Returns:
      `(outputs, captures, baton)`; `captures[site]` is a list, with axes for the loops inside the
      block; the baton as the last meter hands it on.
    """
    env = dict(zip(block.inputs, inputs, strict=True))
    captures: dict = {}

    def read(value):
        if isinstance(value, Data):
            return env[value]
        return hoisted[value] if isinstance(value, Hoisted) else value.array()

    for step in block.steps:
        values = [read(value) for value in step.inputs]
        if step.block is not None:
            run = _run_scan if step.kind == "scan" else _run_remat
            results, found, baton = run(step, hoisted, values, taps, gauges)
            gauges = gauges._replace(baton=baton)
            captures.update(found)
        else:
            results = (values[0],) if step.eqn is None else bind_anywhere(step.eqn, *values)
            if step.site in taps:
                results = list(results)
                for place, zero in zip(step.site.tapped(), taps[step.site], strict=True):
                    results[place] = _tap(of_each_unit(results[place], zero), zero)
                captures[step.site] = [values[place] for place in step.site.captured()]
            if step.site in gauges.meters:
                meter, ports = gauges.meters[step.site], gauges.ports[step.site]
                results, baton = meter.through(values, results, gauges.baton, ports)
                gauges = gauges._replace(baton=baton)
        env.update(zip(step.outputs, results, strict=True))
    return [read(value) for value in block.outputs], captures, gauges.baton


def _inner(step, taps):
    return {site: taps[site] for site in step.block.sites() if site in taps}


def _run_remat(step, hoisted, values, taps, gauges):
    needed = {value: hoisted[value] for value in step.block.hoisted()}
    keys = list(needed)
    sites = list(_inner(step, taps))
    metered = list(_inner(step, gauges.ports))

    def body(values, held, inner_taps, ports, baton):
        outputs, captures, baton = _run_block(
            step.block,
            dict(zip(keys, held, strict=True)),
            values,
            dict(zip(sites, inner_taps, strict=True)),
            _Gauges(gauges.meters, dict(zip(metered, ports, strict=True)), baton),
        )
        return outputs, [captures[site] for site in sites], baton

    run = jax.checkpoint(body, **step.options)
    outputs, captures, baton = run(
        values,
        list(needed.values()),
        [taps[site] for site in sites],
        [gauges.ports[site] for site in metered],
        gauges.baton,
    )
    return outputs, dict(zip(sites, captures, strict=True)), baton


def _run_scan(step, hoisted, values, taps, gauges):
    num_consts, num_carry = step.carry
    consts, rest = values[:num_consts], values[num_consts:]
    carry, xs = rest[:num_carry], rest[num_carry:]
    needed = step.block.hoisted()
    moving = [value for value in needed if step.loop in value.stack]
    still = {value: hoisted[value] for value in needed if step.loop not in value.stack}
    sites = list(_inner(step, taps))
    metered = _inner(step, gauges.ports)

    def body(carry, slices):
        carry, baton = carry
        xs, held, inner_taps, sums = slices
        ports = {
            site: whole._replace(sums=mine)
            for (site, whole), mine in zip(metered.items(), sums, strict=True)
        }
        outputs, captures, baton = _run_block(
            step.block,
            still | dict(zip(moving, held, strict=True)),
            [*consts, *carry, *xs],
            dict(zip(sites, inner_taps, strict=True)),
            _Gauges(gauges.meters, ports, baton),
        )
        return (tuple(outputs[:num_carry]), baton), (
            outputs[num_carry:],
            [captures[site] for site in sites],
        )

    carry = tuple(
        jnp.asarray(value, dtype=target.aval.dtype)
        for value, target in zip(carry, step.outputs, strict=False)
    )
    loop: Loop = step.loop
    (final, baton), (ys, captures) = jax.lax.scan(
        body,
        (carry, gauges.baton),
        (
            xs,
            [hoisted[value] for value in moving],
            [taps[site] for site in sites],
            [ports.sums for ports in metered.values()],
        ),
        length=loop.length,
        reverse=loop.reverse,
        unroll=loop.unroll,
    )
    return [*final, *ys], dict(zip(sites, captures, strict=True)), baton


class Forward:
    """One forward pass of a batch, whose backward passes are asked for one by one.

    Attributes:
      outputs: Leaves [unit, ...], the loss first.
      captures: Per tapped site its captured arrays, [loops, unit, ...].
    """

    def __init__(self, block: Block, sites, hoisted: HoistedValues, units, meters=None, baton=()):
        """Runs the data part under vmap.

        Args:
          block: The data part of a loss.
          sites: Where to tap.
          hoisted: What no unit touches.
          units: Leaves with a leading unit axis.
          meters: By site, what measures instead of a tap.
          baton: For the meters: zeros shaped like the weights of a backward pass, see
            `meters.Weights`.
        """
        batch = units[0].shape[0]
        depth = [len(site.loops) for site in sites]
        held = {value: hoisted[value] for value in block.hoisted()}
        meters = meters or {}
        self._sites = tuple(sites)
        groups = baton.values.shape[-1] if meters else 1
        ports = [meter.ports(batch, groups) for meter in meters.values()]
        axes = [port._replace(squares=0, sums=None) for port in ports]

        def losses(taps, ports, baton):
            def one_unit(taps, ports, baton, *unit):
                gauges = _Gauges(meters, dict(zip(meters, ports, strict=True)), baton)
                taps = dict(zip(sites, taps, strict=True))
                outputs, captures, baton = _run_block(block, held, unit, taps, gauges)
                return outputs, [captures[site] for site in sites], baton

            outputs, captures, baton = jax.vmap(
                one_unit, in_axes=(depth, axes, 0, *(0 for _ in units)), out_axes=(0, depth, 0)
            )(taps, ports, baton, *units)
            return (outputs[0], baton), (outputs, captures)

        taps = [_zero_taps(site, batch) for site in sites]
        _, self._pull, (self.outputs, captures) = jax.vjp(losses, taps, ports, baton, has_aux=True)
        self.captures = dict(zip(sites, captures, strict=True))

    def backward(self, weights=()):
        """Every unit's cotangents at tapped outputs, by site, and what the meters found.

        Args:
          weights: For the meters, shaped like the baton.
        """
        cotangents, found, _ = self._pull((jnp.ones_like(self.outputs[0]), weights))
        return dict(zip(self._sites, cotangents, strict=True)), found
