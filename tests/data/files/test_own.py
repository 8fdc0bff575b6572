"""Own rows: columns, parts by unit, groups, labels; what cannot be used is one line."""

import dataclasses
import hashlib

import numpy as np
import pytest

from trustml.data import DataError
from trustml.data.files import FileOptions, load_own
from trustml.data.files.parts import TEST, TRAIN, VALID, choose_parts
from trustml.data.tables import NumberColumn, TableSchema


def rows(number=200, **more):
    """Texts of two labels by forty users."""
    return [
        {"text": f"word {n}", "label": "odd" if n % 2 else "even", "user": f"u{n % 40}"}
        | {name: of(n) for name, of in more.items()}
        for n in range(number)
    ]


def csv(path, content):
    path.write_text(content)
    return path


GUESSES = {
    "names": (["text", "label"], {}, "classify", {"text": "text", "label": "label"}),
    "case": (["Message", "INTENT"], {}, "classify", {"text": "Message", "label": "INTENT"}),
    "more columns": (["id", "message", "intent", "when"], {}, "classify", None),
    "given": (["a", "b", "text"], {"text": "a", "label": "b"}, "classify", None),
    "label given": (["text", "b"], {"label": "b"}, "classify", {"text": "text", "label": "b"}),
    "exact name first": (["text", "category", "label"], {}, "classify", None),
    "one text": (["text"], {}, "lm", {"text": "text"}),
    "pairs": (["source", "target"], {}, "seq2seq", {"source": "source", "target": "target"}),
}


@pytest.mark.parametrize("case", GUESSES)
def test_columns_and_task_are_guessed_where_that_is_safe(case):
    columns, options, task, _ = GUESSES[case]
    own = load_own(_filled(columns), FileOptions(**options))
    assert own.splits.train.task == task
    chosen = GUESSES[case][3]
    for role, column in (chosen or {}).items():
        assert f"column {column!r} as {role}" in own.decisions[0]


def _filled(columns):
    values = {"label": lambda n: "xy"[n % 2], "intent": lambda n: "xy"[n % 2], "b": lambda n: n % 2}
    default = lambda n: f"word {n}"  # noqa: E731
    return [{name: values.get(name.lower(), default)(n) for name in columns} for n in range(100)]


def test_two_columns_are_told_apart_by_their_values():
    own = load_own([{"was": f"word {n}", "ist": "ab"[n % 2]} for n in range(100)])
    assert own.splits.train.labels == ("a", "b")
    assert "guessed by their values" in own.decisions[0]


UNSAFE = {
    "unknown names": ["was", "ist", "x"],
    "two candidates for the text": ["message", "sentence", "label"],
    "two candidates for the label": ["text", "intent", "category"],
    "two columns of texts": ["was", "ist"],
}


@pytest.mark.parametrize("case", UNSAFE)
def test_what_is_not_safe_is_asked(case):
    columns = UNSAFE[case]
    with pytest.raises(DataError, match="cannot be guessed") as caught:
        load_own([{name: f"word {n}" for name in columns} for n in range(100)])
    assert ", ".join(columns) in str(caught.value)
    assert "`--" in str(caught.value)


def test_parts_are_by_unit_alone():
    """Taking one unit out moves no row of another: else its presence would show twice."""
    every = rows(400)
    parts = {}
    for without in (None, "u7"):
        kept = [row for row in every if row["user"] != without]
        splits = load_own(kept, FileOptions(unit="user")).splits
        parts[without] = {
            row.text: name for name, part in zip("abc", splits, strict=True) for row in part.rows
        }
    assert all(parts[None][text] == name for text, name in parts["u7"].items())


def test_rows_of_one_unit_share_a_part():
    splits = load_own(rows(400), FileOptions(unit="user")).splits
    users = [
        {row["user"] for row in rows(400) if row["text"] in texts}
        for texts in ({row.text for row in part.rows} for part in splits)
    ]
    assert sum(map(len, users)) == 40
    assert splits.train.levels == ("row", "user")
    assert len(splits.train.units("user")) == len(users[0])


