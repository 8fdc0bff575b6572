"""The catalogue: every set loads with its published rows, and what is broken is named."""

import collections
import dataclasses
import functools
import gzip
import json
import os
import types

import numpy as np
import pytest

from trustml import data
from trustml.cli import data as command
from trustml.data import DataError, Examples, buckets, item_sets, loading
from trustml.data.catalogue import CATALOGUE, KINDS, find_entry
from trustml.data.readers.block import choose
from trustml.data.rows import (
    TASKS,
    Answer,
    Document,
    Pair,
    Question,
    Tagged,
    Text,
    Utterance,
)

FINGERPRINTS = [
    "1ff02406f9dffa91",
    "b5a48af362865287",
    "2de13128184bba28",
]  # of SNIPS

needs_data = pytest.mark.skipif(
    "TRUSTML_DATA" not in os.environ, reason="TRUSTML_DATA names no data folder"
)
SETS = [entry.name for entry in CATALOGUE.values() if entry.task in TASKS]
ITEMS = [entry.name for entry in CATALOGUE.values() if entry.task not in TASKS]


@functools.cache
def published(name):
    return data.load(name)


def run(*arguments):
    """`trustml data` with these arguments."""
    return command.run(arguments)


# The published sets


@needs_data
@pytest.mark.parametrize("name", SETS)
def test_a_published_set_has_the_rows_that_the_catalogue_says(name):
    entry = CATALOGUE[name]
    parts = published(name)
    assert tuple(len(part) for part in parts) == entry.sizes
    for part, expected in zip(parts, ("train", "valid", "test"), strict=True):
        assert (part.name, part.split, part.task) == (name, expected, entry.task)
        assert part.levels == tuple(each for each in (entry.unit, entry.owner_kind) if each)
        assert "checksum of the published file" in part.source
        assert part.licence == entry.licence


@needs_data
@pytest.mark.parametrize(("name"), [name for name in SETS if CATALOGUE[name].owner_kind])
def test_no_owner_has_rows_in_two_parts(name):
    parts = published(name)
    # An owner's rows were given away together: one row of each tells them apart.
    seen = collections.Counter()
    for part in parts:
        units = part.units(part.owner_kind)
        assert sorted(place for unit in units for place in unit) == list(range(len(part)))
        assert len(units) < len(part)
        seen.update({_owner(name, part.rows[unit[0]]) for unit in units})
    assert max(seen.values()) == 1


def _owner(name, row):
    if name == "xquad_en":
        return row.context
    if name == "tinyshakespeare":
        return row.text.partition(":")[0]
    return row


@needs_data
def test_articles_of_wikitext_are_as_many_as_published():
    train, valid, test = published("wikitext2")
    assert len(train.units("article")) + len(valid.units("article")) == 60
    assert len(test.units("article")) == 60


@needs_data
def test_labels_that_are_written_down_are_those_that_occur():
    for name in ("clinc150", "hwu64", "snips", "davidson_hate", "ag_news"):
        rows = [row for part in published(name) for row in part.rows]
        field = "intent" if CATALOGUE[name].task == "nlu" else "label"
        assert {getattr(row, field) for row in rows} == set(published(name).train.labels)
    domains = os.path.join(os.environ["TRUSTML_DATA"], "clinc150", "domains.json")
    with open(domains) as file:
        intents = {intent for listed in json.load(file).values() for intent in listed}
    assert intents | {"oos"} == set(published("clinc150").train.labels)


@needs_data
def test_hatexplain_knows_its_targets():
    train, _, test = published("hatexplain")
    assert {train.groups[group] for group in train.group_of} > {"None", "Women", "Islam"}
    assert "Several" not in {train.groups[group] for group in train.group_of}
    assert "Several" in {test.groups[group] for group in test.group_of}


@needs_data
def test_one_dialogue_of_the_test_part_has_three_summaries():
    parts = published("dialogsum")
    assert {len(row.targets) for row in parts.test.rows} == {3}
    assert {len(row.targets) for row in parts.train.rows} == {1}


