"""CoNLL: a token and its tags a line, the BIO tag last, and a blank line between sentences."""

from collections.abc import Iterator
from pathlib import Path

from trustml.data.files.lines import Line, Rows, read_lines

COLUMNS = ("tokens", "tags")
_DOCUMENT = "-DOCSTART-"


def read_conll(path: Path) -> Rows:
    """Each sentence: its `tokens` and their `tags`; fields stand between tabs, or else spaces."""
    for first, lines in _sentences(path):
        location = f"{path} line {first}"
        split = [line.text.split("\t" if "\t" in line.text else None) for line in lines]
        short = next(
            (one for one, fields in zip(lines, split, strict=True) if len(fields) < 2), None
        )
        if short is not None:
            yield (
                location,
                f"line {short.number} must be a token and its tag, got {short.text!r:.60}.",
            )
        elif split[0][0] != _DOCUMENT:
            yield (
                location,
                {
                    "tokens": [fields[0] for fields in split],
                    "tags": [fields[-1].strip() for fields in split],
                },
            )


def _sentences(path: Path) -> Iterator[tuple[int, list[Line]]]:
    """The lines of each sentence with the number of its first."""
    lines: list[Line] = []
    for line in read_lines(path):
        if line.text.strip():
            lines.append(line)
        elif lines:
            yield lines[0].number, lines
            lines = []
    if lines:
        yield lines[0].number, lines
