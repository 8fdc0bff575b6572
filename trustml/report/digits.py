"""Numbers as text: bounds are rounded to the side on which they stay true."""

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

NONE = "none"  # what stands for a number that JSON cannot hold, or that is not there
_KEPT = "\N{NO-BREAK SPACE}"  # a narrow cell breaks before an interval, not within


def short(value: float) -> str:
    """A number in few characters.

    >>> short(0.05), short(12500.0), short(-3e6), short(2e-5)
    ('0.05', '12.5k', '-3M', '2e-05')
    """
    for least, size, letter in (1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k"):
        if least <= abs(value) < 1e12:
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}"


def rounded_up(value: float | None, digits: int = 3) -> str:
    """An upper bound to a number of significant digits, never understated.

    >>> rounded_up(2.9997), rounded_up(2.001), rounded_up(0.00012345), rounded_up(None)
    ('3.00', '2.01', '0.000124', 'none')
    """
    return _rounded(value, digits, ROUND_CEILING)


def rounded_down(value: float | None, digits: int = 3) -> str:
    """A lower bound to a number of significant digits, never overstated.

    >>> rounded_down(1.2399), rounded_down(0.0)
    ('1.23', '0.00')
    """
    return _rounded(value, digits, ROUND_FLOOR)


def _rounded(value, digits, way) -> str:
    if value is None or not math.isfinite(value):
        return NONE
    # By the shortest decimal that names the float: 2.1 is 2.1, not the 2.100000000000000089 that
    # a ceiling of the binary fraction would make 2.11.
    exact = Decimal(repr(float(value)))
    places = digits - 1 - (exact.adjusted() if exact else 0)
    found = exact.quantize(Decimal(1).scaleb(-max(places, 0)), rounding=way)
    return f"{found:f}" if abs(found) < 10**6 and places < 10 else f"{found:.2e}"


def share_up(share: float) -> str:
    """A probability in percent, rounded up, with digits enough to tell it from 0 and from 1.

    >>> share_up(0.95257), share_up(0.999665), share_up(0.0101), share_up(1.0)
    ('95.3%', '99.967%', '1.01%', '100%')
    """
    if share >= 1:
        return "100%"
    exact = 100 * Decimal(repr(float(share)))
    near = min(exact, 100 - exact)
    places = min(6, max(1, 1 - near.adjusted() if exact > 50 else 2 - near.adjusted()))
    found = exact.quantize(Decimal(1).scaleb(-places), rounding=ROUND_CEILING)
    return f"{found:f}%" if found < 100 else "100%"


def value_text(estimate: dict | None, percent: bool = False, key: str = "value") -> str:
    """A measured value, or one end of its interval."""
    value = (estimate or {}).get(key)
    if value is None or not math.isfinite(value):
        return NONE
    if percent:
        return f"{100 * value:.1f}%"
    return f"{value:.3f}" if value < 10 else f"{value:.1f}" if value < 1000 else f"{value:,.0f}"


def estimate_text(estimate: dict | None, percent: bool = False) -> str:
    r"""A measured value with its interval.

    >>> estimate_text({"value": 0.712, "low": 0.678, "high": 0.744}, percent=True)
    '71.2% (67.8\xa0to\xa074.4)'
    """
    low, high = (value_text(estimate, percent, key).removesuffix("%") for key in ("low", "high"))
    interval = "" if NONE in (low, high) else f" ({low}{_KEPT}to{_KEPT}{high})"
    return value_text(estimate, percent) + interval


def bound_text(bound: dict | None) -> str:
    """An audited lower bound of epsilon, and what it rests on."""
    if not bound:
        return NONE
    guesses, correct = bound.get("guesses"), bound.get("correct")
    counts = "" if None in (guesses, correct) else f"; {correct} of {guesses} guesses right"
    return f"at least {rounded_down(bound['value'])} ({bound['confidence']:.0%} confidence{counts})"


def one_in(delta: float) -> str:
    """A small probability as a chance, rounded up.

    >>> one_in(1e-5), one_in(0.0)
    ('1 in 100,000', 'no chance')
    """
    return f"1 in {int(1 / Decimal(repr(float(delta)))):,}" if delta > 0 else "no chance"