@needs_data
def test_the_fingerprint_of_rows_stays_that_of_earlier_runs():
    assert [split.fingerprint[:16] for split in published("snips")] == FINGERPRINTS


@needs_data
@pytest.mark.parametrize("name", ITEMS)
def test_a_published_set_of_items_has_its_rows(name):
    items = data.load_items(name)
    entry = CATALOGUE[name]
    expected = {"adult": sum(entry.sizes)}.get(name, entry.sizes[0])
    assert len(items) == expected
    assert items.source.startswith(f"{entry.title}, checksum of the published file")


@needs_data
def test_items_hold_what_they_say():
    mnist = data.load_items("mnist").arrays
    assert mnist["images"].shape == (10_000, 28, 28)
    assert mnist["labels"][:5].tolist() == [7, 2, 1, 0, 4]
    assert set(mnist["part"].tolist()) == {0, 1, 2}
    adult = data.load_items("adult").arrays
    assert np.bincount(adult["part"]).tolist() == [32_561, 0, 16_281]
    # The share that adult.names states for the train part: 24.08 %.
    assert np.mean(adult["income"][adult["part"] == 0] == ">50K") == pytest.approx(0.2408, abs=1e-4)
    vectors = data.load_items("word_vectors")
    assert np.linalg.norm(vectors.arrays["frequent"], axis=1) == pytest.approx(1.0, abs=1e-3)
    assert len(vectors.lists["weat"]) == len(vectors.arrays["weat"]) == 347
    weat = next(row for row in data.load_items("seat").rows if row.name == "weat1")
    assert [each.category for each in weat.targets] == ["Flowers", "Insects"]
    pairs = data.load_items("winobias").rows
    assert {row.stereotyped for row in pairs} == {True, False}
    assert all(row.mention in row.sentence and row.pronouns for row in pairs)
    assert {row.label for row in data.load_items("bbq").rows} == {0, 1, 2}


@needs_data
def test_the_command_finds_every_file_as_published(capsys):
    assert run("check", "--data-dir", os.environ["TRUSTML_DATA"], "--json") == 0
    rows = json.loads(capsys.readouterr().out)["files"]
    assert len(rows) == sum(len(e.files) for e in CATALOGUE.values() if e.folder == e.name)


# Parts by a hash


def test_a_part_depends_on_the_row_alone():
    keys = [f"row {number}" for number in range(4000)]
    parts = np.bincount([choose(key, (0.8, 0.1, 0.1)) for key in keys])
    assert parts / 4000 == pytest.approx([0.8, 0.1, 0.1], abs=0.02)
    assert choose("row 7", (0.8, 0.1, 0.1)) == choose(b"row 7", (0.8, 0.1, 0.1))


def test_a_row_more_moves_no_other_row(tmp_path):
    lines = [f"NAME{number}:\nWords of {number}.\n" for number in range(60)]
    whole, less = (
        _parts_of(tmp_path / name, "\n".join(kept))
        for name, kept in (("whole", lines), ("less", lines[:30] + lines[31:]))
    )
    gone = Document("NAME30:\nWords of 30.")
    assert whole.pop(gone) in ("train", "valid", "test")
    assert less == whole


def _parts_of(folder, text):
    (folder / "tinyshakespeare").mkdir(parents=True)
    (folder / "tinyshakespeare" / "input.txt").write_text(text)
    parts = data.load("tinyshakespeare", folder)
    return {row: part.split for part in parts for row in part.rows}


# Files that are not as they should be


SCAN = "IN: jump OUT: I_JUMP\n"
NEWS = '"1","Title","Text"\n'
PERSON = (
    "39, State-gov, 77516, Bachelors, 13, Never-married, Adm-clerical, Not-in-family, White, "
    "Male, 2174, 0, 40, United-States, <=50K\n"
)


