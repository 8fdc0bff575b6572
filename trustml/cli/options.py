"""Pieces that several sub-commands share."""

import sys
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trustml.recipes.published import FilesCheck
from trustml.recipes.settings import Settings, knob, settings
from trustml.strict_json import dumps


@settings
class Output(Settings):
    """How a command prints its result."""

    json: bool = knob(False, "print the result as one JSON document, and nothing else", "output")


def show_json(value: Any) -> None:
    """Prints one JSON document."""
    sys.stdout.write(dumps(value, indent=2) + "\n")


def show_files_check(check: FilesCheck) -> None:
    """Prints the files that are not the published ones, and how many are."""
    bad = [[f"{file.owner}/{file.file}", file.verdict] for file in check.files if not file.holds]
    if bad:
        show_table("Files that are not the published ones", ["file", "verdict"], bad)
    all_of, owners = len(check.files), len(check.owners)
    plural = "s" if owners > 1 else ""
    print(
        f"{all_of - len(bad)} of {all_of} files of {owners} {check.kind}{plural} have the "
        "published checksum."
    )


def show_table(title: str, head: list[str], rows: list[list[str]]) -> None:
    """Prints a table that fits the terminal; where it cannot, each row by itself."""
    console = Console(emoji=False)
    console.print(title, style="bold", highlight=False, markup=False)
    widths = _widths(head, rows, console.width)
    if widths is None:
        for row in rows:
            cells = [f"  {name}: {cell}" for name, cell in zip(head[1:], row[1:], strict=True)]
            console.print("\n".join([row[0], *cells]), highlight=False, markup=False)
        return
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for number, (name, width) in enumerate(zip(head, widths, strict=True)):
        table.add_column(
            Text(name), justify="right" if number else "left", overflow="fold", width=width
        )
    for row in rows:
        table.add_row(*map(Text, row))  # brackets are no markup
    console.print(table)


def _widths(head, rows, width) -> list[int] | None:
    """Columns as wide as their cells and the words of their titles; the first takes what is left.

    None where that leaves it fewer than a dozen.
    """
    cells = [[row[number] for row in rows] for number in range(len(head))]
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
