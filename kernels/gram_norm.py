"""Squared norms of sums of outer products from Gram matrices: the dense layer's ghost norm.

    |sum_t a_t g_t^T|^2 = sum over t, s of (a_t . a_s) (g_t . g_s)

Both Gram matrices are symmetric. Long sequences go by blocks of the lower triangle: five eighths of
the products at four blocks, and no array of [time, time].

References:
  Goodfellow, 2015; Li et al., 2021. The error terms are ours: Gram products cancel.
"""

import jax.numpy as jnp

from trustml.kernels.rounding import SMALLEST, UNIT_ROUNDOFF, lengths, rounding, squares

BLOCKS_FROM = 512  # positions from which on blocks are taken
BLOCKS = 4


def gram_squared_norm(rows, cols):
    """Upper bounds of |sum_t rows_t cols_t^T|^2, per unit: value and what float32 may have lost.

    >>> int(gram_squared_norm(jnp.ones((1, 1, 2, 3)), jnp.ones((1, 1, 2, 5)))[0])
    60

    Args:
      rows: [unit, keep, time, row], float32.
      cols: [unit, keep, time, col], float32.

    Returns:
      [unit], float32: summed over `keep`.
    """
    time = cols.shape[2]
    if time == 1:
        # One outer product: no cancellation, no Gram matrix.
        return jnp.sum(squares(rows[:, :, 0]) * squares(cols[:, :, 0]), axis=1)
    step = -(-time // BLOCKS) if time >= BLOCKS_FROM else time
    starts = range(0, time, step)
    total = jnp.zeros(cols.shape[0], jnp.float32)
    for i in starts:
        for j in range(0, i + 1, step):
            mine, theirs = (slice(None), slice(None), slice(i, i + step)), slice(j, j + step)
            pair = bounded_product(
                products(cols[mine], cols[:, :, theirs]), products(rows[mine], rows[:, :, theirs])
            )
            total = total + (pair if i == j else 2 * pair)
    return total


def products(one, two):
    """Inner products over the last axis, [unit, keep, time, time], and their rounding errors."""
    value = jnp.einsum("bktr,bksr->bkts", one, two, precision="highest")
    size = rounding(one.shape[-1]) * lengths(one)[..., :, None] * lengths(two)[..., None, :]
    return value, size + one.shape[-1] * SMALLEST


def bounded_product(right, left):
    """Sum over all but the unit of the products of two arrays, each with its errors, from above."""
    (right, right_error), (left, left_error) = right, left
    own = 4 * UNIT_ROUNDOFF * jnp.abs(left) * jnp.abs(right)
    bound = left * right + own + jnp.abs(left) * right_error + left_error * jnp.abs(right)
    return jnp.sum(bound, axis=(1, 2, 3))