def test_equal_texts_share_a_part():
    twice = [row for row in rows() for _ in range(2)]
    splits = load_own(twice).splits
    texts = [{row.text for row in part.rows} for part in splits]
    assert not texts[0] & (texts[1] | texts[2])
    assert sum(map(len, splits)) == 400


def test_the_share_is_kept():
    own = load_own(rows(4000), FileOptions(eval_split=0.3))
    assert len(own.splits.test) == pytest.approx(1200, abs=100)


@pytest.mark.parametrize("unit", ["row", "user"])
def test_stratified_parts_hold_every_label(unit):
    rare = rows(400, label=lambda n: "rare" if n % 40 < 3 else "often")
    for options in (FileOptions(unit=unit, stratify=True),):
        own = load_own(rare, options)
        for part in own.splits:
            assert {row.label for row in part.rows} == {"rare", "often"}
        assert any("held out" in each for each in own.assumed_public)


def test_strata_cut_by_rank():
    draws, strata = np.linspace(0, 1, 40, endpoint=False), np.repeat([0, 1], 20)
    parts = choose_parts(draws, (0.1, 0.2), strata)
    for stratum in (0, 1):
        assert np.bincount(parts[strata == stratum]).tolist() == [14, 4, 2]
    assert choose_parts(draws, (0.1, 0.0)).tolist() == [TEST] * 4 + [TRAIN] * 36
    assert VALID in choose_parts(draws, (0.1, 0.1))


def test_rows_for_evaluation_of_their_own(tmp_path):
    lines = "".join(f"word {n},{'ab'[n % 2]}\n" for n in range(50))
    path = csv(tmp_path / "new.csv", "text,label\n" + lines)
    train = [{"text": f"other {n}", "label": "abc"[n % 3]} for n in range(300)]
    own = load_own(train, FileOptions(eval_split=path))
    assert [row.text for row in own.splits.test.rows] == [f"word {n}" for n in range(50)]
    assert own.splits.test.labels == ("a", "b", "c")
    assert len(own.splits.train) + len(own.splits.valid) == 300


def test_splits_of_a_mapping_are_used():
    own = load_own({"train": rows(), "validation": rows(10), "test": rows(20)})
    assert tuple(map(len, own.splits)) == (200, 10, 20)


def test_groups():
    own = load_own(
        rows(group=lambda n: ("north", "south", None, float("nan"))[n % 4]),
        FileOptions(group="group"),
    )
    assert own.splits.train.groups == ("north", "south", "unknown")
    test = own.splits.test
    for row, group in zip(test.rows, test.group_of, strict=True):
        assert group == (0, 1, 2, 2)[int(row.text.split()[1]) % 4]
    assert "the list of 3 groups" in own.assumed_public


def test_labels_of_the_rows_are_assumed_public_and_listed_ones_are_not():
    assert load_own(rows()).assumed_public == ("the list of 2 labels",)
    listed = load_own(rows(), FileOptions(labels=("even", "odd", "neither")))
    assert listed.assumed_public == ()
    assert listed.splits.train.labels == ("even", "odd", "neither")


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ((1, 10, 2), ("1", "2", "10")),
        ((True, False, True), ("False", "True")),
        ((1.0, 2.0, 1.0), ("1", "2")),
    ],
)
def test_labels_that_are_no_texts(values, labels):
    own = load_own(rows(label=lambda n: values[n % 3]))
    assert own.splits.train.labels == labels


def test_frames():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(rows())
    assert load_own(frame).splits == load_own(rows()).splits
    frame.loc[3, "label"] = None
    with pytest.raises(DataError, match="row 4: the label in column 'label' is missing"):
        load_own(frame)
    assert load_own(frame, FileOptions(skip_bad_rows=True)).skipped[0].startswith("1 bad row")


def test_data_sets_of_datasets_declare_their_labels():
    datasets = pytest.importorskip("datasets")
    kinds = datasets.Features(
        {
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["odd", "even", "no"]),
        }
    )
    plain = [{"text": row["text"], "label": row["label"]} for row in rows()]
    own = load_own(datasets.Dataset.from_list(plain, features=kinds))
    assert own.splits.train.labels == ("odd", "even", "no")
    assert own.assumed_public == ()
    assert {row.label for row in own.splits.train.rows} == {"odd", "even"}


