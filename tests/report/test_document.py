"""Reports as JSON: the schema knows them, what is no report is refused by name."""

import json
import math

import pytest

from trustml.report import from_json, load_schema, make_schema, render, to_json
from trustml.report.document import SCHEMA_VERSION
from trustml.report.summary_table import summary_table


@pytest.mark.parametrize("kind", ["finished", "unfinished", "several", "void"])
def test_the_schema_knows_the_samples(kind, sample, unfinished, several):
    jsonschema = pytest.importorskip("jsonschema")
    made = {
        "finished": lambda: [sample()],
        "unfinished": lambda: [unfinished()],
        "several": several,
        "void": lambda: [sample(epsilon=None)],
    }
    schema = load_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for report in made[kind]():
        assert not list(validator.iter_errors(json.loads(json.dumps(report, allow_nan=False))))
        assert to_json(from_json(report)) == report


def test_the_schema_is_generated_from_the_dataclasses():
    assert load_schema() == make_schema()


def test_the_schema_refuses_a_wrong_kind_and_describes_every_field(sample):
    jsonschema = pytest.importorskip("jsonschema")
    report = sample()
    report["attack"]["arms"]["private"]["auc"] = 0.5
    assert list(jsonschema.Draft202012Validator(load_schema()).iter_errors(report))

    def undescribed(field, name):
        if "description" not in field and "$ref" not in field:
            yield name
        for key, inner in field.get("properties", {}).items():
            yield from undescribed(inner, f"{name}.{key}")

    schema = load_schema()
    assert schema["properties"]["schema_version"]["const"] == SCHEMA_VERSION
    defined = [name for key, one in schema["$defs"].items() for name in undescribed(one, key)]
    assert [*undescribed(schema, ""), *defined] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            lambda r: [],
            "`report` must be a JSON object, got list",
            marks=pytest.mark.kinds,
        ),
        (lambda r: r.pop("schema_version") and r, "`schema_version` must be 3, got none"),
        (lambda r: {**r, "schema_version": 1}, r"`schema_version` must be 3, got 1\..*wrote it"),
        (lambda r: r.pop("plan") and r, "`report` must hold .*got no 'plan'"),
        (lambda r: {**r, "notes": "x"}, "`report.notes` must be a JSON array, got str"),
        (lambda r: {**r, "privacy": {"delta": 1.0}}, "`privacy` must hold .*got no 'epsilon'"),
        (
            lambda r: {**r, "privacy": {**r["privacy"], "delta": "small"}},
            "`privacy.delta` must be a JSON number, got str",
        ),
        (
            lambda r: {**r, "run": {**r["run"], "repeats": -1}},
            "`run.repeats`: .*greater than or equal to 0, got -1",
        ),
        (
            lambda r: {**r, "privacy": {**r["privacy"], "epsilon": 10**400}},
            "`privacy.epsilon`: Input should fit in a float, got 1000",
        ),
        (lambda r: {**r, "model": {"width": math.nan}}, "`report` must be standard JSON: .*whole"),
        (lambda r: {**r, "private": "\ud800"}, "`report` must be standard JSON: .*whole"),
        (
            lambda r: {**r, "attack": {**r["attack"], "arms": {}}},
            "`attack.arms` must hold 'private', got no 'private'",
        ),
    ],
)
def test_what_is_no_report_is_refused_by_name(change, message, sample):
    with pytest.raises(ValueError, match=message):
        from_json(change(sample()))
    with pytest.raises(ValueError, match="`reports` must hold at least one"):
        render([])


@pytest.mark.parametrize(
    ("epsilon", "shown"), [(2.99961, "3.000"), (3.0, "3.000"), (3.0004, "3.001")]
)
def test_the_table_of_a_run_rounds_epsilon_up(epsilon, shown, sample):
    report = sample()
    report["results"]["private"]["epsilon"] = epsilon
    title, head, rows = summary_table(from_json(report))
    assert "evaluated on 700 rows of the test part" in title
    assert head == ["training", "epsilon", "audited", "Intent accuracy, %", "Slot F1", "step"]
    assert rows[0][:4] == ["private", shown, "0.04", "71.3 [68.3, 74.3]"]
    assert rows[1][:2] == ["baseline", "none"]


def test_a_run_without_results_has_no_table(unfinished):
    with pytest.raises(ValueError, match="finished run, got unfinished"):
        summary_table(from_json(unfinished()))
