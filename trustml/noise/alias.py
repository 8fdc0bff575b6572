"""Walker's alias table of a discrete Gaussian, in exact integers."""

import decimal
import functools

import numpy as np

THRESHOLD_BITS = 80


@functools.lru_cache(maxsize=8)
def alias_table(base: float, half_width: int, slot_bits: int) -> tuple[np.ndarray, ...]:
    """Walker's table of N_Z(0, base^2) within +-half_width, by exact integers.

    Slot i stands for the value i - half_width below its threshold, an 80-bit number, and for that
    of its alias from there on.

    Returns:
      Three columns uint32[2^slot_bits]: the threshold's high 32 bits, its middle 32 bits, and its
      low 16 bits below the alias.
    """
    capacity = 1 << THRESHOLD_BITS
    left = _integer_weights(base, half_width, capacity << slot_bits)
    left += [0] * ((1 << slot_bits) - len(left))
    threshold, alias = [0] * len(left), list(range(len(left)))
    small = [slot for slot, weight in enumerate(left) if weight < capacity]
    large = [slot for slot, weight in enumerate(left) if weight >= capacity]
    while small:
        slot, other = small.pop(), large[-1]
        threshold[slot], alias[slot] = left[slot], other
        left[other] -= capacity - left[slot]
        if left[other] < capacity:
            small.append(large.pop())
    columns = zip(
        *(
            (t >> 48, (t >> 16) & 0xFFFFFFFF, (a << 16) | (t & 0xFFFF))
            for t, a in zip(threshold, alias, strict=True)
        ),
        strict=True,
    )
    return tuple(np.asarray(column, np.uint32) for column in columns)


def _integer_weights(base: float, half_width: int, total: int) -> list[int]:
    """Probabilities of N_Z(0, base^2) at -half_width to half_width, times `total`, summing to it.

    Each is rounded down, from 60 digits, and the middle takes what is left: at most one unit for
    each value.
    """
    with decimal.localcontext(decimal.Context(prec=60)):
        ratio = (-1 / (2 * decimal.Decimal(base) ** 2)).exp()
        step, square = ratio, ratio * ratio
        side = [decimal.Decimal(1)]
        for _ in range(half_width):
            side.append(side[-1] * step)  # exp(-x^2/2b^2): from x to x + 1 by the power 2x + 1
            step *= square
        scale = total / (2 * sum(side, decimal.Decimal(0)) - 1)
        weights = [int(weight * scale) for weight in side]
    weights[0] += total - (2 * sum(weights) - weights[0])
    return weights[:0:-1] + weights