@pytest.mark.parametrize(("between", "what"), [("\n", "a line"), ("\n\n", "a paragraph")])
def test_what_one_document_of_a_text_is_said(tmp_path, between, what):
    path = csv(tmp_path / "a.txt", between.join(f"word {n}" for n in range(99)))
    own = load_own(path)
    assert own.splits.train.task == "lm"
    assert sum(map(len, own.splits)) == 99
    assert any(each.startswith(f"one row is {what}, as") for each in own.decisions)


def test_tags(tmp_path):
    sentences = "".join(f"Anna{n} B-person\nsings O\n\n" for n in range(60))
    path = csv(tmp_path / "a.conll", sentences)
    own = load_own(path)
    assert own.splits.train.task == "tag"
    assert own.splits.train.labels == ("person",)
    assert own.splits.train.rows[0].tags == ("B-person", "O")


def test_words_of_a_csv_file_stand_between_spaces():
    spoken = [
        {"words": f"go to oslo{n}", "slots": "O O B-city", "intent": "ab"[n % 2]} for n in range(90)
    ]
    own = load_own(spoken)
    assert own.splits.train.task == "nlu"
    assert own.splits.train.slots == ("city",)
    assert own.splits.train.rows[0].tokens[:2] == ("go", "to")


def test_questions_on_one_context_share_a_part():
    asked = [
        {
            "question": f"who {n}?",
            "context": f"Anna sings {n // 5}.",
            "answers": {"text": ["Anna"], "answer_start": [0]},
        }
        for n in range(400)
    ]
    splits = load_own(asked).splits
    contexts = [{row.context for row in part.rows} for part in splits]
    assert sum(map(len, contexts)) == 80
    assert splits.train.rows[0].identifier.startswith("row ")


