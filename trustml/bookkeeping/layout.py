"""Convolutions in the one layout that XLA's CPU code computes fast in any place of a program.

It lays convolutions out afresh, but at the top of a program only: within a loop or a branch, and
where it moves one out of them, a kernel's gradient took 70 times as long and an image's 10 times.
Elsewhere than on CPUs everything stays as it is written.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from trustml.bookkeeping import cost
from trustml.bookkeeping.values import INLINED, bind, literal_array, open_jaxpr


def channels_last(function, *arguments):
    """`function(*arguments)`, one array, with its convolutions laid out."""
    if not cost.machine().lays_out_convolutions:
        return function(*arguments)
    closed = jax.make_jaxpr(function)(*arguments)
    jaxpr, consts = open_jaxpr(closed)
    (found,) = _evaluated(jaxpr, consts, arguments)
    return found


def bind_anywhere(eqn, *values):
    """`bind`, with gradients of convolutions laid out too."""
    if eqn.primitive.name != "conv_general_dilated" or not cost.machine().lays_out_convolutions:
        return bind(eqn, *values)
    return (_convolution(eqn)(*values),)


def _convolution(eqn):
    @jax.custom_vjp
    def convolution(image, kernel):
        return _laid_out(eqn, image, kernel)

    def backward(operands, cotangent):
        def by(place):
            def of_one(array):
                held = (*operands[:place], array, *operands[place + 1 :])
                return bind(eqn, *held)[0]

            transpose = jax.linear_transpose(of_one, operands[place])
            return channels_last(lambda cotangent: transpose(cotangent)[0], cotangent)

        return by(0), by(1)

    convolution.defvjp(lambda *operands: (_laid_out(eqn, *operands), operands), backward)
    return convolution


def _evaluated(jaxpr, consts, arguments) -> list:
    env = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *arguments), strict=True))

    def read(atom):
        return literal_array(atom.val, atom.aval) if hasattr(atom, "val") else env[atom]

    for eqn in jaxpr.eqns:
        values = [read(atom) for atom in eqn.invars]
        if eqn.primitive.name in INLINED:
            inner, held = open_jaxpr(eqn.params["jaxpr"])
            found = _evaluated(inner, held, values)
        elif eqn.primitive.name == "conv_general_dilated":
            found = [_laid_out(eqn, *values)]
        else:
            found = bind(eqn, *values)
        env.update(zip(eqn.outvars, found, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _laid_out(eqn, image, kernel):
    """The equation on images [example, *space, channel] and kernels [*space, in, out]."""
    numbers = eqn.params["dimension_numbers"]
    last = image.ndim - 1
    space = range(last - 1)
    images = (0, last, *(1 + axis for axis in space))
    order = jax.lax.ConvDimensionNumbers(images, (last, last - 1, *space), images)
    moved = functools.partial(np.argsort, kind="stable")
    image = jnp.transpose(image, np.asarray(numbers.lhs_spec)[moved(order.lhs_spec)])
    kernel = jnp.transpose(kernel, np.asarray(numbers.rhs_spec)[moved(order.rhs_spec)])
    found = eqn.primitive.bind(image, kernel, **{**eqn.params, "dimension_numbers": order})
    return jnp.transpose(found, np.asarray(order.out_spec)[moved(numbers.out_spec)])
