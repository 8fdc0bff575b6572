"""Pieces that several sub-commands share."""

import argparse
import json
import sys
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table


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
    json.dump(value, sys.stdout, indent=2, allow_nan=False)
    sys.stdout.write("\n")


def show_table(title: str, head: list[str], rows: list[list[str]]) -> None:
    """Prints a table that fits the terminal."""
    console = Console()
    console.print(title, style="bold", highlight=False, markup=False)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for place, name in enumerate(head):
        longest = max((len(row[place]) for row in rows), default=0)
        # Where it is narrow, titles wrap before numbers do.
        table.add_column(
            name,
            justify="left" if place == 0 else "right",
            overflow="fold",
            min_width=min(longest, 24),
        )
    for row in rows:
        table.add_row(*row)
    console.print(table)
