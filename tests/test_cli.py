"""The command as a user meets it: results in files, one clear line for bad input."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from trustml.cli import main

TINY = ["--steps", "2", "--batch", "64", "--baseline-steps", "2", "--quiet", "--no-pretrain"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One tiny run of the default, with its folder and exit code."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    code = main(["train", *TINY, "--seed", "1", "--out", str(folder)])
    return code, folder


def test_a_run_leaves_a_report_and_metrics(finished):
    code, folder = finished
    assert code == 0
    report = json.loads((folder / "report.json").read_text())
    assert report["data"]["synthetic"] is True
    assert set(report["results"]) == {"private", "baseline"}
    assert 2.5 < report["results"]["private"]["epsilon"] <= 3.0
    assert report["results"]["baseline"]["epsilon"] is None
    for side in report["results"].values():
        assert side["private"] is True
        assert 0 <= side["intent_accuracy"]["low"] <= side["intent_accuracy"]["value"] <= 1
        assert side["step_ms"] > 0
    assert "Reproducible run" in report["statement"]
    assert "one utterance" in report["statement"]


def test_every_metric_line_is_marked_private(finished):
    _, folder = finished
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert all(line["private"] is True for line in lines)
    assert {line["training"] for line in lines} == {"private", "baseline"}


def test_nothing_else_is_written(finished):
    _, folder = finished
    assert sorted(path.name for path in folder.iterdir()) == ["metrics.jsonl", "report.json"]


def test_a_finished_run_is_not_overwritten(finished, capsys):
    _, folder = finished
    before = (folder / "report.json").read_bytes()
    assert main(["train", *TINY, "--out", str(folder)]) == 2
    assert "`--out` must be a new folder" in capsys.readouterr().err
    assert (folder / "report.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--data", "atis"], "must be one of synthetic, snips, got 'atis'"),
        (["--data", "snips", "--data-dir", "/nowhere"], "`data_dir` must be a folder"),
        (["--epsilon", "nan"], "`epsilon` must be positive and finite, got nan"),
        (["--epsilon", "-1"], "`epsilon` must be positive and finite, got -1.0"),
        (["--delta", "0"], "`delta` must be in (0, 1), got 0.0"),
        (["--delta", "2"], "`delta` must be in (0, 1), got 2.0"),
        (["--batch", "20_000"], "`expected_batch` must be at most `num_units` (16000)"),
        (["--clip-norm", "inf"], "`clip_norm` must be positive and finite, got inf"),
        (["--model", "gru"], "`--model` must be one of"),
        (["--preset", "none"], "`--preset` must be one of"),
        (["--on", "train"], "`--on` must be test or valid"),
        (["--sampling", "shuffle"], "`sampling` must be one of"),
        (["--pretrain"], "`--pretrain` must be off"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(arguments, text, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *TINY, *arguments]) == 2
    shown = capsys.readouterr()
    assert text in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ("", "empty"),
        ("PlayMusic\tplay it\tO O\nPlayMusic\tplay it\tO\n", "train.tsv:2"),
        ("Nope\tplay it\tO O\n", "train.tsv:1"),
        ("PlayMusic\tplay it\tO B-nope\n", "train.tsv:1"),
        ("PlayMusic play it\n", "train.tsv:1"),
    ],
)
def test_broken_files_are_named_by_line(rows, text, tmp_path, capsys):
    for part in ("train", "valid", "test"):
        (tmp_path / f"{part}.tsv").write_text(rows)
    out = tmp_path / "out"
    arguments = ["train", *TINY, "--data", "snips", "--data-dir", str(tmp_path), "--out", str(out)]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("budget", "text"),
    [
        (["--epsilon", "1e-9", "--delta", "1e-12"], "The nearest that can is epsilon="),
        (["--epsilon", "500", "--delta", "0.1"], "Use an epsilon below "),
        (["--epsilon", "3", "--delta", "1e-60"], "Use a delta above "),
    ],
)
def test_a_plan_that_cannot_be_met_names_the_nearest(budget, text, capsys):
    size = ["--num-units", "100", "--batch", "10", "--steps", "10", "--accountant", "rdp"]
    assert main(["plan", *size, *budget]) == 2
    assert text in capsys.readouterr().err


def test_plan_prints_what_the_library_computes(capsys):
    arguments = ["--num-units", "1000", "--batch", "100", "--steps", "512", "--delta", "1e-6"]
    assert main(["plan", *arguments, "--noise-multiplier", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert abs(found["epsilon"] - 3.7697) < 1e-3
    assert found["epsilon_by_steps"]["512"] == found["epsilon"]


@pytest.mark.parametrize("arguments", [["verify", "nothing"], ["plan", "--steps", "0"], []])
def test_usage_errors_exit_with_two(arguments, capsys):
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert capsys.readouterr().err


def test_the_command_is_installed():
    program = Path(sys.executable).with_name("trustml")
    shown = subprocess.run([program, "train", "--help"], capture_output=True, text=True, check=True)
    for word in ("--epsilon", "--data-dir", "synthetic", "private quantities"):
        assert word in shown.stdout
