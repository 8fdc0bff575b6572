"""The physical batch that fits, by the memory that compiled programs need."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

_SHARE = 0.5  # of the memory: the rest is for weights, data and what else runs there
# Measured on two cores with networks of 0.3 to 23 million weights: a CPU is quickest where what a
# slice computes stays about within its caches, and the weights are read for enough units.
UNITS_ON_A_CPU = 256  # no more at a time, however small
_SLICE_BYTES, _READS_OF_WEIGHTS = 150e6, 4


def _memory_limit() -> int:
    """Bytes that a program's temporary arrays may take on the first device.

    From the machine's size, not from what happens to be free: a resumed run must choose alike.
    """
    stats = jax.devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return int(_SHARE * stats["bytes_limit"])
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(_SHARE * min((machine, *_control_group_limits())))


def _control_group_limits(
    root: Path = Path("/sys/fs/cgroup"), listing: Path = Path("/proc/self/cgroup")
) -> Iterator[int]:
    """Bytes that control groups, as containers have them, allow this process: versions 1 and 2."""
    try:
        lines = [line.split(":", 2) for line in listing.read_text().splitlines()]
    except OSError:  # another system than Linux
        return
    for _, controllers, group in lines:
        if not controllers:  # version 2
            base, file = root, "memory.max"
        elif "memory" in controllers.split(","):
            base, file = root / "memory", "memory.limit_in_bytes"
        else:
            continue
        inner = base / group.lstrip("/")
        # A group is within its parents; and of a container's path only the root may be there.
        for folder in (inner, *inner.parents):
            if folder.is_relative_to(base):
                with contextlib.suppress(OSError, ValueError):  # no such file, or "max" for none
                    yield int((folder / file).read_text())


def enough_units(capacity: int, loss: Callable, params: Any, unit: Any) -> int:
    """Units of a batch beyond which more at a time are no faster here: a power of two, or all.

    From shapes alone, before anything is compiled.

    >>> import jax.numpy as jnp
    >>> enough_units(8, lambda w, x: (w - x) ** 2, jnp.zeros(()), jnp.zeros(()))
    8

    Args:
      capacity: Units of the whole batch.
      loss: `loss(params, unit)`.
      params: Arrays, or their shapes.
      unit: The same, without a unit axis.
    """
    if jax.default_backend() != "cpu":
        return capacity
    each = _written(jax.make_jaxpr(loss)(params, unit).jaxpr)
    weights = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
    quick = int((_SLICE_BYTES + _READS_OF_WEIGHTS * weights) / max(each, 1))
    return min(capacity, UNITS_ON_A_CPU, 1 << max(0, quick.bit_length() - 1))


def _written(jaxpr) -> int:
    """Bytes of the results of all equations: about twice what a backward pass holds."""
    total = 0
    for eqn in jaxpr.eqns:
        values = [value if isinstance(value, tuple) else (value,) for value in eqn.params.values()]
        inner = [_written(one) for value in values for one in value if hasattr(one, "eqns")]
        if inner and eqn.primitive.name != "checkpoint":  # which holds its results alone
            total += max(inner) * eqn.params.get("length", 1)
        else:
            total += sum(out.aval.size * out.aval.dtype.itemsize for out in eqn.outvars)
    return total


def largest_physical_batch(
    compiled: Callable[[int | None], Any],
    capacity: int,
    limit: int | None = None,
    most: int | None = None,
) -> tuple[int | None, Any]:
    """The largest physical batch whose program fits: `most`, or else a power of two.

    Args:
      compiled: Compiles the program for a micro-batch; None is the whole batch at once.
      capacity: Units of the whole batch.
      limit: Bytes for temporary arrays; by default half of those of the device or machine.
      most: Units at a time that are enough; by default all of them.

    Returns:
      `(physical_batch_size, program)`, of which None means that no slicing is needed.

    Raises:
      ValueError: Not even one unit at a time fits.
    """
    limit = _memory_limit() if limit is None else limit
    physical_batch_size = None if most is None or most >= capacity else most
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
