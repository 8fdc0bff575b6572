"""Measures which strategy is the quickest here, on made-up units."""

import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

CANDIDATES = ("bookkeeping", "gram", "materialise", "ghost")
_ROUNDS = 5


def tuned(with_strategy: Callable, params, units, key) -> dict[str, float]:
    """Milliseconds per call of each candidate, medians of interleaved rounds.

    Candidates whose programs are the same are measured once.

    Args:
      with_strategy: From a strategy to a `ClippedGrad`.
      params: Arrays.
      units: Of which shapes and types are read.
      key: None, or the key of the call.
    """
    units = made_up(units)
    size = jax.tree.leaves(units)[0].shape[0]
    group = jnp.zeros(size, jnp.int32)
    programs: dict[str, Callable] = {}
    seen: dict[str, str] = {}
    for name in CANDIDATES:
        lowered = with_strategy(name).lower(params, units, group, key)
        if seen.setdefault(lowered.as_text(), name) == name:
            programs[name] = lowered.compile()
    times: dict[str, list[float]] = {name: [] for name in programs}
    for turn in range(_ROUNDS + 1):
        for name, program in programs.items():
            began = time.perf_counter()
            jax.block_until_ready(program(params, units, group, key))
            if turn:  # the first round warms up
                times[name].append(1e3 * (time.perf_counter() - began))
    return {name: statistics.median(mine) for name, mine in times.items()}


def made_up(units):
    """Units of the same shapes and types that hold nobody's data: zeros, and normals for floats."""

    def one(leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return leaf
        kind = jax.dtypes.canonicalize_dtype(leaf.dtype)
        if jnp.issubdtype(kind, jnp.floating):
            return jax.random.normal(jax.random.key(0), leaf.shape, kind)
        return jnp.zeros(leaf.shape, kind)

    return jax.tree.map(one, units)
