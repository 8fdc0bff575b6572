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
class TracedLoss:
    """A loss as blocks and sites. `block.outputs` is the loss, then the auxiliary leaves."""

    block: Block
    sites: tuple[Site, ...]
    aux_structure: Any

    @property
    def rematerialises(self) -> bool:
        """Whether the loss gives up memory of its own for time: parameters under remat."""
        return _rematerialises(self.block)


def _rematerialises(block: Block) -> bool:
    inner = [step for step in block.steps if step.block is not None]
    return any(step.kind == "remat" or _rematerialises(step.block) for step in inner)


class _Literal:
    """A scalar that the jaxpr holds itself."""

    def __init__(self, value, aval):
        self.value = value
        self.aval = aval

    def array(self):
        """The scalar as an array."""
        return literal_array(self.value, self.aval)


def read_loss(loss, trained, frozen, unit) -> TracedLoss:
    """Traces `loss(trained, frozen, *unit) -> (scalar, aux)` for one unit and reads it.

    Inputs are numbered as `jax.tree.leaves((trained, frozen, unit))`: first the parameters.

    >>> import jax.numpy as jnp
    >>> loss = lambda w, frozen, x: (jnp.vdot(w, jnp.sin(x)), None)
    >>> traced = read_loss(loss, jnp.zeros(2), (), (jnp.ones(2),))
    >>> [site.name for site in traced.sites]
    ['dot_general']
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
    sites = tuple(site for site in block.sites() if site in active)
    return TracedLoss(block, sites, shapes[1])


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
            return _Literal(atom.val, atom.aval) if hasattr(atom, "val") else env[atom]

        for eqn in jaxpr.eqns:
            outputs = self.equation(eqn, [look_up(atom) for atom in eqn.invars])
            env.update(zip(eqn.outvars, outputs, strict=True))
        return [look_up(atom) for atom in jaxpr.outvars]

    def equation(self, eqn, inputs) -> list:
        name = eqn.primitive.name
        if name in INLINED:
            jaxpr, consts = open_jaxpr(eqn.params.get("jaxpr") or eqn.params["call_jaxpr"])
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
        batched = any(isinstance(value, Data) and value.batched for value in inputs)
        outputs = tuple(Data(var.aval, batched) for var in eqn.outvars)
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
        output = Data(value.aval, batched=False)
        site = Site(self.loops, None, (value,), (0,), (output,))
        self.steps.append(Step("site", (value,), (output,), None, site))
        return output

    def remat(self, eqn, inputs) -> list:
        jaxpr, consts = open_jaxpr(eqn.params["jaxpr"])
        inner = _Reader(self.loops)
        entered = [_enter(v) for v in inputs]
        found = inner.read(jaxpr, [_constant(value) for value in consts], entered)
        block = Block(
            tuple(v for v in entered if isinstance(v, Data)),
            inner.steps,
            tuple(v for v in found if isinstance(v, Data)),
        )
        options = {key: eqn.params[key] for key in ("prevent_cse", "policy")}
        results = [_enter(v) for v in found]
        outputs = tuple(v for v in results if isinstance(v, Data))
        outside = tuple(v for v in inputs if isinstance(v, Data))
        self.steps.append(Step("remat", outside, outputs, eqn, block=block, options=options))
        return results

    def scan(self, eqn, inputs) -> list:
        jaxpr, _ = open_jaxpr(eqn.params["jaxpr"])
        num_consts, num_carry = scan_counts(eqn.params)
        before, after = num_consts, num_consts + num_carry
        # A carry that the body hands on unchanged is a constant of the loop.
        moving = [
            place
            for place in range(num_carry)
            if jaxpr.outvars[place] is not jaxpr.invars[before + place]
        ]
        inputs = list(inputs)
        for place in moving:
            inputs[before + place] = self.lift(inputs[before + place])
        loop = Loop(eqn.params["length"], eqn.params["reverse"], eqn.params["unroll"])
        entered = [_enter(value) for value in inputs[:after]] + [
            _slice(value, loop, var.aval)
            for value, var in zip(inputs[after:], jaxpr.invars[after:], strict=True)
        ]
        for place in moving:
            value = inputs[before + place]
            batched = isinstance(value, Data) and value.batched
            entered[before + place] = Data(jaxpr.invars[before + place].aval, batched)
        inner, found = self._body(eqn, loop, entered, before, moving)

        data_ys = [p for p in range(num_carry, len(found)) if isinstance(found[p], Data)]
        handed = [*moving, *data_ys]
        still = [p for p in range(after) if p - before not in moving]
        order = [*still, *(before + place for place in moving), *range(after, len(inputs))]
        order = [p for p in order if isinstance(entered[p], Data)]
        outputs = {place: _enter(found[place], eqn.outvars[place].aval) for place in handed}
        block = Block(
            tuple(entered[p] for p in order), inner.steps, tuple(found[p] for p in handed)
        )
        num_still = sum(isinstance(entered[p], Data) for p in still)
        self.steps.append(
            Step(
                "scan",
                tuple(inputs[p] for p in order),
                tuple(outputs.values()),
                eqn,
                block=block,
                loop=loop,
                carry=(num_still, len(moving)),
            )
        )
        return [
            outputs[place]
            if place in outputs
            else inputs[before + place]
            if place < num_carry
            else _unslice(found[place], loop, eqn.outvars[place].aval)
            for place in range(len(found))
        ]

    def _body(self, eqn, loop, entered, before, moving):
        """Reads the body until it is known which carries surely get a unit axis."""
        jaxpr, consts = open_jaxpr(eqn.params["jaxpr"])
        while True:
            inner = _Reader((*self.loops, loop))
            found = inner.read(jaxpr, [_constant(value) for value in consts], entered)
            grown = [
                place
                for place in moving
                if isinstance(found[place], Data)
                and found[place].batched
                and not entered[before + place].batched
            ]
            if not grown:
                break
            for place in grown:
                entered[before + place] = Data(entered[before + place].aval, batched=True)
        for place in moving:
            found[place] = inner.lift(found[place])
        return inner, found


def _enter(value, aval=None):
    """A new name for data on the two sides of a block's border."""
    return Data(aval or value.aval, value.batched) if isinstance(value, Data) else value


def _slice(value, loop: Loop, aval):
    """The slice of a value for one iteration of a loop; hoisted, the array is the same."""
    if isinstance(value, Data):
        return _enter(value, aval)
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
