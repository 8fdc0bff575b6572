"""The only timer: interleaved rounds, medians, compile time apart, JSON lines."""

import json
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax


class Program(NamedTuple):
    """Something to time: `prepare` outside the clock, `call` inside, until its result is ready."""

    call: Callable[[Any], Any]
    prepare: Callable[[], Any] = lambda: None
    compile_s: float = 0.0
    temp_bytes: int | None = None
    flops: float | None = None


def compiled(function: Callable, *arguments) -> Program:
    """Compiles ahead of time and notes what it took."""
    start = time.perf_counter()
    program = jax.jit(function).lower(*arguments).compile()
    seconds = time.perf_counter() - start
    cost = program.cost_analysis() or {}
    return Program(
        lambda _: program(*arguments),
        compile_s=seconds,
        temp_bytes=int(program.memory_analysis().temp_size_in_bytes),
        flops=cost.get("flops"),
    )


def interleaved(programs: dict[str, Program], rounds: int) -> dict[str, list[float]]:
    """Milliseconds per call; each round runs every program once, starting one further on."""
    times: dict[str, list[float]] = {name: [] for name in programs}
    names = list(programs)
    for turn in range(rounds + 1):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            ready = jax.block_until_ready(programs[name].prepare())
            start = time.perf_counter()
            jax.block_until_ready(programs[name].call(ready))
            if turn:  # the first round warms up
                times[name].append(1e3 * (time.perf_counter() - start))
    return times


def median_ratio(times: list[float], base: list[float]) -> float:
    """Median over rounds of the ratio within a round: what drifts slowly cancels."""
    return statistics.median(mine / theirs for mine, theirs in zip(times, base, strict=True))


def where() -> dict[str, str]:
    """Device and version, for every row."""
    device = jax.devices()[0]
    return {"device": f"{device.platform} {device.device_kind}", "jax": jax.__version__}


def print_rows(rows: list[dict]) -> None:
    """The last lines of every bench."""
    for row in rows:
        print(json.dumps(row))
