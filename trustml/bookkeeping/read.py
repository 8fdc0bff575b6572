"""Reads a loss into hoisted values, data steps and sites."""

import dataclasses
from typing import Any

import jax

from trustml.bookkeeping.values import (
    INLINED,
    REMAT,
    Block,
    Data,
    Hoisted,
    Loop,
    Site,
    Step,
    is_float,
    literal_array,
    open_jaxpr,
    scan_counts,
)


@dataclasses.dataclass(frozen=True)
class Reading:
    """What a loss consists of. `block.outputs` is the loss, then the auxiliary leaves."""

    block: Block
    sites: tuple[Site, ...]
    aux_structure: Any


class Literal:
    """A scalar that the jaxpr holds itself."""

    def __init__(self, value, aval):
        self.value = value
        self.aval = aval

    def array(self):
        """The scalar as an array."""
        return literal_array(self.value, self.aval)


def read_loss(loss, trained, frozen, unit) -> Reading:
    """Traces `loss(trained, frozen, *unit) -> (scalar, aux)` for one unit and reads it.

    Inputs are numbered as `jax.tree.leaves((trained, frozen, unit))`: first the parameters.
    """
    closed, shapes = jax.make_jaxpr(loss, return_shape=True)(trained, frozen, *unit)
    jaxpr, consts = open_jaxpr(closed)
    num_trained, num_frozen = len(jax.tree.leaves(trained)), len(jax.tree.leaves(frozen))
    inputs: list = []
    for index, var in enumerate(jaxpr.invars):
        if index < num_trained + num_frozen:
            inputs.append(Hoisted(var.aval, (), index < num_trained, "input", index=index))
        else:
            inputs.append(Data(var.aval))
    reader = _Reader(())
    outputs = reader.read(jaxpr, [_constant(value) for value in consts], inputs)
    # A loss that the unit does not touch still has a gradient, the same for every unit.
    outputs[0] = reader.lift(outputs[0])
    data = tuple(value for value in inputs if isinstance(value, Data))
    block = _prune(Block(data, reader.steps, tuple(outputs)))
    active = _active_sites(block, block.outputs[:1])
    return Reading(block, tuple(s for s in block.sites() if s in active), shapes[1])


def _constant(value):
    return Hoisted(jax.typeof(value), (), False, "const", value=value)