@pytest.fixture
def folder(tmp_path):
    """A data folder with small files in the layout of several sets."""
    files = {
        "scan/train_simple.txt": "".join(f"IN: jump {n} OUT: I_JUMP\n" for n in range(40)),
        "scan/test_simple.txt": SCAN,
        "ag_news/test.csv": "".join(f'"1","Title {n}","Text"\n' for n in range(60)),
        "wnut17/train.conll": "Rome\tB-location\n\nis\tO\n",
        "wnut17/dev.conll": "Rome\tB-location\n",
        "wnut17/test.conll": "Rome\tB-location\n",
        "dialogsum/dev.jsonl": "".join(
            json.dumps({"dialogue": f"hello {n}", "summary": "greeting"}) + "\n" for n in range(40)
        ),
        "dialogsum/test.jsonl": '{"dialogue": "hello", "summary1": "a", "summary2": "b"}\n',
        "adult/adult.data": PERSON,
        "adult/adult.test": "|1x3 Cross validator\n" + PERSON.replace("<=50K", "<=50K."),
        "crows_pairs/crows_pairs_anonymized.csv": ",sent_more,sent_less,stereo_antistereo,"
        "bias_type,annotations,anon_writer,anon_annotators\n0,a,b,stereo,age,[],a0,[]\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_changed_content_loads_and_says_so(folder):
    parts = data.load("scan", folder)
    assert "NOT the published file" in parts.test.source
    assert parts.test.rows == (Pair("jump", ("I_JUMP",)),)
    assert (
        "NOT the published file: adult.data, adult.test" in data.load_items("adult", folder).source
    )


def test_a_compressed_file_reads_like_a_plain_one(folder):
    plain = data.load("scan", folder)
    path = folder / "scan" / "train_simple.txt"
    (folder / "scan" / "train_simple.txt.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    assert data.load("scan", folder / "scan") == plain


def test_a_train_part_that_the_user_adds_is_the_train_part(folder):
    before = data.load("dialogsum", folder)
    extra = {"dialogue": "one more", "summary": "more"}
    (folder / "dialogsum" / "train.jsonl").write_text(json.dumps(extra) + "\n")
    after = data.load("dialogsum", folder)
    assert after.train.rows == (Pair("one more", ("more",)),)
    assert len(after.valid) == len(before.train) + len(before.valid)
    assert "the publisher's parts" in after.valid.source
    assert "divided" in before.valid.source


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [
        ("scan", "scan/test_simple.txt", "", r"test_simple\.txt is empty"),
        ("scan", "scan/test_simple.txt", SCAN + "IN: x\n", r"simple\.txt:2: must be `IN: command"),
        ("ag_news", "ag_news/test.csv", NEWS + '"5","a","b"\n', r"csv:2: class '5' must be one of"),
        ("ag_news", "ag_news/test.csv", NEWS + '"1","a"\n', r"csv:2: 2 fields, must be 3"),
        ("ag_news", "ag_news/test.csv", NEWS + '"1","a","b', r"csv:2: unexpected end of data"),
        (
            "wnut17",
            "wnut17/dev.conll",
            "Rome\tB-town\n",
            r"dev\.conll:1: unknown slot tag 'B-town'",
        ),
        ("wnut17", "wnut17/dev.conll", "a\tO\nb\n", r"dev\.conll:2: must be token and tag"),
        ("dialogsum", "dialogsum/dev.jsonl", "{}\n", r"dev\.jsonl:1: `summary` must be a str"),
        ("dialogsum", "dialogsum/dev.jsonl", '{"dialogue', r"dev\.jsonl:1: not JSON"),
        ("dialogsum", "dialogsum/dev.jsonl", "[1]\n", r"dev\.jsonl:1: must be a JSON object"),
        ("adult", "adult/adult.data", "1, 2\n", r"adult\.data:1: 2 fields, must be 15"),
        ("adult", "adult/adult.data", PERSON.replace("39", "x"), r"data:1: age must be a whole"),
        ("adult", "adult/adult.data", PERSON.replace("<=", "<"), r"data:1: income '<50K' must be"),
        ("crows_pairs", "crows_pairs/crows_pairs_anonymized.csv", "a,b\n", r"csv:1: 2 fields"),
    ],
)
def test_a_broken_file_is_named_with_its_line(folder, name, file, content, message):
    (folder / file).write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        (data.load if name in SETS else data.load_items)(name, folder)
    assert "\n" not in str(caught.value)


def test_a_gzip_file_that_is_cut_off_or_none_is_named(folder):
    path = folder / "scan" / "test_simple.txt"
    whole = gzip.compress(path.read_bytes() * 50)
    path.unlink()
    packed = folder / "scan" / "test_simple.txt.gz"
    for content in (whole[: len(whole) // 2], b"no gzip at all", whole[:-6] + b"\0" * 6):
        packed.write_bytes(content)
        with pytest.raises(DataError, match=r"test_simple\.txt\.gz cannot be read.*fetch it anew"):
            data.load("scan", folder)
    packed.unlink()
    with pytest.raises(DataError, match=r"test_simple\.txt does not exist.*data get scan"):
        data.load("scan", folder)


def test_images_that_are_cut_off_are_named(folder):
    (folder / "mnist").mkdir()
    head = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (2, 28, 28))
    (folder / "mnist" / "t10k-images-idx3-ubyte").write_bytes(head + b"\1" * 1000)
    with pytest.raises(DataError, match="holds 1000 values, must hold 1568"):
        data.load_items("mnist", folder)
    (folder / "mnist" / "t10k-images-idx3-ubyte").write_bytes(b"text")
    with pytest.raises(DataError, match="must be an IDX file of rank 3"):
        data.load_items("mnist", folder)


def test_json_of_another_layout_is_named(folder):
    (folder / "bold").mkdir()
    for file in CATALOGUE["bold"].files:
        (folder / "bold" / file.name).write_text("[1, 2]")
    with pytest.raises(DataError, match=r"gender_prompt\.json does not have the published layout"):
        data.load_items("bold", folder)


def test_one_data_set_never_stands_in_for_another(folder, monkeypatch):
    monkeypatch.delenv("TRUSTML_DATA", raising=False)
    with pytest.raises(DataError, match=r"`data_dir` must name a folder that contains scan/"):
        data.load("scan")
    with pytest.raises(DataError, match=r"must contain clinc150/ with data_full\.json"):
        data.load("clinc150", folder)
    with pytest.raises(DataError, match="must be a folder"):
        data.load("scan", folder / "nowhere")
    with pytest.raises(DataError, match=r"`name` must be one of ag_news.*got 'imdb'\.$"):
        data.load("imdb", folder)
    with pytest.raises(DataError, match="got 'mnist', whose kind is images"):
        data.load("mnist", folder)


# Rows and their schema


def test_examples_refuse_rows_that_do_not_fit():
    fine = {"name": "mine", "split": "train", "unit": "row"}
    question = Question("who?", "it was Ann", (Answer("Ann", 7),), "1")
    for task, row, message in (
        ("classify", Text("a", "b"), "mine train row 0: unknown label 'b'; known are a"),
        ("classify", Text(" ", "a"), "text is empty"),
        ("classify", Document("a"), "must be a Text, got Document"),
        ("tag", Tagged(("x",), ("B-b",)), "unknown slot tag 'B-b'"),
        ("nlu", Utterance(("x",), ("O",), "c"), "unknown intent 'c'"),
        ("qa", question._replace(answers=()), "no answers"),
        ("qa", question._replace(answers=(Answer("Ann", 6),)), "'Ann' must stand at character 6"),
        ("qa", question._replace(answers=(Answer("Ann", -3),)), "must stand at character -3"),
        ("lm", Document("\n"), "text is empty"),
        ("seq2seq", Pair("a", ()), "target is missing"),
    ):
        with pytest.raises(DataError, match=message):
            Examples(**fine, task=task, rows=(row,), labels=("a",))
    with pytest.raises(DataError, match="must not be empty"):
        Examples(**fine, task="lm", rows=())
    with pytest.raises(DataError, match="`task` must be one of"):
        Examples(**fine, task="dance", rows=(question,))
    with pytest.raises(DataError, match="`owners` must have a number for each of the 1 rows"):
        Examples(**fine, task="qa", rows=(question,), owner_kind="user", owners=(1, 2))
    with pytest.raises(DataError, match="given together"):
        Examples(**fine, task="qa", rows=(question,), owners=(1,))
    with pytest.raises(DataError, match="`group_of` must be from 0 to 0, got 1"):
        Examples(**fine, task="qa", rows=(question,), group_of=(1,))


def test_units_at_each_level():
    rows = tuple(Document(text) for text in "abcd")
    part = Examples(
        name="mine", split="test", task="lm", rows=rows, unit="line", owner_kind="user",
        owners=(3, 1, 3, 0),
    )  # fmt: skip
    assert part.units() == part.units("line") == [(0,), (1,), (2,), (3,)]
    assert part.units("user") == [(0, 2), (1,), (3,)]
    with pytest.raises(DataError, match="`level` must be one of line, user, got 'role'"):
        part.units("role")
    with pytest.raises(DataError, match="not of 'lm'"):
        _ = part.tags
    other = dataclasses.replace(part, rows=rows[::-1], owners=(0, 3, 1, 3))
    assert other.fingerprint == part.fingerprint
    assert dataclasses.replace(part, rows=(*rows[:3], rows[0])).fingerprint != part.fingerprint


def test_every_set_of_the_catalogue_has_a_kind_a_reader_and_files():
    readers = {**item_sets._READERS, **loading._READERS}
    assert set(readers) == set(CATALOGUE)
    for entry in CATALOGUE.values():
        assert entry.task in KINDS
        assert (entry.name in loading._READERS) == (entry.task in TASKS)
        assert entry.files


def test_two_sets_may_read_the_same_files():
    assert find_entry("snips_slots").files == find_entry("snips").files


# Rows of the caller's own


class _HuggingFace(list):
    """What `datasets.Dataset` shows of itself: rows as dicts, and features with names."""

    def __init__(self, rows, features):
        super().__init__(rows)
        self.features = features


def test_rows_with_class_labels_bring_their_schema():
    label = types.SimpleNamespace(names=["bad", "good"])
    rows = _HuggingFace([{"sentence": "fine", "label": 1}], {"sentence": None, "label": label})
    part = data.from_rows(rows, task="classify", unit="review", columns={"text": "sentence"})
    assert part.rows == (Text("fine", "good"),)
    assert part.labels == ("bad", "good")
    tags = types.SimpleNamespace(feature=types.SimpleNamespace(names=["O", "B-per", "I-per"]))
    rows = _HuggingFace(
        [{"tokens": ["Ann", "Lee", "ran"], "ner_tags": [1, 2, 0]}], {"ner_tags": tags}
    )
    part = data.from_rows(rows, task="tag", unit="sentence", columns={"tags": "ner_tags"})
    assert part.rows == (Tagged(("Ann", "Lee", "ran"), ("B-per", "I-per", "O")),)
    assert part.labels == ("per",)


def test_rows_of_each_task_with_owners_and_groups():
    squad = {
        "id": 5,
        "question": "who?",
        "context": "it was Ann",
        "answers": {"text": ["Ann"], "answer_start": [7]},
    }
    part = data.from_rows([squad], task="qa", unit="question")
    assert part.rows == (Question("who?", "it was Ann", (Answer("Ann", 7),), "5"),)
    rows = [{"text": text, "user": user} for text, user in (("a", "x"), ("b", "y"), ("c", "x"))]
    part = data.from_rows(rows, task="lm", unit="message", owner="user")
    assert part.units("user") == [(0, 2), (1,)]
    rows = [{"source": "a", "target": ["b", "c"], "land": "pt"}]
    part = data.from_rows(
        iter(rows), task="seq2seq", unit="pair", group="land", groups=("es", "pt")
    )
    assert part.rows == (Pair("a", ("b", "c")),)
    assert part.group_of == (1,)
    row = {"tokens": ["at", "six"], "tags": [0, "B-time"], "label": 0}
    part = data.from_rows([row], task="nlu", unit="line", labels=("alarm",), slots=("time",))
    assert part.rows == (Utterance(("at", "six"), ("O", "B-time"), "alarm"),)


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([{"text": "a", "label": "b"}], {"task": "classify"}, "`labels` must list every one"),
        ([{"text": "a"}], {"task": "classify", "labels": ("a",)}, "row 0: no column 'label'"),
        ([{"text": "a", "label": 4}], {"task": "classify", "labels": ("a",)}, "from 0 to 0"),
        ([{"text": 3}], {"task": "lm"}, "must be a text, got 3"),
        ([{"text": "a"}], {"task": "lm", "columns": {"body": "text"}}, "`columns` must rename"),
        ([{"text": "a"}], {"task": "dance"}, "`task` must be one of"),
        ([{"text": "a", "g": "x"}], {"task": "lm", "group": "g"}, "`groups` must list every"),
    ],
)
def test_rows_that_do_not_fit_are_refused(rows, options, message):
    with pytest.raises(DataError, match=message):
        data.from_rows(rows, unit="row", **options)


