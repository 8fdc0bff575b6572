"""What does a federated round cost, beside pfl?

    python bench/federated.py                     # about 8 minutes
    python bench/federated.py --cases small,lstm --rounds 5
    python bench/federated.py --quick             # tiny sizes: does it run?

One local epoch of every client, batches of ten rows, SGD of rate 0.1, federated averaging by rows;
all clients take part. Both run in this process on one core, interleaved, and are judged by their
CPU seconds, which a busy machine changes less than the time. `ratio` is that of pfl in the same
round, `speedup` its inverse, `bar` the speedup that is to be reached. Before they are timed, one
round from the same weights over the same batches must take the same steps and give the same mean
change (`difference`, over its norm). pfl's rows lie in memory as tensors, cut into batches once.

`growth`: clients of very unequal sizes, the largest with a fifth of all rows; `us_per_example`
stays where a round costs what it holds. `memory`, in a process of its own: 10,000 clients with 100
rows each; `growth_bytes` is what the peak of the process gained by rounds of 50 of them, beside
`data_bytes`, `cohort_bytes` and XLA's `temp_bytes`.

Needs torch and pfl for the rival. pfl asks for an older dp-accounting and for Python before 3.13,
hence: pip install --no-deps pfl==0.6.0 prv-accountant multiprocess dill
Expected: bench/README.md holds the table last measured, with device and versions.
"""

import argparse
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import jax
import numpy as np
from _cases.base import Case
from _federated_cases import BATCH, RATE, SETTINGS, Ours, in_order
from _timing import (
    Program,
    interleaved,
    print_markdown,
    print_rows,
    row,
    rows_of_process,
    say,
    shown,
    timed_row,
    where,
)

from trustml.clipping.trainable import path_name
from trustml.federated import Clients

BENCH = "federated"
MISSING = "not installed: pip install --no-deps pfl==0.6.0 prv-accountant multiprocess dill"
LARGEST, RELATIVE = 1e-4, 1e-3  # differences of a first round: of an entry, and of the norm


CASES = (*SETTINGS, "growth", "memory")


def beside_pfl(name: str, chosen) -> list[dict]:
    """The rows of a case that pfl runs, too."""
    setting = SETTINGS[name]
    clients, rows = (3, 12) if chosen.quick else (setting.clients, setting.rows)
    case = setting.build(clients * rows, chosen.quick)
    units = jax.tree.map(np.asarray, case.units)
    ours = Ours(case, Clients.from_arrays(units, np.repeat(np.arange(clients), rows)))
    cohort = ours.first_cohort()
    theirs = _pfl(setting.network, case, in_order(cohort))
    start = time.perf_counter()
    ours()
    seconds = time.perf_counter() - start
    sides: dict[str, Any] = {"trustml": ours} | ({"pfl": theirs} if theirs else {})
    about = {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(case.params)),
        "clients": clients,
        "examples": clients * rows,
        "steps": int(cohort.work.steps.sum()),
        "bar": setting.bar,
        "difference": _checked(ours, theirs, int(cohort.work.steps.sum())),
        "clients_at_once": ours.step.physical_batch_size,
    }
    found = timed(name, sides, chosen.rounds)
    found[0]["compile_s"] = round(seconds, 2)
    if theirs is None:
        found.append(row(BENCH, name, "pfl", cpu_s=None, speedup=None, note=MISSING) | where())
    return [one | about for one in found]


def _pfl(network: str, case: Case, clients: list[dict[str, np.ndarray]]) -> Any:
    try:
        import torch
        from _pfl_rival import PflRounds, leaves_by_name
    except ImportError as error:
        say(f"pfl is left out: {error}")
        return None
    torch.set_num_threads(1)
    params = leaves_by_name(case.params, path_name)
    return PflRounds(network, params, clients, rate=RATE, batch_size=BATCH)


def _checked(ours: Ours, theirs: Any, steps: int) -> float | None:
    """How far apart the first rounds are; raises where they are no longer the same work."""
    if theirs is None:
        return None
    from _pfl_rival import leaves_by_name

    theirs()
    mine, other = leaves_by_name(ours.delta(), path_name), theirs.delta()
    apart = {name: mine[name] - other[name] for name in mine}
    largest = max(float(np.abs(leaf).max()) for leaf in apart.values())
    relative = _norm(apart) / _norm(mine)
    if theirs.steps != steps or not (largest <= LARGEST and relative <= RELATIVE):
        raise RuntimeError(
            f"not the same work: {steps} steps here, {theirs.steps} by pfl; the mean change of a "
            f"round differs by up to {largest:.1e}, by {relative:.1e} of its norm"
        )
    return float(f"{relative:.1e}")


def _norm(leaves: dict[str, np.ndarray]) -> float:
    return float(np.sqrt(sum(np.square(leaf, dtype=float).sum() for leaf in leaves.values())))


