"""Re-compute published values and our own guarantees on this machine."""

import argparse
import itertools
import time

from trustml.cli.options import add_output, show_json, show_table
from trustml.training.runs.environment import versions
from trustml.verify import CHECKS

DESCRIPTION = """\
Re-computes published values and the library's own guarantees on this machine and device, prints a
table, and exits with 0 only if all hold."""

EXAMPLES = """\
examples:
  trustml verify                  everything
  trustml verify exactness        clipped sums and norms, over all architectures
  trustml verify accounting noise --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `trustml verify`."""
    parser.add_argument(
        "checks",
        nargs="*",
        metavar="CHECK",
        help=f"any of {', '.join(CHECKS)}; by default all",
    )
    add_output(parser)


def run(chosen: argparse.Namespace) -> int:
    """Runs the checks and prints what they found."""
    unknown = [name for name in chosen.checks if name not in CHECKS]
    if unknown:
        raise ValueError(f"`CHECK` must be any of {', '.join(CHECKS)}, got {unknown[0]!r}.")
    found, holds = {}, True
    for name in chosen.checks or CHECKS:
        start = time.perf_counter()
        rows = list(CHECKS[name]())
        holds = holds and all(row.holds for row in rows)
        found[name] = [row._asdict() | {"holds": row.holds} for row in rows]
        if not chosen.json:
            _show(name, rows, time.perf_counter() - start)
    if chosen.json:
        show_json({"holds": holds, "checks": found, "versions": versions()})
    else:
        print("All hold." if holds else "NOT all hold.")
    return 0 if holds else 1


def _show(name, rows, seconds) -> None:
    """One table for each kind of row."""
    for _, group in itertools.groupby(rows, type):
        mine = list(group)
        head = [field.replace("_", " ") for field in mine[0]._fields]
        cells = [[*map(_cell, row), "yes" if row.holds else "NO"] for row in mine]
        show_table(f"{name} ({seconds:.0f} s)", [*head, "holds"], cells)


def _cell(value) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(value) if isinstance(value, tuple) else str(value)
