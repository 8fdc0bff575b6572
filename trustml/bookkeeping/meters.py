"""Norms and weighted sums taken while the backward pass goes by, so that nothing is held for them.

A *meter* at a site is the identity in the forward pass. On the way back it sees the unit's own
cotangent at the site and gives two things made from that one array: the squared norm of the unit's
gradient, and the sum over units of their gradients, weighted. The weights come from behind: a
*baton* passes through every metered site in order, so its cotangent, which is the weights, visits
them in the reverse order. Cotangents themselves are never scaled.

Inside a loop the norms of the iterations add up, as they do where every iteration has a parameter
of its own, and the sums are stacked. Both compose with scan and with remat, whose loops hold no
captures then.

References:
  Goodfellow, Efficient Per-Example Gradient Computations, 2015, for the norm of one layer.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

from trustml.bookkeeping.clusters import Cluster, Use
from trustml.bookkeeping.paths import path_to
from trustml.bookkeeping.rules import RULES, contracted
from trustml.bookkeeping.run import HoistedValues, of_each_unit, spread
from trustml.bookkeeping.shapes import factor_shape
from trustml.bookkeeping.values import Hoisted, Site


class Weights(NamedTuple):
    """Weights of the gradients in a backward pass; all zero where norms alone are wanted."""

    values: jax.Array  # [unit, bound, group] float32
    finite: jax.Array  # [unit] float32: 0 for a unit whose operands may not enter a sum


class Ports(NamedTuple):
    """Zeros whose cotangents are what one meter finds, one entry for each of its clusters."""

    squares: list  # [unit]
    sums: list  # [loops, group, *shape of the value], the same for all units


@dataclasses.dataclass(frozen=True, eq=False)
class Meter:
    """The share of one site in the squared norms and sums of some clusters."""

    site: Site  # without its loops: as one iteration sees it
    clusters: tuple[Cluster, ...]  # as the loss has them
    local: tuple[Cluster, ...]  # the same of one iteration: the value itself is the root
    bounds: tuple[int, ...]  # which bound each is under

    def ports(self, num_units: int, num_groups: int) -> Ports:
        """Zeros for a batch; shapes of sums start with the loops that the site is in."""
        sums = []
        for cluster in self.clusters:
            (use,) = cluster.uses
            lengths = [loop.length for loop in use.value.stack]
            sums.append(jnp.zeros((*lengths, num_groups, *use.value.aval.shape), jnp.float32))
        return Ports([jnp.zeros(num_units, jnp.float32)] * len(sums), sums)

    def through(self, values, results, baton: Weights, ports: Ports):
        """`(results, baton)` of the site, metered.

        Args:
          values: All inputs of the site, of one unit.
          results: Its outputs.
          baton: Passed on; its cotangent comes from the sites behind.
          ports: See `Ports`; of one unit and one iteration.
        """
        tapped = self.site.tapped()
        captured = [values[place] for place in self.site.captured()]
        held = [values[place] for place in self._held()]

        @jax.custom_vjp
        def identity(results, captured, held, baton, ports):
            del captured, held, ports
            return of_each_unit(results, baton), baton

        def forward(results, captured, held, baton, ports):
            del ports
            return (of_each_unit(results, baton), baton), (captured, held)

        def backward(saved, cotangents):
            results, weights = cotangents
            captured, held = saved
            found = self._found(captured, held, results, weights)
            return results, None, None, weights, found

        identity.defvjp(forward, backward)
        found, baton = identity([results[place] for place in tapped], captured, held, baton, ports)
        results = list(results)
        for place, result in zip(tapped, found, strict=True):
            results[place] = result
        return results, baton

    def _held(self) -> tuple[int, ...]:
        """Places of hoisted inputs, where a site is differentiated by its own vjp."""
        if all(cluster.uses[0].factor is not None for cluster in self.clusters):
            return ()
        inputs = self.site.inputs
        return tuple(place for place, value in enumerate(inputs) if isinstance(value, Hoisted))

    def _found(self, captured, held, cotangents, weights) -> Ports:
        """Norms of each unit, and the weighted sum of all, which vmap would not know to take."""
        take = custom_vmap(lambda *one: self._of_batch(*_with_unit_axis(1, False, one)))

        @take.def_vmap
        def take_batch(size, batched, captured, held, cotangents, weights):
            arrays = _with_unit_axis(size, batched, (captured, held, cotangents, weights))
            found = self._of_batch(*arrays)
            return found, Ports([True] * len(found.squares), [False] * len(found.sums))

        return take(captured, held, cotangents, weights)

    def _of_batch(self, captured, held, cotangents, weights: Weights) -> Ports:
        hoisted = HoistedValues(())
        for place, array in zip(self._held(), held, strict=True):
            hoisted[self.site.inputs[place]] = array
        found = Ports([], [])
        for cluster, bound in zip(self.local, self.bounds, strict=True):
            rule = RULES[cluster.rule]
            part = rule(cluster, hoisted, {self.site: captured}, {self.site: cotangents})
            found.squares.extend(part.squares)
            finite = weights.finite > 0
            found.sums.extend(contracted(part, [weights.values[:, bound].T], finite))
        return found


def _with_unit_axis(size: int, batched, arrays):
    """Batches of what may be the same for all units; hoisted values, the second, stay as they are.

    Args:
      size: Units.
      batched: Which arrays have their unit axis in front; False: none.
      arrays: `(captured, held, cotangents, weights)`.
    """
    one = functools.partial(spread, size)
    batched = batched or jax.tree.map(lambda _: False, arrays)
    captured, held, *rest = arrays
    return (
        jax.tree.map(one, batched[0], captured),
        held,
        *jax.tree.map(one, tuple(batched[2:]), tuple(rest)),
    )


def meters_of(clusters, of_leaf) -> dict[Site, Meter]:
    """Meters for the clusters that one site alone decides, by site.

    Left out: parameters used at several sites, or again in every iteration of a loop, whose norms
    have cross terms.

    Args:
      clusters: All clusters of a loss.
      of_leaf: The bound of each trained leaf.
    """
    by_site: dict[Site, list[Cluster]] = {}
    for cluster in clusters:
        if cluster.rule != "joint" and len(cluster.uses) == 1:
            use = cluster.uses[0]
            if use.value.stack == use.site.loops:
                by_site.setdefault(use.site, []).append(cluster)
    return {site: _meter(site, tuple(mine), of_leaf) for site, mine in by_site.items()}


def _meter(site: Site, clusters: tuple[Cluster, ...], of_leaf) -> Meter:
    inputs = tuple(
        dataclasses.replace(value, stack=(), kind="input") if isinstance(value, Hoisted) else value
        for value in site.inputs
    )
    once = dataclasses.replace(site, loops=(), inputs=inputs)
    local = tuple(_of_one_iteration(cluster, once) for cluster in clusters)
    return Meter(once, clusters, local, tuple(of_leaf[c.roots[0].index] for c in clusters))


def _of_one_iteration(cluster: Cluster, site: Site) -> Cluster:
    (use,) = cluster.uses
    value = site.inputs[use.places[0]]
    factor = None if use.factor is None else factor_shape(site, use.places[0])
    mine = Use(site, value, use.places, path_to(value), factor)
    return Cluster(cluster.rule, (value,), (mine,), cluster.seconds)
