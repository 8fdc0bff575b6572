"""Squared norms taken while the backward pass goes by, so that nothing is held for them.

A *meter* at a site is the identity with one more input per unit, a zero: its cotangent is the
squared norm of the unit's gradient there, computed from the site's inputs and cotangent, which may
then be forgotten. Inside a loop the cotangents of the iterations add up, as norms do where every
iteration has a parameter of its own. It composes with scan and with remat, whose loops hold no
captures then.

References:
  Goodfellow, Efficient Per-Example Gradient Computations, 2015, for the norm of one layer.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from trustml.bookkeeping.clusters import Cluster, Use
from trustml.bookkeeping.factors import Factor
from trustml.bookkeeping.gram import squared_norm
from trustml.bookkeeping.run import bind
from trustml.bookkeeping.shapes import factor_shape
from trustml.bookkeeping.values import Hoisted, Site, added, wide
from trustml.kernels.rounding import SMALLEST


class Meter(NamedTuple):
    """What one site adds to the squared norms of some clusters."""

    site: Site  # without its loops: as one iteration sees it
    clusters: tuple[Cluster, ...]

    def through(self, values, results, zeros):
        """`results` of the site, metered.

        Args:
          values: All inputs of the site, of one unit.
          results: Its outputs.
          zeros: One scalar for each cluster; their cotangents are the squared norms.
        """
        tapped = self.site.tapped()

        @jax.custom_vjp
        def identity(results, values, zeros):
            del values, zeros
            return results

        def forward(results, values, zeros):
            del zeros
            return results, values

        def backward(values, cotangents):
            squares = [
                self._square(cluster.uses[0], cluster.rule, values, cotangents)
                for cluster in self.clusters
            ]
            return cotangents, None, squares

        identity.defvjp(forward, backward)
        found = identity([results[place] for place in tapped], list(values), list(zeros))
        results = list(results)
        for place, result in zip(tapped, found, strict=True):
            results[place] = result
        return results

    def _square(self, use: Use, rule: str, values, cotangents):
        if use.factor is None:
            return _square_of(self._gradient(use, values, cotangents))
        shape = factor_shape(self.site, use.places[0])
        captured = [values[place][None] for place in self.site.captured()]
        factor = Factor(shape, captured, cotangents[0][None])
        if rule == "gram":
            return squared_norm([factor.normal(shape.row, shape.col)])[0]
        return _square_of(factor.kept()[0])

    def _gradient(self, use: Use, values, cotangents):
        if self.site.eqn is None:
            return wide(cotangents[0])
        held = list(values)

        def apply(*mine):
            for place, value in zip(use.places, mine, strict=True):
                held[place] = value
            found = bind(self.site.eqn, *held)
            return [found[place] for place in self.site.tapped()]

        _, back = jax.vjp(apply, *(values[place] for place in use.places))
        return wide(added(back(cotangents)))


def meters_of(clusters) -> dict[Site, Meter]:
    """Meters for the clusters that one site alone decides, by site.

    Left out: parameters used at several sites, or again in every iteration of a loop, whose norms
    have cross terms.
    """
    by_site: dict[Site, list[Cluster]] = {}
    for cluster in clusters:
        if cluster.rule != "joint" and len(cluster.uses) == 1:
            use = cluster.uses[0]
            if use.value.stack == use.site.loops:
                by_site.setdefault(use.site, []).append(cluster)
    return {site: Meter(_of_one_iteration(site), tuple(mine)) for site, mine in by_site.items()}


def _of_one_iteration(site: Site) -> Site:
    inputs = tuple(
        dataclasses.replace(value, stack=()) if isinstance(value, Hoisted) else value
        for value in site.inputs
    )
    return dataclasses.replace(site, loops=(), inputs=inputs)


def _square_of(gradient):
    flat = gradient.reshape(-1)
    return jnp.dot(flat, flat, precision="highest") + flat.size * SMALLEST
