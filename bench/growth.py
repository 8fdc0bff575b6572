"""How do step time and memory grow? Clipped gradient against the plain one, point by point.

    python bench/growth.py                    # about 5 minutes on two cores
    python bench/growth.py --cases sequence   # one axis
    python bench/growth.py --quick            # tiny sizes: does it run?

A GPT-style network with tied embedding, 2 layers of 128, 32 tokens, vocabulary 1,000, batch 16;
one size at a time grows (the batch with 16 tokens, the sequence with batch 4, to fit memory). At
each point plain, plain again (`null`) and clipped gradient run in interleaved rounds; `ratio` is
the median ratio to plain within a round, `over_null` that over the ratio of `null`. Memory is the
compiled program's temporary memory. A point whose program would take more than --max-gib, or whose
call takes more than --max-seconds, is printed as such and not timed.

Expected: bench/README.md holds the table last measured, with device and versions.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from _cases import gpt
from _rivals import clipped, plain_gradient
from _timing import (
    compiled,
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

BENCH = "growth"
BASE = {"batch": 16, "time": 32, "layers": 2, "width": 128, "vocabulary": 1000, "heads": 4}
FEWER = {"batch": {"time": 16}, "sequence": {"batch": 4}}  # for points that fit memory and time
AXES = {
    "batch": ("batch", (16, 64, 256, 1024, 4096)),
    "sequence": ("time", (32, 128, 512, 1024, 2048)),
    "depth": ("layers", (1, 2, 4, 8, 12)),
    "width": ("width", (64, 128, 256, 512, 1024)),
    "vocabulary": ("vocabulary", (1_000, 4_000, 16_000, 50_000)),
}
QUICK_BASE = {"batch": 2, "time": 4, "layers": 1, "width": 16, "vocabulary": 20, "heads": 4}
GIB = 2**30


def measure(axis: str, size: int, chosen) -> list[dict]:
    """Rows of one point: what was measured, or why not."""
    field, _ = AXES[axis]
    base = QUICK_BASE if chosen.quick else BASE | FEWER.get(axis, {})
    case = gpt(False, **{**base, field: size})
    functions = {"plain": plain_gradient(case), "trustml": clipped(case)}
    programs = {name: compiled(f, case.params, case.units) for name, f in functions.items()}
    programs["null"] = programs["plain"]
    found = {name: row(BENCH, axis, name) for name in programs}
    if reason := _too_much(programs, chosen):
        for name, program in programs.items():
            found[name] |= {"temp_bytes": program.temp_bytes, "note": reason}
    else:
        times = interleaved(programs, chosen.rounds)
        for name, program in programs.items():
            found[name] = timed_row(BENCH, axis, name, program, times[name], times["plain"])
    for one in found.values():
        one |= {"point": size, **where(), "what": case.what}
        one["over_null"] = _over(one["ratio"], found["null"]["ratio"])
        one["temp_ratio"] = _over(one["temp_bytes"], found["plain"]["temp_bytes"])
    return list(found.values())


def _over(value, base):
    return None if value is None or not base else round(value / base, 4)


def _too_much(programs, chosen) -> str | None:
    most = max(program.temp_bytes for program in programs.values()) / GIB
    if most > chosen.max_gib:
        return f"not run: {most:.1f} GiB, over the cap of {chosen.max_gib:g}"
    for name in ("plain", "trustml"):
        start = time.perf_counter()
        programs[name].call(None)
        seconds = time.perf_counter() - start
        if seconds > chosen.max_seconds:
            return f"not timed: {name} takes {seconds:.0f} s, over {chosen.max_seconds:g}"
    return None


def print_table(rows: list[dict]) -> None:
    """One line a point, as Markdown."""
    lines = []
    for turn in range(0, len(rows), 3):
        point = {one["rival"]: one for one in rows[turn : turn + 3]}
        plain, ours = point["plain"], point["trustml"]
        lines.append(
            [
                plain["case"],
                f"{plain['point']:,}",
                shown(plain["median_ms"], ".1f"),
                shown(ours["median_ms"], ".1f"),
                shown(ours["over_null"], ".2f"),
                shown(plain["temp_bytes"] / 2**20, ".1f"),
                shown(ours["temp_ratio"], ".2f"),
                shown(plain["compile_s"], ".1f"),
                shown(ours["compile_s"], ".1f"),
                ours.get("note", ""),
            ]
        )
    head = ("axis", "size", "plain ms", "trustml ms", "over null", "plain MiB", "memory")
    print_markdown((*head, "compile s, plain", "compile s, trustml", "note"), lines)


def parsed(arguments):
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default=",".join(AXES), help=f"axes of {', '.join(AXES)}")
    parser.add_argument("--quick", action="store_true", help="two tiny points an axis")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--max-gib", type=float, default=8.0, help="of compiled temporary memory")
    parser.add_argument("--max-seconds", type=float, default=15.0, help="of one call")
    chosen = parser.parse_args(arguments)
    chosen.axes = chosen.cases.split(",")
    unknown = [name for name in chosen.axes if name not in AXES]
    if unknown:
        parser.error(f"--cases must be of {', '.join(AXES)}, got {unknown[0]!r}")
    return chosen


def main(arguments=None) -> int:
    """Runs the bench."""
    chosen = parsed(arguments)
    say_if_busy()
    rows: list[dict] = []
    for axis in chosen.axes:
        field, sizes = AXES[axis]
        if chosen.quick:
            sizes = (QUICK_BASE[field], 2 * QUICK_BASE[field])
        for size in sizes:
            say(f"{axis} {size}")
            rows += measure(axis, size, chosen)
    print_table(rows)
    print_rows(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
