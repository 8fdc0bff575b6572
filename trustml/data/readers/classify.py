"""Sets of texts with a class: AG News, CLINC150, HateXplain and the tweets of Davidson et al."""

from pathlib import Path

from trustml.data.catalogue import Entry
from trustml.data.content import (
    find_file,
    read_file,
    read_header,
    read_json,
    read_json_lines,
    read_table,
    take,
)
from trustml.data.errors import DataError
from trustml.data.readers.block import ALL, Block, block_of
from trustml.data.readers.schemas import CLINC150
from trustml.data.rows import Schema, Text

_AG_NEWS = Schema(("World", "Sports", "Business", "Sci/Tech"))
_DAVIDSON = Schema(("hate", "offensive", "neither"))
# Several: at least two communities, each named by two of three annotators.
_HATEXPLAIN = Schema(
    labels=("normal", "offensive", "hatespeech"),
    groups=(
        "None", "Several", "African", "Arab", "Asexual", "Asian", "Bisexual", "Buddhism",
        "Caucasian", "Christian", "Disability", "Economic", "Heterosexual", "Hindu", "Hispanic",
        "Homosexual", "Indian", "Indigenous", "Islam", "Jewish", "Men", "Minority",
        "Nonreligious", "Other", "Refugee", "Women",
    ),
)  # fmt: skip
_TWEETS = ("", "count", "hate_speech", "offensive_language", "neither", "class", "tweet")


def _read_ag_news(entry: Entry, folder: Path) -> dict[str, Block]:
    """Title and description as one text; train.csv is read too if the folder holds it."""
    if find_file(folder, "train.csv") is None:
        return {ALL: _news(entry, folder, "test.csv")}
    return {part: _news(entry, folder, f"{part}.csv") for part in ("train", "test")}


def _news(entry, folder, name) -> Block:
    content = read_file(entry, folder, name)
    block = block_of(content)
    for location, (number, title, body) in read_table(content, 3):
        text = f"{title} {body}"
        block.add(location, Text(text, _numbered(number, _AG_NEWS.labels, location, first=1)), text)
    return block


def _numbered(number: str, labels: tuple[str, ...], location: str, first: int) -> str:
    known = [str(first + step) for step in range(len(labels))]
    if number not in known:
        raise DataError(f"{location}: class {number!r} must be one of {', '.join(known)}.")
    return labels[int(number) - first]


def _read_clinc150(entry: Entry, folder: Path) -> dict[str, Block]:
    """Each part with its queries that are out of scope, whose label is "oos"."""
    content = read_file(entry, folder, "data_full.json")
    parts = read_json(content)
    blocks = {}
    for name, source in (("train", "train"), ("valid", "val"), ("test", "test")):
        blocks[name] = block = block_of(content)
        for kind in (source, f"oos_{source}"):
            rows = take(parts, kind, content.path, list)
            for number, row in enumerate(rows):
                location = f"{content.path}, {kind} row {number}"
                if not (isinstance(row, list) and [type(each) for each in row] == [str, str]):
                    raise DataError(f"{location}: must be [text, intent], got {row!r:.60}.")
                block.add(location, Text(*row), row[0])
    return blocks


def _read_hatexplain(entry: Entry, folder: Path) -> dict[str, Block]:
    """The majority's label; the group is the community that is the target.

    The train part knows one community that at least one of three annotators named, the others
    those that two named: groups of the train part are noisy. "None" is where there is none.
    """
    return {
        part: _posts(entry, folder, name)
        for part, name in (("train", "train.jsonl"), ("valid", "val.jsonl"), ("test", "test.jsonl"))
    }


def _posts(entry, folder, name) -> Block:
    content = read_file(entry, folder, name)
    block = block_of(content)
    for location, row in read_json_lines(content):
        if "target_noisy" in row:
            group = take(row, "target_noisy", location)
        else:
            targets = [each for each in take(row, "targets", location, list) if each != "None"]
            group = "Several" if len(targets) > 1 else targets[0] if targets else "None"
        if group not in _HATEXPLAIN.groups:
            raise DataError(
                f"{location}: unknown target {group!r}; known are {', '.join(_HATEXPLAIN.groups)}."
            )
        text = take(row, "text", location)
        block.add(location, Text(text, take(row, "label", location)), text, group=group)
    return block


def _read_davidson(entry: Entry, folder: Path) -> dict[str, Block]:
    """Tweets with the majority's class."""
    content = read_file(entry, folder, "labeled_data.csv")
    block = block_of(content)
    rows = read_table(content, len(_TWEETS))
    read_header(rows, _TWEETS)
    for location, row in rows:
        label = _numbered(row[5], _DAVIDSON.labels, location, first=0)
        block.add(location, Text(row[6], label), row[6])
    return {ALL: block}


READERS = {
    "ag_news": (_read_ag_news, _AG_NEWS),
    "clinc150": (_read_clinc150, CLINC150),
    "hatexplain": (_read_hatexplain, _HATEXPLAIN),
    "davidson_hate": (_read_davidson, _DAVIDSON),
}
