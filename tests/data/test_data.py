"""Data sets: what is read is what was written, and what is broken is named."""

import functools
import gzip
import hashlib
import http.server
import os
import threading

import numpy as np
import pytest

from trustml import data
from trustml.data import snips, synthetic, tokens
from trustml.data.corpus import Corpus, DataError, Utterance, encode

ROW = "PlayMusic\tplay jazz\tO B-genre\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "snips").mkdir()
    for part in snips.PARTS:
        (tmp_path / "snips" / f"{part}.tsv").write_text(ROW * 3)
    return tmp_path


def test_the_synthetic_corpus_is_named_synthetic_and_repeats():
    first, again = (synthetic.generate(train=60, valid=9, test=9, seed=3) for _ in range(2))
    other = synthetic.generate(train=60, valid=9, test=9, seed=4)
    assert first == again
    assert first.train.utterances != other.train.utterances
    for part in first:
        assert part.name == "synthetic"
        assert part.synthetic
        assert "synthetic" in part.source


def test_the_synthetic_corpus_does_not_change_between_versions_and_machines():
    rows = synthetic.generate(train=500, valid=1, test=1).train.utterances
    digest = hashlib.sha256(repr([tuple(row) for row in rows]).encode()).hexdigest()
    assert digest[:16] == "0edba3beede5750d"


def test_the_synthetic_corpus_is_like_a_collection():
    parts = data.load("synthetic")
    rows = parts.train.utterances
    assert {row.intent for row in rows} == set(parts.train.intents)
    assert {tag for row in rows for tag in row.tags} >= {f"B-{slot}" for slot in parts.train.slots}
    heard = {word for row in rows for word in row.tokens}
    new = [word not in heard for row in parts.test.utterances for word in row.tokens]
    assert 0.01 < np.mean(new) < 0.2
    counts = np.sort(np.bincount([row.user for row in rows]))[::-1]
    assert counts[0] > 20 * np.median(counts)
    assert {row.group for row in rows} == {0, 1}
    assert all(0 <= row.timestamp < synthetic.DAYS * 86_400 for row in rows)


def test_a_user_always_belongs_to_the_same_group():
    groups = {}
    for row in data.load("synthetic").train.utterances:
        assert groups.setdefault(row.user, row.group) == row.group


def test_only_the_intents_asked_for_are_generated():
    part = synthetic.generate(train=20, valid=1, test=1, intents=["set_timer"]).train
    assert {row.intent for row in part.utterances} == {"set_timer"}


def test_a_folder_is_read_and_said_not_to_be_the_published_split(folder):
    train = data.load("snips", folder).train
    assert train.utterances[0] == Utterance(("play", "jazz"), ("O", "B-genre"), "PlayMusic")
    assert "NOT the published split" in train.source
    assert not train.synthetic


def test_the_folder_may_come_from_the_environment_or_be_the_set_itself(folder, monkeypatch):
    monkeypatch.setenv("TRUSTML_DATA", str(folder))
    assert data.load("snips") == data.load("snips", folder / "snips")


@pytest.mark.skipif("TRUSTML_DATA" not in os.environ, reason="TRUSTML_DATA names no data folder")
def test_the_published_split_has_the_published_sizes():
    parts = data.load("snips")
    assert [len(part) for part in parts] == [13_084, 700, 700]
    assert all("checksum of the published split" in part.source for part in parts)


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
    with pytest.raises(DataError, match="one of synthetic, snips, got 'atis'"):
        data.load("atis")


@pytest.mark.parametrize(
    ("arguments", "name"),
    [({"train": 0}, "train"), ({"users": 1.5}, "users"), ({"intents": ["dance"]}, "intents")],
)
def test_the_generator_refuses_bad_arguments_by_name(arguments, name):
    with pytest.raises(DataError, match=name):
        synthetic.generate(**arguments)


def test_a_corpus_checks_what_it_is_given():
    fine = {"name": "mine", "intents": ("a",), "slots": ("s",)}
    with pytest.raises(DataError, match="must not be empty"):
        Corpus(**fine, utterances=())
    with pytest.raises(DataError, match="mine utterance 0: 2 tokens but 1 tags"):
        Corpus(**fine, utterances=(Utterance(("x", "y"), ("O",), "a"),))
    with pytest.raises(DataError, match="group 3 must be from 0 to 0"):
        Corpus(**fine, utterances=(Utterance(("x",), ("O",), "a", group=3),))


# The publisher's files, as a server on this machine gives them.


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        del arguments


@pytest.fixture
def publisher(tmp_path):
    site = tmp_path / "site"
    for part in snips.PARTS:
        (site / part).mkdir(parents=True)
        (site / part / "label").write_text("PlayMusic\nPlayMusic\n")
        (site / part / "seq.in").write_text("play jazz \nplay café\n")
        (site / part / "seq.out").write_text("O B-genre\nO B-album\n")
    serve = functools.partial(_Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield site, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


COMBINED = "PlayMusic\tplay jazz\tO B-genre\nPlayMusic\tplay café\tO B-album\n".encode()
SUMS = dict.fromkeys(snips.PARTS, hashlib.sha256(COMBINED).hexdigest())


def test_a_download_is_combined_verified_and_kept(publisher, tmp_path):
    _, address = publisher
    said = []
    cache = tmp_path / "cache"
    fetch = functools.partial(
        snips.download, cache, publisher=address, checksums=SUMS, progress=said.append
    )
    folder = fetch()
    assert (folder / "train.tsv").read_bytes() == COMBINED
    assert snips.load_folder(folder).test.utterances[1].tokens == ("play", "café")
    assert len(said) == 9
    fetch()
    assert len(said) == 9  # a second call reads nothing anew


def test_a_download_that_differs_is_refused_and_not_written(publisher, tmp_path):
    _, address = publisher
    with pytest.raises(DataError, match="SHA-256"):
        snips.download(tmp_path / "cache", publisher=address, progress=lambda line: None)
    assert not (tmp_path / "cache").exists()


def test_a_download_with_ragged_files_or_no_server_is_refused(publisher, tmp_path):
    site, address = publisher
    (site / "train" / "label").write_text("PlayMusic\n")
    silent = {"checksums": SUMS, "progress": lambda line: None}
    with pytest.raises(DataError, match="1, 2, 2 lines"):
        snips.download(tmp_path / "cache", publisher=address, **silent)
    with pytest.raises(DataError, match=r"cannot be downloaded.*TRUSTML_DATA"):
        snips.download(tmp_path / "cache", publisher=address + "/none", **silent)


# Tokenisers and arrays


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
    corpus = Corpus(
        name="demo", intents=("a", "b"), slots=("x",), utterances=rows, groups=("one", "two")
    )
    arrays = encode(corpus, tokens.hash_tokenizer(64), max_length=2)
    assert arrays["tokens"].shape == (2, 2, 7)
    assert arrays["tokens"].dtype == np.int32
    assert arrays["mask"].tolist() == [[True, True], [True, False]]
    assert arrays["tags"].tolist() == [[0, 1], [0, 0]]
    assert arrays["truncated"].tolist() == [True, False]
    columns = [arrays[name].tolist() for name in ("intent", "user", "timestamp", "group")]
    assert columns == [[1, 0], [7, -1], [9, -1], [1, 0]]
    with pytest.raises(DataError, match="max_length"):
        encode(corpus, tokens.hash_tokenizer(64), max_length=0)
