"""How many units fit at a time, from the memory that compiled programs say they need."""

import os
from collections.abc import Callable
from typing import Any

import jax

_SHARE = 0.5  # of the memory: the rest is for weights, data and what else runs there


def memory_limit() -> int:
    """Bytes that a program's temporary arrays may take on the first device.

    From the machine's size, not from what happens to be free: a resumed run must choose alike.
    """
    stats = jax.devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return int(_SHARE * stats["bytes_limit"])
    return int(_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def largest_microbatch(
    compiled: Callable[[int | None], Any], capacity: int, limit: int | None = None
) -> tuple[int | None, Any]:
    """The largest micro-batch, a power of two, whose program fits.

    Args:
      compiled: Compiles the program for a micro-batch; None is the whole batch at once.
      capacity: Units of the whole batch.
      limit: Bytes for temporary arrays; by default `memory_limit`.

    Returns:
      `(microbatch, program)`, of which None means that no slicing is needed.

    Raises:
      ValueError: Not even one unit at a time fits.
    """
    limit = memory_limit() if limit is None else limit
    microbatch: int | None = None
    while True:
        program = compiled(microbatch)
        needed = program.memory_analysis().temp_size_in_bytes
        if needed <= limit:
            return microbatch, program
        size = microbatch or capacity
        if size == 1:
            raise ValueError(
                f"`microbatch` cannot be found: one unit at a time takes {needed / 2**20:.0f} MiB "
                f"of {limit / 2**20:.0f} MiB. Use a smaller model, shorter units "
                "or a larger device."
            )
        # Memory grows about linearly with the units held; at least halve, so that this ends.
        fitting = min(int(size * limit / needed), size - 1)
        microbatch = 1 << max(0, fitting.bit_length() - 1)
