"""Small networks run for milliseconds and would compile for minutes."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def _quick_compilation():
    name = "jax_disable_most_optimizations"
    before = jax.config.values[name]
    jax.config.update(name, True)
    yield
    jax.config.update(name, before)
