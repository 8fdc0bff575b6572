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
from trustml.data.corpus import DataError
from trustml.data.examples import RowSchema, Text
from trustml.data.readers.block import ALL, Block, block_of
from trustml.data.readers.schemas import CLINC150

AG_NEWS = RowSchema(("World", "Sports", "Business", "Sci/Tech"))
DAVIDSON = RowSchema(("hate", "offensive", "neither"))
# Several: at least two communities, each named by two of three annotators.
HATEXPLAIN = RowSchema(
    labels=("normal", "offensive", "hatespeech"),
    groups=(
        "None", "Several", "African", "Arab", "Asexual", "Asian", "Bisexual", "Buddhism",
        "Caucasian", "Christian", "Disability", "Economic", "Heterosexual", "Hindu", "Hispanic",
        "Homosexual", "Indian", "Indigenous", "Islam", "Jewish", "Men", "Minority",
        "Nonreligious", "Other", "Refugee", "Women",
    ),
)  # fmt: skip
_TWEETS = ("", "count", "hate_speech", "offensive_language", "neither", "class", "tweet")


def read_ag_news(entry: Entry, folder: Path) -> dict[str, Block]:
    """Title and description as one text; train.csv is read too if the folder holds it."""
    if find_file(folder, "train.csv") is None:
        return {ALL: _news(entry, folder, "test.csv")}
    return {part: _news(entry, folder, f"{part}.csv") for part in ("train", "test")}


def _news(entry, folder, name) -> Block:
    content = read_file(entry, folder, name)
    block = block_of(content)
    for place, (number, title, body) in read_table(content, 3):
        text = f"{title} {body}"
        block.add(place, Text(text, _numbered(number, AG_NEWS.labels, place, first=1)), text)
    return block


def _numbered(number: str, labels: tuple[str, ...], place: str, first: int) -> str:
    known = [str(first + step) for step in range(len(labels))]
    if number not in known:
        raise DataError(f"{place}: class {number!r} must be one of {', '.join(known)}.")
    return labels[int(number) - first]


def read_clinc150(entry: Entry, folder: Path) -> dict[str, Block]:
    """Each part with its queries that are out of scope, whose label is "oos"."""
    content = read_file(entry, folder, "data_full.json")
    parts = read_json(content)
    found = {}
    for name, source in (("train", "train"), ("valid", "val"), ("test", "test")):
        found[name] = block = block_of(content)
        for kind in (source, f"oos_{source}"):
            rows = take(parts, kind, content.place, list)
            for number, row in enumerate(rows):
                place = f"{content.place}, {kind} row {number}"
                if not (isinstance(row, list) and [type(each) for each in row] == [str, str]):
                    raise DataError(f"{place}: must be [text, intent], got {row!r:.60}.")
                block.add(place, Text(*row), row[0])
    return found


def read_hatexplain(entry: Entry, folder: Path) -> dict[str, Block]:
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
    for place, row in read_json_lines(content):
        if "target_noisy" in row:
            group = take(row, "target_noisy", place)
        else:
            targets = [each for each in take(row, "targets", place, list) if each != "None"]
            group = "Several" if len(targets) > 1 else targets[0] if targets else "None"
        if group not in HATEXPLAIN.groups:
            raise DataError(
                f"{place}: unknown target {group!r}; known are {', '.join(HATEXPLAIN.groups)}."
            )
        text = take(row, "text", place)
        block.add(place, Text(text, take(row, "label", place)), text, group=group)
    return block


def read_davidson(entry: Entry, folder: Path) -> dict[str, Block]:
    """Tweets with the majority's class."""
    content = read_file(entry, folder, "labeled_data.csv")
    block = block_of(content)
    rows = read_table(content, len(_TWEETS))
    read_header(rows, _TWEETS)
    for place, row in rows:
        label = _numbered(row[5], DAVIDSON.labels, place, first=0)
        block.add(place, Text(row[6], label), row[6])
    return {ALL: block}


READERS = {
    "ag_news": (read_ag_news, AG_NEWS),
    "clinc150": (read_clinc150, CLINC150),
    "hatexplain": (read_hatexplain, HATEXPLAIN),
    "davidson_hate": (read_davidson, DAVIDSON),
}
