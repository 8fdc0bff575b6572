"""Tables: their schema in TOML, their rows by column, and arrays that no other row can change."""

import math

import numpy as np
import pytest

from trustml.data import DataError, Examples, from_rows
from trustml.data.rows import Record
from trustml.data.tables import (
    CategoryColumn,
    NumberColumn,
    Table,
    TableSchema,
    encode_table,
    read_schema,
)

AGE = NumberColumn(name="age", low=17, high=90)
GAIN = NumberColumn(name="gain", low=-10, high=99_999, scale="log")
JOB = CategoryColumn(name="job", values=("smith", "baker", 'the "king"'))
SCHEMA = TableSchema(columns=(AGE, JOB, GAIN), label="income", labels=("low", "high"))


def records(number, seed=0):
    rng = np.random.default_rng(seed)
    jobs, labels = ["smith", "baker", "queen", None], ["low", "high"]
    for _ in range(number):
        age = None if rng.random() < 0.1 else float(rng.normal(40, 40))
        gain = float(rng.choice([0.0, -1e9, 1e9, 512.5]))
        yield Record((age, jobs[rng.integers(4)], gain), labels[rng.integers(2)])


def test_the_arrays_are_those_of_each_row_by_itself():
    rows = list(records(60))
    arrays = encode_table(Table.of(rows, SCHEMA), SCHEMA)
    sign_log = lambda x: math.copysign(math.log1p(abs(x)), x)  # noqa: E731
    for place, ((age, job, gain), label) in enumerate(rows):
        low, high = sign_log(-10), sign_log(99_999)
        scaled = [
            0.0 if age is None else 2 * (min(90, max(17, age)) - 17) / 73 - 1,
            2 * (sign_log(min(99_999, max(-10, gain))) - low) / (high - low) - 1,
        ]
        np.testing.assert_allclose(arrays["numbers"][place], scaled, atol=1e-6)
        assert arrays["missing"][place].tolist() == [age is None, False]
        wanted = {"smith": 0, "baker": 1, 'the "king"': 2, None: 4}.get(job, 3)
        assert arrays["categories"][place].tolist() == [wanted]
        assert arrays["label"][place] == ["low", "high"].index(label)


def test_no_row_changes_the_arrays_of_another():
    table = Table.of(records(40), SCHEMA)
    whole = encode_table(table, SCHEMA)
    some = np.arange(3, 40, 5)
    part = encode_table(table.take(some), SCHEMA)
    for name, leaf in whole.items():
        np.testing.assert_array_equal(part[name], leaf[some])


def test_a_table_gives_back_its_records_and_one_fingerprint_for_any_order():
    rows = list(records(30))
    table = Table.of(rows, SCHEMA)
    assert list(table) == rows
    assert list(table[5:9]) == rows[5:9]
    given = {"name": "demo", "split": "train", "task": "tabular", "unit": "row", "table": SCHEMA}
    one = Examples(rows=tuple(rows), **given)
    other = Examples(rows=tuple(reversed(rows)), **given)
    assert one.fingerprint == other.fingerprint
    assert one.labels == ("low", "high")


