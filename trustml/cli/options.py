"""Pieces that several sub-commands share."""

import argparse
import sys
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from trustml.strict_json import dumps


def number(text: str) -> float:
    """A float for argparse; ranges are checked where the number is used, NaN included."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from None


def count(text: str) -> int:
    """A positive integer for argparse; `1e3` and `13_084` are fine."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not (value >= 1 and value == int(value)):
        raise argparse.ArgumentTypeError(f"must be a positive whole number, got {text!r}")
    return int(value)


def add_output(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """`--json`: the result as one JSON document on standard output, and nothing else there."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def show_json(value: Any) -> None:
    """Prints one JSON document."""
    sys.stdout.write(dumps(value, indent=2) + "\n")


def show_table(title: str, head: list[str], rows: list[list[str]]) -> None:
    """Prints a table that fits the terminal; where it cannot, each row by itself."""
    console = Console()
    console.print(title, style="bold", highlight=False, markup=False)
    widths = _widths(head, rows, console.width)
    if widths is None:
        for row in rows:
            cells = [f"  {name}: {cell}" for name, cell in zip(head[1:], row[1:], strict=True)]
            console.print("\n".join([row[0], *cells]), highlight=False, markup=False)
        return
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for place, (name, width) in enumerate(zip(head, widths, strict=True)):
        table.add_column(name, justify="right" if place else "left", overflow="fold", width=width)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _widths(head, rows, width) -> list[int] | None:
    """Columns as wide as their cells and the words of their titles; the first takes what is left.

    None where that leaves it fewer than a dozen.
    """
    cells = [[row[place] for row in rows] for place in range(len(head))]
    needed = [
        max(map(len, [*column, *name.split()])) for name, column in zip(head, cells, strict=True)
    ]
    roomy = [max(need, len(name)) for need, name in zip(needed, head, strict=True)]
    space = width - 2 * len(head) - 1
    for rest in (roomy[1:], needed[1:]):  # titles in one line if there is room, else in several
        first = min(roomy[0], space - sum(rest))
        if first >= min(roomy[0], 12 if rest == needed[1:] else 24):
            return [first, *rest]
    return None
