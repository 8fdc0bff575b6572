"""Errors of float32 products, so that norms computed from them can be bounds."""

import math

import jax.numpy as jnp

UNIT_ROUNDOFF = 2.0**-24
# What a product below the normal range may lose: one factor of 1e-20 squared is flushed to zero,
# and the other may be 1e18.
SMALLEST = 2.0**-126


def rounding(terms):
    """Relative error of a float32 inner product of `terms` terms, against the sum of magnitudes.

    sqrt(terms) + 4 unit roundoffs: the probabilistic bound (Higham and Mary, 2019), which measured
    errors stay below by far; the worst case, every rounding in one direction, is `terms`.

    Args:
      terms: A number, or a float32 array of them.
    """
    root = jnp.sqrt(terms) if hasattr(terms, "dtype") else math.sqrt(terms)
    return (root + 4) * UNIT_ROUNDOFF


def squares(array):
    """Squared norms over the last axis, from above; a product needs no buffer for the squares."""
    found = jnp.einsum("...d,...d->...", array, array, precision="highest")
    return found + array.shape[-1] * SMALLEST


def lengths(array):
    """Norms over the last axis, from above."""
    return jnp.sqrt(squares(array))
