"""Does the cost model choose well? Its way against each other way to the same sums.

    python bench/regret.py                    # about 10 minutes on two cores
    python bench/regret.py --cases mlp,bert   # some networks
    python bench/regret.py --quick            # tiny sizes: does it run?

The networks of `step_time.py`, and the transformer at other lengths. `bookkeeping` takes for each
parameter the rule that the cost model estimates to be cheaper; `gram` and `materialise` prefer one
rule everywhere, `ghost` makes two passes. Strategies whose programs are the same are timed once.
`ratio` is the median over rounds of the ratio to `bookkeeping` within a round; the regret of a case
is what the cost model's way takes over the quickest, in per cent. The target is 20 at most.

Expected: bench/README.md holds the table last measured, with device and versions.
"""

import argparse
import functools
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import jax
from _cases import CASES, Case, bert
from _rivals import clipped
from _timing import (
    compiled,
    interleaved,
    print_markdown,
    print_rows,
    row,
    say,
    shown,
    timed_row,
    where,
)

from trustml.clipping.tuning import CANDIDATES

BENCH = "regret"
LENGTHS = {f"bert-{time}": {"time": time, "batch": 2048 // time} for time in (16, 32, 128, 256)}
NETWORKS = {
    **{name: CASES[name] for name in ("mlp", "cnn", "resnet", "bilstm", "bert", "gpt", "lora")},
    **{name: functools.partial(bert, **sizes) for name, sizes in LENGTHS.items()},
}
CHOSEN = CANDIDATES[0]


def measure(name: str, chosen) -> list[dict]:
    """Rows of one network: a strategy each, or which other it is the same as."""
    case = NETWORKS[name](chosen.quick)
    programs, same = _distinct(case, chosen)
    times = interleaved(programs, chosen.rounds)
    found = []
    for strategy in CANDIDATES:
        if strategy in programs:
            mine = (programs[strategy], times[strategy], times[CHOSEN])
            one = timed_row(BENCH, name, strategy, *mine)
        else:
            one = row(BENCH, name, strategy, note=same[strategy])
        found.append({**one, **where(), "what": case.what})
    best = min(one["ratio"] for one in found if one["ratio"] is not None)
    for one in found:
        one["regret"] = round(100 * (1 / best - 1), 1) if one["rival"] == CHOSEN else None
    return found


def _distinct(case: Case, chosen):
    """Compiled programs by strategy, each once; and why the others are not among them."""
    programs, same, texts = {}, {}, {}
    for strategy in CANDIDATES:
        function = clipped(case, strategy)
        text = jax.jit(function).lower(case.params, case.units).as_text()
        if text in texts:
            same[strategy] = f"the program of {texts[text]}"
            continue
        texts[text] = strategy
        program = compiled(function, case.params, case.units)
        if program.temp_bytes > chosen.max_gib * 2**30:
            same[strategy] = f"not run: {program.temp_bytes / 2**30:.1f} GiB"
        else:
            programs[strategy] = program
    return programs, same


def print_table(rows: list[dict]) -> None:
    """One line a network, as Markdown."""
    lines = []
    for turn in range(0, len(rows), len(CANDIDATES)):
        mine = {one["rival"]: one for one in rows[turn : turn + len(CANDIDATES)]}
        times = [shown(mine[name]["median_ms"], ".1f") or mine[name]["note"] for name in CANDIDATES]
        regret = mine[CHOSEN]["regret"]
        lines.append([mine[CHOSEN]["case"], *times, f"{regret:.0f} %"])
    print_markdown(("case", *(f"{name}, ms" for name in CANDIDATES), "regret"), lines)


def parsed(arguments):
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default=",".join(NETWORKS), help=f"of {', '.join(NETWORKS)}")
    parser.add_argument("--quick", action="store_true", help="tiny networks, two rounds")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--max-gib", type=float, default=8.0, help="of compiled temporary memory")
    chosen = parser.parse_args(arguments)
    chosen.rounds = 2 if chosen.quick else chosen.rounds
    chosen.networks = chosen.cases.split(",")
    unknown = [name for name in chosen.networks if name not in NETWORKS]
    if unknown:
        parser.error(f"--cases must be of {', '.join(NETWORKS)}, got {unknown[0]!r}")
    return chosen


def main(arguments=None) -> int:
    """Runs the bench."""
    chosen = parsed(arguments)
    rows: list[dict] = []
    for name in chosen.networks:
        say(name)
        rows += measure(name, chosen)
    print_table(rows)
    print_rows(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
