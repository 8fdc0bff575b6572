"""What a terminal shows while something takes long: a word, or a bar where rows are counted."""

import contextlib
import threading
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

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


@contextlib.contextmanager
def row_bar(words: str, *, quiet: bool) -> Iterator[Callable[[int, int | None], None]]:
    """A function to call with the rows done and all rows; it shows a bar on a terminal.

    >>> with row_bar("predict", quiet=True) as show:
    ...     show(64, None)

    Args:
      words: What is done.
      quiet: Whether to show nothing.
    """
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda done, total: None
        return
    rows = TextColumn("{task.completed:,} rows")
    columns = (TextColumn("{task.description}"), BarColumn(), rows, TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(words, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