BAD = {
    "no label": ({"text": "word", "label": ""}, "the label in column 'label' is missing"),
    "NaN for a label": ({"text": "word", "label": float("nan")}, "is missing"),
    "the text nan for a label": ({"text": "word", "label": "NaN"}, "is missing"),
    "a label that is absent": ({"text": "word"}, "is missing"),
    "several labels": ({"text": "word", "label": ["odd"]}, "must be one, got"),
    "an empty text": ({"text": "  ", "label": "odd"}, "the text is empty"),
    "NaN for a text": ({"text": float("nan"), "label": "odd"}, "column 'text' is empty"),
    "a number for a text": ({"text": 3, "label": "odd"}, "must be a text, got 3"),
    "no unit": (
        {"text": "word", "label": "odd", "user": None},
        "the unit in column 'user' is miss",
    ),
    "an empty unit": ({"text": "word", "label": "odd", "user": " "}, "the unit in column 'user'"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_row_is_named_or_counted(case):
    row, message = BAD[case]
    row = {"user": "u1"} | row
    given = [*rows(), row]
    options = FileOptions(unit="user")
    with pytest.raises(DataError, match=f"row 201: .*{message}.*`--skip-bad-rows`"):
        load_own(given, options)
    own = load_own(given, dataclasses.replace(options, skip_bad_rows=True))
    assert sum(map(len, own.splits)) == 200
    assert "1 bad row was left out: row 201:" in own.skipped[0]
    assert "left out" not in " ".join(own.decisions)  # they are printed on the card of a model


def test_many_bad_rows_are_counted_and_the_first_are_named():
    own = load_own([*rows(), *({"text": "", "label": "odd"},) * 9], FileOptions(skip_bad_rows=True))
    assert own.skipped[0].startswith("9 bad rows were left out: row 201: ")
    assert own.skipped[0].endswith("; and 6 more")


REFUSED = {
    "one label": (rows(label=lambda n: "odd"), {}, "must have two values or more, got odd"),
    "as many labels as rows": (rows(label=lambda n: f"l{n}"), {}, "200 values in 200 rows"),
    "one unit": (rows(user=lambda n: "me"), {"unit": "user"}, "nothing can hide the only unit"),
    "no such unit": (rows(), {"unit": "usr"}, "no column 'usr'.*Did you mean 'user'"),
    "no such group": (rows(), {"group": "region"}, "no column 'region'; it has text, label, user"),
    "no such text": (rows(), {"text": "txt"}, "no column 'txt'.*Did you mean 'text'"),
    "a label outside the list": (rows(), {"labels": ("even", "no")}, "row 2: unknown label 'odd'"),
    "an unknown task": (rows(), {"task": "rank"}, "`task` must be one of"),
    "a label of no use": (rows(), {"task": "lm", "label": "label"}, "has no use for the task lm"),
    "too few rows": (rows(4), {}, "too few to cut a part"),
    "no rows": ([], {}, "rows that are dicts, got no row"),
    "no dicts": ([1], {}, "rows that are dicts, got int"),
    "a generator": ((row for row in rows()), {}, "Make a list of what can be read only once"),
    "a number": (3, {}, "must be a file, a pandas frame or a list of dicts, got int"),
    "bad rows alone": ([{"text": "", "label": ""}], {"skip_bad_rows": True}, "none; the first:"),
    "strata of tags": (
        [{"tokens": ["a"], "tags": ["B-x"]}] * 99, {"stratify": True}, "needs one label a row"
    ),
    "tags of nothing": ([{"tokens": ["a"], "tags": ["O"]}] * 99, {}, "got O alone"),
    "tags of another scheme": ([{"tokens": ["a"], "tags": ["S-x"]}] * 99, {}, "slot tag 'S-x'"),
    "new labels to evaluate on": (
        {"train": rows(), "test": rows(label=lambda n: "new")}, {}, "have the label 'new', which"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_one_line(case):
    given, options, message = REFUSED[case]
    with pytest.raises(DataError, match=message) as caught:
        load_own(given, FileOptions(**options))
    assert "\n" not in str(caught.value)


def test_new_labels_to_evaluate_on_are_refused_even_if_bad_rows_are_skipped():
    given = {"train": rows(), "test": rows(label=lambda n: "new")}
    with pytest.raises(DataError, match="have the label 'new'"):
        load_own(given, FileOptions(skip_bad_rows=True))


@pytest.mark.parametrize("share", [0.0, -0.1, 0.6, float("nan")])
def test_a_share_is_above_0_and_at_most_a_half(share):
    with pytest.raises(DataError, match=r"at most 0\.5"):
        FileOptions(eval_split=share)


def test_the_fingerprint_is_that_of_sorted_hashes():
    train = load_own(rows()).splits.train
    hashes = sorted(hashlib.sha256(repr(row).encode()).digest() for row in train.rows)
    whole = hashlib.sha256(b"trustml corpus, version 1\x00" + b"".join(hashes))
    assert train.fingerprint == whole.hexdigest()
    backwards = dataclasses.replace(train, rows=train.rows[::-1])
    assert backwards.fingerprint == train.fingerprint


def test_several_labels_numbers_and_tables():
    several = load_own(
        rows(label=lambda n: ("a;b", "b", "")[n % 3]), FileOptions(task="multilabel")
    ).splits.train
    assert several.labels == ("a", "b")
    assert {row.labels for row in several.rows} == {("a", "b"), ("b",), ()}
    options = FileOptions(task="regression", value_range=(0.0, 3.0))
    numbers = load_own(rows(label=lambda n: str(n % 4)), options).splits.train
    assert {row.value for row in numbers.rows} == {0.0, 1.0, 2.0, 3.0}
    assert (numbers.labels, numbers.value_range) == ((), (0.0, 3.0))
    schema = TableSchema(
        columns=(NumberColumn(name="age", low=0, high=99),), label="label", labels=("even", "odd")
    )
    given = rows(age=lambda n: str(n % 50))
    table = load_own(given, FileOptions(task="tabular", table=schema, unit="user"))
    assert table.assumed_public == ()
    assert sum(map(len, table.splits)) == 200
    assert table.splits.train.rows[0].label in ("even", "odd")
    for options in ({"task": "regression"}, {"task": "tabular"}, {"value_range": (0.0, 1.0)}):
        with pytest.raises(DataError, match="must be given for the task"):
            FileOptions(**options)
