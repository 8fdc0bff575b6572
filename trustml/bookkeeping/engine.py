"""Squared norms and clipped sums from one backward pass."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from trustml.bookkeeping.clusters import clusters_of
from trustml.bookkeeping.read import read_loss
from trustml.bookkeeping.rules import RULES, cluster_sum
from trustml.bookkeeping.run import Forward, HoistedValues


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
    reading, forward, parts, _ = _first_pass(loss, trained, frozen, unit, rules)

    def contract(weights, finite):
        operands = cleared([operand for _, part in parts for operand in part.operands], finite)
        found = [jnp.zeros((weights[0].shape[0], *leaf.shape), jnp.float32) for leaf in leaves]
        for cluster, part in parts:
            mine, operands = operands[: len(part.operands)], operands[len(part.operands) :]
            more = part.contract(mine, [weights[root.index] for root in cluster.roots])
            for root, array in zip(cluster.roots, more, strict=True):
                found[root.index] = found[root.index] + array
        return found

    return _kept(reading, forward, parts, leaves, contract)


def ghost(loss, trained, frozen, unit, rules=None) -> Kept:
    """The same in two backward passes, which hold less: norms first, then sums as they come.

    Arguments and result are those of `book_keep`.

    References:
      Li et al., Large Language Models Can Be Strong Differentially Private Learners, 2021.
    """
    leaves = jax.tree.leaves(trained)
    reading, forward, parts, hoisted = _first_pass(loss, trained, frozen, unit, rules)
    clusters = [cluster for cluster, _ in parts]

    def gradient(weight, finite):
        captures = _masked(forward.captures, finite)
        cotangents = _masked(forward.cotangents(weight), finite)
        found = [jnp.zeros(leaf.shape, jnp.float32) for leaf in leaves]
        for cluster in clusters:
            more = cluster_sum(cluster, hoisted, captures, cotangents)
            for root, array in zip(cluster.roots, more, strict=True):
                found[root.index] = found[root.index] + array
        return found

    def contract(weights, finite):
        passes: dict = {}
        for weight in weights:
            if id(weight) not in passes:
                rows = [gradient(row, finite) for row in weight]
                passes[id(weight)] = [jnp.stack(column) for column in zip(*rows, strict=True)]
        return [passes[id(weight)][place] for place, weight in enumerate(weights)]

    return _kept(reading, forward, parts, leaves, contract)


def _masked(arrays: dict, finite) -> dict:
    """Zeros for units that are not finite, in the arrays of every site."""

    def mask(array, depth):
        if not jnp.issubdtype(array.dtype, jnp.floating):
            return array
        shape = [-1 if axis == depth else 1 for axis in range(array.ndim)]
        return jnp.where(finite.reshape(shape), array, jnp.zeros((), array.dtype))

    return {
        site: [mask(array, len(site.loops)) for array in found] for site, found in arrays.items()
    }


def cleared(operands, finite):
    """Zeros for the units that are not finite: 0 * NaN is NaN, so they must be gone before sums.

    A loop over those units alone, in place: a batch without any pays nothing.

    Args:
      operands: List of `(array, unit axis)`.
      finite: Which units are finite, [unit].
    """
    distinct = {id(array): (array, axis) for array, axis in operands}
    axes = [axis for _, axis in distinct.values()]
    bad_first = jnp.argsort(finite)

    def clear(turn, arrays):
        return [
            jax.lax.dynamic_update_index_in_dim(
                array,
                jnp.zeros((*array.shape[:axis], *array.shape[axis + 1 :]), array.dtype),
                bad_first[turn],
                axis,
            )
            for array, axis in zip(arrays, axes, strict=True)
        ]

    arrays = [array for array, _ in distinct.values()]
    arrays = jax.lax.fori_loop(0, jnp.sum(~finite), clear, arrays)
    by_id = dict(zip(distinct, arrays, strict=True))
    return [by_id[id(array)] for array, _ in operands]


def _first_pass(loss, trained, frozen, unit, rules):
    example = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), unit)
    reading = read_loss(loss, trained, frozen, example)
    leaves, rest, units = map(jax.tree.leaves, (trained, frozen, unit))
    hoisted = HoistedValues([*leaves, *rest])
    forward = Forward(reading.block, reading.sites, hoisted, units)
    cotangents = forward.cotangents()
    parts = [
        (cluster, RULES[cluster.rule](cluster, hoisted, forward.captures, cotangents))
        for cluster in clusters_of(reading.sites, units[0].shape[0], rules)
    ]
    return reading, forward, parts, hoisted


def _kept(reading, forward, parts, leaves, contract) -> Kept:
    losses, *rest = forward.outputs
    squares = [jnp.zeros(losses.shape, jnp.float32) for _ in leaves]
    for cluster, part in parts:
        for root, square in zip(cluster.roots, part.squares, strict=True):
            squares[root.index] = squares[root.index] + square
    aux = jax.tree.unflatten(jax.tree.structure(reading.aux_structure), rest)
    return Kept(squares, contract, losses.astype(jnp.float32), aux)
