"""Sets of texts to model, each with an owner: WikiText-2 and two of Shakespeare's plays."""

import re
from pathlib import Path

from trustml.data.catalogue import Entry
from trustml.data.content import find_file, read_file, read_json_lines, read_lines, take
from trustml.data.errors import DataError
from trustml.data.readers.block import ALL, Block, block_of
from trustml.data.rows import Document, Schema

_TITLE = re.compile(r" = (?!= ).* = ")
_HEADING = re.compile(r" (= )+.* =( =)* ")


def _read_wikitext2(entry: Entry, folder: Path) -> dict[str, Block]:
    """Paragraphs with the headings above them; train.txt is read too if the folder holds it."""
    parts = ["valid", "test"]
    if find_file(folder, "train.txt") is not None:
        parts.insert(0, "train")
    return {part: _articles(entry, folder, f"{part}.txt") for part in parts}


def _articles(entry, folder, name) -> Block:
    content = read_file(entry, folder, name)
    block = block_of(content)
    lines = [*read_lines(content), (content.path, ""), (content.path, "")]
    headings: list[str] = []
    article: list[tuple[str, str]] = []
    blank = True
    for step, (location, line) in enumerate(lines):
        # Rows of tables look like titles, but have no blank lines around them.
        alone = blank and not lines[min(step + 1, len(lines) - 1)][1].strip()
        blank = not line.strip()
        if blank:
            continue
        if alone and _TITLE.fullmatch(line):
            _close(block, article, headings, location)
        if _HEADING.fullmatch(line):
            headings.append(line.strip())
        else:
            article.append((location, "\n".join([*headings, line.strip()])))
            headings.clear()
    _close(block, article, headings, content.path)
    return block


def _close(block, article, headings, location) -> None:
    """Ends an article: its rows get it as owner."""
    if headings:
        article.append((location, "\n".join(headings)))
    for where, text in article:
        block.add(where, Document(text), article[0][1], owner=article[0][1])
    article.clear()
    headings.clear()


def _read_tinyshakespeare(entry: Entry, folder: Path) -> dict[str, Block]:
    """Speeches below their speaker's name; names without a word are left out.

    Speakers of several plays who share a name count as one owner.
    """
    content = read_file(entry, folder, "input.txt")
    block = block_of(content)
    speech: list[str] = []
    first = content.path
    for location, line in [*read_lines(content), (content.path, "")]:
        if line.strip():
            first = first if speech else location
            speech.append(line)
            continue
        if speech and not speech[0].endswith(":"):
            raise DataError(f"{first}: a speech must begin with `NAME:`, got {speech[0]!r:.60}.")
        if len(speech) > 1:
            name = speech[0].removesuffix(":")
            block.add(first, Document("\n".join(speech)), name, owner=name)
        speech = []
    return {ALL: block}


def _read_shakespeare_roles(entry: Entry, folder: Path) -> dict[str, Block]:
    """Speeches, each with play and role as owner."""
    content = read_file(entry, folder, "roles.jsonl")
    block = block_of(content)
    for location, row in read_json_lines(content):
        user = take(row, "user", location)
        for speech in take(row, "text", location, list):
            if not isinstance(speech, str):
                raise DataError(f"{location}: `text` must be a list of texts, got {speech!r:.60}.")
            block.add(location, Document(speech), user, owner=user)
    return {ALL: block}


READERS = {
    "wikitext2": (_read_wikitext2, Schema()),
    "tinyshakespeare": (_read_tinyshakespeare, Schema()),
    "shakespeare_roles": (_read_shakespeare_roles, Schema()),
}
