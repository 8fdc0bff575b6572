"""The only timer: interleaved rounds, medians, compile time apart, JSON lines.

JAX is imported where it is used: a process that times PyTorch has no use for it.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


class Program(NamedTuple):
    """Something to time: `prepare` outside the clock, `call` inside; both return when done."""

    call: Callable[[Any], Any]
    prepare: Callable[[], Any] = lambda: None
    compile_s: float | None = None
    temp_bytes: int | None = None
    flops: float | None = None


def compiled(function: Callable, *arguments) -> Program:
    """Compiles ahead of time and notes what it took."""
    import jax

    start = time.perf_counter()
    program = jax.jit(function).lower(*arguments).compile()
    seconds = time.perf_counter() - start
    return Program(
        lambda _: jax.block_until_ready(program(*arguments)),
        compile_s=seconds,
        **figures(program),
    )


def figures(program) -> dict[str, Any]:
    """Temporary memory in bytes, and flops as XLA counts them: the body of a loop once."""
    cost = program.cost_analysis() or {}
    return {
        "temp_bytes": int(program.memory_analysis().temp_size_in_bytes),
        "flops": cost.get("flops"),
    }


def interleaved(programs: dict[str, Program], rounds: int) -> dict[str, list[float]]:
    """Milliseconds per call; each round runs every program once, starting one further on."""
    times: dict[str, list[float]] = {name: [] for name in programs}
    names = list(programs)
    for turn in range(rounds + 1):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            ready = programs[name].prepare()
            start = time.perf_counter()
            programs[name].call(ready)
            if turn:  # the first round warms up
                times[name].append(1e3 * (time.perf_counter() - start))
    return times


def median_ratio(times: list[float], base: list[float]) -> float:
    """Median over rounds of the ratio within a round: what drifts slowly cancels."""
    return statistics.median(mine / theirs for mine, theirs in zip(times, base, strict=True))


def row(bench: str, case: str, rival: str, **more: Any) -> dict[str, Any]:
    """One JSON row; what was not measured is null."""
    known = ("median_ms", "ratio", "temp_bytes", "flops", "compile_s")
    return {"bench": bench, "case": case, "rival": rival, **dict.fromkeys(known), **more}


def timed_row(bench: str, case: str, rival: str, program: Program, mine, base) -> dict[str, Any]:
    """The row of a program by its times, against those of `base` in the same rounds."""
    seconds = program.compile_s
    return row(
        bench,
        case,
        rival,
        median_ms=round(statistics.median(mine), 3),
        ratio=round(median_ratio(mine, base), 4),
        temp_bytes=program.temp_bytes,
        flops=program.flops,
        compile_s=None if seconds is None else round(seconds, 2),
    )


def where() -> dict[str, str]:
    """Device and version, for every row."""
    import jax

    device = jax.devices()[0]
    return {"device": f"{device.platform} {device.device_kind}", "jax": jax.__version__}


def cores() -> int:
    """Processor cores that this process may use: XLA takes them all, and PyTorch is given them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def rows_of_process(script: str, *options: Any) -> list[dict[str, Any]]:
    """The JSON rows that a script prints in a process of its own; what it says else passes by."""
    command = [sys.executable, script, *map(str, options)]
    done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE)
    return [json.loads(line) for line in done.stdout.splitlines() if line[:1] == "{"]


def say(text: str) -> None:
    """Progress, for eyes."""
    print(text, file=sys.stderr, flush=True)


def say_if_busy() -> None:
    """Warns where other processes run: what they take is not seen in the figures."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > 0.5:
        say(
            f"load average {load:.1f} before the start: the figures will be those of a busy machine"
        )


def print_markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """A table as README.md has it."""
    for cells in (head, ["---"] * len(head), *lines):
        print("| " + " | ".join(cells) + " |")


def shown(value: float | None, form: str) -> str:
    """A figure for the table; nothing where there is none."""
    return "" if value is None else format(value, form)


def print_rows(rows: list[dict]) -> None:
    """The last lines of every bench."""
    for one in rows:
        print(json.dumps(one))
