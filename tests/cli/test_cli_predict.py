"""`trustml predict` on the shared run: its own evaluation again, files of all kinds, bad input."""

import csv
import json
import math
import shutil
import tracemalloc

import numpy as np
import pytest

import trustml
from trustml.cli import main
from trustml.data import load
from trustml.recipes.predict import file as predict_file
from trustml.recipes.predict.model import TrainedModel

ROWS = ["play some jazz", "will it rain tomorrow ?", "book a table for two"]


@pytest.fixture(scope="module")
def model(finished):
    return trustml.recipes.load_model(finished)


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def predict(*arguments):
    return main(["predict", *map(str, arguments), "--quiet"])


def test_the_predictions_are_those_that_the_evaluation_scored(finished, tmp_path):
    rows = load("synthetic").test.rows
    file = write(tmp_path / "new.jsonl", [{"tokens": row.tokens} for row in rows])
    out = tmp_path / "out.jsonl"
    assert predict(finished, file, "--out", out, "--batch", 512) == 0
    found = read(out)
    assert [tuple(row["tokens"]) for row in found] == [row.tokens for row in rows]  # their order
    right = np.mean([new["label"] == row.intent for new, row in zip(found, rows, strict=True)])
    report = json.loads((finished / "report.json").read_text())
    metrics = report["results"]["private"]["metrics"]
    assert right == pytest.approx(metrics["intent_accuracy"]["value"], abs=1e-12)
    tags = [tuple(row["tags"]) for row in found]
    counts = trustml.metrics.entity_counts([row.tags for row in rows], tags).sum(0)
    f1 = trustml.metrics.precision_recall_f1(*counts)[2]
    assert f1 == pytest.approx(metrics["slot_f1"]["value"], abs=1e-12)


def test_three_lines_of_python_give_labels_and_probabilities(model):
    found = model.predict(ROWS)
    chances = model.probabilities(ROWS)
    assert chances.shape == (3, len(model.labels))
    np.testing.assert_allclose(chances.sum(1), 1.0, rtol=1e-12)
    assert [one.label for one in found] == [model.labels[best] for best in chances.argmax(1)]
    np.testing.assert_allclose([one.probability for one in found], chances.max(1), rtol=1e-6)
    assert all(len(one.tokens) == len(one.tags) for one in found)
    assert model.predict([]) == []
    assert model.probabilities([]).shape == (0, len(model.labels))
    assert model.predict([row.split() for row in ROWS]) == found  # words, as data sets have them
    assert model.predict(iter(ROWS), batch=2) == found  # a row's prediction is its own
    assert model.predict([{"text": row, "more": 1} for row in ROWS]) == found


