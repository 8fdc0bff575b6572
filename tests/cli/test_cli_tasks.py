"""`trustml train` on each kind of task, with a tiny language model and real data."""

import json
import os
import shutil

import jax
import jsonschema
import numpy as np
import pytest

from trustml.cli.main import main
from trustml.models.pretrained.loading import from_pretrained
from trustml.models.pretrained.public_text import PublicModel, public_model
from trustml.report import load_schema

pytestmark = [
    pytest.mark.skipif("TRUSTML_DATA" not in os.environ, reason="needs TRUSTML_DATA: real rows"),
    pytest.mark.usefixtures("relaxed_promotion"),
]

WORDS = ["markets rise while the team wins a match", "new phones and a war of words"] * 40
TINY = ["--steps", "2", "--batch", "16", "--baseline-steps", "2", "--quiet", "--seed", "1"]
TINY += ["--physical-batch-size", "16"]
RUNS = {
    "classify": ("bert", "ag_news", ["--max-length", "16", "--trainable", "lora"]),
    "tag": ("bert", "wnut17", ["--max-length", "16", "--trainable", "bitfit"]),
    "nlu": ("bert", "hwu64", ["--max-length", "16", "--trainable", "last-1"]),
    "qa": ("bert", "xquad_en", ["--max-length", "96", "--unit", "paragraph"]),
    "lm": ("gpt2", "shakespeare_roles", ["--max-length", "16", "--unit", "role"]),
    "seq2seq": ("bart", "dialogsum", ["--max-length", "16"]),
}
PERCENT = {"accuracy", "exact_match", "intent_accuracy"}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    cache = tmp_path_factory.mktemp("models")
    sizes = {"features": 8, "layers": 1, "heads": 2, "length": 16, "steps": 2, "batch": 4}
    with jax.numpy_dtype_promotion("standard"):
        return {
            kind: public_model(
                PublicModel(kind=kind, vocabulary=300, positions=128, **sizes), WORDS, "test", cache
            )
            for kind in ("bert", "gpt2", "bart")
        }


@pytest.mark.slow
@pytest.mark.parametrize("task", sorted(RUNS))
def test_every_task_trains_by_one_command(task, models, tmp_path):
    kind, data, more = RUNS[task]
    folder = tmp_path / "run"
    call = ["train", "--task", task, "--data", data, "--model", str(models[kind]), *more, *TINY]
    assert main([*call, "--out", str(folder)]) == 0
    report = json.loads((folder / "report.json").read_text())
    jsonschema.validate(report, load_schema())
    assert report["results"]["private"]["epsilon"] <= 3.0
    for metric in report["metrics"]:
        for side in report["results"].values():
            found = side["metrics"][metric["name"]]
            assert found["low"] <= found["value"] <= found["high"]
        assert metric["percent"] == (metric["name"] in PERCENT)
    level = more[more.index("--unit") + 1] if "--unit" in more else report["privacy"]["unit"]
    assert f"one {level}" in report["privacy"]["statement"]
    assert any("vocabulary from test" in note for note in report["notes"])
    anew = any("random at the start: head/" in note for note in report["notes"])
    # Heads that the public model has, and one that starts from the names of the classes.
    assert anew == (task not in ("classify", "lm", "seq2seq"))
    assert "NaN" not in (folder / "report.html").read_text()


@pytest.mark.slow
def test_a_model_for_another_problem_is_one_line(models, tmp_path, capsys):
    folder = tmp_path / "model"
    shutil.copytree(models["bert"], folder)
    fields = json.loads((folder / "config.json").read_text())
    fields["problem_type"] = "multi_label_classification"
    fields["architectures"] = ["BertForSequenceClassification"]
    (folder / "config.json").write_text(json.dumps(fields))
    call = ["train", "--data", "ag_news", "--model", str(folder), "--max-length", "16", *TINY]
    call += ["--trainable", "all"]
    assert main([*call, "--out", str(tmp_path / "run")]) == 2
    shown = capsys.readouterr().err
    assert "`--model` must tell one class out of several" in shown
    assert "a model for multi_label_classification" in shown
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_language_model_is_exported_as_others_read_it(models, tmp_path, capsys):
    run, out = tmp_path / "run", tmp_path / "model"
    call = ["train", "--task", "nlu", "--data", "hwu64", "--model", str(models["bert"])]
    call += ["--trainable", "lora", "--max-length", "16", "--no-baseline", *TINY]
    assert main([*call, "--out", str(run)]) == 0
    assert main(["export", str(run), "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "model.safetensors" in shown
    found = from_pretrained(out, head="nlu")
    assert found.fresh == ()
    assert not any("lora" in str(path) for path, _ in jax.tree.leaves_with_path(found.params))
    named = {"labels": found.config.labels, "tags": found.config.tags}
    public = from_pretrained(models["bert"], head="nlu", **named)
    word = [np.asarray(each.params["embeddings"]["word"]["embedding"]) for each in (found, public)]
    np.testing.assert_array_equal(*word)  # frozen
    assert (out / "tokenizer.json").exists()
    assert "wordpiece" not in (out / "README.md").read_text().lower()
    assert main(["export", str(run), "--out", str(out)]) == 2


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--task", "talk"], "`--task` must be one of classify, "),
        (["--task", "qa", "--data", "ag_news"], "`--data` must be a data set for the task 'qa'"),
        (["--task", "qa", "--model", "conv"], "`--model` must be a language model"),
        (["--data", "ag_news", "--unit", "writer"], "`--unit` must be one of article"),
        (["--data", "ag_news", "--model", "nowhere-bert"], "nowhere-bert"),
        (
            ["--data", "ag_news", "--model", "conv", "--trainable", "lora"],
            "`--trainable` must be all",
        ),
        (["--data", "ag_news", "--preset", "lm"], "`--preset` must be one for the task"),
        (["--data", "mnist"], "got 'mnist', whose kind is images"),
        (["--data", "ag_news", "--patience", "2"], "`--patience` needs generated rows"),
    ],
)
def test_bad_input_is_one_line(arguments, text, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["train", *TINY, *arguments]) == 2
    shown = capsys.readouterr()
    assert text in shown.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            ["--data", "wnut17", "--task", "tag", "--max-length", "4000", "--trainable", "all"],
            "`--max-length` must be from 8 to 128",
        ),
        (["--trainable", "("], "`pattern` must be a regular expression"),
        (["--trainable", "last-9"], "`count` must be from 0 to"),
        (["--trainable", "nothing-like-it"], "`--trainable` nothing-like-it: must be all, lora"),
    ],
)
def test_what_does_not_fit_a_model_is_one_line(arguments, text, models, tmp_path, capsys):
    call = ["train", "--data", "ag_news", "--model", str(models["bert"]), *TINY, *arguments]
    assert main([*call, "--out", str(tmp_path / "run")]) == 2
    assert text in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
