"""Convolutions in a form that is quick in any place of a program; see `kernels.convolution`.

Elsewhere than on CPUs everything stays as it is written.
"""

import functools
import operator

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun

from trustml.bookkeeping import cost
from trustml.bookkeeping.values import bind, open_jaxpr
from trustml.kernels.convolution import convolution


def channels_last(function, *arguments):
    """`function(*arguments)`, with its convolutions laid out."""
    if not cost.machine().lays_out_convolutions:
        return function(*arguments)
    return in_loops(function)(*arguments)


def bind_anywhere(eqn, *values):
    """`bind`, with gradients of convolutions laid out too."""
    if eqn.primitive.name != "conv_general_dilated" or not cost.machine().lays_out_convolutions:
        return bind(eqn, *values)
    return (_convolution(eqn)(*values),)


def _convolution(eqn):
    def quick(image, kernel):
        return convolution(image, kernel, **eqn.params)

    @jax.custom_vjp
    def either_way(image, kernel):
        return quick(image, kernel)

    def backward(operands, cotangent):
        def by(place):
            def of_one(array):
                held = (*operands[:place], array, *operands[place + 1 :])
                return bind(eqn, *held)[0]

            transpose = jax.linear_transpose(of_one, operands[place])
            return channels_last(lambda cotangent: transpose(cotangent)[0], cotangent)

        return by(0), by(1)

    either_way.defvjp(lambda *operands: (quick(*operands), operands), backward)
    return either_way


def in_loops(function):
    """`function` with its convolutions in a form that is quick within compiled loops, too.

    They are found in calls, loops, branches and what is rematerialised. Gradients have convolutions
    of their own: take them first.

    >>> import jax.numpy as jnp
    >>> step = in_loops(jax.grad(lambda kernel, image: jnp.convolve(image, kernel).sum()))
    >>> step(jnp.ones(2), jnp.arange(3.0)).tolist()
    [3.0, 3.0]

    Args:
      function: Of arrays to arrays, pytrees of them allowed.
    """

    def quick(*arguments):
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
        changed = _changed(closed)
        if changed is closed:
            return function(*arguments)
        found = jaxpr_as_fun(changed)(*jax.tree.leaves(arguments))
        return jax.tree.unflatten(jax.tree.structure(shapes), found)

    return quick


def _changed(found):
    """A jaxpr, open or closed, with its convolutions exchanged; itself where it has none."""
    jaxpr, _ = open_jaxpr(found)
    eqns = [each for eqn in jaxpr.eqns for each in _exchanged(eqn)]
    if len(eqns) == len(jaxpr.eqns) and all(map(operator.is_, eqns, jaxpr.eqns)):
        return found
    changed = jaxpr.replace(eqns=eqns)
    return changed if found is jaxpr else found.replace(jaxpr=changed)


def _exchanged(eqn) -> list:
    if eqn.primitive.name == "conv_general_dilated":
        return _quick_equations(eqn)
    params = {name: _inner(value) for name, value in eqn.params.items()}
    if all(params[name] is value for name, value in eqn.params.items()):
        return [eqn]
    return [eqn.replace(params=params)]


def _inner(value):
    """A parameter of an equation; jaxprs in it are changed."""
    if isinstance(value, Jaxpr | ClosedJaxpr):
        return _changed(value)
    if type(value) is tuple:
        changed = tuple(map(_inner, value))
        return value if all(map(operator.is_, changed, value)) else changed
    return value


def _quick_equations(eqn) -> list:
    """What `kernels.convolution` makes of it, in the variables of the equation."""
    shapes = [jax.ShapeDtypeStruct(atom.aval.shape, atom.aval.dtype) for atom in eqn.invars]
    op = functools.partial(convolution, **eqn.params)
    jaxpr, _ = open_jaxpr(jax.make_jaxpr(op)(*shapes))
    known = dict(zip((*jaxpr.invars, *jaxpr.outvars), (*eqn.invars, *eqn.outvars), strict=True))

    def renamed(atoms) -> list:
        return [atom if hasattr(atom, "val") else known.get(atom, atom) for atom in atoms]

    return [
        one.replace(invars=renamed(one.invars), outvars=renamed(one.outvars)) for one in jaxpr.eqns
    ]
