"""Squared norms of factors from Gram products, with a bound on what float32 lost."""

import itertools
import math

import jax.numpy as jnp

UNIT_ROUNDOFF = 2.0**-24
# What a product below the normal range may lose: one factor of 1e-20 squared is flushed to zero,
# and the other may be 1e18.
SMALLEST = 2.0**-126


def rounding(terms: int) -> float:
    """Relative error of a float32 inner product of `terms` terms, against the sum of magnitudes.

    sqrt(terms) + 4 unit roundoffs: the probabilistic bound (Higham and Mary, 2019), which measured
    errors stay below by far; the worst case, every rounding in one direction, is `terms`.
    """
    return (math.sqrt(terms) + 4) * UNIT_ROUNDOFF


def squared_norm(factors):
    """Upper bound of the squared norm of a sum of factors, per unit.

    Gram products cancel: where tokens cancel, a computed norm of zero can stand for a true norm of
    3. So the bound adds, to the computed value, each product's rounding error times what it meets.

    Args:
      factors: List of `(rows, cols)`: rows [unit, keep, time, row] or, for lookups, integer
        [unit, keep, time]; cols [unit, keep, time, col]; all with the same keep, row and col.

    Returns:
      [unit], float32.
    """
    total = jnp.zeros(factors[0][1].shape[0], jnp.float32)
    for i, j in itertools.combinations_with_replacement(range(len(factors)), 2):
        times = 1.0 if i == j else 2.0
        total = total + times * _pair(factors[i], factors[j], same=i == j)
    return jnp.maximum(total, 0.0)


def _pair(one, two, same: bool):
    """Inner product of two factors plus the bound of its error, per unit."""
    (rows, cols), (more_rows, more_cols) = one, two
    if same and cols.shape[2] == 1 and rows.ndim == 4:
        # One outer product: no cancellation, no Gram matrix.
        return jnp.sum(_squares(rows[:, :, 0]) * _squares(cols[:, :, 0]), axis=1)
    right, right_error = _products(cols, more_cols)
    left, left_error = _row_products(rows, more_rows)
    own = 4 * UNIT_ROUNDOFF * jnp.abs(left) * jnp.abs(right)
    bound = left * right + own + jnp.abs(left) * right_error + left_error * jnp.abs(right)
    return jnp.sum(bound, axis=(1, 2, 3))


def _products(one, two):
    """Inner products over the last axis, [unit, keep, time, time], and their rounding errors."""
    value = jnp.einsum("bktr,bksr->bkts", one, two, precision="highest")
    size = rounding(one.shape[-1]) * _lengths(one)[..., :, None] * _lengths(two)[..., None, :]
    return value, size + one.shape[-1] * SMALLEST


def _row_products(one, two):
    """The same for rows, of which lookups are rows of the identity: exact."""
    if one.ndim == 4 and two.ndim == 4:
        return _products(one, two)
    if one.ndim == 3 and two.ndim == 3:
        return (one[..., :, None] == two[..., None, :]).astype(jnp.float32), jnp.float32(0)
    if one.ndim == 3:
        # Row s of `two` at the entry that lookup t reads.
        picked = jnp.take_along_axis(two, one[..., None, :], axis=3)
        return jnp.swapaxes(picked, 2, 3), jnp.float32(0)
    return jnp.take_along_axis(one, two[..., None, :], axis=3), jnp.float32(0)


def _squares(array):
    """Squared norms over the last axis, from above; a product needs no buffer for the squares."""
    squares = jnp.einsum("...d,...d->...", array, array, precision="highest")
    return squares + array.shape[-1] * SMALLEST


def _lengths(array):
    return jnp.sqrt(_squares(array))
