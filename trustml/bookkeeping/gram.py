"""Squared norms of one or several factors of a parameter, with the rounding of float32."""

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
    batch, keep = factors[0][1].shape[:2]
    # One axis for both: an axis of length one costs XLA's CPU code copies of all products.
    factors = [
        tuple(array.reshape(batch * keep, *array.shape[2:]) for array in pair) for pair in factors
    ]
    total = jnp.zeros(batch * keep, jnp.float32)
    for i, j in itertools.combinations_with_replacement(range(len(factors)), 2):
        if i == j:
            total = total + _own(*factors[i])
        else:
            (rows, cols), (more_rows, more_cols) = factors[i], factors[j]
            left = _row_products(rows, more_rows)
            total = total + 2 * bounded_product(products(cols, more_cols), left)
    return jnp.maximum(jnp.sum(total.reshape(batch, keep), axis=1), 0.0)


def _own(rows, cols):
    """Squared norm of one factor."""
    if rows.ndim == 3:
        return gram_squared_norm(rows, cols)
    if rows.shape[1] >= cost.machine().lookups_by_sums_from:
        return embedding_squared_norm(rows, cols)
    return bounded_product(products(cols, cols), _row_products(rows, rows))


def _row_products(one, two):
    """Products of rows, [unit, time, time], of which lookups are rows of the identity."""
    exact = jnp.float32(0)
    if one.ndim == 3 and two.ndim == 3:
        return products(one, two)
    if one.ndim == 2 and two.ndim == 2:
        same = (one[..., :, None] == two[..., None, :]) & (one >= 0)[..., :, None]
        return same.astype(jnp.float32), exact
    if one.ndim == 2:
        return jnp.swapaxes(_picked(two, one), 1, 2), exact
    return _picked(one, two), exact


def _picked(rows, indices):
    """Row s of `rows` at the entry that lookup t reads, [unit, s, t]; 0 for no entry."""
    indices = indices[..., None, :]
    found = jnp.take_along_axis(rows, jnp.maximum(indices, 0), axis=2)
    return jnp.where(indices < 0, 0.0, found)
