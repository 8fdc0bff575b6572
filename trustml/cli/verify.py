"""Re-compute published values and our own guarantees on this machine."""

import itertools
from collections.abc import Sequence

from trustml.cli import flags
from trustml.cli.options import Output, show_json, show_table
from trustml.recipes.settings import knob, settings
from trustml.training.runs.environment import versions
from trustml.verify import CHECKS, CheckResult, run_checks

_ABOUT = """\
Re-computes published values and the library's own guarantees on this machine and device, prints a
table, and exits with 0 only if all hold.

examples:
  trustml verify                  everything
  trustml verify exactness        clipped sums and norms, over all architectures
  trustml verify accounting noise --json"""


@settings
class _Call(Output):
    """What one call checks."""

    checks: tuple[str, ...] = knob(
        (), f"any of {', '.join(CHECKS)}; default: all", metavar="CHECK", positional=True
    )


def run(arguments: Sequence[str]) -> int:
    """Runs the checks and prints each as it ends."""
    call = flags.parse_one(_Call, arguments, prog="trustml verify", about=_ABOUT)
    results = []
    for result in run_checks(call.checks):
        results.append(result)
        if not call.json:
            _show(result)
    holds = all(result.holds for result in results)
    if call.json:
        checks = {result.name: result.to_dicts() for result in results}
        show_json({"holds": holds, "checks": checks, "versions": versions()})
    else:
        print("All hold." if holds else "NOT all hold.")
    return 0 if holds else 1


def _show(result: CheckResult) -> None:
    """One table for each kind of row."""
    for _, group in itertools.groupby(result.rows, type):
        rows = list(group)
        head = [field.replace("_", " ") for field in rows[0]._fields]
        cells = [[*map(_cell, row), "yes" if row.holds else "NO"] for row in rows]
        show_table(f"{result.name} ({result.seconds:.0f} s)", [*head, "holds"], cells)


def _cell(value) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(value) if isinstance(value, tuple) else str(value)
