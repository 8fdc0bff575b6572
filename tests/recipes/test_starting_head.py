"""Fine-tuning from the private head of an earlier run: its cost counts, and what does not fit."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

import trustml
from trustml.models import build_language_model, save_pretrained
from trustml.models.pretrained.public_text import PublicModel
from trustml.recipes.train.config import TrainConfig
from trustml.recipes.train.resolve import resolve

ROWS = [f"{words} {number}" for number in range(40) for words in ("where is my order", "play jazz")]
SIZES = {"features": 8, "layers": 2, "heads": 2, "vocabulary": 300, "positions": 64}
pytestmark = pytest.mark.usefixtures("relaxed_promotion")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A tiny encoder, a file of rows, and a private head on its features."""
    folder = tmp_path_factory.mktemp("base")
    tokenizer = PublicModel(kind="bert", **SIZES).tokenizer(ROWS, "test")
    config = PublicModel(kind="bert", **SIZES).config(tokenizer)
    network = build_language_model(config, "mlm")
    made = (network, config, network.init(jax.random.key(0)))
    save_pretrained(folder / "encoder", made, tokenizer, head="mlm")
    lines = [f"{row},{label}" for row, label in zip(ROWS, ["order", "music"] * 40, strict=True)]
    (folder / "rows.csv").write_text("\n".join(["message,intent", *lines]))
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        head = asked(folder, trainable="features", epsilon=4.0, seed=1)
        trustml.recipes.run(head, out=folder / "head", quiet=True)
    return folder


def asked(base, **changes):
    settings = {"trainable": "lora", "epsilon": 6.0, "steps": 2, "batch": 8, "max_length": 16}
    settings |= {"text": "message", "label": "intent", "baseline": False, "audit_rows": 0}
    settings |= {"data": str(base / "rows.csv"), "model": str(base / "encoder")}
    return TrainConfig(**{**settings, **changes})


def started(base, **changes):
    return asked(base, **{"start": str(base / "head"), "seed": 7, **changes})


@pytest.mark.slow
def test_the_cost_of_the_head_is_a_part_of_the_budget(base, tmp_path):
    result = trustml.recipes.run(started(base), out=tmp_path / "run", quiet=True)
    (before,) = result.report.privacy.released_before
    assert (before.what, before.delta) == ("head", 5e-6)
    assert 3.9 < before.epsilon < 4.5  # at half of delta the earlier run costs a little more
    assert before.epsilon < result.report.privacy.epsilon <= 6.0
    assert "the head that training starts from" in result.report.privacy.statement
    plan = trustml.PrivacyPlan.from_dict(
        json.loads((tmp_path / "run" / "plan.json").read_text())["plan"]
    )
    assert plan.epsilon(5e-6) + before.epsilon <= 6.0
    lines = (tmp_path / "run" / "ledger.jsonl").read_text().splitlines()
    ledger = [json.loads(line) for line in lines]
    assert [entry["entry"] for entry in ledger][:2] == ["release", "run"]


def test_it_starts_from_the_head_of_the_run(base):
    experiment = resolve(started(base), quiet=True)
    wanted = trustml.recipes.load_model(base / "head").params["head"]
    assert experiment.start is not None
    jax.tree.map(np.testing.assert_array_equal, experiment.start.head, wanted)
    names = experiment.task.start(0)["head"]
    assert not np.array_equal(names["kernel"], wanted["kernel"])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"epsilon": 4.0}, "`--epsilon` must be above"),
        ({"seed": None}, "`--start` must be a run without `--seed`, got one with 1"),
        ({"trainable": "features"}, "`--start` must go with `--trainable` lora"),
        ({"seed": 1}, "`--seed` must not be one of the run of `--start`, got 1"),
        ({"labels": ("music", "order", "rest")}, "on the same classes and encoder"),
        ({"adjacency": "replace-one"}, "a run with the adjacency of this one"),
        ({"audit": True}, "`--start` cannot go with `--audit`"),
        ({"audit_rows": 20}, "`--start` cannot go with `--audit`"),
        ({"start": "nowhere"}, "`RUN` must be a folder of `trustml train`"),
    ],
)
def test_what_does_not_fit_is_refused(changes, text, base):
    with pytest.raises(ValueError, match=text):
        resolve(dataclasses.replace(started(base), **changes), quiet=True)


def test_weights_that_the_ledger_does_not_name_are_refused(base, tmp_path):
    folder = tmp_path / "head"
    shutil.copytree(base / "head", folder)
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(ValueError, match="which its promise does not cover"):
        resolve(dataclasses.replace(started(base), start=str(folder)), quiet=True)
