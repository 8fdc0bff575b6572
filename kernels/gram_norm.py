"""Squared norms of sums of outer products from Gram matrices: the dense layer's ghost norm.

    |sum_t a_t g_t^T|^2 = sum over t, s of (a_t . a_s) (g_t . g_s)

Both Gram matrices are symmetric. Long sequences go by blocks of the lower triangle: five eighths of
the products at four blocks, and no array of [time, time].

References:
  Goodfellow, 2015; Li et al., 2021. The error terms are ours: Gram products cancel.
"""

import math

import jax
import jax.numpy as jnp

from trustml.kernels.rounding import SMALLEST, UNIT_ROUNDOFF, lengths, rounding, squares

_BLOCKS_FROM = 512  # positions from which on blocks are taken
_BLOCKS = 4


@jax.jit  # layers of one shape are traced and lowered once
def gram_squared_norm(rows, cols):
    """Upper bounds of |sum_t rows_t cols_t^T|^2, per unit: value and what float32 may have lost.

    >>> int(gram_squared_norm(jnp.ones((1, 2, 3)), jnp.ones((1, 2, 5)))[0])
    60

    Args:
      rows: [unit, time, row], float32.
      cols: [unit, time, col], float32.

    Returns:
      [unit], float32.
    """
    time = cols.shape[1]
    if time == 1:
        # One outer product: no cancellation, no Gram matrix.
        return squares(rows[:, 0]) * squares(cols[:, 0])
    step = -(-time // _BLOCKS) if time >= _BLOCKS_FROM else time
    starts = range(0, time, step)
    total = jnp.zeros(cols.shape[0], jnp.float32)
    for i in starts:
        for j in range(0, i + 1, step):
            mine, theirs = slice(i, i + step), slice(j, j + step)
            pair = bounded_product(
                products(cols[:, mine], cols[:, theirs]), products(rows[:, mine], rows[:, theirs])
            )
            total = total + (pair if i == j else 2 * pair)
    return total


def products(one, two):
    """Inner products over the last axis, [unit, time, time], and their rounding errors."""
    value = jnp.einsum("btr,bsr->bts", one, two, precision="highest")
    terms = one.shape[-1]
    # The root of each, not of their product with the squares, which could be flushed to zero.
    first, second = (math.sqrt(rounding(terms)) * lengths(array) for array in (one, two))
    return value, first[:, :, None] * second[:, None, :] + terms * SMALLEST


def bounded_product(right, left):
    """Sum over all but the unit of the products of two arrays, each with its errors, from above."""
    (right, right_error), (left, left_error) = right, left
    own = 4 * UNIT_ROUNDOFF * jnp.abs(left) * jnp.abs(right)
    bound = left * right + own + jnp.abs(left) * right_error + left_error * jnp.abs(right)
    return jnp.sum(bound, axis=(1, 2))
