"""`trustml federate` as a user meets it: a table, one clear line for bad input, kills survived."""

import csv
import json
import random
import signal
import subprocess
import sys
import time

import jsonschema
import pytest

from trustml.cli import main
from trustml.report import load_schema
from trustml.training.runs.folder import RunFolder
from trustml.training.runs.ledger import read_ledger, summarize

TINY = ["--text", "text", "--label", "label", "--model", "conv", "--clients-at-once", "1"]
TINY += ["--clients-per-round", "3", "--seed", "1"]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """A file of twelve users' rows."""
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    draw = random.Random(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "user"])
        for user in range(12):
            for number in range(8 + user):
                label = draw.choice(["play", "stop"])
                writer.writerow([f"{label} it {number} {user}", label, f"u{user}"])
    return path


def test_a_run_prints_tables_and_writes_a_folder(rows, tmp_path, capsys):
    out = tmp_path / "run"
    flags = [*TINY, "--unit", "user", "--rounds", "2", "--quiet", "--out", str(out)]
    assert main(["federate", str(rows), *flags]) == 0
    shown = capsys.readouterr().out
    for text in ("over users: mean", "lowest tenth", "bytes up", "Promise: none"):
        assert text in shown
    names = {path.name for path in out.iterdir()}
    assert {"report.html", "partition.json", "rounds.jsonl", "baseline", "ledger.jsonl"} <= names
    assert "start.safetensors" not in names
    assert not (out / "baseline" / "weights.safetensors").exists()
    assert main(["federate", "--resume", str(out), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    jsonschema.validate(document, load_schema())
    assert document["federated"]["client"] == "user"


BAD = {
    "`--partition` must be given": [],
    "`partition` must be one of": ["--partition", "labels:alpha=1", "--clients", "3"],
    "`--algorithm` must be one of": ["--unit", "user", "--algorithm", "fedsgd"],
    "`selection` must be one of": ["--unit", "user", "--selection", "best"],
    "`--clients-per-round` must be at most": ["--unit", "user", "--clients-per-round", "99"],
    "cannot go with": ["--unit", "user", "--resume", "runs/none"],
    "`--nosuch` is no flag": ["--nosuch", "3"],
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_one_line_and_writes_nothing(message, rows, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["federate", str(rows), *TINY, "--quiet", *BAD[message]]) == 2
    error = capsys.readouterr().err
    assert error.startswith("trustml federate: error: ")
    assert error.count("\n") == 1
    assert message in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("privacy", [[], ["--epsilon", "8", "--delta", "1e-3"]])
def test_kills_at_any_time_change_nothing(rows, tmp_path, privacy):
    flags = [*TINY, "--unit", "user", "--rounds", "200", "--checkpoint-every", "0.3", *privacy]
    flags += ["--evaluate-every", "50"]
    command = [sys.executable, "-m", "trustml.cli", "federate"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run([*command, rows, *flags, "--out", whole], check=True, capture_output=True)
    begun = [*command, rows, *flags, "--out", killed]
    draw, kills = random.Random(1), 0
    while kills < 10:
        process = subprocess.Popen(begun, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _wait_for(RunFolder(killed).ledger, process)
        try:
            process.wait(draw.uniform(0.5, 6))
            break  # it has ended
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
        begun = [*command, "--resume", killed]
    assert kills >= 3
    subprocess.run([*command, "--resume", killed], check=True, capture_output=True)
    for name in ("weights.safetensors", "rounds.jsonl"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    summaries = [summarize(read_ledger(folder)) for folder in (whole, killed)]
    assert [one.charged for one in summaries] == [200, 200]
    reports = [json.loads((folder / "report.json").read_text()) for folder in (whole, killed)]
    for report in reports:
        for model in ("model", "central"):
            del report["federated"][model]["train_seconds"]
    assert reports[0]["federated"] == reports[1]["federated"]
    assert reports[0]["privacy"]["epsilon"] == reports[1]["privacy"]["epsilon"]


def _wait_for(path, process):
    while not path.exists() and process.poll() is None:
        time.sleep(0.05)


def test_a_plan_shows_the_price_of_selection(tmp_path, capsys):
    file = tmp_path / "rows.txt"
    file.write_text("1\n1\n2\n3\n40\n")
    flags = ["--num-units", "5", "--batch", "1", "--steps", "10", "--noise-multiplier", "2"]
    flags += ["--accountant", "rdp", "--delta", "1e-3", "--activity", str(file)]
    assert main(["plan", *flags, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    names = [one["selection"] for one in document["selections"]]
    assert names == ["uniform", "log", "power:0.5", "proportional"]
    claims = [one["claimed"] for one in document["selections"]]
    assert claims == sorted(claims)
    assert claims[0] == pytest.approx(document["epsilon"])
    # The last is of a client that is drawn at 40 of 47.
    alone = ["--num-units", "47", "--batch", "40", *flags[4:-2]]
    assert main(["plan", *alone, "--json"]) == 0
    assert claims[-1] == pytest.approx(json.loads(capsys.readouterr().out)["epsilon"])
    assert main(["plan", *flags]) == 0
    assert "The price of selection" in capsys.readouterr().out
    assert main(["plan", "--num-units", "6", *flags[2:]]) == 2
    assert "`--activity` must hold a number for each of the 6 units" in capsys.readouterr().err
