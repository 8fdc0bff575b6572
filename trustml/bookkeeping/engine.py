"""Squared norms and clipped sums from one backward pass."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from trustml.bookkeeping.clearing import cleared
from trustml.bookkeeping.clusters import clusters_of
from trustml.bookkeeping.meters import Ports, Weights, meters_of
from trustml.bookkeeping.rules import RULES, Part
from trustml.bookkeeping.run import Forward, HoistedValues
from trustml.bookkeeping.trace import TracedLoss, read_loss


class Bounded(NamedTuple):
    """Sums in which no unit exceeds its bound; norm, factor and loss of each unit."""

    norms: Any  # [bound, unit], from above
    factors: Any  # [bound, unit], applied
    sums: list  # per leaf [group, ...]
    loss: Any
    aux: Any


class Kept(NamedTuple):
    """Norms of all units, and the way to their weighted sums."""

    squares: list  # per trained leaf: squared norm per unit, an upper bound, [unit] float32
    contract: Callable  # (weights per leaf [group, unit], finite [unit]) -> sums per leaf
    loss: Any
    aux: Any

    def bounded(self, bounding) -> Bounded:
        """Sums under bounds; `bounding` is a `trustml.clipping.bounding.Bounding`."""
        norms = bounding.norms(self.squares)
        factors = bounding.factors(norms)
        weights = bounding.weights(factors)
        sums = self.contract([weights[owner] for owner in bounding.of_leaf], bounding.finite(norms))
        return Bounded(norms, factors, sums, self.loss, self.aux)


def book_keep(loss, trained, frozen, unit, rules=None, reading=None) -> Kept:
    """Norms and clipped sums of per-unit gradients in one backward pass.

    >>> loss = lambda w, frozen, x: (0.5 * jnp.sum((w - x) ** 2), None)
    >>> kept = book_keep(loss, jnp.zeros(2), (), (jnp.array([[3.0, 4.0], [0.0, 1.0]]),))
    >>> [round(square, 3) for square in kept.squares[0].tolist()]
    [25.0, 1.0]

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
    run = Run(loss, trained, frozen, unit, rules, reading)
    found = run.backward()

    def contract(weights, finite):
        operands = cleared([operand for part in found.parts for operand in part.operands], finite)
        tapped = []
        for cluster, part in zip(run.tapped, found.parts, strict=True):
            mine, operands = operands[: len(part.operands)], operands[len(part.operands) :]
            tapped.append(part.contract(mine, [weights[root.index] for root in cluster.roots]))
        return run.leaves(tapped, [], weights[0].shape[0])

    return Kept(run.squares(found), contract, run.loss, run.aux)


class _Found(NamedTuple):
    """The result of one backward pass."""

    parts: list[Part]  # of the clusters that no meter covers
    ports: list[Ports]  # of the meters


class Run:
    """A loss that was read, and run forwards once.

    Attributes:
      reading: The loss as it was read.
      tapped: Clusters that no meter covers.
      loss: Per unit, float32.
      aux: As the loss has it, stacked over units.
    """

    def __init__(self, loss, trained, frozen, unit, rules, reading=None, metering=None):
        """Takes the arguments of `book_keep`.

        `metering` is `(bound of each leaf, weights of zero)` where meters measure what they can.
        """
        self.reading = reading or read_for(loss, trained, frozen, unit)
        self._leaves, rest, units = map(jax.tree.leaves, (trained, frozen, unit))
        self._hoisted = HoistedValues([*self._leaves, *rest])
        self._num_units = units[0].shape[0]
        clusters = clusters_of(self.reading.sites, self._num_units, rules)
        of_leaf, baton = metering or (None, ())
        self._meters = meters_of(clusters, of_leaf) if metering else {}
        metered = {cluster for one in self._meters.values() for cluster in one.clusters}
        self.tapped = [cluster for cluster in clusters if cluster not in metered]
        needed = {use.site for cluster in self.tapped for use in cluster.uses}
        sites = [site for site in self.reading.sites if site in needed]
        self._forward = Forward(
            self.reading.block, sites, self._hoisted, units, self._meters, baton
        )
        losses, *rest = self._forward.outputs
        self.loss = losses.astype(jnp.float32)
        self.aux = jax.tree.unflatten(jax.tree.structure(self.reading.aux_structure), rest)

    def backward(self, weights: Weights | tuple = ()) -> _Found:
        """One backward pass of each unit's own loss; `weights` are for the sums of the meters."""
        cotangents, ports = self._forward.backward(weights)
        captures = self._forward.captures
        parts = [
            RULES[cluster.rule](cluster, self._hoisted, captures, cotangents)
            for cluster in self.tapped
        ]
        return _Found(parts, ports)

    def squares(self, found: _Found) -> list:
        """Squared norms per leaf, [unit]."""
        squares = [jnp.zeros(self._num_units, jnp.float32) for _ in self._leaves]
        pairs = [(c, part.squares) for c, part in zip(self.tapped, found.parts, strict=True)]
        for meter, port in zip(self._meters.values(), found.ports, strict=True):
            pairs += [(c, [square]) for c, square in zip(meter.clusters, port.squares, strict=True)]
        for cluster, mine in pairs:
            for root, square in zip(cluster.roots, mine, strict=True):
                squares[root.index] = squares[root.index] + square
        return squares

    def leaves(self, tapped, metered, num_groups: int) -> list:
        """Sums per leaf [group, ...].

        Args:
          tapped: Per cluster that no meter covers, sums of its roots.
          metered: Per meter, the sums of its ports.
          num_groups: Size of the group axis.
        """
        sums = [jnp.zeros((num_groups, *leaf.shape), jnp.float32) for leaf in self._leaves]
        for cluster, arrays in zip(self.tapped, tapped, strict=True):
            for root, array in zip(cluster.roots, arrays, strict=True):
                sums[root.index] = sums[root.index] + array
        for meter, arrays in zip(self._meters.values(), metered, strict=True):
            for cluster, array in zip(meter.clusters, arrays, strict=True):
                (root,), (use,) = cluster.roots, cluster.uses
                array = jnp.moveaxis(array, len(use.value.stack), 0)
                pull = functools.partial(use.path.pull, self._hoisted)
                sums[root.index] = sums[root.index] + jax.vmap(pull)(array)
        return sums


def read_for(loss, trained, frozen, unit) -> TracedLoss:
    """Reads a loss, given a batch of units."""
    example = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), unit)
    return read_loss(loss, trained, frozen, example)
