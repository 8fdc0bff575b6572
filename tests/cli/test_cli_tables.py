"""`trustml train` on tables, numbers and several labels of the user's own files."""

import csv
import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from trustml.cli.main import main
from trustml.data.tables import read_schema
from trustml.recipes.train import arms
from trustml.report import load_schema
from trustml.training import read_ledger
from trustml.training.runs.folder import RunFolder

TINY = ["--steps", "2", "--batch", "64", "--baseline-steps", "2", "--quiet"]
SCHEMA = """\
label = "income"
labels = ["low", "high"]
[columns.age]
low = 18
high = 80
[columns.job]
values = ["smith", "baker"]
"""
HEAD = ("person", "age", "job", "income")


def people(number=2_000):
    rng = np.random.default_rng(0)
    for place in range(number):
        age = rng.integers(18, 80)
        income = "high" if age + rng.normal(0, 10) > 50 else "low"
        yield place // 2, age, rng.choice(["smith", "baker", "scribe"]), income


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open("people.csv", "w", newline="") as file:
        csv.writer(file).writerows([HEAD, *people()])
    (tmp_path / "people.toml").write_text(SCHEMA)
    (tmp_path / "open.toml").write_text(SCHEMA.replace('labels = ["low", "high"]\n', ""))
    return tmp_path


def trained(*arguments):
    assert main(["train", *arguments, *TINY, "--out", "run"]) == 0
    report = json.loads(RunFolder(Path("run")).report.read_text())
    jsonschema.validate(report, load_schema())
    return report


def test_a_table_trains_by_its_public_schema(folder, capsys):
    report = trained("people.csv", "--schema", "people.toml", "--group", "job", "--unit", "person")
    assert [metric["name"] for metric in report["metrics"]] == ["accuracy", "balanced_accuracy"]
    kinds = {(group["by"], group["name"]) for group in report["groups"]}
    assert {("protected group", "smith"), ("class", "high")} <= kinds
    assert report["data"]["privacy_unit"] == "person"
    assert "released_before" not in report["privacy"]
    assert read_schema(folder / "run" / "schema.toml") == read_schema(folder / "people.toml")
    assert "by 2 other columns" in capsys.readouterr().out


@pytest.mark.slow
def test_a_learned_schema_is_charged_once_whatever_interrupts_the_run(folder, capsys, monkeypatch):
    call = ["train", "people.csv", "--label", "income", "--unit", "person", *TINY]
    call += ["--learn-schema", "1", "--epsilon", "4", "--max-examples-per-unit", "2"]
    with monkeypatch.context() as patch:
        patch.setattr(arms.Trainings, "carry_out", lambda *_, **__: pytest.fail("no"))
        with pytest.raises(pytest.fail.Exception):
            main([*call, "--out", "run"])
    files = RunFolder(Path("run"))
    (release,) = read_ledger(files.path)  # written, and nothing trained yet
    assert (release["entry"], release["epsilon"]) == ("release", 1.0)
    assert release["delta"] == pytest.approx(1e-6)
    assert "at most 2 rows of each person" in release["how"]
    learned = files.schema.read_bytes()
    schema = read_schema(files.schema)
    assert schema.labels == ("high", "low")
    assert [column.name for column in schema.columns] == ["age", "job"]  # no unit as a feature
    assert main(["train", "--resume", "run", "--quiet"]) == 0
    assert files.schema.read_bytes() == learned
    entries = [entry["entry"] for entry in read_ledger(files.path)]
    assert entries[:2] == ["release", "run"]
    assert entries.count("release") == 1
    report = json.loads(files.report.read_text())
    jsonschema.validate(report, load_schema())
    privacy = report["privacy"]
    assert privacy["released_before"][0]["epsilon"] == 1.0
    assert 3.9 < privacy["epsilon"] <= 4.0
    assert privacy["epsilon_by_steps"][0][1] > 1.0
    assert "Released before: the schema, by noisy histograms of age" in privacy["statement"]
    capsys.readouterr()
    assert main(["plan", "--ledger", "run", "--json"]) == 0
    (total,) = json.loads(capsys.readouterr().out)
    assert total["epsilon"] == pytest.approx(privacy["epsilon"], abs=1e-6)
    assert "released the schema before its training" in total["notes"][0]