def timed(name: str, sides: dict[str, Any], rounds: int) -> list[dict]:
    """Rows of CPU seconds; the ratio is to pfl, where it is."""
    clocks = {rival: _Clock(call) for rival, call in sides.items()}
    programs = {rival: Program(clock) for rival, clock in clocks.items()}
    times = interleaved(programs, rounds)
    seconds = {rival: clock.seconds[1:] for rival, clock in clocks.items()}  # the first warms up
    found = []
    for rival, program in programs.items():
        base = seconds.get("pfl", seconds[rival])
        one = timed_row(BENCH, name, rival, program, times[rival], times[rival]) | where()
        ratio = statistics.median(
            mine / theirs for mine, theirs in zip(seconds[rival], base, strict=True)
        )
        one |= {"cpu_s": round(statistics.median(seconds[rival]), 5), "note": None}
        one |= {"ratio": round(ratio, 4), "speedup": round(1 / ratio, 2)}
        found.append(one if "pfl" in sides else one | {"ratio": None, "speedup": None})
    return found


class _Clock:
    """A call that notes its CPU seconds."""

    def __init__(self, call: Callable[[], Any]):
        self.call, self.seconds = call, []

    def __call__(self, _: Any) -> None:
        start = time.process_time()
        self.call()
        self.seconds.append(time.process_time() - start)


def growth(chosen) -> list[dict]:
    """Rounds of ever more rows in clients of very unequal sizes."""
    build, clients = SETTINGS["657k"].build, 5 if chosen.quick else 50
    share = 1 / np.arange(1, clients + 1)
    sides, about = {}, {}
    for total in (60, 120) if chosen.quick else (1_000, 2_000, 4_000, 8_000):
        counts = np.maximum(1, np.round(share / share.sum() * total)).astype(int)
        units = jax.tree.map(np.asarray, build(int(counts.sum()), chosen.quick).units)
        owner = np.repeat(np.arange(clients), counts)
        case = f"growth {total}"
        sides[case] = Ours(build(1, chosen.quick), Clients.from_arrays(units, owner))
        steps = int(sides[case].first_cohort().work.steps.sum())
        about[case] = {"case": case, "rival": "trustml", "clients": clients, "steps": steps}
        about[case] |= {"examples": int(counts.sum()), "largest": int(counts.max())}
    found = [one | about[one["rival"]] for one in timed("growth", sides, chosen.rounds)]
    for one in found:
        one["padding"] = round(one["steps"] * BATCH / one["examples"], 3)
        one["us_per_example"] = round(1e6 * one["cpu_s"] / one["examples"], 1)
    return found


def memory(chosen) -> list[dict]:
    """The peak of this process, with many clients."""
    clients, rows, few = (40, 12, 4) if chosen.quick else (10_000, 100, 50)
    case = SETTINGS["small"].build(1, chosen.quick)
    units = {
        "x": np.zeros((clients * rows, len(case.params[0]["w"])), np.float32),
        "y": np.zeros(clients * rows, np.int32),
    }
    units["x"] += 1.0  # written, so that it lies in memory
    offsets = np.arange(clients + 1, dtype=np.int64) * rows
    all_clients = Clients(units, offsets, np.arange(clients))
    Ours(case, all_clients.take(np.arange(few)))()  # the compiler's own memory comes first
    ours, before = Ours(case, all_clients, few), _peak()
    for _ in range(3):
        ours()
    gained = _peak() - before
    sizes = [leaf.nbytes for leaf in jax.tree.leaves(ours.first_cohort())]
    about = {
        "temp_bytes": ours.temp_bytes(),
        "clients": clients,
        "examples": clients * rows,
        "clients_per_round": few,
        "data_bytes": sum(leaf.nbytes for leaf in units.values()),
        "cohort_bytes": sum(sizes),
        "growth_bytes": gained,
    }
    return [row(BENCH, "memory", "trustml") | where() | about]


def _peak() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def parsed(arguments):
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default=",".join(CASES), help=f"of {', '.join(CASES)}")
    parser.add_argument("--rounds", type=int, help="10")
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    chosen.rounds = chosen.rounds or (2 if chosen.quick else 10)
    chosen.names = chosen.cases.split(",")
    for name in chosen.names:
        if name not in CASES:
            parser.error(f"--cases must be of {', '.join(CASES)}, got {name!r}")
    return chosen


def measure(name: str, chosen) -> list[dict]:
    """The rows of one case."""
    if name == "memory":
        if chosen.quick or chosen.alone:
            return memory(chosen)
        return rows_of_process(__file__, "--cases", "memory", "--alone")
    return growth(chosen) if name == "growth" else beside_pfl(name, chosen)


def main(arguments=None) -> int:
    """Runs the bench."""
    chosen = parsed(arguments)
    if not chosen.quick and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before XLA counts the cores
    found: list[dict] = []
    for name in chosen.names:
        say(f"{name}: {chosen.rounds} rounds")
        found += measure(name, chosen)
    head = ["case", "rival", "CPU s a round", "x pfl", "bar", "us an example", "note"]
    lines = [
        [
            one["case"],
            one["rival"],
            shown(one.get("cpu_s"), ".4f"),
            shown(one.get("speedup"), ".2f"),
            shown(one.get("bar"), "g"),
            shown(one.get("us_per_example"), ".1f"),
            one.get("note") or "",
        ]
        for one in found
    ]
    print_markdown(head, lines)
    print_rows(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
