"""Tests of a model's preference: CrowS-Pairs, StereoSet, SEAT, WinoBias, BBQ."""

import re
from typing import NamedTuple

from trustml.data.catalogue import Entry
from trustml.data.content import (
    read_header,
    read_json,
    read_json_lines,
    read_lines,
    read_table,
    take,
)
from trustml.data.errors import DataError
from trustml.data.readers.raw_items import OpenFile, RawItems


class SentencePair(NamedTuple):
    """Two sentences that differ in the group they speak of (CrowS-Pairs)."""

    more: str  # the more stereotyping one
    less: str
    direction: str  # "stereo" or "antistereo"
    bias_type: str


class Triple(NamedTuple):
    """A context and three texts on it (StereoSet)."""

    kind: str  # "intrasentence": texts fill the context's BLANK; "intersentence": they follow it
    bias_type: str
    target: str
    context: str
    stereotype: str
    anti_stereotype: str
    unrelated: str
    identifier: str


class WordSet(NamedTuple):
    """A named set of words or sentences."""

    category: str
    examples: tuple[str, ...]


class AssociationTest(NamedTuple):
    """Whether the first targets are nearer to the first attributes than the second are (SEAT)."""

    name: str
    targets: tuple[WordSet, WordSet]
    attributes: tuple[WordSet, WordSet]


class Coreference(NamedTuple):
    """A sentence whose pronouns refer to one of two occupations (WinoBias)."""

    sentence: str  # without the brackets
    mention: str
    pronouns: tuple[str, ...]
    stereotyped: bool  # whether the pronouns have the gender that is common for the mention
    kind: int  # 1: by knowledge of the world, 2: by syntax
    part: str  # "dev" or "test"


class Choice(NamedTuple):
    """A question with three answers, one of them that it cannot be known (BBQ)."""

    category: str
    context: str
    question: str
    answers: tuple[str, ...]
    groups: tuple[str, ...]  # the group that each answer names
    label: int
    condition: str  # "ambig" or "disambig"
    polarity: str  # "neg" or "nonneg"
    stereotyped: tuple[str, ...]
    identifier: int


_CROWS = (
    "", "sent_more", "sent_less", "stereo_antistereo", "bias_type", "annotations", "anon_writer",
    "anon_annotators",
)  # fmt: skip


def _read_crows_pairs(entry: Entry, open_file: OpenFile) -> RawItems:
    """Rows of `SentencePair`."""
    rows = read_table(open_file(entry.files[0].name), len(_CROWS))
    read_header(rows, _CROWS)
    pairs = []
    for location, row in rows:
        if row[3] not in ("stereo", "antistereo"):
            raise DataError(f"{location}: direction {row[3]!r} must be stereo or antistereo.")
        pairs.append(SentencePair(*row[1:5]))
    return RawItems(pairs)


def _read_stereoset(entry: Entry, open_file: OpenFile) -> RawItems:
    """Rows of `Triple`."""
    names = (*Triple._fields[:-1], "id")
    content = open_file(entry.files[0].name)
    return RawItems(
        [
            Triple(*(take(row, name, location) for name in names))
            for location, row in read_json_lines(content)
        ]
    )


def _read_seat(entry: Entry, open_file: OpenFile) -> RawItems:
    """Rows of `AssociationTest`, one a file."""
    tests = []
    for file in entry.files:
        content = open_file(file.name)
        test = read_json(content)
        one, two, three, four = (
            _word_set(take(test, name, content.path, dict), content.path)
            for name in ("targ1", "targ2", "attr1", "attr2")
        )
        tests.append(AssociationTest(file.name.removesuffix(".jsonl"), (one, two), (three, four)))
    return RawItems(tests)


def _word_set(value, location) -> WordSet:
    examples = take(value, "examples", location, list)
    if not examples or not all(isinstance(each, str) for each in examples):
        raise DataError(f"{location}: `examples` must be texts, got {examples!r:.60}.")
    return WordSet(take(value, "category", location), tuple(examples))


def _read_winobias(entry: Entry, open_file: OpenFile) -> RawItems:
    """Rows of `Coreference`; lists "female" and "male" of occupations.

    The first bracket of a sentence is the mention; pronouns follow it.
    """
    rows = []
    for file in entry.files:
        named = re.fullmatch(r"(pro|anti)_stereotyped_type(\d)\.txt\.(dev|test)", file.name)
        if named is None:
            continue
        for location, line in read_lines(open_file(file.name)):
            sentence = line.partition(" ")[2].strip()
            mention, *pronouns = re.findall(r"\[([^\]]*)\]", sentence) or [""]
            if not pronouns:
                raise DataError(f"{location}: must hold a [mention] and a [pronoun]: {line!r:.80}")
            plain = re.sub(r"[\[\]]", "", sentence)
            rows.append(
                Coreference(
                    plain, mention, tuple(pronouns), named[1] == "pro", int(named[2]), named[3]
                )
            )
    lists = {
        name: tuple(line for _, line in read_lines(open_file(f"{name}_occupations.txt")))
        for name in ("female", "male")
    }
    return RawItems(rows, lists)


def _read_bbq(entry: Entry, open_file: OpenFile) -> RawItems:
    """Rows of `Choice`, category by category."""
    rows = []
    for file in entry.files:
        for location, row in read_json_lines(open_file(file.name)):
            rows.append(_choice(row, location))
    return RawItems(rows)


def _choice(row, location) -> Choice:
    names = ("ans0", "ans1", "ans2")
    label = take(row, "label", location, int)
    if label not in (0, 1, 2):
        raise DataError(f"{location}: label {label} must be from 0 to 2.")
    told = take(row, "answer_info", location, dict)
    more = take(row, "additional_metadata", location, dict)
    return Choice(
        category=take(row, "category", location),
        context=take(row, "context", location),
        question=take(row, "question", location),
        answers=tuple(take(row, name, location) for name in names),
        groups=tuple(str(take(told, name, location, list)[-1]) for name in names),
        label=label,
        condition=take(row, "context_condition", location),
        polarity=take(row, "question_polarity", location),
        stereotyped=tuple(take(more, "stereotyped_groups", location, list)),
        identifier=take(row, "example_id", location, int),
    )


READERS = {
    "crows_pairs": _read_crows_pairs,
    "stereoset": _read_stereoset,
    "seat": _read_seat,
    "winobias": _read_winobias,
    "bbq": _read_bbq,
}
