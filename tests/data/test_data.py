"""Data sets: what is read is what was written, and what is broken is named."""

import gzip
import hashlib
import os

import numpy as np
import pytest

from trustml import data
from trustml.data import DataError, Examples, encode, synthetic, tokens
from trustml.data.examples import SPLITS, slots_only
from trustml.data.rows import Tagged, Utterance

ROW = "PlayMusic\tplay jazz\tO B-genre\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "snips").mkdir()
    for part in SPLITS:
        (tmp_path / "snips" / f"{part}.tsv").write_text(ROW * 3)
    return tmp_path


def test_the_synthetic_corpus_is_named_synthetic_and_repeats():
    first, again = (synthetic.generate(train=60, valid=9, test=9, seed=3) for _ in range(2))
    other = synthetic.generate(train=60, valid=9, test=9, seed=4)
    assert first == again
    assert first.train.rows != other.train.rows
    for part in first:
        assert part.name == "synthetic"
        assert part.synthetic
        assert "synthetic" in part.source


def test_the_synthetic_corpus_does_not_change_between_versions_and_machines():
    rows = synthetic.generate(train=500, valid=1, test=1).train.rows
    digest = hashlib.sha256(repr([tuple(row) for row in rows]).encode()).hexdigest()
    assert digest[:16] == "0edba3beede5750d"


def test_the_synthetic_corpus_is_like_a_collection():
    parts = data.load("synthetic")
    rows = parts.train.rows
    assert {row.intent for row in rows} == set(parts.train.labels)
    assert {tag for row in rows for tag in row.tags} >= {f"B-{slot}" for slot in parts.train.slots}
    heard = {word for row in rows for word in row.tokens}
    new = [word not in heard for row in parts.test.rows for word in row.tokens]
    assert 0.01 < np.mean(new) < 0.2
    counts = np.sort(np.bincount([row.user for row in rows]))[::-1]
    assert counts[0] > 20 * np.median(counts)
    assert {row.group for row in rows} == {0, 1}
    assert all(0 <= row.timestamp < synthetic.DAYS * 86_400 for row in rows)


def test_a_user_always_belongs_to_the_same_group():
    groups = {}
    for row in data.load("synthetic").train.rows:
        assert groups.setdefault(row.user, row.group) == row.group


def test_only_the_intents_asked_for_are_generated():
    part = synthetic.generate(train=20, valid=1, test=1, intents=["set_timer"]).train
    assert {row.intent for row in part.rows} == {"set_timer"}


def test_a_folder_of_other_rows_is_not_the_published_file(folder):
    train = data.load("snips", folder).train
    assert train.rows[0] == Utterance(("play", "jazz"), ("O", "B-genre"), "PlayMusic")
    assert "NOT the published file" in train.source
    assert not train.synthetic


def test_the_folder_may_come_from_the_environment_or_be_the_set_itself(folder, monkeypatch):
    monkeypatch.setenv("TRUSTML_DATA", str(folder))
    assert data.load("snips") == data.load("snips", folder / "snips")


@pytest.mark.skipif("TRUSTML_DATA" not in os.environ, reason="TRUSTML_DATA names no data folder")
def test_the_published_split_has_the_published_sizes():
    parts = data.load("snips")
    assert [len(part) for part in parts] == [13_084, 700, 700]
    assert all("checksum of the published file" in part.source for part in parts)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "train.tsv is empty"),
        (ROW + "PlayMusic\tplay\n", "train.tsv:2: 2 tab-separated fields"),
        (ROW + "PlayMusic\tplay jazz\tO\n", "train.tsv:2: 2 tokens but 1 tags"),
        (ROW + "Dance\tplay jazz\tO O\n", "train.tsv:2: unknown intent 'Dance'"),
        (ROW + "PlayMusic\tplay jazz\tO B-jazz\n", "train.tsv:2: unknown slot tag 'B-jazz'"),
        (ROW + "PlayMusic\t \t \n", "train.tsv:2: no tokens"),
        (ROW + "\n" + ROW, "train.tsv:2: 1 tab-separated fields"),
    ],
)
def test_a_broken_file_is_named_with_its_line(folder, content, message):
    (folder / "snips" / "train.tsv").write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        data.load("snips", folder)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_refused(folder):
    (folder / "snips" / "train.tsv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read as UTF-8"):
        data.load("snips", folder)


def test_a_missing_file_is_named(folder):
    (folder / "snips" / "test.tsv").unlink()
    with pytest.raises(DataError, match=r"test\.tsv does not exist"):
        data.load("snips", folder)


def test_one_data_set_never_stands_in_for_another(tmp_path, monkeypatch):
    monkeypatch.delenv("TRUSTML_DATA", raising=False)
    with pytest.raises(DataError, match="`data_dir` must name a folder"):
        data.load("snips")
    with pytest.raises(DataError, match=r"must contain snips/"):
        data.load("snips", tmp_path)
    with pytest.raises(DataError, match="must be a folder"):
        data.load("snips", tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"one of ag_news, .*, got 'atis'"):
        data.load("atis")


@pytest.mark.parametrize(
    ("arguments", "name"),
    [({"train": 0}, "train"), ({"users": 1.5}, "users"), ({"intents": ["dance"]}, "intents")],
)
def test_the_generator_refuses_bad_arguments_by_name(arguments, name):
    with pytest.raises(DataError, match=name):
        synthetic.generate(**arguments)


