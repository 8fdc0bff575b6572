"""Each format gives the same rows; what is broken is named by its row."""

import gzip
import json

import numpy as np
import pytest

from trustml.data import DataError
from trustml.data.files import columns_of, is_rows, read_rows, splits_of

ROWS = [
    {"text": "füne, thanks", "label": "good"},
    {"text": 'he said "no"', "label": "bad"},
    {"text": "two\nlines", "label": "good"},
]


def _csv(delimiter):
    quoted = [[value.replace('"', '""') for value in row.values()] for row in ROWS]
    lines = [["text", "label"], *([f'"{text}"', f'"{label}"'] for text, label in quoted)]
    return "".join(delimiter.join(line) + "\r\n" for line in lines).encode()


def _jsonl():
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


_FILES = {
    "a.csv": _csv(","),
    "bom.csv": b"\xef\xbb\xbf" + _csv(","),
    "semicolons.csv": _csv(";"),
    "tabs.csv": _csv("\t"),
    "a.tsv": _csv("\t"),
    "a.csv.gz": gzip.compress(_csv(",")),
    "a.jsonl": _jsonl(),
    "a.jsonl.gz": gzip.compress(_jsonl()),
    "blank.jsonl": b"\n" + _jsonl() + b"\n\n",
}


@pytest.mark.parametrize("name", _FILES)
def test_text_formats_give_the_rows(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(_FILES[name])
    assert [row for _, row in read_rows(path)] == ROWS
    assert columns_of(path) == ("text", "label")
    assert is_rows(path)
    assert splits_of(path) == ()


def test_a_location_is_where_the_row_begins(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(_csv(",") + b"last,good\n")
    places = [location.rpartition(" line ")[2] for location, _ in read_rows(path)]
    assert places == ["2", "3", "4", "6"]


def test_conll(tmp_path):
    path = tmp_path / "a.conll"
    path.write_text("-DOCSTART- -X- O\n\nAnna NNP B-person\nsings VB O\n\n\nhi O\n")
    rows = list(read_rows(path))
    assert [row for _, row in rows] == [
        {"tokens": ["Anna", "sings"], "tags": ["B-person", "O"]},
        {"tokens": ["hi"], "tags": ["O"]},
    ]
    assert [location.split()[-1] for location, _ in rows] == ["3", "7"]


@pytest.mark.parametrize(
    ("content", "documents"),
    [
        ("a\nb\n", ["a", "b"]),
        ("a\nb\n\n", ["a", "b"]),
        ("a\nb\n\nc\n", ["a\nb", "c"]),
        ("\n\na\n \nb\nc", ["a", "b\nc"]),
    ],
)
def test_plain_text(tmp_path, content, documents):
    path = tmp_path / "a.txt"
    path.write_text(content)
    assert [row["text"] for _, row in read_rows(path)] == documents


def test_arrays(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.arange(4.0).reshape(2, 2), job=np.array(["a", "b"]), y=np.array([1, 0]))
    assert columns_of(path) == ("x0", "x1", "job", "y")
    assert [row for _, row in read_rows(path)] == [
        {"x0": 0.0, "x1": 1.0, "job": "a", "y": 1},
        {"x0": 2.0, "x1": 3.0, "job": "b", "y": 0},
    ]


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    assert [row for _, row in read_rows(path)] == ROWS
    assert columns_of(path) == ("text", "label")


def test_saved_data_sets(tmp_path):
    datasets = pytest.importorskip("datasets")
    kinds = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
    )
    whole = datasets.Dataset.from_list(ROWS, features=kinds)
    whole.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": whole, "test": whole.select([1])}).save_to_disk(tmp_path / "two")
    assert [row for _, row in read_rows(tmp_path / "one")] == ROWS
    assert [row for _, row in read_rows(tmp_path / "two", split="test")] == ROWS[1:2]
    assert splits_of(tmp_path / "one") == ()
    assert splits_of(tmp_path / "two") == ("train", "test")
    assert columns_of(tmp_path / "two") == ("text", "label")


BAD_ROWS = {
    "ragged": (b"text,label\na,b\nc\n", "line 3: 1 fields, must be 2"),
    "too wide": (b"text,label\na,b,c\n", "line 2: 3 fields"),
    "broken UTF-8": (b"text,label\na,b\n\xff\xff,b\n", "line 3: column 'text' is not UTF-8"),
    "open quote": (b'text,label\na,b\n"c,d\n', "line 3: a quote is not closed"),
    "quote inside": (b'text,label\n"c"d,e\n', "line 2: .*Write a quote inside"),
    "JSON": (b'{"text": "a"}\n{"text": \n', "line 2: must be a JSON object"),
    "a list": (b'{"text": "a"}\n[1]\n', r"line 2: must be a JSON object, got \[1\]"),
    "lone surrogate": (b'{"text": "a"}\n{"text": "\\ud800"}\n', "line 2: column 'text' is not"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_bad_row_is_named_or_left_out(tmp_path, case):
    content, message = BAD_ROWS[case]
    path = tmp_path / ("a.jsonl" if content.startswith(b"{") else "a.csv")
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(read_rows(path))
    bad = []
    kept = list(read_rows(path, on_bad_row=bad.append))
    assert len(bad) == 1
    assert len(kept) == content.count(b"a,b\n") + content.count(b'"a"}')


BAD_FILES = {
    "no such file": ("a.csv", None, "must be a file, got none"),
    "another format": ("a.xlsx", b"PK\3\4", "must end in .csv"),
    "a renamed spreadsheet": ("a.csv", b"PK\3\4", "UTF-8, got a ZIP archive"),
    "UTF-16": ("a.csv", "text,label\na,b".encode("utf-16"), "UTF-8, got UTF-16"),
    "empty": ("a.csv", b"", "is empty"),
    "duplicate header": ("a.csv", b"text,label,text\n", "'text' 2 times"),
    "blank header": ("a.csv", b"\na,b\n", "line 1: must hold the names"),
    "cut off": ("a.csv.gz", gzip.compress(b"text,label\n" * 99)[:-20], "cannot be read"),
    "not compressed": ("a.csv.gz", b"text,label\n", "cannot be read"),
    "no arrays": ("a.npz", b"text", "must be an .npz file"),
    "no JSON at all": ("a.jsonl", b"text\n", "must be a JSON object"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_one_line(tmp_path, case):
    name, content, message = BAD_FILES[case]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        list(read_rows(tmp_path / name, on_bad_row=None))
    assert "\n" not in str(caught.value)


def test_pickled_and_uneven_arrays_are_refused(tmp_path):
    np.savez(tmp_path / "pickled.npz", x=np.array([{}], object))
    np.savez(tmp_path / "uneven.npz", x=np.zeros(3), y=np.zeros(2))
    with pytest.raises(DataError, match=r"must be an \.npz file of numbers"):
        columns_of(tmp_path / "pickled.npz")
    with pytest.raises(DataError, match="as many rows, got x 3, y 2"):
        columns_of(tmp_path / "uneven.npz")


def test_a_folder_of_something_else_is_refused(tmp_path):
    assert not is_rows(tmp_path)
    with pytest.raises(DataError, match="a folder that `datasets` saved"):
        list(read_rows(tmp_path))
