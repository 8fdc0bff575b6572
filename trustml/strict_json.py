"""JSON as the standard has it: without NaN and infinities. Nothing else here writes JSON."""

import json
import math
from typing import Any

_REASON = "_reason"
_REASONS = {"not a number": math.nan, "infinity": math.inf, "minus infinity": -math.inf}


def dumps(
    value: Any,
    *,
    indent: int | None = None,
    sort_keys: bool = False,
    default: Any = None,
    ascii_only: bool = True,
) -> str:
    """A document as text.

    >>> dumps({"loss": 0.5})
    '{"loss": 0.5}'

    Args:
      value: What JSON can hold.
      indent: Spaces by level; None for one line.
      sort_keys: Whether names are sorted.
      default: Called with what JSON cannot hold; what it returns is written.
      ascii_only: Whether other characters are escaped.

    Raises:
      ValueError: A number is not finite: write None, and say why; see `with_reasons`.
    """
    return json.dumps(
        value,
        allow_nan=False,
        ensure_ascii=ascii_only,
        indent=indent,
        sort_keys=sort_keys,
        default=default,
    )


def with_reasons(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry with None for each number that is not finite, and the reason beside it.

    >>> with_reasons({"step": 3, "loss": float("nan")})
    {'step': 3, 'loss': None, 'loss_reason': 'not a number'}
    """
    found: dict[str, Any] = {}
    for name, value in entry.items():
        if isinstance(value, float) and not math.isfinite(value):
            found |= {name: None, name + _REASON: _reason(value)}
        else:
            found[name] = value
    return found


def without_reasons(entry: dict[str, Any]) -> dict[str, Any]:
    """The entry that `with_reasons` was given.

    >>> without_reasons({"step": 3, "loss": None, "loss_reason": "not a number"})
    {'step': 3, 'loss': nan}
    """
    found = dict(entry)
    for name in entry:
        reason = _REASONS.get(str(entry.get(name + _REASON)))
        if entry[name] is None and reason is not None:
            found[name] = reason
            del found[name + _REASON]
    return found


def finite(value: Any) -> Any:
    """A document with None for each number that is not finite.

    >>> finite({"epsilon": float("inf"), "steps": [1, 2.5]})
    {'epsilon': None, 'steps': [1, 2.5]}
    """
    if isinstance(value, dict):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _reason(value):
    return next(reason for reason, number in _REASONS.items() if value == number or value != value)
