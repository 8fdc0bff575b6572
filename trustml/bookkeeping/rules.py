"""Rules: squared norms of a cluster, and its weighted sum."""

import dataclasses
import functools
import operator
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from trustml.bookkeeping.clearing import cleared
from trustml.bookkeeping.clusters import Cluster, Use, tied_layout
from trustml.bookkeeping.factors import UNIT, Factor, along, same
from trustml.bookkeeping.gram import squared_norm
from trustml.bookkeeping.run import HoistedValues, over_loops
from trustml.bookkeeping.values import Data, Hoisted, added, bind, to_float32
from trustml.kernels.rounding import SMALLEST


@dataclasses.dataclass
class Part:
    """Squared norms of one cluster per root, and its way to a weighted sum."""

    squares: list
    operands: list  # (array, unit axis) that the sums contract
    contract: Callable  # (operands, weights per root [group, unit]) -> sums per root


def contracted(part: Part, weights, finite) -> list:
    """Weighted sums per root [group, ...]; nothing is computed where all weights are zero.

    Args:
      part: Of one cluster.
      weights: Per root, [group, unit].
      finite: Units that are not finite are left out, [unit].
    """
    operands = [array for array, _ in part.operands]
    shapes = jax.eval_shape(lambda arrays: part.contract(arrays, weights), operands)

    def skip(_):
        return [jnp.zeros(shape.shape, shape.dtype) for shape in shapes]

    def contract(arrays):
        return part.contract(arrays, weights)

    def contract_finite(arrays):
        axes = [axis for _, axis in part.operands]
        return contract(cleared(list(zip(arrays, axes, strict=True)), finite))

    # Clearing copies what later turns of a loop need: only where there is something to clear.
    needed = functools.reduce(operator.or_, [jnp.any(weight != 0) for weight in weights])
    way = jnp.where(needed, jnp.where(jnp.all(finite), 1, 2), 0)
    return jax.lax.switch(way, [skip, contract, contract_finite], operands)


def _per_group(function, weights):
    """Applies a function of one weight vector to each group."""
    if weights.shape[0] == 1:
        return function(weights[0])[None]
    return jax.lax.map(function, weights)


def _factor(use: Use, captures, cotangents) -> Factor:
    return Factor(use.factor, captures[use.site], cotangents[use.site][0])


def _gram(cluster: Cluster, hoisted, captures, cotangents) -> Part:
    factors = [_factor(use, captures, cotangents) for use in cluster.uses]
    normal = []
    for factor, (row, col, swap) in zip(factors, tied_layout(cluster.uses), strict=True):
        rows, cols = factor.normal(row, col)
        normal.append((cols, rows) if swap else (rows, cols))

    operands = [factor.unscaled() for factor in factors]
    kept = [operand for operand in operands if operand is not None]

    def contract(arrays, weights):
        arrays = iter(arrays)
        clean = [None if operand is None else next(arrays) for operand in operands]

        def one(weight):
            return sum(
                use.path.pull(hoisted, factor.weighted_sum(weight, array))
                for use, factor, array in zip(cluster.uses, factors, clean, strict=True)
            )

        return [_per_group(one, weights[0])]

    return Part([squared_norm(normal)], kept, contract)


def _materialise(cluster: Cluster, hoisted, captures, cotangents) -> Part:
    first = cluster.uses[0]
    if len(cluster.uses) == 1 and first.factor is not None:
        total, settled = _factor(first, captures, cotangents).kept()

        def pull(summed):
            return first.path.pull(hoisted, settled(summed))

        return _kept(total, pull)
    grads = [_per_unit_grad(use, hoisted, captures, cotangents) for use in cluster.uses]
    if all(use.value == first.value for use in cluster.uses):
        return _kept(added(grads), functools.partial(first.path.pull, hoisted))
    total = sum(
        jax.vmap(functools.partial(use.path.pull, hoisted))(grad)
        for use, grad in zip(cluster.uses, grads, strict=True)
    )
    return _kept(total, same)


def _kept(total, pull) -> Part:
    """Per-unit gradients [unit, ...]; `pull` makes of their sum that of the parameter."""
    return Part(
        [_square(total)],
        [(total, 0)],
        lambda arrays, weights: [_weighted(arrays[0], weights[0], pull)],
    )


def _square(grad):
    flat = grad.reshape(grad.shape[0], -1)
    squares = jnp.einsum("bd,bd->b", flat, flat, precision="highest")
    return squares + flat.shape[1] * SMALLEST


# XLA's CPU code compiles each product with one row anew, but sums of one shape once. Of more
# entries a sum is the slower of the two.
_FEW = 1 << 16


