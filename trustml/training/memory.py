"""The physical batch that fits, by the memory that compiled programs need."""

import os
from collections.abc import Callable
from typing import Any

import jax

_SHARE = 0.5  # of the memory: the rest is for weights, data and what else runs there


def _memory_limit() -> int:
    """Bytes that a program's temporary arrays may take on the first device.

    From the machine's size, not from what happens to be free: a resumed run must choose alike.
    """
    stats = jax.devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return int(_SHARE * stats["bytes_limit"])
    return int(_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def largest_physical_batch(
    compiled: Callable[[int | None], Any], capacity: int, limit: int | None = None
) -> tuple[int | None, Any]:
    """The largest physical batch, a power of two, whose program fits.

    Args:
      compiled: Compiles the program for a micro-batch; None is the whole batch at once.
      capacity: Units of the whole batch.
      limit: Bytes for temporary arrays; by default half of those of the device or machine.

    Returns:
      `(physical_batch_size, program)`, of which None means that no slicing is needed.

    Raises:
      ValueError: Not even one unit at a time fits.
    """
    limit = _memory_limit() if limit is None else limit
    physical_batch_size: int | None = None
    while True:
        program = compiled(physical_batch_size)
        needed = _bytes(program)
        if needed <= limit:
            return physical_batch_size, program
        size = physical_batch_size or capacity
        if size == 1:
            raise ValueError(
                f"`physical_batch_size` cannot be found: one unit at a time takes "
                f"{needed / 2**20:.0f} MiB of {limit / 2**20:.0f} MiB. Use a smaller model, "
                "shorter units or a larger device."
            )
        # Memory grows about linearly with the units held; at least halve, so that this ends.
        fitting = min(int(size * limit / needed), size - 1)
        physical_batch_size = 1 << max(0, fitting.bit_length() - 1)


def out_of_memory(
    compiled: Callable[..., Any],
    physical_batch_size: int | None,
    most: int,
    shards: int = 1,
    other: str | None = None,
) -> MemoryError:
    """An error that says what a step needs, and what would fit, from compiled memory figures.

    Args:
      compiled: Compiles the program for a micro-batch, and for a strategy if it is given one.
      physical_batch_size: What did not fit, on each shard.
      most: Units that were computed at a time, on each shard.
      shards: Devices that share a micro-batch.
      other: A strategy that may need less.
    """
    needed, limit = _bytes(compiled(physical_batch_size)), _memory_limit()
    ways = []
    if other is not None:
        less = _bytes(compiled(physical_batch_size, other))
        if less <= limit and less < needed:
            ways.append(f'`strategy="{other}"`, which takes {_mib(less)}')
    try:
        # What was tried did not fit, whatever the limit says.
        found, program = largest_physical_batch(compiled, most, min(limit, needed - 1))
        ways.append(
            f"`physical_batch_size={(found or most) * shards}`, which takes {_mib(_bytes(program))}"
        )
    except ValueError:
        pass
    way = " or ".join(ways) or "a smaller model, shorter units or a larger device"
    return MemoryError(
        f"`physical_batch_size` of {most * shards} units does not fit: the step takes "
        f"{_mib(needed)} beside weights and data. Use {way}; "
        '`physical_batch_size="auto"` finds what fits before it starts.'
    )


def _bytes(program) -> int:
    return program.memory_analysis().temp_size_in_bytes


def _mib(count: float) -> str:
    return f"{count / 2**20:,.0f} MiB"