# Buckets


def test_buckets_depend_on_public_numbers_and_hold_their_rows():
    assert buckets.bucket_lengths(512, 4) == (64, 128, 256, 512)
    assert buckets.bucket_lengths(100, 3) == (32, 56, 100)
    assert buckets.bucket_lengths(6, 5) == (6,)
    lengths = np.array([3, 40, 0])
    assert buckets.shortest(lengths, (128, 32, 64)) == 64
    assert buckets.shortest([], (32, 64)) == 32
    with pytest.raises(DataError, match=r"must hold the longest row \(129\)"):
        buckets.shortest([129], (64, 128))
    with pytest.raises(DataError, match="`count` must be a positive integer, got 0"):
        buckets.bucket_lengths(64, 0)


def test_cutting_takes_padding_and_nothing_else():
    rows = {
        "ids": np.arange(24).reshape(2, 12),
        "mask": np.arange(12) < np.array([[3], [5]]),
        "label": np.array([1, 2]),
        "group": np.zeros((2, 3, 12)),
    }
    short = buckets.cut(rows, 5, axes={"ids": 1, "mask": 1, "group": 2})
    assert short["ids"].tolist() == [[0, 1, 2, 3, 4], [12, 13, 14, 15, 16]]
    assert short["mask"].sum() == rows["mask"].sum()
    assert short["group"].shape == (2, 3, 5)
    assert short["label"] is rows["label"]
    assert buckets.cut({"ids": rows["ids"]}, 50)["ids"].shape == (2, 12)
    with pytest.raises(DataError, match="`axes` must name columns with axis 1, got 'label'"):
        buckets.cut(rows, 5, axes={"label": 1})


def test_what_was_fetched_before_is_found_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("TRUSTML_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(DataError, match="trustml data get scan"):
        data.load("scan")
    kept = tmp_path / "trustml" / "scan"
    kept.mkdir(parents=True)
    rows = "".join(f"IN: jump {number} OUT: I_JUMP\n" for number in range(40))
    for part in ("train", "test"):
        (kept / f"tasks_{part}_simple.txt").write_text(rows)
        (kept / f"{part}_simple.txt").write_text(rows)
    assert len(data.load("scan").test) == 40
