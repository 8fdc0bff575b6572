"""The README's code runs as it stands."""

import os
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from trustml.models.pretrained.loading import from_pretrained
from trustml.models.pretrained.public_text import PublicModel, public_model

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SHORTER = re.findall(r"```py\n(.*?)```", README, re.DOTALL)


def test_the_loop_runs_and_is_as_short_as_promised(capsys):
    loop, on_a_mesh = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len([line for line in loop.splitlines() if line.strip()]) <= 24
    names = {}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for code in (loop, on_a_mesh):
            exec(compile(code, "README.md", "exec"), names)
    assert int(names["state"].step) == names["plan"].steps
    shown = capsys.readouterr().out
    assert re.match(r"Promise: \((2\.9\d+|3\.0), 1e-05\)-differential privacy", shown)


@pytest.mark.slow
@pytest.mark.skipif("TRUSTML_DATA" not in os.environ, reason="needs TRUSTML_DATA: ag_news")
def test_a_language_model_is_trained_as_shown(tmp_path):
    *_, code = SHORTER
    recipe = PublicModel(
        kind="bert", vocabulary=200, features=8, layers=1, heads=2, length=16, steps=2, batch=4
    )
    words = ["markets rise while the team wins a match", "new phones and a war of words"] * 40
    with jax.numpy_dtype_promotion("standard"):
        folder = public_model(recipe, words, "test", tmp_path)
        for shown, used in {
            "DATA": os.environ["TRUSTML_DATA"],
            "bert-folder": str(folder),
            "private-model": str(tmp_path / "model"),
        }.items():
            code = code.replace(f'"{shown}"', repr(used))
        code = code.replace("steps=100", "steps=2").replace("batch=512", "batch=16")
        names = {}
        exec(compile(code, "README.md", "exec"), names)
    again = from_pretrained(tmp_path / "model", head="classify")
    assert again.config.labels == names["splits"].train.labels
    assert again.fresh == ()
    assert len(names["result"].history) == 2


def test_rounds_across_clients_run_as_shown(capsys):
    code = SHORTER[2].replace("number=60", "number=2")
    rows = {"x": np.ones((40, 2), np.float32), "y": np.zeros(40, np.float32)}
    names = {
        "rows": rows,
        "client_of_row": np.arange(40) % 20,
        "params": jnp.ones(2),
        "loss": lambda w, row: (row["x"] @ w - row["y"]) ** 2,
        "optax": optax,
    }
    exec(compile(code, "README.md", "exec"), names)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["1", "2"]


@pytest.mark.slow
@pytest.mark.skipif("TRUSTML_DATA" not in os.environ, reason="needs TRUSTML_DATA: ag_news")
def test_a_recipe_runs_as_shown(tmp_path, monkeypatch):
    predicting, code, *_ = SHORTER
    small = "epsilon=3.0, steps=2, batch=64, baseline_steps=2, audit_rows=40, max_length=8"
    code = code.replace("epsilon=3.0", small).replace('"DATA"', repr(os.environ["TRUSTML_DATA"]))
    code = code.replace("trustml.recipes.run(", "result = trustml.recipes.run(")
    monkeypatch.chdir(tmp_path)
    names = {}
    with jax.numpy_dtype_promotion("standard"):
        exec(compile(code, "README.md", "exec"), names)
        exec(compile(predicting.replace("messages-1", "first"), "README.md", "exec"), names)
    assert (tmp_path / "runs/first/report.html").exists()
    assert names["model"].probabilities(["where is my order?"]).shape == (1, 4)
    assert "Trust report" in names["result"]._repr_html_()


def test_no_table_is_missing():
    assert "<!--" not in README
    assert "RECIPES" not in README


def test_what_contributors_are_sent_to_is_there():
    text = (ROOT / ".github" / "CONTRIBUTING.md").read_text()
    named = re.findall(r"`((?:tests|trustml)/[\w./]*|\.ci/run)`", text)
    assert len(named) > 20
    assert [name for name in named if not (ROOT / name).exists()] == []