def test_utterances_are_checked_against_their_schema():
    fine = {"name": "mine", "split": "test", "task": "nlu", "unit": "line"}
    schema = {"labels": ("a",), "slots": ("s",)}
    for row, message in (
        (Utterance(("x", "y"), ("O",), "a"), "mine test row 0: 2 tokens but 1 tags"),
        (Utterance((), (), "a"), "no tokens"),
        (Utterance(("x",), ("O",), "b"), "unknown intent 'b'; known are a"),
        (Utterance(("x",), ("B-t",), "a"), "unknown slot tag 'B-t'; known are O and B- or I- of s"),
        (Utterance(("x",), ("O",), "a", group=3), "group 3 must be from 0 to 0"),
        (Tagged(("x",), ("O",)), "must be a Utterance, got Tagged"),
    ):
        with pytest.raises(DataError, match=message):
            Examples(**fine, **schema, rows=(row,))


def test_utterances_lose_their_intents_and_nothing_else():
    train = synthetic.generate(train=20, valid=1, test=1).train
    slots = slots_only(train)
    assert slots.task == "tag"
    assert slots.tags == train.tags
    assert (slots.labels, slots.slots) == (train.slots, ())
    assert [tuple(row) for row in slots.rows] == [row[:2] for row in train.rows]
    assert (slots.owners, slots.group_of) == (train.owners, train.group_of)
    assert (train.owner_kind, train.owners[0]) == ("user", train.rows[0].user)


# Tokenizers and arrays


def test_hashes_do_not_depend_on_the_data_or_the_process():
    tokenizer = tokens.hash_tokenizer(4096, hashes=2, affixes=128)
    assert tokenizer.sizes == (4097, 4097, 129, 129, 129, 129, 129)
    assert tokenizer("Tomorrow") == tokenizer("tomorrow")
    assert tokens.hash_tokenizer(4096, hashes=1, affixes=0)("jazz") == (2390,)
    ids = tokenizer("jazz")
    assert all(0 < place < size for place, size in zip(ids, tokenizer.sizes, strict=True))
    assert "independent" in tokenizer.statement


def test_words_with_the_same_end_share_ids():
    tokenizer = tokens.hash_tokenizer(1 << 20, hashes=1, affixes=1 << 20)
    same = [a == b for a, b in zip(tokenizer("playing"), tokenizer("singing"), strict=True)]
    assert same == [False, False, False, True, True, True]  # both ends and seven letters


def test_a_vocabulary_of_the_data_says_that_it_leaks():
    private = tokens.listed_tokenizer(["play", "jazz"], public=False)
    assert "LEAKS" in private.statement
    assert "LEAKS" not in tokens.listed_tokenizer(["play"], public=True).statement
    assert private("Jazz") == (3,)
    assert private("unheard") == (1,)


def test_joined_tokenizers_keep_their_own_tables():
    listed = tokens.listed_tokenizer(["play"], public=True)
    both = tokens.joined_tokenizer(listed, tokens.hash_tokenizer(8, hashes=1, affixes=0))
    assert both.sizes == (3, 9)
    assert both("play")[0] == 2
    assert both.statement.count(";") == 1


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: tokens.hash_tokenizer(0), "buckets"),
        (lambda: tokens.hash_tokenizer(8, hashes=0, affixes=0), "affixes"),
        (lambda: tokens.hash_tokenizer(8, hashes=-1), "hashes"),
        (lambda: tokens.listed_tokenizer([], public=True), "words"),
    ],
)
def test_tokenizers_refuse_bad_arguments_by_name(call, name):
    with pytest.raises(ValueError, match=name):
        call()


def test_word_vectors_are_read_with_and_without_header(tmp_path):
    path = tmp_path / "vectors.txt.gz"
    with gzip.open(path, "wt") as file:
        file.write("2 3\nplay 1 2 3\njazz 4 5 6\n")
    found = tokens.read_word_vectors(path)
    assert found.words == ("play", "jazz")
    assert found.vectors.tolist() == [[1, 2, 3], [4, 5, 6]]
    plain = tmp_path / "broken.txt"
    plain.write_text("play 1 2\njazz 1\n")
    with pytest.raises(ValueError, match=r"broken\.txt:2"):
        tokens.read_word_vectors(plain)
    with pytest.raises(ValueError, match="cannot be read"):
        tokens.read_word_vectors(tmp_path / "none.txt")


def test_arrays_hold_the_utterances_and_mark_what_was_cut():
    rows = (
        Utterance(("play", "soft", "jazz"), ("O", "B-x", "I-x"), "b", user=7, timestamp=9, group=1),
        Utterance(("stop",), ("O",), "a"),
    )
    demo = Examples(
        name="demo", split="train", task="nlu", unit="utterance", rows=rows,
        labels=("a", "b"), slots=("x",), groups=("one", "two"),
    )  # fmt: skip
    arrays = encode(demo, tokens.hash_tokenizer(64), max_length=2)
    assert arrays["tokens"].shape == (2, 2, 7)
    assert arrays["tokens"].dtype == np.int32
    assert arrays["mask"].tolist() == [[True, True], [True, False]]
    assert arrays["tags"].tolist() == [[0, 1], [0, 0]]
    assert arrays["truncated"].tolist() == [True, False]
    columns = [arrays[name].tolist() for name in ("intent", "user", "timestamp", "group")]
    assert columns == [[1, 0], [7, -1], [9, -1], [1, 0]]
    with pytest.raises(DataError, match="max_length"):
        encode(demo, tokens.hash_tokenizer(64), max_length=0)
    with pytest.raises(DataError, match="`examples` must be of the task nlu, got 'tag'"):
        encode(slots_only(demo), tokens.hash_tokenizer(64))
