"""The command as a user meets it: results in files, one clear line for bad input."""

import contextlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import jsonschema
import numpy as np
import optax
import pytest
import yaml

import trustml
from trustml.cli import main
from trustml.cli.options import show_table
from trustml.data import hash_tokenizer
from trustml.data.rows import bio_tags
from trustml.models.joint import nlu
from trustml.recipes.train import arms
from trustml.recipes.train.config import TrainConfig
from trustml.report import load_schema
from trustml.training import load_weights, memory

TINY = ["--steps", "2", "--batch", "64", "--baseline-steps", "2", "--quiet", "--no-pretrain"]


def train(folder, *, noise=2.0, data=0, stop_at=None, steps=6, seed=None):
    """A run of the library, for its ledger."""
    x = np.random.default_rng(data).normal(size=(100, 2)).astype(np.float32)
    plan = trustml.PrivacyPlan(
        clip_norm=1.0, noise_multiplier=noise, sample_rate=0.2, steps=steps, expected_batch=20
    )
    step = trustml.private_step(lambda w, unit: jnp.sum((w - unit) ** 2), optax.sgd(0.1), plan)

    def interrupt(event):
        if event.step == stop_at:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        trustml.fit(
            step,
            jnp.zeros(2),
            x,
            out=folder,
            resume=True,
            callbacks=[interrupt],
            progress=False,
            accept_charge=True,
            seed=seed,
        )
    return plan


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """One tiny run of the default, without an audit."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    assert main(["train", *TINY, "--seed", "1", "--out", str(folder)]) == 0
    return folder


def test_a_run_leaves_a_report_and_metrics(finished):
    report = json.loads((finished / "report.json").read_text())
    assert report["data"]["synthetic"] is True
    assert report["data"]["train"] + report["data"]["held_out"] == 16_000
    assert set(report["results"]) == {"private", "baseline"}
    assert 2.5 < report["results"]["private"]["epsilon"] <= 3.0
    assert report["results"]["baseline"]["epsilon"] is None
    for side in report["results"].values():
        for found in side["metrics"].values():
            assert 0 <= found["low"] <= found["value"] <= found["high"] <= 1
        assert side["step_ms"] > 0
    assert "Reproducible run" in report["privacy"]["statement"]
    assert "one utterance" in report["privacy"]["statement"]
    assert report["privacy"]["steps_charged"] == 2
    jsonschema.validate(report, load_schema())


def test_the_attack_reads_rows_that_coins_put_in_or_out(finished):
    report = json.loads((finished / "report.json").read_text())
    canaries = json.loads((finished / "canaries.json").read_text())
    members, others = (
        {*canaries[side], *canaries[f"wrong_{side}"]} for side in ("members", "nonmembers")
    )
    assert len(members | others) == 1000
    assert not members & others
    assert 400 < len(members) < 600  # 6 sigma of a fair coin
    assert report["data"]["held_out"] == len(others)
    for side in report["attack"]["arms"].values():
        assert side["epsilon_lower_bound"]["value"] <= 3.0
        half = (side["auc"]["high"] - side["auc"]["low"]) / 2  # two standard errors
        assert side["auc"]["low"] - half < 0.5 < side["auc"]["high"] + half


def test_groups_and_intents_are_evaluated_apart(finished):
    report = json.loads((finished / "report.json").read_text())
    for kind in ("protected group", "intent"):
        rows = [row for row in report["groups"] if row["by"] == kind]
        assert sum(row["evaluated"] for row in rows) == report["data"]["evaluated"]
    assert {"general speech", "regional speech"} <= {row["name"] for row in report["groups"]}


def test_every_metric_line_is_marked_private(finished):
    for place in (finished, finished / "baseline"):
        lines = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
        assert lines
        assert all(line["private"] is True for line in lines)


def test_the_folder_holds_what_is_promised_and_no_secret(finished):
    assert sorted(path.name for path in finished.iterdir()) == [
        "baseline",
        "canaries.json",
        "checkpoints",
        "config.yaml",
        "ledger.jsonl",
        "metrics.jsonl",
        "plan.json",
        "report.html",
        "report.json",
        "resolved.yaml",
        "weights.safetensors",
    ]
    left = sorted(path.name for path in (finished / "baseline").iterdir())
    assert left == ["ledger.jsonl", "metrics.jsonl", "plan.json"]


def test_the_configuration_is_kept_as_written_and_as_resolved(finished):
    written = yaml.safe_load((finished / "config.yaml").read_text())
    tiny = {"steps": 2, "batch": 64, "baseline_steps": 2, "pretrain": False}
    assert written == {**tiny, "audit": True, "audit_canaries": 300, "seed": 3}
    resolved = yaml.safe_load((finished / "resolved.yaml").read_text())
    followed = {"task": "nlu", "data": "synthetic", "audit_rows": 1000, "max_examples_per_unit": 1}
    followed |= {"preset": "synthetic", "physical_batch_size": 256}  # what `auto` found
    assert TrainConfig(**resolved["settings"]) == TrainConfig(**written, **followed)


def test_the_page_is_written(finished):
    page = (finished / "report.html").read_text()
    assert "Trust report" in page
    assert "at most 3" in page


def test_the_page_of_a_run_opens_in_a_browser(finished, browse):
    page = browse(finished / "report.html", "--dump-dom").stdout
    for title in ("In plain words", "Membership attack", "Where the time went", "Clipping"):
        assert re.search(rf"<h2[^>]*>{title}", page)
    assert page.count("<svg") >= 6
    assert "Not there" not in page


def test_a_finished_run_is_not_overwritten(finished, capsys):
    before = (finished / "report.json").read_bytes()
    assert main(["train", *TINY, "--out", str(finished)]) == 2
    assert "`--out` must be a new folder" in capsys.readouterr().err
    assert (finished / "report.json").read_bytes() == before


def test_a_finished_run_is_shown_and_takes_no_more_steps(finished, capsys):
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    assert main(["train", "--resume", str(finished)]) == 0
    shown = capsys.readouterr()
    assert "no step is left" in shown.err
    assert "Promise: (2.9" in shown.out
    assert before == {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}


@pytest.mark.slow  # in short: test_a_run_that_goes_on_has_the_same_canaries
def test_an_interrupted_run_goes_on_and_ends_the_same(plain, tmp_path, capsys, monkeypatch):
    folder, judge = tmp_path / "cut off", arms.evaluation.evaluate

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(arms.evaluation, "evaluate", interrupt)
    assert main(["train", *TINY, "--seed", "1", "--out", str(folder)]) == 130
    line = capsys.readouterr().err
    assert f"interrupted; go on with: trustml train --resume '{folder}'" in line
    assert main(["report", str(folder)]) == 0
    assert "unfinished" in (folder / "report.html").read_text()
    monkeypatch.setattr(arms.evaluation, "evaluate", judge)
    monkeypatch.setattr(memory, "_memory_limit", lambda: 1)  # a run that goes on does not search
    assert main(["train", "--resume", str(folder), "--quiet"]) == 0
    name = "weights.safetensors"
    assert (folder / name).read_bytes() == (plain / name).read_bytes()
    found, wanted = (json.loads((place / "report.json").read_text()) for place in (folder, plain))
    assert found["results"]["private"]["metrics"] == wanted["results"]["private"]["metrics"]
    assert found["attack"] == wanted["attack"]
    assert found["notes"] == wanted["notes"]
    assert found["results"]["baseline"]["metrics"] == wanted["results"]["baseline"]["metrics"]


def test_weights_are_exported_with_a_card(finished, tmp_path, capsys):
    out = tmp_path / "model"
    assert main(["export", str(finished), "--out", str(out), "--license", "apache-2.0"]) == 0
    assert "Promise: (2.9" in capsys.readouterr().out
    config = json.loads((out / "config.json").read_text())
    net = nlu.build(
        config["kind"],
        table_sizes=hash_tokenizer(config["tokenizer"]["buckets"]).sizes,
        intents=len(config["intents"]),
        tags=bio_tags(tuple(config["slots"])),
        **config["sizes"],
    )
    params = load_weights(out / "model.safetensors", net.init(jax.random.key(0)))
    assert jax.tree.all(jax.tree.map(lambda leaf: bool(jnp.isfinite(leaf).all()), params))
    front, words = (out / "README.md").read_text().removeprefix("---\n").split("---\n", 1)
    card = yaml.safe_load(front)
    assert card["license"] == "apache-2.0"
    assert 2.5 < card["privacy"]["epsilon"] <= 3.0
    assert card["model-index"][0]["results"][0]["metrics"][0]["type"] == "intent_accuracy"
    for title in ("## Data", "## What is promised", "## Utility", "## Plan"):
        assert title in words
    assert main(["export", str(finished), "--out", str(out)]) == 2
    assert "`--out` must be a new or empty folder" in capsys.readouterr().err
    bare = tmp_path / "bare"
    assert main(["export", str(finished), "--out", str(bare), "--no-utility", "--json"]) == 0
    assert "model-index" not in (bare / "README.md").read_text()


def test_other_weights_are_not_exported_under_the_promise(finished, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    data = (copy / "weights.safetensors").read_bytes()
    (copy / "weights.safetensors").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert main(["export", str(copy), "--out", str(tmp_path / "model")]) == 2
    assert "must be the weights that the run ended with" in capsys.readouterr().err
    (copy / "weights.safetensors").unlink()
    assert main(["export", str(copy), "--out", str(tmp_path / "model")]) == 2
    assert "must hold the run's weights" in capsys.readouterr().err
    assert main(["export", str(finished), "--out", str(tmp_path / "model"), "--repeat", "2"]) == 2
    assert "`--repeat` must be from 1 to 1" in capsys.readouterr().err


def test_a_folder_with_other_things_is_not_written_into(tmp_path, capsys):
    (tmp_path / "config.yaml").write_text("mine")
    assert main(["train", *TINY, "--out", str(tmp_path)]) == 2
    assert "`--out` must be a new or empty folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_an_unfinished_run_is_not_exported(tmp_path, capsys):
    folder = tmp_path / "run"
    train(folder, stop_at=2)
    assert main(["export", str(folder), "--out", str(tmp_path / "model")]) == 2
    assert "`RUN` must be a finished run" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--data", "atis"], "`--data` must be a file of rows, synthetic or a set of the"),
        (["--data", "snips", "--data-dir", "/nowhere"], "`data_dir` must be a folder"),
        (["--epsilon", "nan"], "`epsilon` must be positive and finite, got nan"),
        (["--epsilon", "-1"], "`epsilon` must be positive and finite, got -1.0"),
        (["--delta", "0"], "`delta` must be in (0, 1), got 0.0"),
        (["--delta", "2"], "`delta` must be in (0, 1), got 2.0"),
        (["--batch", "20_000"], "`expected_batch` must be at most `num_units` (1"),
        (["--clip-norm", "inf"], "`clip_norm` must be positive and finite, got inf"),
        (["--model", "gru"], "`--model` must be the folder or name of a model"),
        (["--preset", "none"], "`--preset` must be one of"),
        (["--eval-split", "train"], "`--eval-split` must be test or valid"),
        (["--sampling", "shuffle"], "`sampling` must be one of"),
        (["--pretrain"], "`--pretrain` must be off"),
        (["--audit-rows", "9000"], "`--audit-rows` must be from 0 to 8000"),
        (["--schedule", "step"], "`schedule` must be one of cosine, linear, constant"),
        (["--config", "nowhere.yaml"], "`nowhere.yaml` must be a YAML file of settings"),
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


# --- Configuration files ---


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epsilonn: 3\n", "`epsilonn` is no setting, in {}. Did you mean `epsilon`?"),
        ("zzz: 3\n", "`zzz` is no setting, in {}. `--help` names them."),
        ("steps: three\n", "`steps` must be a whole number, got 'three', in {}."),
        ("steps: 2.5\n", "`steps` must be a whole number, got 2.5, in {}."),
        ("download: 1\n", "`download` must be true or false, got 1, in {}."),
        ("epsilon: true\n", "`epsilon` must be a number, got True, in {}."),
        ("repeats: 0\n", "`repeats` must be at least 1, got 0, in {}."),
        ("checkpoint_every: -1\n", "`checkpoint_every` must be at least 0, got -1, in {}."),
        ("seed: -1\n", "`seed` must be at least 0, got -1, in {}."),
        ("steps: 2\nsteps: 3\n", "the name 'steps' occurs twice"),
        ("data: [snips\n", "`{}` must be a whole YAML file of settings"),
        ("- data\n", "`{}` must map names of settings to values, got list."),
    ],
)
def test_a_wrong_configuration_is_named(text, message, tmp_path, capsys):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    assert main(["train", "--config", str(path)]) == 2
    error = capsys.readouterr().err
    assert message.format(path) in error
    assert error.count("\n") == 1


def test_flags_override_the_file_and_dashes_are_fine(tmp_path, monkeypatch):
    path, seen = tmp_path / "run.yaml", []
    path.write_text("clip-norm: 0.5\nsteps: 7\nepsilon: 2\ndelta: 1e-6\neval-split: valid\n")

    def note(config, out, *, written, **_):
        seen.append((config, written))
        raise KeyboardInterrupt

    monkeypatch.setattr("trustml.recipes.run", note)
    assert main(["train", "--config", str(path), "--steps", "9", "--no-baseline"]) == 130
    config, written = seen[0]
    assert (written["steps"], written["epsilon"]) == (9, 2)
    assert (config.clip_norm, config.steps, config.baseline) == (0.5, 9, False)
    assert (config.delta, config.eval_split) == (1e-6, "valid")


@pytest.mark.parametrize(
    ("flags", "name"), [(["--epsilon", "8"], "epsilon"), (["--out", "x"], "out")]
)
def test_a_resumed_run_keeps_its_settings(flags, name, finished, capsys):
    assert main(["train", "--resume", str(finished), *flags]) == 2
    assert f"`--{name}` cannot go with `--resume`" in capsys.readouterr().err


@pytest.mark.parametrize("file", ["resolved.yaml", "canaries.json"])
def test_a_damaged_file_of_a_run_is_named(file, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "run"
    monkeypatch.setattr(arms.Trainings, "carry_out", lambda *_, **__: pytest.fail("no"))
    with pytest.raises(pytest.fail.Exception):
        main(["train", *TINY, "--out", str(folder)])
    whole = (folder / file).read_bytes()
    for part in (0.1, 0.5, 0.9):
        (folder / file).write_bytes(whole[: int(part * len(whole))])
        assert main(["train", "--resume", str(folder)]) == 2
        error = capsys.readouterr().err
        assert file in error
        assert error.count("\n") == 1


# --- What runs cost together ---


def test_runs_on_one_data_set_add_up(tmp_path, capsys):
    plan = train(tmp_path / "first")
    train(tmp_path / "second", stop_at=4)
    train(tmp_path / "other", data=1)
    folders = [str(tmp_path / name) for name in ("first", "second", "other")]
    assert main(["plan", "--ledger", *folders, "--json"]) == 0
    same, other = json.loads(capsys.readouterr().out)
    assert [run["steps"] for run in same["runs"]] == [6, 4]
    expected = trustml.PrivacyPlan.from_dict({**plan.to_dict(), "steps": 10}).epsilon(1e-5)
    assert same["epsilon"] == pytest.approx(expected, rel=1e-6)
    assert other["epsilon"] == pytest.approx(plan.epsilon(1e-5), rel=1e-6)
    assert main(["plan", "--ledger", *folders]) == 0
    assert "together" in capsys.readouterr().out


def test_a_copy_that_went_on_apart_counts_twice_from_there(tmp_path, capsys):
    train(tmp_path / "run", stop_at=4)
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    for name in ("run", "copy"):
        train(tmp_path / name)
    assert main(["plan", "--ledger", str(tmp_path / "run"), str(tmp_path / "copy"), "--json"]) == 0
    (total,) = json.loads(capsys.readouterr().out)
    assert [run["steps"] for run in total["runs"]] == [6, 2]
    assert "is a copy of another run" in total["notes"][0]


def test_one_seed_for_two_runs_promises_nothing(tmp_path, capsys):
    for name in ("first", "second"):
        train(tmp_path / name, seed=3)
    folders = [str(tmp_path / name) for name in ("first", "second")]
    assert main(["plan", "--ledger", *folders]) == 0
    shown = capsys.readouterr().out
    assert "infinite" in shown
    assert "two of these runs have one noise key" in shown
    assert main(["plan", "--ledger", *folders, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["epsilon"] is None


def test_what_is_no_run_is_not_resumed(tmp_path, capsys):
    assert main(["train", "--resume", str(tmp_path)]) == 2
    assert "`--resume` must name the folder of a run" in capsys.readouterr().err


def test_what_is_no_ledger_is_refused(tmp_path, capsys):
    assert main(["plan", "--ledger", str(tmp_path)]) == 2
    assert "`ledger` must be a run's folder" in capsys.readouterr().err
    train(tmp_path / "run")
    path = tmp_path / "run/ledger.jsonl"
    path.write_text(path.read_text().replace('"steps": 6', '"steps": 9'))
    assert main(["plan", "--ledger", str(tmp_path / "run")]) == 2
    assert "ledger.jsonl line 1 is damaged" in capsys.readouterr().err


def test_a_ledger_of_another_format_is_not_added_up(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("trustml.training.runs.resume.SCHEMA", 1)
    train(tmp_path / "run")
    assert main(["plan", "--ledger", str(tmp_path / "run")]) == 2
    assert "`ledger` must be of format 3, got" in capsys.readouterr().err


# --- The report of other runs ---


def test_a_run_of_the_library_has_a_report_too(tmp_path, capsys):
    train(tmp_path / "run", stop_at=3)
    assert main(["report", str(tmp_path / "run"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    jsonschema.validate(report, load_schema())
    assert report["status"] == "unfinished"
    assert report["privacy"]["steps_charged"] == 3
    assert report["clipping"]["steps"] == [1, 2, 3]
    assert "unfinished" in (tmp_path / "run/report.html").read_text()


def test_several_runs_make_one_page(finished, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert main(["report", str(finished), str(finished), "--out", str(page)]) == 0
    assert "Privacy against utility" in page.read_text()
    capsys.readouterr()
    assert main(["report", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out) == load_schema()


@pytest.mark.parametrize(
    ("break_it", "text"),
    [
        (lambda run: (run / "report.json").write_text("{"), "must be a whole JSON document"),
        (lambda run: (run / "report.json").write_text("{}"), "`schema_version` must be 3"),
        (lambda run: (run / "report.json").unlink(), "holds neither report.json nor ledger.jsonl"),
    ],
)
def test_a_damaged_report_is_named(break_it, text, tmp_path, capsys):
    (tmp_path / "report.json").write_text("{}")
    break_it(tmp_path)
    assert main(["report", str(tmp_path)]) == 2
    assert text in capsys.readouterr().err


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_a_table_loses_nothing_on_any_terminal(width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    head = ["point", "steps before", "secrets left", "holds"]
    row = ["checkpoint, not yet in the ledger", "16", "False", "yes"]
    show_table("Survival", head, [row, row])
    shown = capsys.readouterr().out
    squeezed = "".join(shown.split())
    for word in (*row[1:], *" ".join(head).split(), "ledger"):
        assert word in shown
    assert max(map(len, shown.splitlines())) <= width
    assert squeezed.count("False") == 2


def test_a_table_shows_brackets_and_colons_as_they_are(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    show_table("By [group]", ["[b]", "value"], [["[/b] :smile:", "[1, 2]"]])
    shown = capsys.readouterr().out
    for text in ("By [group]", "[b]", "[/b] :smile:", "[1, 2]"):
        assert text in shown
