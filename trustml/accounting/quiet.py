"""Calls into dp_accounting without its warnings."""

import contextlib
import logging
from collections.abc import Callable
from typing import Any


def quietly(function: Callable[..., Any], *args: Any) -> Any:
    """The result of a call during which absl says nothing below an error."""
    with _silent_absl():
        return function(*args)


@contextlib.contextmanager
def _silent_absl():
    # RDP says of every order that did not converge that it leaves it out; the result stays a bound.
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
