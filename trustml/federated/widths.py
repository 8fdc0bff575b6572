"""How many clients at once are quickest on the device at hand: measured, not assumed."""

import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from trustml.federated.cohort import Cohort

# One after another wins on a CPU for all but small networks: side by side, all wait for the last.
_WIDTHS = {"cpu": (1, 4, 16)}
_OTHERWISE = (8, 32, 128)
_STEPS = 4  # of each client, in a trial
_TRIALS = 3


def quickest_width(
    program: Callable[[int], Callable], state: Any, cohort: Cohort, group: Any
) -> int:
    """The width whose program carries out the first steps of a round quickest.

    Wider ones are tried for as long as they are quicker: each is compiled.

    Args:
      program: From a width to the compiled round.
      state: Of the training; it is copied.
      cohort: A round's.
      group: Of its clients.
    """
    few = jnp.minimum(cohort.work.steps, _STEPS)
    tried = cohort._replace(work=cohort.work._replace(steps=few))
    wanted = _WIDTHS.get(jax.devices()[0].platform, _OTHERWISE)
    widths = sorted({min(width, group.shape[1]) for width in wanted})
    best, least = widths[0], math.inf
    for width in widths if len(widths) > 1 else ():
        taken = _seconds(program(width), state, tried, group)
        if taken > least:
            break
        best, least = width, taken
    return best


def _seconds(program: Callable, state: Any, cohort: Cohort, group: Any) -> float:
    """The quickest of some trials; the first compiles."""
    found = []
    for _ in range(_TRIALS):
        copy = jax.block_until_ready(jax.tree.map(jnp.copy, state))  # a program is given its state
        began = time.perf_counter()
        jax.block_until_ready(program(copy, cohort, group))
        found.append(time.perf_counter() - began)
    return min(found)
