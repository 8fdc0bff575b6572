"""Bounds as text, rounded to the side on which they stay true: nothing else prints a bound.

And what else several rooms put into words: units, lists of names, errors of other libraries.
"""

import math
from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

NONE = "none"  # what stands for a number that JSON cannot hold, or that is not there


def round_up(value: float | None, digits: int = 3, *, places: int | None = None) -> str:
    """An upper bound as text, never understated.

    >>> round_up(2.9997), round_up(2.001), round_up(0.00012345), round_up(None)
    ('3.00', '2.01', '0.000124', 'none')
    >>> round_up(3.0, places=3), round_up(2.9999999, places=3), round_up(3.0001, places=3)
    ('3.000', '3.000', '3.001')

    Args:
      value: The bound. What floats alone cannot tell apart, beyond fifteen digits, is no part of
        it: 0.1 + 0.2 is 0.3.
      digits: Significant digits.
      places: Decimal places, instead.

    Returns:
      The number; "infinite", or "none" for what is no number.
    """
    return _rounded(value, digits, places, ROUND_CEILING)


def round_down(value: float | None, digits: int = 3, *, places: int | None = None) -> str:
    """A lower bound as text, never overstated; see `round_up`.

    >>> round_down(1.2399), round_down(0.0), round_down(1.2399, places=1)
    ('1.23', '0.00', '1.2')
    """
    return _rounded(value, digits, places, ROUND_FLOOR)


def _rounded(value, digits, places, way) -> str:
    if value is None or math.isnan(value):
        return NONE
    if math.isinf(value):
        return "infinite"
    # By a decimal that names the float: 2.1 is 2.1, not the 2.100000000000000089 that a ceiling of
    # the binary fraction would make 2.11.
    exact = Decimal(f"{value:.15g}")
    if places is not None:
        return f"{exact.quantize(Decimal(1).scaleb(-places), rounding=way):f}"
    places = digits - 1 - (exact.adjusted() if exact else 0)
    if abs(exact) >= 10**6 or places >= 7:
        return f"{exact.quantize(Decimal(1).scaleb(-places), rounding=way):.{digits - 1}e}"
    return f"{exact.quantize(Decimal(1).scaleb(-max(places, 0)), rounding=way):f}"


def plural(unit: str) -> str:
    """More than one of a privacy unit.

    >>> plural("query"), plural("speech"), plural("user")
    ('queries', 'speeches', 'users')
    """
    ends = unit.endswith("y") and not unit.endswith(("ay", "ey", "oy"))
    return f"{unit[:-1]}ies" if ends else f"{unit}es" if unit.endswith("ch") else f"{unit}s"


def one_line(error: BaseException) -> str:
    """What an error says, in one line; its class where it says nothing.

    >>> one_line(ValueError("no such   row.")), one_line(KeyboardInterrupt())
    ('no such row.', 'KeyboardInterrupt')
    """
    return " ".join(str(error).split()) or type(error).__name__


def listed(names: Sequence[str]) -> str:
    """Names with commas between; of more than a dozen, the first twelve.

    >>> listed(["age", "income"])
    'age, income'
    """
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return ", ".join(names[:12]) + more
