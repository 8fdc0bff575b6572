"""Squared norms and clipped sums from one backward pass."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from trustml.bookkeeping.clusters import Cluster, Use, clusters_of, tied_layout
from trustml.bookkeeping.factors import Factor
from trustml.bookkeeping.gram import squared_norm
from trustml.bookkeeping.read import read_loss
from trustml.bookkeeping.run import Forward, HoistedValues, bind, over_loops
from trustml.bookkeeping.values import Data, Hoisted


class Kept(NamedTuple):
    """Norms of all units and what their weighted sums need."""

    squares: list  # per trained leaf: squared norm per unit, an upper bound, [unit] float32
    contract: Callable  # (weights per leaf [group, unit], finite [unit]) -> sums per leaf
    loss: Any
    aux: Any


def book_keep(loss, trained, frozen, unit, rules=None) -> Kept:
    """Norms and clipped sums of per-unit gradients in one backward pass.

    Args:
      loss: `loss(trained, frozen, *unit) -> (scalar, aux)` for one unit.
      trained: Pytree of floating arrays.
      frozen: Pytree of anything else the loss reads.
      unit: Tuple of pytrees whose leaves have a leading unit axis.
      rules: Allowed rules by name, for tests and tuning; by default the cost model chooses.

    Returns:
      `Kept`, in the order of `jax.tree.leaves(trained)`.

    References:
      Bu et al., Differentially Private Optimization on Large Foundation Models, 2022.
    """
    leaves = jax.tree.leaves(trained)
    reading, forward, parts = _first_pass(loss, trained, frozen, unit, rules)

    def sums(weights, finite):
        found = [jnp.zeros((weights[0].shape[0], *leaf.shape), jnp.float32) for leaf in leaves]
        for cluster, part in parts:
            chosen = [weights[root.index] for root in cluster.roots]
            more = part.contract(chosen, finite)
            for root, array in zip(cluster.roots, more, strict=True):
                found[root.index] = found[root.index] + array
        return found

    def contract(weights, finite):
        # The plain sums take operands to be finite; the careful ones cost a pass over each.
        return jax.lax.cond(
            jnp.all(finite), lambda: sums(weights, None), lambda: sums(weights, finite)
        )

    return _kept(reading, forward, parts, leaves, contract)


def ghost(loss, trained, frozen, unit, rules=None) -> Kept:
    """The same in two backward passes: norms first, then the gradient of the weighted loss.

    Nothing is kept between the passes but the forward's own residuals. Arguments and result are
    those of `book_keep`.

    References:
      Li et al., Large Language Models Can Be Strong Differentially Private Learners, 2021.
    """
    leaves = jax.tree.leaves(trained)
    reading, forward, parts = _first_pass(loss, trained, frozen, unit, rules)

    def sums(forward, weights):
        passes: dict = {}
        for weight in weights:
            if id(weight) not in passes:
                rows = [forward.gradient(row) for row in weight]
                passes[id(weight)] = [
                    jnp.stack([array.astype(jnp.float32) for array in column])
                    for column in zip(*rows, strict=True)
                ]
        return [passes[id(weight)][place] for place, weight in enumerate(weights)]

    def careful(weights, finite):
        # Units that are not finite are replaced by one that is; their weight is zero.
        stand_in = jnp.where(finite, jnp.arange(finite.size), jnp.argmax(finite))
        units = [leaf[stand_in] for leaf in jax.tree.leaves(unit)]
        rest = jax.tree.leaves(frozen)
        again = sums(Forward(reading.block, (), leaves, rest, units), weights)
        return [jnp.where(jnp.any(finite), array, 0.0) for array in again]

    def contract(weights, finite):
        return jax.lax.cond(
            jnp.all(finite), lambda: sums(forward, weights), lambda: careful(weights, finite)
        )

    return _kept(reading, forward, parts, leaves, contract)


def _first_pass(loss, trained, frozen, unit, rules):
    example = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), unit)
    reading = read_loss(loss, trained, frozen, example)
    leaves, rest, units = map(jax.tree.leaves, (trained, frozen, unit))
    forward = Forward(reading.block, reading.sites, leaves, rest, units)
    cotangents = forward.cotangents()
    hoisted = HoistedValues([*leaves, *rest])
    parts = [
        (cluster, _RULES[cluster.rule](cluster, hoisted, forward.captures, cotangents))
        for cluster in clusters_of(reading.sites, units[0].shape[0], rules)
    ]
    return reading, forward, parts


def _kept(reading, forward, parts, leaves, contract) -> Kept:
    losses, *rest = forward.outputs
    squares = [jnp.zeros(losses.shape, jnp.float32) for _ in leaves]
    for cluster, part in parts:
        for root, square in zip(cluster.roots, part.squares, strict=True):
            squares[root.index] = squares[root.index] + square
    aux = jax.tree.unflatten(jax.tree.structure(reading.aux_structure), rest)
    return Kept(squares, contract, losses.astype(jnp.float32), aux)


@dataclasses.dataclass
class Part:
    """What one cluster gives: squared norms per root and a way to sum."""

    squares: list
    contract: Callable  # (weights per root [group, unit], finite | None) -> sums per root


def per_group(function, weights):
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

    def contract(weights, finite):
        chosen = factors if finite is None else [factor.clean(finite) for factor in factors]

        def one(weight):
            total = 0.0
            for use, factor in zip(cluster.uses, chosen, strict=True):
                total = total + use.path.pull(hoisted, factor.weighted_sum(weight))
            return total

        return [per_group(one, weights[0])]

    return Part([squared_norm(normal)], contract)


def _materialise(cluster: Cluster, hoisted, captures, cotangents) -> Part:
    values = {use.value for use in cluster.uses}
    grads = [_per_unit_grad(use, hoisted, captures, cotangents) for use in cluster.uses]
    if len(values) == 1:
        total, path = sum(grads), cluster.uses[0].path
        pull = functools.partial(path.pull, hoisted)
    else:
        total = sum(
            jax.vmap(functools.partial(use.path.pull, hoisted))(grad)
            for use, grad in zip(cluster.uses, grads, strict=True)
        )
        pull = _same
    return Part(
        [_square(total)], lambda weights, finite: [_weighted(total, weights[0], finite, pull)]
    )


def _same(array):
    return array


def _square(grad):
    return jnp.sum(jnp.square(grad), axis=tuple(range(1, grad.ndim)))


def _weighted(grad, weights, finite, pull):
    if finite is not None:
        grad = jnp.where(finite.reshape(-1, *(1,) * (grad.ndim - 1)), grad, 0.0)
    found = jnp.tensordot(weights, grad, axes=1, precision="highest")
    return pull(found[0])[None] if len(found) == 1 else jax.vmap(pull)(found)


def _per_unit_grad(use: Use, hoisted, captures, cotangents):
    """Per-unit gradient of a hoisted value at one site, [unit, loops of the value, ...]."""
    if use.factor is not None:
        return _factor(use, captures, cotangents).materialised()
    grad = _site_grads(use.site, hoisted, captures, cotangents)
    total = sum(grad[use.site.params.index(place)] for place in use.places)
    return total.astype(jnp.float32)


def _site_grads(site, hoisted, captures, cotangents):
    """Per-unit gradients of all parameter inputs of a site by its own vjp: always exact."""
    depth = len(site.loops)
    if site.eqn is None:
        (cotangent,) = cotangents[site]
        return [_drop_loops(cotangent, site, site.inputs[0])]
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
    values = [hoisted[site.inputs[i]] for i in site.params]
    order = (*site.params, *held, *fixed)
    stacks = [site.loops if i in held else getattr(site.inputs[i], "stack", ()) for i in order]
    tapped = site.tapped()

    def apply(*arrays):
        found = bind(site.eqn, *(arrays[order.index(i)] for i in range(len(order))))
        return [found[place] for place in tapped]

    over = over_loops(apply, site.loops, stacks)

    def one_unit(captured, cotangent):
        _, back = jax.vjp(lambda *params: over(*params, *captured, *fixed.values()), *values)
        return back(cotangent)

    found = jax.vmap(one_unit, in_axes=(depth, depth))(list(held.values()), cotangents[site])
    return list(found)


def _drop_loops(cotangent, site, value):
    """Unit axis first; loops that the value does not follow are summed."""
    cotangent = jnp.moveaxis(cotangent, len(site.loops), 0)
    axes = tuple(1 + i for i, loop in enumerate(site.loops) if loop not in value.stack)
    return jnp.sum(cotangent, axis=axes) if axes else cotangent


def _joint(cluster: Cluster, hoisted, captures, cotangents) -> Part:
    values = list(dict.fromkeys(use.value for use in cluster.uses))
    grads = {}
    for use in cluster.uses:
        grad = _per_unit_grad(use, hoisted, captures, cotangents)
        grads[use.value] = grads[use.value] + grad if use.value in grads else grad

    def from_roots(*arrays):
        inner = HoistedValues(hoisted.inputs)
        for root, array in zip(cluster.roots, arrays, strict=True):
            inner[root] = array
        return [inner[value] for value in values]

    primal, back = jax.vjp(from_roots, *(hoisted[root] for root in cluster.roots))
    seeds = [grads[value].astype(array.dtype) for value, array in zip(values, primal, strict=True)]
    totals = [grad.astype(jnp.float32) for grad in jax.vmap(back)(seeds)]

    def contract(weights, finite):
        return [
            _weighted(total, weight, finite, _same)
            for total, weight in zip(totals, weights, strict=True)
        ]

    return Part([_square(total) for total in totals], contract)


_RULES = {"gram": _gram, "materialise": _materialise, "joint": _joint}
