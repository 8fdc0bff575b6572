"""`trustml export` to other programs: the lines on the card run, with the model's own results."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import trustml
from trustml.cli import main

TEXT = "where is my order?"  # of the card's lines


@pytest.fixture(scope="module")
def model(finished):
    return trustml.recipes.load_model(finished)


def usage(folder):
    """The lines of Python on a card."""
    return re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)[1]


@pytest.mark.parametrize("to", ["jax", "onnx"])
def test_a_function_gives_what_the_model_gives(to, finished, model, tmp_path, monkeypatch):
    if to == "onnx":
        pytest.importorskip("jax2onnx", reason="needs the extra onnx")
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(finished), "--out", "out", "--to", to]) == 0
    found = {}
    exec(usage(Path("out")), found)  # as a stranger would run it
    config = json.loads(Path("out/config.json").read_text())
    outputs = dict(zip(config["function"]["outputs"], found["outputs"], strict=True))
    wanted = model.probabilities([TEXT])
    np.testing.assert_allclose(outputs["probabilities"], wanted, rtol=1e-4, atol=1e-6)
    assert outputs["tag_scores"].shape == (1, 32, len(model.schema.tags))
    assert config["intents"] == list(model.labels)
    tokens = np.zeros((5, *config["function"]["inputs"]["tokens"][1:3]), np.int32)
    mask = np.zeros(tokens.shape[:2], bool)
    assert len(found["model"](tokens=tokens, mask=mask)[0]) == 5  # any number of rows


def test_weights_of_the_audit_stay_behind_in_every_format(finished, tmp_path):
    for to in ("safetensors", "jax"):
        assert main(["export", str(finished), "--out", str(tmp_path / to), "--to", to]) == 0
        assert sorted(path.name for path in (tmp_path / to).iterdir())[:2] == [
            "README.md",
            "config.json",
        ]
    kept = load_file(finished / "weights.safetensors")
    written = load_file(tmp_path / "safetensors" / "model.safetensors")
    assert {f"model.{name}" for name in written} == set(kept) - {"canaries"}
    assert kept["canaries"].tobytes() not in (tmp_path / "jax" / "model.jax").read_bytes()


@pytest.mark.parametrize("to", ["transformers", "pickle"])
def test_a_format_that_cannot_hold_the_model_is_one_line(to, finished, tmp_path, capsys):
    assert main(["export", str(finished), "--out", str(tmp_path / "out"), "--to", to]) == 2
    shown = capsys.readouterr().err
    assert f"`--to` must be one of safetensors, jax, onnx for this model, got '{to}'" in shown
    assert shown.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_missing_converter_is_one_line(finished, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "jax2onnx", None)
    assert main(["export", str(finished), "--out", str(tmp_path / "out"), "--to", "onnx"]) == 2
    assert "`--to onnx` needs jax2onnx and onnxruntime: pip install" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_nothing_half_written(finished, tmp_path, monkeypatch):
    def stop(*arguments, **how):
        raise KeyboardInterrupt

    monkeypatch.setattr("trustml.recipes.export.run.model_card", stop)
    assert main(["export", str(finished), "--out", str(tmp_path / "out")]) == 130
    assert list(tmp_path.iterdir()) == []


def test_the_card_states_the_data_by_a_fingerprint_alone(finished, tmp_path):
    report = json.loads((finished / "report.json").read_text())
    for flags, shown in (([], True), (["--no-fingerprint"], False)):
        out = tmp_path / f"out{len(flags)}"
        assert main(["export", str(finished), "--out", str(out), *flags]) == 0
        assert (report["data"]["fingerprint"] in (out / "README.md").read_text()) == shown
