"""`trustml export` to other programs: the lines on the card run, with the model's own results."""

import functools
import hmac
import json
import re
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file
from scipy.special import softmax

import trustml
from trustml.cli import main
from trustml.models.pretrained.public_text import PublicModel
from trustml.models.pretrained.saving import save_pretrained
from trustml.models.transformers.language import build_language_model

TEXT = "where is my order?"  # of the card's lines
ROWS = [f"{words} {number}" for number in range(40) for words in ("where is my order", "play jazz")]
SIZES = {"features": 8, "layers": 2, "heads": 2, "vocabulary": 300, "positions": 64}


@pytest.fixture(scope="module")
def model(finished):
    return trustml.recipes.load_model(finished)


def usage(folder):
    """The lines of Python on a card."""
    return re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)[1]


@pytest.mark.parametrize("to", ["jax", "onnx"])
def test_a_function_gives_what_the_model_gives(to, finished, model, tmp_path, monkeypatch):
    if to == "onnx":
        pytest.importorskip("jax2onnx", reason="needs the extra onnx and jax2onnx")
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
    first = json.loads((finished / "ledger.jsonl").read_text().splitlines()[0])
    plain = report["data"]["fingerprint"]
    keyed = hmac.new(first["hash"].encode(), plain.encode(), "sha256").hexdigest()
    for flags, shown in (([], True), (["--no-fingerprint"], False)):
        out = tmp_path / f"out{len(flags)}"
        assert main(["export", str(finished), "--out", str(out), *flags]) == 0
        card = (out / "README.md").read_text()
        assert (keyed in card) == shown
        assert plain not in card


@pytest.fixture(scope="module", params=["features", "lora"])
def featured(request, tmp_path_factory):
    """A run of a head on the features of a tiny encoder, by a file of one's own."""
    base = tmp_path_factory.mktemp("featured")
    tokenizer = PublicModel(kind="bert", **SIZES).tokenizer(ROWS, "test")
    config = PublicModel(kind="bert", **SIZES).config(tokenizer)
    network = build_language_model(config, "mlm")
    params = network.init(jax.random.key(0))
    save_pretrained(base / "encoder", (network, config, params), tokenizer, head="mlm")
    lines = [f"{row},{label}" for row, label in zip(ROWS, ["order", "music"] * 40, strict=True)]
    (base / "messages.csv").write_text("\n".join(["message,intent", *lines]))
    call = ["train", str(base / "messages.csv"), "--text", "message", "--label", "intent"]
    call += ["--model", str(base / "encoder"), "--trainable", request.param, "--steps", "2"]
    call += ["--batch", "8", "--max-length", "32", "--learning-rate", "0.5", "--no-baseline"]
    call += ["--quiet", "--out"]
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        assert main([*call, str(base / "run")]) == 0
    return base


@pytest.mark.slow
@pytest.mark.usefixtures("relaxed_promotion")
@pytest.mark.parametrize("to", ["jax", "onnx", "sentence-transformers"])
def test_a_head_on_features_leaves_with_its_encoder(to, featured, tmp_path, monkeypatch):
    needed = {"onnx": "jax2onnx", "sentence-transformers": "sentence_transformers"}
    if to in needed:
        pytest.importorskip(needed[to])
    monkeypatch.chdir(tmp_path)
    run = str(featured / "run")
    assert main(["export", run, "--out", "out", "--to", to]) == 0
    model, found = trustml.recipes.load_model(run), {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the other libraries
        exec(usage(Path("out")), found)
    outputs = found["outputs"]
    if to == "sentence-transformers":
        default = Path("default")
        assert main(["export", run, "--out", str(default)]) == 0
        assert (default / "head.safetensors").exists()
        assert found["encoder"].encode([TEXT]).shape == (1, SIZES["features"])
        outputs = [softmax(outputs.numpy(), 1)]
    np.testing.assert_allclose(outputs[0], model.probabilities([TEXT]), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("relaxed_promotion")
@pytest.mark.parametrize(("task", "parent"), [("tag", ()), ("nlu", ("slots",))])
def test_a_head_that_tags_by_features_leaves_as_weights_alone(
    task, parent, featured, tmp_path, capsys
):
    run, out = str(tmp_path / "run"), tmp_path / "out"
    call = ["train", "--data", "synthetic", "--task", task, "--model", str(featured / "encoder")]
    call += ["--steps", "2", "--batch", "8", "--max-length", "8", "--audit-canaries", "4"]
    assert main([*call, "--audit", "--no-baseline", "--quiet", "--out", run]) == 0
    assert main(["export", run, "--out", str(out)]) == 0
    model = trustml.recipes.load_model(run)
    head = functools.reduce(dict.get, parent, model.params)["head"]
    name = ".".join((*parent, "head.kernel"))
    np.testing.assert_array_equal(load_file(out / "model.safetensors")[name], head["kernel"])
    assert len(model.predict(["play jazz"])[0].tags) == 2
    capsys.readouterr()
    assert main(["export", run, "--out", str(tmp_path / "other"), "--to", "jax"]) == 2
    assert "`--to` must be one of safetensors for this model" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("relaxed_promotion")
def test_what_is_trained_on_a_file_predicts_the_rows_of_another(featured, tmp_path):
    file, out = tmp_path / "new.csv", tmp_path / "out.jsonl"
    file.write_text("id,message\n1,where is my order\n2,play some jazz\n")
    call = ["predict", str(featured / "run"), str(file), "--keep", "id", "--out", str(out)]
    assert main(call) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    model = trustml.recipes.load_model(featured / "run")
    assert [row["id"] for row in rows] == ["1", "2"]
    wanted = model.predict(["where is my order", "play some jazz"])
    assert [row["label"] for row in rows] == [one.label for one in wanted]
