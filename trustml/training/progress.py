"""Progress: a bar on a terminal, a line now and then elsewhere."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextlib.contextmanager
def progress_bar(
    total: int, name: bool | str = True
) -> Iterator[Callable[[int, dict[str, Any] | None], None]]:
    """A function to call with the steps done and, where there are, numbers to show.

    `name` is what to show progress under; False shows none. The numbers are metrics, private ones:
    the label says so.
    """
    console = Console(stderr=True)
    label = name if isinstance(name, str) else "training"
    if not name:
        yield lambda done, numbers: None
    elif console.is_terminal:
        with _bar(console) as bar:
            task = bar.add_task(label, total=total, numbers="")
            yield lambda done, numbers: _advance(bar, task, done, numbers)
    else:
        yield _line_printer(console, total, label)


def _bar(console):
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[numbers]}"),
    )
    return Progress(*columns, console=console, transient=False)


def _advance(bar, task, done, numbers):
    bar.update(task, completed=done)
    if numbers:
        bar.update(task, numbers=_words(numbers))


def _line_printer(console, total, label):
    every = max(1, total // 10)
    latest = ""

    def show(done, numbers):
        nonlocal latest
        latest = _words(numbers) if numbers else latest
        if done % every == 0 or done == total:
            console.print(
                f"{label}: step {done}/{total} {latest}".rstrip(), highlight=False, markup=False
            )

    return show


def _words(numbers):
    shown = [
        f"{name} {value:.4g}"
        for name, value in numbers.items()
        if isinstance(value, float) and not isinstance(value, bool)
    ]
    return f"(private quantities) {', '.join(shown)}" if shown else ""
