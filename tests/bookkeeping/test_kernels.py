"""Kernels against their definition in float64: never below, and close where nothing cancels."""

import jax.numpy as jnp
import numpy as np
import pytest

from trustml.bookkeeping.gram import squared_norm
from trustml.kernels import gram_norm
from trustml.kernels.embedding_norm import embedding_squared_norm
from trustml.kernels.gram_norm import gram_squared_norm


def dense_oracle(rows, cols):
    found = np.einsum("btr,btc->brc", rows.astype(np.float64), cols.astype(np.float64))
    return np.square(found).sum((1, 2))


def embedding_oracle(indices, cotangents):
    found = []
    for ids, values in zip(indices, cotangents.astype(np.float64), strict=True):
        kinds = np.unique(ids[ids >= 0])
        found.append(sum(np.square(values[ids == kind].sum(0)).sum() for kind in kinds))
    return np.array(found)


@pytest.mark.parametrize("time", [1, 2, 511, 512, 514, 1023])
def test_gram_norms_by_blocks_are_those_of_the_sum(time):
    rng = np.random.default_rng(time)
    rows = rng.normal(size=(4, time, 3)).astype(np.float32)
    cols = rng.normal(size=(4, time, 5)).astype(np.float32)
    true = dense_oracle(rows, cols)
    found = np.asarray(gram_squared_norm(jnp.asarray(rows), jnp.asarray(cols)), np.float64)
    assert np.all(found >= true * (1 - 1e-6))
    np.testing.assert_allclose(found, true, rtol=1e-3)


def test_a_block_left_out_is_noticed(monkeypatch):
    rng = np.random.default_rng(0)
    rows = np.abs(rng.normal(size=(1, 600, 3))).astype(np.float32)
    cols = np.abs(rng.normal(size=(1, 600, 5))).astype(np.float32)
    real, seen = gram_norm.bounded_product, []

    def without_one(*pair):
        seen.append(0)
        return real(*pair) * float(len(seen) != 2)

    monkeypatch.setattr(gram_norm, "bounded_product", without_one)
    # Not the compiled function: it would keep the fault for other tests.
    found = float(gram_squared_norm.__wrapped__(jnp.asarray(rows), jnp.asarray(cols))[0])
    assert found < 0.95 * dense_oracle(rows, cols)[0]
    assert len(seen) == 10


@pytest.mark.parametrize("time", [5, 130])
def test_norms_are_summed_over_what_is_kept(time):
    rng = np.random.default_rng(time)
    rows = rng.normal(size=(2, 3, time, 4)).astype(np.float32)
    cols = rng.normal(size=(2, 3, time, 5)).astype(np.float32)
    indices = rng.integers(-1, 4, size=(2, 3, time))
    found = squared_norm([(jnp.asarray(rows), jnp.asarray(cols))])
    true = dense_oracle(rows.reshape(6, time, 4), cols.reshape(6, time, 5))
    np.testing.assert_allclose(found, true.reshape(2, 3).sum(1), rtol=1e-3)
    found = squared_norm([(jnp.asarray(indices, jnp.int32), jnp.asarray(cols))])
    true = embedding_oracle(indices.reshape(6, time), cols.reshape(6, time, 5))
    np.testing.assert_allclose(found, true.reshape(2, 3).sum(1), rtol=1e-3)


def test_errors_of_products_hold_where_one_token_is_tiny_and_another_huge():
    one = jnp.asarray([[[1e-17, 2e-17], [3e17, -1e17]]], jnp.float32)
    _, error = gram_norm.products(one, one)
    length = np.linalg.norm(np.asarray(one, np.float64), axis=-1)
    least = gram_norm.rounding(2) * length[:, :, None] * length[:, None, :]
    assert np.all(np.asarray(error, np.float64) >= least * (1 - 1e-6))


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-7])
@pytest.mark.parametrize("kinds", [1, 5, 1000])
def test_embedding_norms_bound_those_of_the_sums_where_tokens_cancel(kinds, scale):
    rng = np.random.default_rng(kinds)
    half = 64
    indices = rng.integers(-1, kinds, size=(3, half))
    values = rng.normal(size=(3, half, 8))
    indices = np.concatenate([indices, indices], 1)
    values = np.concatenate([values, -values + scale * rng.normal(size=values.shape)], 1)
    values = values.astype(np.float32)
    true = embedding_oracle(indices, values)
    found = embedding_squared_norm(jnp.asarray(indices, jnp.int32), jnp.asarray(values))
    found = np.asarray(found, np.float64)
    assert np.all(found >= true)
    if scale == 1.0:
        np.testing.assert_allclose(found, true, rtol=1e-4)