def test_a_ledger_of_a_release_alone_counts_it(folder, capsys, monkeypatch):
    monkeypatch.setattr(
        "trustml.recipes.train.schema_release.learn_schema", lambda *_: pytest.fail("crash")
    )
    call = ["people.csv", "--schema", "open.toml", "--learn-schema", "1", "--out", "run", *TINY]
    with pytest.raises(pytest.fail.Exception):
        main(["train", *call])
    assert main(["plan", "--ledger", "run", "--json"]) == 0
    (total,) = json.loads(capsys.readouterr().out)
    assert total["epsilon"] == 1.0
    assert total["runs"][0]["steps"] == 0


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--task", "tabular"], "`--schema FILE` or `--learn-schema EPSILON` must be given"),
        (["--learn-schema", "1"], "`--label` must name the column of the class"),
        (["--schema", "none.toml"], "`--schema` must be a TOML file, got none.toml"),
        (["--schema", "open.toml"], "without those of income. Fill them in"),
        (["--schema", "people.toml", "--learn-schema", "1"], "`--learn-schema` must be left out"),
        (["--schema", "open.toml", "--learn-schema", "3"], "below `--epsilon` (3.0), whose part"),
        (["--schema", "open.toml", "--learn-schema", "0.01"], "must be larger for"),
        (["--schema", "open.toml", "--learn-schema", "1", "--audit"], "`--audit` cannot go with"),
        (["--schema", "people.toml", "--model", "conv"], "`--model` must be linear or mlp"),
        (["--schema", "people.toml", "--max-length", "8"], "`--max-length` must be left out"),
        (["--schema", "people.toml", "--task", "classify"], "`--schema` is for the task tabular"),
        (["--task", "regression", "--text", "job", "--label", "age"], "`--range` must give"),
        (["--range", "5,0", "--text", "job", "--label", "age"], "`--range` must be two numbers"),
        (["--range", "0,9", "--task", "classify"], "`--range` is for the task regression"),
    ],
)
def test_what_a_table_cannot_use_is_refused_in_one_line(arguments, problem, folder, capsys):
    assert main(["train", "people.csv", *arguments, "--quiet", "--out", "run"]) == 2
    error = capsys.readouterr().err
    assert problem in error
    assert error.count("\n") == 1
    assert not (folder / "run").exists()


def test_a_schema_to_fill_in_holds_names_and_kinds_alone(folder, capsys):
    call = ["data", "schema", "people.csv", "--label", "income", "--unit", "person"]
    assert main(call) == 0
    text = capsys.readouterr().out
    (folder / "made.toml").write_text(text)
    schema = read_schema(folder / "made.toml")
    assert schema.open_parts == ("age", "job", "income")
    assert "smith" not in text
    assert "public" in text


@pytest.mark.slow
@pytest.mark.parametrize("task", ["regression", "multilabel"])
def test_numbers_and_several_labels_train_on_hashed_words(task, folder):
    rng = np.random.default_rng(1)
    words = ["good", "bad", "red", "green"]
    with open("texts.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for number in range(300):
            taken = rng.choice(words, 2, replace=False)
            label = ";".join(taken) if task == "multilabel" else 2.0 * ("good" in taken) + 1
            writer.writerow([f"{' '.join(taken)} {number}", label])
    more = ["--range", "0,5"] if task == "regression" else ["--task", task]
    report = trained("texts.csv", *more)
    for metric in report["metrics"]:
        assert report["results"]["private"]["metrics"][metric["name"]]["value"] is not None
