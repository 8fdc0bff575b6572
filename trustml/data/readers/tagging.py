"""Sets of words with BIO tags: WNUT-17, SNIPS and HWU64."""

from pathlib import Path

from trustml.data.catalogue import Entry
from trustml.data.content import read_file, read_lines
from trustml.data.errors import DataError
from trustml.data.readers.block import Block, block_of
from trustml.data.readers.schemas import HWU64, SNIPS, SNIPS_SLOTS, WNUT17
from trustml.data.rows import Tagged, Utterance


def _read_wnut17(entry: Entry, folder: Path) -> dict[str, Block]:
    """Sentences of `token TAB tag` lines with a blank line between them."""
    return {
        part: _sentences(entry, folder, name)
        for part, name in (("train", "train.conll"), ("valid", "dev.conll"), ("test", "test.conll"))
    }


def _sentences(entry, folder, name) -> Block:
    content = read_file(entry, folder, name)
    block = block_of(content)
    words: list[tuple[str, str]] = []
    first = content.path
    for location, line in [*read_lines(content), (first, "")]:
        if not line.strip():
            if words:
                tokens, tags = zip(*words, strict=True)
                block.add(first, Tagged(tokens, tags), " ".join(tokens))
            words = []
            continue
        fields = line.split("\t")
        if len(fields) != 2 or not all(fields):
            raise DataError(
                f"{location}: must be token and tag with a tab between, got {line!r:.60}."
            )
        first = first if words else location
        words.append((fields[0], fields[1]))
    return block


def _read_snips(entry: Entry, folder: Path) -> dict[str, Block]:
    """Utterances with intent and slots."""
    return {part: _utterances(entry, folder, part, 3) for part in ("train", "valid", "test")}


def _read_snips_slots(entry: Entry, folder: Path) -> dict[str, Block]:
    """The same words with their slots alone."""
    blocks = _read_snips(entry, folder)
    for block in blocks.values():
        block.rows = [Tagged(row.tokens, row.tags) for row in block.rows]
    return blocks


def _read_hwu64(entry: Entry, folder: Path) -> dict[str, Block]:
    """Utterances with scenario and intent as one label, and slots."""
    return {part: _utterances(entry, folder, part, 4) for part in ("train", "test")}


def _utterances(entry, folder, part, width) -> Block:
    content = read_file(entry, folder, f"{part}.tsv")
    block = block_of(content)
    for location, line in read_lines(content):
        fields = line.split("\t")
        if len(fields) != width:
            raise DataError(
                f"{location}: {len(fields)} tab-separated fields, must be {width}: intent, tokens, "
                f"tags{', answerid' if width == 4 else ''}."
            )
        intent, tokens, tags = fields[:3]
        row = Utterance(tuple(tokens.split()), tuple(tags.split()), intent.strip())
        block.add(location, row, " ".join(row.tokens))
    return block


READERS = {
    "wnut17": (_read_wnut17, WNUT17),
    "snips": (_read_snips, SNIPS),
    "snips_slots": (_read_snips_slots, SNIPS_SLOTS),
    "hwu64": (_read_hwu64, HWU64),
}