class _Reader:
    """Reads one jaxpr into steps; inner blocks get a reader of their own."""

    def __init__(self, loops: tuple[Loop, ...]):
        self.loops = loops
        self.steps: list[Step] = []

    def read(self, jaxpr, consts, inputs) -> list:
        env: dict = dict(zip(jaxpr.constvars, consts, strict=True))
        env.update(zip(jaxpr.invars, inputs, strict=True))

        def look_up(atom):
            return Literal(atom.val, atom.aval) if hasattr(atom, "val") else env[atom]

        for eqn in jaxpr.eqns:
            outputs = self.equation(eqn, [look_up(atom) for atom in eqn.invars])
            env.update(zip(eqn.outvars, outputs, strict=True))
        return [look_up(atom) for atom in jaxpr.outvars]

    def equation(self, eqn, inputs) -> list:
        name = eqn.primitive.name
        if name in INLINED:
            jaxpr, consts = open_jaxpr(eqn.params["jaxpr" if "jaxpr" in eqn.params else "call_jaxpr"])
            return self.read(jaxpr, [_constant(value) for value in consts], inputs)
        touched = any(isinstance(value, Data) for value in inputs)
        trained = any(isinstance(value, Hoisted) and value.param for value in inputs)
        if not touched and not eqn.effects:
            return self.hoist(eqn, inputs, trained)
        if trained and name == "scan":
            return self.scan(eqn, inputs)
        if trained and name in REMAT:
            return self.remat(eqn, inputs)
        return self.data(eqn, inputs, trained)

    def hoist(self, eqn, inputs, trained) -> list:
        if eqn.primitive.name == "stop_gradient":
            trained = False
        if eqn.primitive.name in REMAT:
            jaxpr, consts = open_jaxpr(eqn.params["jaxpr"])
            return self.read(jaxpr, [_constant(value) for value in consts], inputs)
        held = {loop for value in inputs if isinstance(value, Hoisted) for loop in value.stack}
        stack = tuple(loop for loop in self.loops if loop in held)
        parents = tuple(inputs)
        return [
            Hoisted(var.aval, stack, trained and is_float(var.aval), "eqn", parents, eqn, place)
            for place, var in enumerate(eqn.outvars)
        ]

    def data(self, eqn, inputs, trained) -> list:
        outputs = tuple(Data(var.aval) for var in eqn.outvars)
        params = tuple(
            place
            for place, value in enumerate(inputs)
            if isinstance(value, Hoisted) and value.param
        )
        # Comparisons and casts to integers stop gradients.
        differentiable = trained and any(is_float(value.aval) for value in outputs)
        if not differentiable or eqn.primitive.name == "stop_gradient":
            self.steps.append(Step("eqn", tuple(inputs), outputs, eqn))
        else:
            site = Site(self.loops, eqn, tuple(inputs), params, outputs)
            self.steps.append(Step("site", tuple(inputs), outputs, eqn, site))
        return list(outputs)

    def lift(self, value):
        """Makes a differentiable hoisted value data, as a site of its own."""
        if not (isinstance(value, Hoisted) and value.param):
            return value
        output = Data(value.aval)
        site = Site(self.loops, None, (value,), (0,), (output,))
        self.steps.append(Step("site", (value,), (output,), None, site))
        return output

    def remat(self, eqn, inputs) -> list:
        jaxpr, consts = open_jaxpr(eqn.params["jaxpr"])
        inner = _Reader(self.loops)
        entered = [Data(v.aval) if isinstance(v, Data) else v for v in inputs]
        found = inner.read(jaxpr, [_constant(value) for value in consts], entered)
        block = Block(
            tuple(v for v in entered if isinstance(v, Data)),
            inner.steps,
            tuple(v for v in found if isinstance(v, Data)),
        )
        options = {key: eqn.params[key] for key in ("prevent_cse", "policy")}
        results = [Data(v.aval) if isinstance(v, Data) else v for v in found]
        outputs = tuple(v for v in results if isinstance(v, Data))
        outside = tuple(v for v in inputs if isinstance(v, Data))
        self.steps.append(Step("remat", outside, outputs, eqn, block=block, options=options))
        return results

    def scan(self, eqn, inputs) -> list:
        jaxpr, consts = open_jaxpr(eqn.params["jaxpr"])
        num_consts, num_carry = scan_counts(eqn.params)
        loop = Loop(eqn.params["length"], eqn.params["reverse"], eqn.params["unroll"])
        before, carried = inputs[:num_consts], inputs[num_consts : num_consts + num_carry]
        stacked = inputs[num_consts + num_carry :]
        places = range(num_consts, num_consts + num_carry)
        # A carry that the body hands on unchanged is a constant of the loop.
        fixed = [jaxpr.outvars[i] is jaxpr.invars[p] for i, p in enumerate(places)]
        carried = [v if keep else self.lift(v) for v, keep in zip(carried, fixed, strict=True)]

        inner = _Reader((*self.loops, loop))
        inner_before = [Data(v.aval) if isinstance(v, Data) else v for v in before]
        inner_carry = [
            (Data(v.aval) if isinstance(v, Data) else v)
            if keep
            else Data(var.aval)
            for v, keep, var in zip(
                carried, fixed, jaxpr.invars[num_consts : num_consts + num_carry], strict=True
            )
        ]
        inner_xs = [
            _slice(v, loop, var.aval) if isinstance(v, Hoisted) else Data(var.aval)
            for v, var in zip(stacked, jaxpr.invars[num_consts + num_carry :], strict=True)
        ]
        found = inner.read(
            jaxpr, [_constant(value) for value in consts], inner_before + inner_carry + inner_xs
        )
        new_carry, ys = found[:num_carry], found[num_carry:]
        moving = [i for i, keep in enumerate(fixed) if not keep]
        body_out = [inner.lift(new_carry[i]) for i in moving]
        data_ys = [i for i, value in enumerate(ys) if isinstance(value, Data)]
        block = Block(
            (
                *(v for v in inner_before if isinstance(v, Data)),
                *(v for v, keep in zip(inner_carry, fixed, strict=True) if keep and isinstance(v, Data)),
                *(inner_carry[i] for i in moving),
                *(v for v in inner_xs if isinstance(v, Data)),
            ),
            inner.steps,
            (*body_out, *(ys[i] for i in data_ys)),
        )
        outside_consts = [v for v in before if isinstance(v, Data)] + [
            v for v, keep in zip(carried, fixed, strict=True) if keep and isinstance(v, Data)
        ]
        outside_xs = [v for v in stacked if not isinstance(v, Hoisted)]
        carry_out = [Data(var.aval) for var in eqn.outvars[:num_carry]]
        ys_out = [Data(var.aval) for var in eqn.outvars[num_carry:]]
        self.steps.append(
            Step(
                "scan",
                (*outside_consts, *(carried[i] for i in moving), *outside_xs),
                (*(carry_out[i] for i in moving), *(ys_out[i] for i in data_ys)),
                eqn,
                block=block,
                loop=loop,
                carry=(len(outside_consts), len(moving)),
            )
        )
        results: list = []
        for i, keep in enumerate(fixed):
            results.append(carried[i] if keep else carry_out[i])
        for i, value in enumerate(ys):
            results.append(ys_out[i] if i in data_ys else _unslice(value, loop, ys_out[i].aval))
        return results


def _slice(value: Hoisted, loop: Loop, aval) -> Hoisted:
    """What an iteration sees of a hoisted value that the loop runs over: the array is the same."""
    return Hoisted(aval, (*value.stack, loop), value.param, "slice", (value,))


def _unslice(value, loop: Loop, aval) -> Hoisted:
    """A hoisted value that the loop hands out once per iteration."""
    if isinstance(value, Hoisted) and loop in value.stack:
        return Hoisted(aval, value.stack[:-1], value.param, "unslice", (value,))
    stack = value.stack if isinstance(value, Hoisted) else ()
    param = isinstance(value, Hoisted) and value.param
    return Hoisted(aval, stack, param, "repeat", (value,), index=loop.length)


def _prune(block: Block) -> Block:
    """Drops steps that nothing reads; loops are kept whole or dropped whole."""
    needed = {value for value in block.outputs if isinstance(value, Data)}
    kept: list[Step] = []
    for step in reversed(block.steps):
        effects = step.eqn is not None and step.eqn.effects
        if not effects and not any(value in needed for value in step.outputs):
            continue
        if step.block is not None:
            step.block = _prune(step.block)
        needed |= {value for value in step.inputs if isinstance(value, Data)}
        kept.append(step)
    return Block(block.inputs, kept[::-1], block.outputs)


def _active_sites(block: Block, outputs) -> set:
    """Sites from which data flows to `outputs`; the others have no gradient to give."""
    needed = {value for value in outputs if isinstance(value, Data)}
    active: set = set()
    for step in reversed(block.steps):
        if not any(value in needed for value in step.outputs):
            continue
        if step.site is not None:
            active.add(step.site)
        if step.block is not None:
            active |= _active_sites(step.block, step.block.outputs)
        needed |= {value for value in step.inputs if isinstance(value, Data)}
    return active
