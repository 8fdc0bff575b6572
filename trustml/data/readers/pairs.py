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
from trustml.data.errors import DataError
from trustml.data.readers.block import ALL, Block, block_of
from trustml.data.rows import Answer, Pair, Question, Schema


def _read_xquad(entry: Entry, folder: Path) -> dict[str, Block]:
    """Questions in the layout of SQuAD v1.1; the paragraph is the owner."""
    content = read_file(entry, folder, "xquad.en.json")
    block = block_of(content)
    for article in take(_object(read_json(content), content.path), "data", content.path, list):
        for paragraph in take(_object(article, content.path), "paragraphs", content.path, list):
            context = take(_object(paragraph, content.path), "context", content.path)
            for asked in take(paragraph, "qas", content.path, list):
                identifier = take(_object(asked, content.path), "id", content.path)
                location = f"{content.path}, question {identifier}"
                answers = tuple(
                    Answer(take(each, "text", location), take(each, "answer_start", location, int))
                    for each in take(asked, "answers", location, list)
                )
                row = Question(take(asked, "question", location), context, answers, identifier)
                block.add(location, row, context, owner=context)
    return {ALL: block}


def _object(value, location) -> dict:
    if not isinstance(value, dict):
        raise DataError(
            f"{location}: must hold JSON objects as SQuAD v1.1 does, got {value!r:.60}."
        )
    return value


def _read_e2e(entry: Entry, folder: Path) -> dict[str, Block]:
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
    for location, (meaning, reference) in rows:
        block.add(location, Pair(meaning, (reference,)), meaning, owner=meaning)
    return block


def _read_dialogsum(entry: Entry, folder: Path) -> dict[str, Block]:
    """Dialogues; the test part has three summaries of each. train.jsonl is read if there."""
    parts = ["valid", "test"]
    if find_file(folder, "train.jsonl") is not None:
        parts.append("train")
    return {part: _dialogues(entry, folder, part) for part in parts}


def _dialogues(entry, folder, part) -> Block:
    content = read_file(entry, folder, "dev.jsonl" if part == "valid" else f"{part}.jsonl")
    block = block_of(content)
    for location, row in read_json_lines(content):
        several = [f"summary{number}" for number in (1, 2, 3) if f"summary{number}" in row]
        summaries = tuple(take(row, name, location) for name in several or ["summary"])
        dialogue = take(row, "dialogue", location)
        block.add(location, Pair(dialogue, summaries), dialogue)
    return block


def _read_scan(entry: Entry, folder: Path) -> dict[str, Block]:
    """Commands and the actions that they stand for."""
    return {part: _commands(entry, folder, f"{part}_simple.txt") for part in ("train", "test")}


def _commands(entry, folder, name) -> Block:
    content = read_file(entry, folder, name)
    block = block_of(content)
    for location, line in read_lines(content):
        command, middle, actions = line.removeprefix("IN: ").partition(" OUT: ")
        if not (line.startswith("IN: ") and middle):
            raise DataError(f"{location}: must be `IN: command OUT: actions`, got {line!r:.60}.")
        block.add(location, Pair(command, (actions,)), command)
    return block


READERS = {
    "xquad_en": (_read_xquad, Schema()),
    "e2e_nlg": (_read_e2e, Schema()),
    "dialogsum": (_read_dialogsum, Schema()),
    "scan": (_read_scan, Schema()),
}
