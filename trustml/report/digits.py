"""Numbers as text; bounds are `trustml.formatting`'s."""

import sys
from decimal import ROUND_CEILING, Decimal
from typing import Any, TypeGuard

from trustml.formatting import NONE, round_down, round_up
from trustml.report.measured import Bound, CanaryAudit, Estimate

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
    rounded = exact.quantize(Decimal(1).scaleb(-places), rounding=ROUND_CEILING)
    return f"{rounded:f}%" if rounded < 100 else "100%"


def value_text(value: float | None, percent: bool = False) -> str:
    """A measured value, or one end of its interval.

    >>> value_text(0.7129, percent=True), value_text(631.49), value_text(None)
    ('71.3%', '631.5', 'none')
    """
    if not is_number(value):
        return NONE
    if percent:
        return f"{100 * value:.1f}%"
    return f"{value:.3f}" if value < 10 else f"{value:.1f}" if value < 1000 else f"{value:,.0f}"


def estimate_text(estimate: Estimate | None, percent: bool = False) -> str:
    r"""A measured value with its interval.

    >>> estimate_text(Estimate(0.712, 0.678, 0.744, "Wilson, 95 %"), percent=True)
    '71.2% (67.8\xa0to\xa074.4)'
    """
    if estimate is None:
        return NONE
    ends = (value_text(end, percent).removesuffix("%") for end in (estimate.low, estimate.high))
    low, high = ends
    interval = "" if NONE in (low, high) else f" ({low}{_KEPT}to{_KEPT}{high})"
    return value_text(estimate.value, percent) + interval


def difference(private: Estimate | None, baseline: Estimate | None, percent: bool) -> str:
    """The private value less the baseline's."""
    if not (private and baseline):
        return NONE
    change = private.value - baseline.value
    if percent:
        return f"{100 * change:+.1f}{_KEPT}points"
    return f"{change:+.3f}" if abs(change) < 10 else f"{change:+,.1f}"


def claim_text(value: float | None, name: str = "epsilon ") -> str:
    """A claim in words, rounded up.

    >>> claim_text(2.9997), claim_text(None)
    ('epsilon at most 3.00', 'epsilon infinite')
    """
    return f"{name}at most {round_up(value)}" if is_number(value) else f"{name}infinite"


def bound_text(bound: Bound | CanaryAudit | None) -> str:
    """An audited lower bound of epsilon, and what it rests on."""
    if bound is None:
        return NONE
    guesses, correct = bound.guesses, bound.correct
    counts = "" if None in (guesses, correct) else f"; {correct} of {guesses} guesses right"
    return f"at least {round_down(bound.value)} ({bound.confidence:.0%} confidence{counts})"


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value can be shown and compared.

    >>> is_number(0.5), is_number(None), is_number(float("nan")), is_number(10**400)
    (True, False, False, False)
    """
    return isinstance(value, int | float) and abs(value) <= sys.float_info.max


def one_in(delta: float) -> str:
    """A small probability as a chance, rounded up.

    >>> one_in(1e-5), one_in(0.0)
    ('1 in 100,000', 'no chance')
    """
    return f"1 in {int(1 / Decimal(repr(float(delta)))):,}" if delta > 0 else "no chance"
