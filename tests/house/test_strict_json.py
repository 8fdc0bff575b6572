"""What is written as JSON is JSON: no NaN, no infinity, by one writer."""

import ast
import json
import math
from pathlib import Path

import pytest

from trustml.strict_json import dumps, with_reasons, without_reasons
from trustml.training.metrics import StepMetrics
from trustml.training.runs.metrics_log import MetricsLogger, read_lines

ROOT = Path(__file__).parents[2] / "trustml"


def strictly(text):
    """Refuses what the standard does not have."""

    def refuse(name):
        raise ValueError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("value", [math.nan, math.inf, [-math.inf], {"loss": math.nan}])
def test_a_number_that_is_not_finite_is_refused(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        dumps(value)


NUMBERS = {"loss": math.nan, "norm": math.inf, "score": -math.inf, "kept": 0.5}


def test_reasons_stand_beside_null_and_lead_back():
    entry = {"step": 1, "private": True, "absent": None, **NUMBERS}
    written = strictly(dumps(with_reasons(entry)))
    assert written["loss"] is None
    assert written["loss_reason"] == "not a number"
    assert written["norm_reason"] == "infinity"
    assert written["score_reason"] == "minus infinity"
    found = without_reasons(written)
    assert math.isnan(found.pop("loss"))
    assert math.isnan(entry.pop("loss"))
    assert found == entry


def evaluated(path, first=0):
    logged = []
    with MetricsLogger(
        path, first, [lambda step, numbers: logged.append((step, numbers))]
    ) as record:
        record.evaluation(first + 1, NUMBERS)
    return record, logged


def test_a_record_of_metrics_that_are_not_finite_is_strict_and_read_again(tmp_path):
    path = tmp_path / "metrics.jsonl"
    evaluated(path)
    for line in path.read_text().splitlines():
        assert strictly(line)["loss"] is None
    (read,) = read_lines(path)
    assert math.isnan(read["loss"])
    again, logged = evaluated(path, first=1)  # a run that goes on
    assert [entry["step"] for entry in again.history] == [1, 2]
    assert math.isnan(again.history[0]["loss"])
    assert math.isnan(logged[0][1]["private/loss"])


def test_a_record_of_an_earlier_version_becomes_strict(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": NaN, "private": true}\n')
    evaluated(path, first=1)
    assert [strictly(line)["step"] for line in path.read_text().splitlines()] == [1, 2]


def test_steps_without_units_leave_a_strict_record(tmp_path):
    path = tmp_path / "metrics.jsonl"
    fields = dict.fromkeys(StepMetrics._fields, math.nan)
    with MetricsLogger(path, 0, []) as record:
        record.step(1, StepMetrics(**fields))
    (entry,) = map(strictly, path.read_text().splitlines())
    assert all(entry[name] is None for name in StepMetrics._fields if name in entry)


def writers(source):
    """Lines that write JSON by themselves."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    names = ((call.lineno, ast.unparse(call.func)) for call in calls)
    return [
        line
        for line, name in names
        if name.split(".")[-1] in ("dump", "dumps", "JSONEncoder") and name.startswith("json.")
    ]


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: path.stem)
def test_nothing_else_writes_json(path):
    source = path.read_text()
    assert "from json import" not in source
    assert path.name == "strict_json.py" or writers(source) == []


def test_the_scan_finds_a_writer():
    assert writers("import json\njson.dump({}, file)\nvalue = json.dumps({})\n") == [2, 3]
