"""The open parts of a table's schema, learned within the budget."""

import numpy as np
import pytest

from trustml.data.rows import Record
from trustml.data.tables import CategoryColumn, NumberColumn, Table, TableSchema
from trustml.data.tables.guessing import guess_schema
from trustml.noise import key_from_seed
from trustml.recipes.train.learned_schema import learn_schema, placeholder, schema_plan

OPEN = TableSchema(
    columns=(
        NumberColumn(name="age"),
        CategoryColumn(name="job"),
        NumberColumn(name="gain", low=0, high=9),
        NumberColumn(name="year"),
    ),
    label="income",
)
UNITS = 4_000


def table(number=UNITS):
    rng = np.random.default_rng(0)
    jobs = ["smith", "baker", "scribe"]
    rows = [
        Record(
            (
                float(rng.integers(18, 80)),
                f"only {place}" if place % 50 == 0 else jobs[rng.integers(3)],
                None,
                float(rng.integers(1990, 2021)),
            ),
            "high" if rng.random() < 0.2 else "low",
        )
        for place in range(number)
    ]
    rows[0] = rows[0]._replace(values=(1e30, "only 0", None, -5.0))
    return Table.of(rows, OPEN)


def plan_of(epsilon, **changes):
    fields = {"delta": 1e-5, "num_units": UNITS, "rows_per_unit": 1}
    return schema_plan(
        OPEN, epsilon=epsilon, adjacency="add-or-remove-one", **{**fields, **changes}
    )


def test_ranges_and_frequent_values_show_and_nothing_of_one_row_does():
    plan = plan_of(1.0)
    found = learn_schema(table(), OPEN, plan, key_from_seed(3))
    age, job, gain, year = found.columns
    assert 16 <= age.low <= 20  # one part of the range that the powers of two gave
    assert 76 <= age.high <= 82
    assert job.values == ("baker", "scribe", "smith")
    assert gain == OPEN.columns[2]  # public, so it cost nothing
    assert 1984 <= year.low <= 1990
    assert 2020 <= year.high <= 2032
    assert found.labels == ("high", "low")
    assert found.learned
    assert not found.is_open
    # Two numbers, in two histograms each; jobs and classes.
    assert (plan.num_histograms, plan.num_open) == (6, 2)
    assert learn_schema(table(), OPEN, plan, key_from_seed(3)) == found


def test_a_column_that_the_noise_hides_has_a_range_all_the_same():
    empty = Table.of([Record((None, None, None, None), "low")] * 10, OPEN)
    schema = TableSchema(columns=OPEN.columns, label="income", labels=("low", "high"))
    found = learn_schema(empty, schema, plan_of(1.0), key_from_seed(0))
    assert found.columns[0].low < found.columns[0].high
    assert found.columns[1].values == ()


def test_too_few_units_and_too_few_classes_are_refused():
    with pytest.raises(ValueError, match="`--learn-schema` must be larger for 100 units"):
        plan_of(0.1, num_units=100)
    one_class = Table.of([Record((1.0, "smith", None, 1.0), "low")] * UNITS, OPEN)
    with pytest.raises(ValueError, match="fewer than two classes in column 'income'"):
        learn_schema(one_class, OPEN, plan_of(1.0), key_from_seed(0))


def test_several_rows_of_a_unit_cost_more_noise():
    assert plan_of(1.0, rows_per_unit=4).stddev == pytest.approx(4 * plan_of(1.0).stddev, rel=1e-3)


def test_a_placeholder_has_no_open_part_and_the_same_columns():
    made = placeholder(OPEN)
    assert not made.is_open
    assert made.names == OPEN.names


def test_kinds_are_guessed_from_values():
    rows = [{"a": "1", "b": "x", "c": "", "y": "no"}, {"a": "?", "b": "2", "c": 3, "y": "no"}]
    found = guess_schema(("a", "b", "c", "y"), rows, label="y")
    kinds = [type(column) for column in found.columns]
    assert kinds == [NumberColumn, CategoryColumn, NumberColumn]
    with pytest.raises(ValueError, match="`--label` must be a column, got 'z'; there are a, b"):
        guess_schema(("a", "b"), rows, label="z")
