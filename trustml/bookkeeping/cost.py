"""The cost model: Gram products, or per-unit gradients that are kept and reused."""

import dataclasses
import math

import jax


@dataclasses.dataclass(frozen=True)
class Machine:
    """Speed and memory of a machine, for the cost model."""

    flops: float  # per second, float32 products of the sizes met here
    bytes: float  # per second, streaming
    cache: float = math.inf  # bytes that work on a few units should stay within
    lookups_by_sums_from: int = 128  # positions from which on adding beats Gram products
    lays_out_convolutions: bool = False  # ourselves, see `layout`


# Orders of magnitude, not measurements: two cores of a server, a data-centre accelerator. Only the
# ratio of the two decides.
_MACHINES = {
    "cpu": Machine(flops=1.0e11, bytes=2.0e10, cache=1.5e6, lays_out_convolutions=True),
    "gpu": Machine(flops=3.0e13, bytes=2.5e12),
    "tpu": Machine(flops=3.0e13, bytes=1.0e12),
}


def machine() -> Machine:
    """The default backend's figures."""
    return _MACHINES.get(jax.default_backend(), _MACHINES["gpu"])


def units_in_cache(batch: int, bytes_per_unit: float) -> int:
    """How many units to work on at a time within the cache; a divisor if there is one.

    >>> units_in_cache(64, 4e9)
    1
    """
    most = max(1, min(batch, int(min(machine().cache / bytes_per_unit, batch))))
    divisors = [few for few in range(most, most // 2, -1) if batch % few == 0]
    return divisors[0] if divisors else most


def fits(times, row, col) -> bool:
    """Whether keeping a unit's gradient takes no more memory than what it is made of."""
    return row * col <= times * (row + col)


def gram_seconds(batch, keep, times, row, col, lookup=False) -> float:
    """Extra time of the Gram rule over the plain weight gradient."""
    here = machine()
    if times == 1:
        return 4 * batch * keep * (row + col) / here.bytes
    inner = col if lookup else row + col
    products = 2 * batch * keep * times**2 * inner / here.flops
    passes = 4 * 4 * batch * keep * times**2 / here.bytes
    scaling = 8 * batch * keep * times * min(row, col) / here.bytes
    return products + passes + scaling


def materialise_seconds(batch, keep, times, row, col, lookup=False) -> float:
    """Extra time of building per-unit gradients and summing them with weights."""
    here = machine()
    entries = batch * keep * row * col
    # Written once, read for the norm and for the sum; batched products of few rows run slower.
    traffic = 12 * entries / here.bytes
    plain = 2 * batch * keep * times * (col if lookup else row * col) / here.flops
    return traffic + 0.1 * plain
