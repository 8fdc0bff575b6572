"""Values of a traced loss: hoisted ones, which no unit touches, and data ones, which depend on it.

A loss of one unit is read equation by equation. What depends on parameters and constants alone is
*hoisted*: computed once, outside of vmap and outside of loops, where a value that changes with the
loop gets a leading axis per loop (its `stack`). What depends on the unit stays *data*. An equation
where a differentiable hoisted value meets data is a *site*: gradients enter parameters there only.
"""

import dataclasses
import functools
import math
import operator
from typing import Any

import jax
import numpy as np

# Calls that are read through as if their body stood in their place.
INLINED = {"jit", "pjit", "closed_call", "core_call"}
REMAT = {"remat", "remat2", "checkpoint"}


@dataclasses.dataclass(frozen=True, eq=False)
class Loop:
    """One scan that the reading has entered."""

    length: int
    reverse: bool
    unroll: int | bool


@dataclasses.dataclass(frozen=True, eq=False)
class Hoisted:
    """A value of parameters and constants alone, with a leading axis for every loop in `stack`."""

    aval: Any  # of one iteration
    stack: tuple[Loop, ...]
    param: bool  # a trained parameter reaches it differentiably
    kind: str  # "input" | "const" | "eqn" | "slice" | "unslice" | "repeat"
    parents: tuple = ()
    eqn: Any = None
    output: int = 0  # which output of `eqn`
    index: int = -1  # which input of the loss
    value: Any = None  # of a constant


@dataclasses.dataclass(frozen=True, eq=False)
class Data:
    """A value that may depend on the unit, or changes from one iteration of a loop to the next."""

    aval: Any
    batched: bool = True  # it surely gets a unit axis under vmap; a loop counter may not


@dataclasses.dataclass(frozen=True, eq=False)
class Site:
    """An equation where differentiable hoisted values meet data, or where one becomes data."""

    loops: tuple[Loop, ...]
    eqn: Any  # None: the hoisted value itself enters data (a loop's initial carry, the loss)
    inputs: tuple  # Hoisted | Data | Literal value
    params: tuple[int, ...]  # positions of differentiable hoisted inputs
    outputs: tuple[Data, ...]

    @property
    def name(self) -> str:
        """The primitive, as tables show it."""
        return "identity" if self.eqn is None else self.eqn.primitive.name

    def tapped(self) -> tuple[int, ...]:
        """Positions of the outputs that carry a gradient."""
        return tuple(i for i, output in enumerate(self.outputs) if is_float(output.aval))

    def captured(self) -> tuple[int, ...]:
        """Positions of the data inputs that the gradient needs."""
        if self.eqn is None or self.name in _LINEAR:
            return ()
        return tuple(i for i, value in enumerate(self.inputs) if isinstance(value, Data))


# The gradient by one input of these does not depend on the others.
_LINEAR = {"add", "sub", "add_any", "concatenate", "stack", "neg"}


@dataclasses.dataclass(eq=False)
class Step:
    """One equation of the data part; loops and remat hold a block of their own."""

    kind: str  # "eqn" | "site" | "scan" | "remat"
    inputs: tuple
    outputs: tuple
    eqn: Any = None
    site: Site | None = None
    block: "Block | None" = None
    loop: Loop | None = None
    carry: tuple = ()  # scan: positions of the carries that data really changes
    options: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(eq=False)
class Block:
    """Steps in order, from `inputs` (data) to `outputs` (anything)."""

    inputs: tuple
    steps: list[Step]
    outputs: tuple

    def sites(self):
        """All sites, those of inner blocks too."""
        for step in self.steps:
            if step.site is not None:
                yield step.site
            if step.block is not None:
                yield from step.block.sites()

    def hoisted(self) -> tuple:
        """Hoisted values that the block reads, inner blocks included, each once.

        In an order that every process repeats: a resumed run and a cache of compiled programs
        know a program by its text.
        """
        found = [value for value in self.outputs if isinstance(value, Hoisted)]
        for step in self.steps:
            found += [value for value in step.inputs if isinstance(value, Hoisted)]
            if step.block is not None:
                found += step.block.hoisted()
        return tuple(dict.fromkeys(found))


def bind(eqn, *values):
    """Applies one equation to values, under the settings it was traced with."""
    with eqn.ctx.manager:
        found = eqn.primitive.bind(*values, **eqn.primitive.get_bind_params(eqn.params))
    return tuple(found) if eqn.primitive.multiple_results else (found,)


def literal_array(value, aval):
    """A literal of a jaxpr as an array of the type that the jaxpr gives it."""
    return jax.numpy.asarray(value, dtype=aval.dtype)


def size(shape) -> int:
    """Number of entries."""
    return math.prod(shape)


def is_float(aval) -> bool:
    """Whether gradients flow through values of this type."""
    dtype = getattr(aval, "dtype", None)
    return dtype is not None and jax.dtypes.issubdtype(dtype, np.inexact)


def is_real(aval) -> bool:
    """Whether these are real floating numbers, which norms and float32 are about."""
    return is_float(aval) and not jax.dtypes.issubdtype(aval.dtype, np.complexfloating)


def open_jaxpr(closed):
    """`(jaxpr, consts)` of a closed or open jaxpr; newer JAX has one class for both."""
    return getattr(closed, "jaxpr", closed), getattr(closed, "consts", ())


def scan_counts(params) -> tuple[int, int]:
    """`(constants, carries)` of a scan equation; the name of the field moved in JAX 0.12."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].unpack()
    return len(consts), len(carry)


def to_float32(tree):
    """`tree` with real leaves in float32; a leaf that is that already is returned as it is."""

    def convert(leaf):
        as_it_is = leaf.dtype == np.float32 or not is_real(leaf)  # complex: until pulled back
        return leaf if as_it_is else leaf.astype(np.float32)

    return jax.tree.map(convert, tree)


def added(arrays):
    """The sum; a single array is handed on as it is."""
    return functools.reduce(operator.add, arrays)
