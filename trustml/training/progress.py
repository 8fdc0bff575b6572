"""Progress: a bar on a terminal, a line now and then elsewhere."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from trustml.formatting import round_up
from trustml.plan.charges import epsilon_with

_MARKS = 20  # how often in a run epsilon is asked for: each costs a hundredth of a second
_SECONDS = 30.0  # at most between two lines where there is no terminal

_Show = Callable[[int, dict[str, Any] | None], None]


@contextlib.contextmanager
def progress_bar(run: Any, plan: Any, delta: float | None, name: bool | str) -> Iterator[_Show]:
    """A function to call with the steps done and, where there are, numbers to show.

    Args:
      run: Of `trustml.training.runs.run`: where it starts and ends, and what it has to say.
      plan: Its plan.
      delta: For the epsilon so far; None shows none.
      name: What to show progress under; False shows none. The numbers are metrics, private ones:
        the label says so.
    """
    if not name:
        yield lambda done, numbers: None
        return
    console = Console(stderr=True)
    label = name if isinstance(name, str) else "training"
    for note in run.notes:
        console.print(f"{label}: {note}", highlight=False, markup=False)
    words = _Words(run, plan, delta)
    if console.is_terminal:
        with _bar(console) as bar:
            task = bar.add_task(label, total=plan.steps, completed=run.first, numbers="")
            yield lambda done, numbers: bar.update(
                task, completed=done, numbers=words(done, numbers)
            )
    else:
        yield _line_printer(console, run, plan.steps, label, words)


class _Words:
    """Step time, epsilon so far and the latest numbers, in words."""

    def __init__(self, run, plan, delta):
        self._run, self._plan, self._delta = run, plan, delta
        self._numbers = ""
        self._began: tuple[int, float] | None = None
        self._every = max(1, plan.steps // _MARKS)
        self._known = (-1, 0.0)

    def __call__(self, done, numbers):
        if self._began is None:  # the first step compiles, and tells nothing of the others
            self._began = (done, time.monotonic())
        if numbers:
            self._numbers = _words(numbers)
        parts = [self._step_time(done, *self._began), self._epsilon(done)]
        return f"{', '.join(part for part in parts if part)} {self._numbers}".strip()

    def _step_time(self, done, first, began):
        if done == first:
            return ""
        return f"{1e3 * (time.monotonic() - began) / (done - first):.3g} ms/step"

    def _spent(self, charged):
        return epsilon_with(self._plan, self._run.charges, self._delta, steps=charged, coarse=True)

    def _epsilon(self, done):
        if self._delta is None:
            return ""
        # What the next mark costs bounds what was spent before it.
        ahead = min(-(-done // self._every) * self._every, self._run.last)
        charged = self._run.charged_before + ahead - self._run.first
        if charged != self._known[0]:
            self._known = (charged, self._spent(charged))
        return f"epsilon below {round_up(self._known[1], places=3)}"


def _bar(console):
    def whole():
        return Column(no_wrap=True, min_width=8)

    # On a narrow terminal the numbers give way, not how far the work is.
    rest = Column(no_wrap=True, overflow="ellipsis", ratio=1)
    columns = (
        TextColumn("{task.description}", table_column=whole()),
        BarColumn(bar_width=12, table_column=Column(min_width=12)),
        MofNCompleteColumn(table_column=whole()),
        TimeRemainingColumn(table_column=whole()),
        TextColumn("{task.fields[numbers]}", table_column=rest),
    )
    return Progress(*columns, console=console, transient=False, expand=True)


def _line_printer(console, run, total, label, words):
    every = max(1, total // 10)
    printed = time.monotonic()

    def show(done, numbers):
        nonlocal printed
        said = words(done, numbers)
        now = time.monotonic()
        if done % every == 0 or done == run.last or now - printed > _SECONDS:
            printed = now
            text = f"{label}: step {done}/{total} {said}".rstrip()
            console.print(text, highlight=False, markup=False)

    return show


def _words(numbers):
    shown = [
        f"{name} {value:.4g}"
        for name, value in numbers.items()
        if isinstance(value, float) and not isinstance(value, bool)
    ]
    return f"(private quantities) {', '.join(shown)}" if shown else ""
