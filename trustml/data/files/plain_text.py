"""Plain text: a paragraph is a document; where no line is blank, a line is."""

from pathlib import Path

from trustml.data.files.lines import Rows, read_lines

COLUMNS = ("text",)


def read_plain_text(path: Path) -> Rows:
    """Each document as `text`."""
    paragraphs = in_paragraphs(path)
    lines: list[str] = []
    first = 1
    for number, line in read_lines(path):
        if line.strip():
            first = first if lines else number
            lines.append(line)
        if lines and not (paragraphs and line.strip()):
            yield f"{path} line {first}", {"text": "\n".join(lines)}
            lines = []
    if lines:
        yield f"{path} line {first}", {"text": "\n".join(lines)}


def in_paragraphs(path: Path) -> bool:
    """Whether a blank line stands between lines that are not."""
    blank = started = False
    for _, line in read_lines(path):
        if not line.strip():
            blank = started
        elif blank:
            return True
        else:
            started = True
    return False