@pytest.mark.parametrize(
    "schema",
    [
        SCHEMA,
        TableSchema(
            columns=(NumberColumn(name="a b"), CategoryColumn(name="c"), AGE),
            label="y",
            missing=("none",),
        ),
        TableSchema(columns=(JOB,), label="y", labels=("1", "2"), learned=True),
    ],
)
def test_a_schema_survives_its_file(schema, tmp_path):
    path = tmp_path / "schema.toml"
    path.write_text(schema.to_toml("What it is.\n\nAnd more."), "utf-8")
    assert read_schema(path) == schema
    assert schema.is_open == ("a b" in schema.names)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("label = 'y'", "must hold `label` and a table"),
        ("label = 'y'\nunit = 3\n[columns.a]\nlow = 0\nhigh = 1", "unknown name 'unit'"),
        ("label = 'y'\n[columns.a]\nlow = 2\nhigh = 1", "`low` must be a number below `high`"),
        ("label = 'y'\n[columns.a]\nlow = 2", "both `low` and `high`"),
        ("label = 'y'\n[columns.a]\nlow = 0\nhigh = inf", "`low` must be a number below"),
        ("label = 'y'\n[columns.a]\nkind = 'text'", "`kind` number or category, got 'text'"),
        ("label = 'y'\n[columns.a]\nvalues = ['x']\nlow = 1", "unknown name 'low'"),
        ("label = 'y'\n[columns.a]\nvalues = ['x', 'x']", "different texts"),
        ("label = 'y'\n[columns.y]\nvalues = ['x']", "got 'y' twice"),
        ("label = 'y'\nlabels = ['x']\n[columns.a]\nvalues = ['x']", "2 or more different"),
        ("label = 'y'\nlabels = [1, 2]\n[columns.a]\nvalues = ['x']", "`labels` must be a list"),
        ("label = y", "must be a TOML file"),
    ],
)
def test_a_broken_schema_is_refused_by_its_file(text, problem, tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(DataError, match=problem) as error:
        read_schema(path)
    assert str(path) in str(error.value)


ROWS = [
    {"age": "31", "job": " smith ", "gain": 1, "income": "low"},
    {"age": "?", "job": float("nan"), "gain": "1e3", "income": "high", "more": "x"},
]


def test_rows_are_read_by_the_schema():
    made = from_rows(ROWS, task="tabular", unit="person", table=SCHEMA)
    wanted = [Record((31.0, "smith", 1.0), "low"), Record((None, None, 1000.0), "high")]
    assert list(made.rows) == wanted


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"age": "old"}, "own rows row 1: 'age' must be a number, got 'old'"),
        ({"income": "?"}, "row 1: the class is missing"),
        ({"income": "medium"}, "row 1: unknown label 'medium'; known are low, high"),
    ],
)
def test_a_row_that_does_not_fit_is_named(change, problem):
    with pytest.raises(DataError, match=problem):
        from_rows([ROWS[0], {**ROWS[1], **change}], task="tabular", unit="row", table=SCHEMA)


def test_a_row_of_other_columns_is_named():
    with pytest.raises(DataError, match="row 0: none of the schema's columns; it has trade"):
        from_rows([{"trade": "smith"}], task="tabular", unit="row", table=SCHEMA)


def test_several_labels_and_numbers_are_read():
    labels = ("toxic", "rude", "spam")
    given = ["toxic; rude", '["spam"]', [0, "spam"], "", ["rude", "rude"]]
    rows = [{"text": "a", "label": each} for each in given]
    made = from_rows(rows, task="multilabel", unit="row", labels=labels)
    wanted = [("toxic", "rude"), ("spam",), ("toxic", "spam"), (), ("rude",)]
    assert [row.labels for row in made.rows] == wanted
    with pytest.raises(DataError, match="unknown label 'odd'"):
        from_rows([{"text": "a", "label": "odd"}], task="multilabel", unit="row", labels=labels)
    rows = [{"text": "a", "label": "4.5"}, {"text": "b", "label": 7}]
    made = from_rows(rows, task="regression", unit="row", value_range=(0, 5))
    assert [row.value for row in made.rows] == [4.5, 7.0]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"value_range": None}, "`value_range` must be given for the task 'regression'"),
        ({"value_range": (5, 0)}, "two numbers that rise"),
        ({"value_range": (0, 5), "rows": [{"text": "a", "label": "nan"}]}, "must be finite"),
        ({"value_range": (0, 5), "rows": [{"text": "a", "label": "x"}]}, "must be a number"),
    ],
)
def test_numbers_need_a_public_range_and_must_be_finite(fields, problem):
    rows = fields.pop("rows", [{"text": "a", "label": 1}])
    with pytest.raises(DataError, match=problem):
        from_rows(rows, task="regression", unit="row", **fields)
