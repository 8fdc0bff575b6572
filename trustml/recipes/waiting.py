"""A word while something takes long that has no steps to count."""

import contextlib
import threading
from collections.abc import Iterator

from rich.console import Console

_SECONDS = 2.0


@contextlib.contextmanager
def waiting(words: str, seconds: float = _SECONDS) -> Iterator[None]:
    """Prints a line on a terminal's standard error if what happens within lasts longer.

    Args:
      words: What is done.
      seconds: After which to say so.
    """
    console = Console(stderr=True)

    def say():
        console.print(f"{words} ...", highlight=False, markup=False)

    timer = threading.Timer(seconds, say)
    timer.daemon = True
    if console.is_terminal:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