def _weighted(grad, weights, pull):
    if len(weights) == 1 and grad.size <= _FEW:
        found = jnp.sum(along(weights[0], (UNIT,) + (None,) * (grad.ndim - 1)) * grad, axis=0)[None]
    else:
        found = jnp.tensordot(weights, grad, axes=1, precision="highest")
    return pull(found[0])[None] if len(found) == 1 else jax.vmap(pull)(found)


def _per_unit_grad(use: Use, hoisted, captures, cotangents):
    """Per-unit gradient of a hoisted value at one site, [unit, loops of the value, ...]."""
    if use.factor is not None:
        return _factor(use, captures, cotangents).materialised()
    if _is_cotangent(use):
        return to_float32(cotangents[use.site][0])
    grad = _site_grads(use.site, hoisted, captures, cotangents)
    return to_float32(added([grad[use.site.params.index(place)] for place in use.places]))


def _is_cotangent(use: Use) -> bool:
    """Whether the gradient is the cotangent itself; the same array then serves both."""
    site = use.site
    return (
        site.name in ("add", "add_any", "identity")
        and not site.loops
        and len(site.params) == 1
        and use.value.aval.shape == site.outputs[0].aval.shape
        and use.value.aval.dtype == jnp.float32
    )


def _site_parts(site, hoisted, captures):
    needed = site.captured()
    held = dict(zip(needed, captures[site], strict=True))
    rest = [i for i in range(len(site.inputs)) if i not in site.params and i not in held]
    fixed = {}
    for i in rest:
        value = site.inputs[i]
        if isinstance(value, Data):
            fixed[i] = jnp.zeros(value.aval.shape, value.aval.dtype)  # the gradient ignores it
        else:
            fixed[i] = hoisted[value] if isinstance(value, Hoisted) else value.array()
    return _Vjp(
        values=[hoisted[site.inputs[i]] for i in site.params],
        function=_site_function(site, (*site.params, *held, *fixed)),
        captured=list(held.values()),
        fixed=list(fixed.values()),
    )


class _Vjp(NamedTuple):
    """A site as a function of its parameter values, for one unit, all loops at once."""

    values: list
    function: Callable  # (*values, *captured, *fixed) -> differentiable outputs
    captured: list  # [loops, unit, ...]
    fixed: list


def _site_function(site, order):
    """The site's equation with inputs in the order given, over its loops."""
    needed = site.captured()
    stacks = [site.loops if i in needed else getattr(site.inputs[i], "stack", ()) for i in order]

    def apply(*arrays):
        found = bind(site.eqn, *(arrays[order.index(i)] for i in range(len(order))))
        return [found[place] for place in site.tapped()]

    return over_loops(apply, site.loops, stacks)


def _site_grads(site, hoisted, captures, cotangents):
    """Per-unit gradients of all parameter inputs of a site by its own vjp: always exact."""
    depth = len(site.loops)
    if site.eqn is None:
        return [_drop_loops(cotangents[site][0], site, site.inputs[0])]
    parts = _site_parts(site, hoisted, captures)

    def one_unit(captured, cotangent):
        function = lambda *values: parts.function(*values, *captured, *parts.fixed)  # noqa: E731
        return jax.vjp(function, *parts.values)[1](cotangent)

    return jax.vmap(one_unit, in_axes=(depth, depth))(parts.captured, cotangents[site])


def _drop_loops(cotangent, site, value):
    """Unit axis first; loops that the value does not follow are summed."""
    cotangent = jnp.moveaxis(cotangent, len(site.loops), 0)
    axes = tuple(1 + i for i, loop in enumerate(site.loops) if loop not in value.stack)
    return jnp.sum(cotangent, axis=axes) if axes else cotangent


def _joint(cluster: Cluster, hoisted, captures, cotangents) -> Part:
    values = list(dict.fromkeys(use.value for use in cluster.uses))
    grads: dict = {}
    for use in cluster.uses:
        grad = _per_unit_grad(use, hoisted, captures, cotangents)
        grads[use.value] = grads[use.value] + grad if use.value in grads else grad

    primal, back = _from_roots(cluster, values, hoisted)
    seeds = [grads[value].astype(array.dtype) for value, array in zip(values, primal, strict=True)]
    totals = [to_float32(grad) for grad in jax.vmap(back)(seeds)]

    def contract(arrays, weights):
        return [_weighted(*pair, same) for pair in zip(arrays, weights, strict=True)]

    return Part([_square(total) for total in totals], [(total, 0) for total in totals], contract)


def _from_roots(cluster, values, hoisted):
    """`jax.vjp` of the map from a joint cluster's parameters to the values that enter data."""

    def compute(*arrays):
        inner = HoistedValues(hoisted.inputs)
        for root, array in zip(cluster.roots, arrays, strict=True):
            inner[root] = array
        return [inner[value] for value in values]

    return jax.vjp(compute, *(hoisted[root] for root in cluster.roots))


RULES = {"gram": _gram, "materialise": _materialise, "joint": _joint}
