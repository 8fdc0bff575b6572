"""Sets of questions and answers, and of sources and targets: XQuAD, E2E, DialogSum, SCAN."""

from pathlib import Path

from trustml.data.catalogue import Entry
from trustml.data.content import (
    find_file,
    read_file,
    read_header,
    read_json,
    read_json_lines,
    read_lines,
    read_table,
    take,
)
from trustml.data.corpus import DataError
from trustml.data.examples import Answer, Pair, Question, RowSchema
from trustml.data.readers.block import ALL, Block, block_of


def read_xquad(entry: Entry, folder: Path) -> dict[str, Block]:
    """Questions in the layout of SQuAD v1.1; the paragraph is the owner."""
    content = read_file(entry, folder, "xquad.en.json")
    block = block_of(content)
    for article in take(_object(read_json(content), content.place), "data", content.place, list):
        for paragraph in take(_object(article, content.place), "paragraphs", content.place, list):
            context = take(_object(paragraph, content.place), "context", content.place)
            for asked in take(paragraph, "qas", content.place, list):
                identifier = take(_object(asked, content.place), "id", content.place)
                place = f"{content.place}, question {identifier}"
                answers = tuple(
                    Answer(take(each, "text", place), take(each, "answer_start", place, int))
                    for each in take(asked, "answers", place, list)
                )
                row = Question(take(asked, "question", place), context, answers, identifier)
                block.add(place, row, context, owner=context)
    return {ALL: block}


def _object(value, place) -> dict:
    if not isinstance(value, dict):
        raise DataError(f"{place}: must hold JSON objects as SQuAD v1.1 does, got {value!r:.60}.")
    return value


def read_e2e(entry: Entry, folder: Path) -> dict[str, Block]:
    """One row a reference; trainset.csv is read too if the folder holds it."""
    names = {"valid": "devset.csv", "test": "testset_w_refs.csv"}
    if find_file(folder, "trainset.csv") is not None:
        names["train"] = "trainset.csv"
    return {part: _references(entry, folder, name) for part, name in names.items()}


def _references(entry, folder, name) -> Block:
    content = read_file(entry, folder, name)
    block = block_of(content)
    rows = read_table(content, 2)
    read_header(rows, ("mr", "ref"))
    for place, (meaning, reference) in rows:
        block.add(place, Pair(meaning, (reference,)), meaning, owner=meaning)
    return block


def read_dialogsum(entry: Entry, folder: Path) -> dict[str, Block]:
    """Dialogues; the test part has three summaries of each. train.jsonl is read if there."""
    parts = ["valid", "test"]
    if find_file(folder, "train.jsonl") is not None:
        parts.append("train")
    return {part: _dialogues(entry, folder, part) for part in parts}


def _dialogues(entry, folder, part) -> Block:
    content = read_file(entry, folder, "dev.jsonl" if part == "valid" else f"{part}.jsonl")
    block = block_of(content)
    for place, row in read_json_lines(content):
        several = [f"summary{number}" for number in (1, 2, 3) if f"summary{number}" in row]
        summaries = tuple(take(row, name, place) for name in several or ["summary"])
        dialogue = take(row, "dialogue", place)
        block.add(place, Pair(dialogue, summaries), dialogue)
    return block


def read_scan(entry: Entry, folder: Path) -> dict[str, Block]:
    """Commands and the actions that they stand for."""
    return {part: _commands(entry, folder, f"{part}_simple.txt") for part in ("train", "test")}


def _commands(entry, folder, name) -> Block:
    content = read_file(entry, folder, name)
    block = block_of(content)
    for place, line in read_lines(content):
        command, middle, actions = line.removeprefix("IN: ").partition(" OUT: ")
        if not (line.startswith("IN: ") and middle):
            raise DataError(f"{place}: must be `IN: command OUT: actions`, got {line!r:.60}.")
        block.add(place, Pair(command, (actions,)), command)
    return block


READERS = {
    "xquad_en": (read_xquad, RowSchema()),
    "e2e_nlg": (read_e2e, RowSchema()),
    "dialogsum": (read_dialogsum, RowSchema()),
    "scan": (read_scan, RowSchema()),
}
