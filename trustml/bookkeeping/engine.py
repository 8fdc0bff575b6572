"""Squared norms and clipped sums from one backward pass."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from trustml.bookkeeping.clusters import clusters_of
from trustml.bookkeeping.read import Reading, read_loss
from trustml.bookkeeping.rules import RULES
from trustml.bookkeeping.run import Forward, HoistedValues


class Kept(NamedTuple):
    """Norms of all units and what their weighted sums need."""

    squares: list  # per trained leaf: squared norm per unit, an upper bound, [unit] float32
    contract: Callable  # (weights per leaf [group, unit], finite [unit]) -> sums per leaf
    loss: Any
    aux: Any


class FirstPass(NamedTuple):
    """What norms need: a reading of the loss, and one run of it."""

    reading: Reading
    parts: list  # (cluster, part) of the clusters that are not metered
    squares: list  # as in `Kept`
    loss: Any
    aux: Any


def book_keep(loss, trained, frozen, unit, rules=None, reading=None) -> Kept:
    """Norms and clipped sums of per-unit gradients in one backward pass.

    Args:
      loss: `loss(trained, frozen, *unit) -> (scalar, aux)` for one unit.
      trained: Pytree of floating arrays.
      frozen: Pytree of anything else the loss reads.
      unit: Tuple of pytrees whose leaves have a leading unit axis.
      rules: Rules to prefer to the cost model's choice, see `clusters_of`.
      reading: Of this loss, where there is one already.

    Returns:
      `Kept`, in the order of `jax.tree.leaves(trained)`.

    References:
      Bu et al., Differentially Private Optimization on Large Foundation Models, 2022.
    """
    leaves = jax.tree.leaves(trained)
    first = first_pass(loss, trained, frozen, unit, rules, reading)

    def contract(weights, finite):
        operands = cleared(
            [operand for _, part in first.parts for operand in part.operands], finite
        )
        found = [jnp.zeros((weights[0].shape[0], *leaf.shape), jnp.float32) for leaf in leaves]
        for cluster, part in first.parts:
            mine, operands = operands[: len(part.operands)], operands[len(part.operands) :]
            more = part.contract(mine, [weights[root.index] for root in cluster.roots])
            for root, array in zip(cluster.roots, more, strict=True):
                found[root.index] = found[root.index] + array
        return found

    return Kept(first.squares, contract, first.loss, first.aux)


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


def read_for(loss, trained, frozen, unit) -> Reading:
    """Reads a loss, given a batch of units."""
    example = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), unit)
    return read_loss(loss, trained, frozen, example)


def first_pass(loss, trained, frozen, unit, rules, reading, meter=None) -> FirstPass:
    """Reads a loss and runs it forwards once, and backwards as far as norms need it.

    Args:
      loss: As for `book_keep`.
      trained: As for `book_keep`.
      frozen: As for `book_keep`.
      unit: As for `book_keep`.
      rules: As for `book_keep`.
      reading: As for `book_keep`.
      meter: Clusters to meters by site; by default no site is metered.
    """
    reading = reading or read_for(loss, trained, frozen, unit)
    leaves, rest, units = map(jax.tree.leaves, (trained, frozen, unit))
    hoisted = HoistedValues([*leaves, *rest])
    clusters = clusters_of(reading.sites, units[0].shape[0], rules)
    meters = meter(clusters) if meter else {}
    metered = {cluster for one in meters.values() for cluster in one.clusters}
    tapped = [cluster for cluster in clusters if cluster not in metered]
    needed = {use.site for cluster in tapped for use in cluster.uses}
    sites = [site for site in reading.sites if site in needed]
    forward = Forward(reading.block, sites, hoisted, units, meters)
    cotangents, measured = forward.measured()
    parts = [
        (cluster, RULES[cluster.rule](cluster, hoisted, forward.captures, cotangents))
        for cluster in tapped
    ]
    squares = [jnp.zeros(units[0].shape[0], jnp.float32) for _ in leaves]
    for cluster, part in parts:
        for root, square in zip(cluster.roots, part.squares, strict=True):
            squares[root.index] = squares[root.index] + square
    for one, found in zip(meters.values(), measured, strict=True):
        for cluster, square in zip(one.clusters, found, strict=True):
            (root,) = cluster.roots
            squares[root.index] = squares[root.index] + square
    losses, *rest = forward.outputs
    aux = jax.tree.unflatten(jax.tree.structure(reading.aux_structure), rest)
    return FirstPass(reading, parts, squares, losses.astype(jnp.float32), aux)
