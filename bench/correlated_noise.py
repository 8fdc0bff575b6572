"""What does correlated noise cost a step, and how much less noisy are prefix sums with it?

    python bench/correlated_noise.py           # about a minute on two cores
    python bench/correlated_noise.py --quick   # tiny sizes: does it run?

Times: noise for a million values in the first 16 steps, one call each; a figure is the mean over
these steps, median over rounds, and `ratio` the median within a round to independent noise.
"toeplitz" draws all earlier steps again, so that its figure grows with the steps. Losses: the
variance of a prefix sum at multiplier and bound 1, mean and maximum over steps, for units that take
part once, and for units that take part ten times, a tenth of the run apart. Both are without
amplification by sampling: losses of "banded" with it are other ones.

Expected: bench/README.md holds the table last measured, with device and versions.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from _timing import (
    Program,
    figures,
    interleaved,
    print_markdown,
    print_rows,
    row,
    say,
    say_if_busy,
    shown,
    timed_row,
    where,
)

BENCH = "correlated_noise"
RIVALS = {
    "independent": ("independent", 0),
    "null": ("independent", 0),
    "tree": ("tree", 0),
    "toeplitz": ("toeplitz", 0),
    "banded 7": ("banded", 7),
    "banded 31": ("banded", 31),
    "blt 2": ("blt", 2),
    "blt 4": ("blt", 4),
}
CASES = ("time", "loss")
_PLANNED = 64  # steps that the timed strategies are made for


def noise_of(kind, memory, values, steps):
    """A program that draws the noise of the first `steps` steps, each by a call of its own."""
    import jax
    import jax.numpy as jnp

    from trustml.noise import key_from_seed
    from trustml.noise.correlated import correlated_noise
    from trustml.noise.matrix_factorization import best_strategy

    strategy = best_strategy(kind, steps=_PLANNED, memory=memory)
    noise = correlated_noise(strategy, 1.0, steps=_PLANNED)
    like = jax.ShapeDtypeStruct((values,), jnp.float32)
    key, state = key_from_seed(0), noise.init(like)
    # A run gives its state away too; kept, every step would copy all buffers.
    update = jax.jit(lambda step, state: noise.update(key, step, state, like), donate_argnums=1)
    start = time.perf_counter()
    program = update.lower(jnp.int32(0), state).compile()
    seconds = time.perf_counter() - start

    def call(state):
        for step in range(steps):
            found, state = program(jnp.int32(step), state)
        jax.block_until_ready((found, state))

    return Program(call, lambda: noise.init(like), seconds, **figures(program))


def times(chosen):
    """One row a strategy: milliseconds of one step."""
    values, steps = (2_000, 8) if chosen.quick else (1_000_000, 16)
    programs = {}
    for name, (kind, memory) in RIVALS.items():
        say(f"compiling {name}")
        programs[name] = noise_of(kind, memory, values, steps)
    measured = interleaved(programs, 2 if chosen.quick else chosen.rounds)
    each = {name: [ms / steps for ms in found] for name, found in measured.items()}
    rows = []
    for name, program in programs.items():
        timed = timed_row(BENCH, f"time {values}", name, program, each[name], each["independent"])
        nanoseconds = round(timed["median_ms"] * 1e6 / values, 2)
        rows.append({**timed, "ns_per_value": nanoseconds, "copies": RIVALS[name][1]})
    return rows


def losses(steps, participations):
    """One row a strategy: mean and maximal variance of the prefix sums."""
    from trustml.noise.matrix_factorization import best_strategy

    apart = steps // participations
    rows = []
    for name, (kind, memory) in RIVALS.items():
        if name == "null":
            continue
        pattern = {"participations": participations, "min_separation": apart}
        strategy = best_strategy(kind, steps=steps, memory=min(memory, apart - 1), **pattern)
        found = {
            "sensitivity": round(strategy.sensitivity(steps, participations, apart), 4),
            "mean_loss": round(strategy.mean_loss(steps, participations, apart), 3),
            "max_loss": round(strategy.max_loss(steps, participations, apart), 3),
        }
        copies = strategy.memory
        rows.append(row(BENCH, f"loss {steps} x{participations}", name, copies=copies, **found))
    return rows


def print_tables(rows):
    columns = {
        "time": ("median_ms", "ns_per_value", "ratio"),
        "loss": ("sensitivity", "mean_loss", "max_loss"),
    }
    for case, names in columns.items():
        some = [one for one in rows if one["case"].startswith(case)]
        cells = [
            [
                one["case"],
                one["rival"],
                str(one["copies"]),
                *(shown(one[name], "g") for name in names),
            ]
            for one in some
        ]
        if cells:
            print_markdown(["case", "noise", "copies", *names], cells)
            print()


def parsed(arguments):
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default=",".join(CASES), help=f"of {', '.join(CASES)}")
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args(arguments)
    chosen.names = chosen.cases.split(",")
    unknown = [name for name in chosen.names if name not in CASES]
    if unknown:
        parser.error(f"--cases must be of {', '.join(CASES)}, got {unknown[0]!r}")
    return chosen


def main(arguments=None) -> int:
    """Runs the bench."""
    chosen = parsed(arguments)
    say_if_busy()
    rows = times(chosen) if "time" in chosen.names else []
    if "loss" in chosen.names:
        for steps in (20, 40) if chosen.quick else (100, 1000):
            for participations in (1, 10):
                say(f"losses of {steps} steps, {participations} participations")
                rows += losses(steps, participations)
    rows = [{**one, **where()} for one in rows]
    print_tables(rows)
    print_rows(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
