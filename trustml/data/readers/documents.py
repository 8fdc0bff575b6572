"""Sets of texts to model, each with an owner: WikiText-2 and two of Shakespeare's plays."""

import re
from pathlib import Path

from trustml.data.catalogue import Entry
from trustml.data.content import find_file, read_file, read_json_lines, read_lines, take
from trustml.data.corpus import DataError
from trustml.data.examples import Document, RowSchema
from trustml.data.readers.block import ALL, Block, block_of

_TITLE = re.compile(r" = (?!= ).* = ")
_HEADING = re.compile(r" (= )+.* =( =)* ")


def read_wikitext2(entry: Entry, folder: Path) -> dict[str, Block]:
    """Paragraphs with the headings above them; train.txt is read too if the folder holds it."""
    parts = ["valid", "test"]
    if find_file(folder, "train.txt") is not None:
        parts.insert(0, "train")
    return {part: _articles(entry, folder, f"{part}.txt") for part in parts}


def _articles(entry, folder, name) -> Block:
    content = read_file(entry, folder, name)
    block = block_of(content)
    lines = [*read_lines(content), (content.place, ""), (content.place, "")]
    headings: list[str] = []
    article: list[tuple[str, str]] = []
    blank = True
    for step, (place, line) in enumerate(lines):
        # Rows of tables look like titles, but have no blank lines around them.
        alone = blank and not lines[min(step + 1, len(lines) - 1)][1].strip()
        blank = not line.strip()
        if blank:
            continue
        if alone and _TITLE.fullmatch(line):
            _close(block, article, headings, place)
        if _HEADING.fullmatch(line):
            headings.append(line.strip())
        else:
            article.append((place, "\n".join([*headings, line.strip()])))
            headings.clear()
    _close(block, article, headings, content.place)
    return block


def _close(block, article, headings, place) -> None:
    """Ends an article: its rows get it as owner."""
    if headings:
        article.append((place, "\n".join(headings)))
    for where, text in article:
        block.add(where, Document(text), article[0][1], owner=article[0][1])
    article.clear()
    headings.clear()


def read_tinyshakespeare(entry: Entry, folder: Path) -> dict[str, Block]:
    """Speeches below their speaker's name; names without a word are left out.

    Speakers of several plays who share a name count as one owner.
    """
    content = read_file(entry, folder, "input.txt")
    block = block_of(content)
    speech: list[str] = []
    first = content.place
    for place, line in [*read_lines(content), (content.place, "")]:
        if line.strip():
            first = first if speech else place
            speech.append(line)
            continue
        if speech and not speech[0].endswith(":"):
            raise DataError(f"{first}: a speech must begin with `NAME:`, got {speech[0]!r:.60}.")
        if len(speech) > 1:
            name = speech[0].removesuffix(":")
            block.add(first, Document("\n".join(speech)), name, owner=name)
        speech = []
    return {ALL: block}


def read_shakespeare_roles(entry: Entry, folder: Path) -> dict[str, Block]:
    """Speeches, each with play and role as owner."""
    content = read_file(entry, folder, "roles.jsonl")
    block = block_of(content)
    for place, row in read_json_lines(content):
        user = take(row, "user", place)
        for speech in take(row, "text", place, list):
            if not isinstance(speech, str):
                raise DataError(f"{place}: `text` must be a list of texts, got {speech!r:.60}.")
            block.add(place, Document(speech), user, owner=user)
    return {ALL: block}


READERS = {
    "wikitext2": (read_wikitext2, RowSchema()),
    "tinyshakespeare": (read_tinyshakespeare, RowSchema()),
    "shakespeare_roles": (read_shakespeare_roles, RowSchema()),
}