def test_the_baseline_and_a_label_take_no_part(finished, model, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    shutil.rmtree(copy / "baseline")
    (copy / "canaries.json").unlink()
    alone = trustml.recipes.load_model(copy)
    assert alone.predict(ROWS) == model.predict(ROWS)
    assert "one utterance" in alone.statement
    examples = load("synthetic").test
    few = examples.rows[:5]
    placed = [row.intent for row in few]
    assert model.predict([{"tokens": row.tokens, "label": placed} for row in few]) == [
        *model.predict([row.tokens for row in few])
    ]


def test_columns_are_kept_and_a_bad_row_can_be_left_empty(finished, model, tmp_path, capsys):
    file, out = tmp_path / "new.csv", tmp_path / "out.csv"
    file.write_text(f'id;label;said\n1;x;{ROWS[0]}\n2;y;"  "\n3;z\n4;w;{ROWS[1]}\n')
    call = [finished, file, "--text", "said", "--keep", "id,label", "--out", out]
    assert predict(*call) == 2
    assert "new.csv line 3: 'said' must hold" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [file]
    file.chmod(0o640)
    assert predict(*call, "--skip-bad-rows") == 0
    assert "4 rows, 2 of them without a prediction" in capsys.readouterr().out
    rows = list(csv.DictReader(out.read_text().splitlines()))
    wanted = [model.predict([ROWS[0]])[0], None, None, model.predict([ROWS[1]])[0]]
    assert [row["label"] for row in rows] == ["" if one is None else one.label for one in wanted]
    assert [(row["id"], row["input_label"]) for row in rows] == [
        ("1", "x"),
        ("2", "y"),
        ("", ""),
        ("4", "w"),
    ]
    assert rows[0]["tags"].split() == list(wanted[0].tags)
    assert out.stat().st_mode & 0o777 == 0o640  # as private as the rows


def test_predictions_are_printed_without_a_file(finished, model, tmp_path, capsys):
    file = write(tmp_path / "new.jsonl", [{"text": ROWS[0], "score": math.pi, "at": [1, None]}])
    assert predict(finished, file, "--keep", "at,score") == 0
    (line,) = capsys.readouterr().out.splitlines()
    row = json.loads(line)
    assert (row["at"], row["score"]) == ([1, None], math.pi)
    assert row["label"] == model.predict([ROWS[0]])[0].label
    out = tmp_path / "out.jsonl"
    assert predict(finished, file, "--out", out, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["rows"], document["bad_rows"], document["out"]) == (1, 0, str(out))
    assert document["statement"].startswith("Promise: (")
    assert read(out)[0].keys() == set(document["columns"])


@pytest.mark.parametrize(
    ("content", "arguments", "text"),
    [
        ("", [], "new.csv is empty"),
        ("a,b\n1,2\n", [], "`--text` must name the column to read: none of a, b have"),
        ("review,comment\n1,2\n", [], "several of review, comment have a usual"),
        ("text\nhi\n", ["--text", "said"], "`--text` must be one of the columns text, got 'said'"),
        ("text\nhi\n", ["--question", "text"], "`--question` is not of the task 'nlu'"),
        ("text\nhi\n", ["--keep", "id"], "`--keep` must name columns of text, got 'id'"),
        ("text,label,input_label\nhi,a,b\n", ["--keep", "label,input_label"], "names that differ"),
        ("text\nhi\n", ["--keep", ","], "`--keep` must be a list with commas between"),
        ("text\n\xff\n", [], "new.csv line 2: column 'text' is not UTF-8"),
        ('text\n"hi\n', [], "new.csv line 2: a quote is not closed"),
        ("text\nhi,there\n", [], "new.csv line 2: 2 fields, must be 1"),
        ("text\nhi\n", ["--repeat", "2"], "`--repeat` must be from 1 to 1, got 2"),
        ("text\nhi\n", ["--batch", "0"], "`batch` must be at least 1, got 0"),
        ("text\nhi\n", ["--out", "out.txt"], "`--out` must end with .jsonl or .csv"),
        ("text\nhi\n", ["--out", "new.csv"], "`--out` must be a new file, got new.csv"),
        ("text\nhi\n", ["--out", "none/out.csv"], "`--out` must be in a folder that exists"),
        ("text\nhi\n", ["--json"], "`--json` needs `--out`"),
        ("text\nhi\n", ["more"], "`more` is no argument"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    finished, content, arguments, text, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "new.csv").write_bytes(content.encode("latin-1"))
    out = [] if {"--out", "--json"} & set(arguments) else ["--out", "out.csv"]
    assert predict(finished, "new.csv", *arguments, *out) == 2
    shown = capsys.readouterr()
    assert text in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["new.csv"]


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (
            lambda run: (run / "weights.safetensors").write_bytes(b"other"),
            "that the run ended with",
        ),
        (lambda run: (run / "weights.safetensors").unlink(), "must hold the run's weights"),
        (lambda run: (run / "resolved.yaml").unlink(), "without resolved.yaml"),
        (lambda run: cut(run / "resolved.yaml", "kind: conv"), "must describe a network"),
        (lambda run: cut(run / "resolved.yaml", "whole: true"), "got one that was cut off"),
        (lambda run: (run / "report.json").unlink(), "`RUN` must be a finished run"),
        (shutil.rmtree, "`RUN` must be a folder of `trustml train`"),
    ],
)
def test_a_run_that_is_damaged_or_unfinished_predicts_nothing(
    finished, damage, text, tmp_path, capsys
):
    run, file = tmp_path / "run", tmp_path / "new.csv"
    shutil.copytree(finished, run)
    file.write_text("text\nhi\n")
    damage(run)
    assert predict(run, file, "--out", tmp_path / "out.csv") == 2
    shown = capsys.readouterr().err
    assert text in shown
    assert shown.count("\n") == 1
    assert not (tmp_path / "out.csv").exists()


def cut(path, line):
    path.write_text(
        "\n".join(each for each in path.read_text().split("\n") if each.strip() != line)
    )


def test_an_interrupt_leaves_nothing_half_written(finished, tmp_path, capsys, monkeypatch):
    file = write(tmp_path / "new.jsonl", [{"text": row} for row in ROWS])
    first = TrainedModel.predict_inputs
    calls = []

    def stop(self, inputs):
        calls.append(len(inputs))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return first(self, inputs)

    monkeypatch.setattr(TrainedModel, "predict_inputs", stop)
    assert predict(finished, file, "--out", tmp_path / "out.csv", "--batch", 1) == 130
    assert "nothing was written" in capsys.readouterr().err
    assert calls == [1, 1]
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.slow
def test_many_rows_need_no_more_memory_than_few(finished, tmp_path):
    def peak(number):
        file = write(
            tmp_path / f"{number}.jsonl", ({"text": f"play {n % 100}"} for n in range(number))
        )
        tracemalloc.reset_peak()
        assert predict(finished, file, "--out", tmp_path / f"{number}.csv", "--batch", 64) == 0
        most = tracemalloc.get_traced_memory()[1]  # before the file is read here
        lines = (tmp_path / f"{number}.csv").read_text().splitlines()
        assert len(lines) == number + 1
        return most

    tracemalloc.start()
    peak(232)  # compiles for whole batches of 64 and for the 40 rows that each file ends with
    few, many = peak(1000), peak(10_024)
    tracemalloc.stop()
    assert many < few + 1_000_000, (few, many)  # the rows of the second file alone are larger


def test_a_batch_is_all_that_is_in_memory(finished, tmp_path, monkeypatch):
    file = write(tmp_path / "new.jsonl", [{"text": row} for row in ROWS * 4])
    waiting, most = set(), []
    read_rows, predicted = predict_file.read_rows, predict_file._predicted

    def reading(*arguments, **how):
        for number, pair in enumerate(read_rows(*arguments, **how)):
            waiting.add(number)
            most.append(len(waiting))
            yield pair

    def predicting(*arguments):
        yield from predicted(*arguments)
        waiting.clear()

    monkeypatch.setattr(predict_file, "read_rows", reading)
    monkeypatch.setattr(predict_file, "_predicted", predicting)
    assert predict(finished, file, "--out", tmp_path / "out.jsonl", "--batch", 4) == 0
    assert max(most) == 4
    assert len(read(tmp_path / "out.jsonl")) == 12
