"""Squared norms of factors, of several that share a parameter too, with what float32 lost."""

import itertools

import jax.numpy as jnp

from trustml.bookkeeping import cost
from trustml.kernels.embedding_norm import embedding_squared_norm
from trustml.kernels.gram_norm import bounded_product, gram_squared_norm, products


def squared_norm(factors):
    """Upper bound of the squared norm of a sum of factors, per unit.

    Gram products cancel: where tokens cancel, a computed norm of zero can stand for a true norm of
    3. So the bound adds, to the computed value, each product's rounding error times what it meets.

    Args:
      factors: List of `(rows, cols)`: rows [unit, keep, time, row] or, for lookups, integer
        [unit, keep, time] with -1 for no entry; cols [unit, keep, time, col]; all with the same
        keep, row and col.

    Returns:
      [unit], float32.
    """
    total = jnp.zeros(factors[0][1].shape[0], jnp.float32)
    for i, j in itertools.combinations_with_replacement(range(len(factors)), 2):
        if i == j:
            total = total + _own(*factors[i])
        else:
            (rows, cols), (more_rows, more_cols) = factors[i], factors[j]
            left = _row_products(rows, more_rows)
            total = total + 2 * bounded_product(products(cols, more_cols), left)
    return jnp.maximum(total, 0.0)


def _own(rows, cols):
    """Squared norm of one factor."""
    if rows.ndim == 4:
        return gram_squared_norm(rows, cols)
    if rows.shape[1] == 1 and rows.shape[2] >= cost.machine().lookups_by_sums_from:
        return embedding_squared_norm(rows[:, 0], cols[:, 0])
    return bounded_product(products(cols, cols), _row_products(rows, rows))


def _row_products(one, two):
    """Products of rows, [unit, keep, time, time], of which lookups are rows of the identity."""
    exact = jnp.float32(0)
    if one.ndim == 4 and two.ndim == 4:
        return products(one, two)
    if one.ndim == 3 and two.ndim == 3:
        same = (one[..., :, None] == two[..., None, :]) & (one >= 0)[..., :, None]
        return same.astype(jnp.float32), exact
    if one.ndim == 3:
        return jnp.swapaxes(_picked(two, one), 2, 3), exact
    return _picked(one, two), exact


def _picked(rows, indices):
    """Row s of `rows` at the entry that lookup t reads, [unit, keep, s, t]; 0 for no entry."""
    indices = indices[..., None, :]
    found = jnp.take_along_axis(rows, jnp.maximum(indices, 0), axis=3)
    return jnp.where(indices < 0, 0.0, found)
