"""Strict numerics for every test: no silent promotion, no silent broadcasting of ranks."""

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def relaxed_promotion():
    """For tests that run other libraries' networks, which promote dtypes and ranks on their own."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
