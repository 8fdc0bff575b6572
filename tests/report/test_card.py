"""A model card for each kind of task is one that Hugging Face reads."""

import dataclasses

import pytest
import yaml

from trustml.metrics import SCORINGS
from trustml.report import ExportedFiles, from_json, model_card, render, to_json

# The tasks of the Hub, as far as a model here can do them.
HUB = {
    "classify": "text-classification",
    "multilabel": "text-classification",
    "regression": "text-classification",
    "tabular": "tabular-classification",
    "tag": "token-classification",
    "nlu": "token-classification",
    "qa": "question-answering",
    "lm": "text-generation",
    "seq2seq": "text2text-generation",
}


@pytest.fixture
def report(sample):
    return from_json(sample())


def parts(card):
    front, words = card.removeprefix("---\n").split("---\n", 1)
    return yaml.safe_load(front), words


@pytest.mark.parametrize("task", SCORINGS)
def test_every_task_has_its_card(task, report):
    hub = pytest.importorskip("huggingface_hub.repocard_data")
    files = ExportedFiles(task, "jax", [("model.jax", "network")], "run(1)")
    front, words = parts(model_card(report, files, licence="mit", fingerprint="0a1b"))
    assert front["pipeline_tag"] == HUB[task]
    assert front["license"] == "mit"
    assert front["library_name"] == "jax"
    assert front["privacy"]["unit"] == report.privacy.unit
    name, results = hub.model_index_to_eval_results(front["model-index"])
    assert name == report.run.name
    assert {result.task_type for result in results} == {HUB[task]}
    values = report.results.private.metrics
    assert {result.metric_type: result.metric_value for result in results} == {
        metric.name: values[metric.name].value for metric in report.metrics
    }
    for title in ("Use", "Data", "What is promised", "Utility", "Plan", "Files", "Limits and"):
        assert f"\n## {title}" in words
    assert "```python\nrun(1)\n```" in words
    assert "`model.jax`: network" in words
    assert "`0a1b`" in words
    assert report.data.fingerprint not in words  # a guess of all rows could be confirmed
    if task != "nlu":
        assert "intents and slots" not in words


def test_how_a_run_was_resumed_is_for_its_report_not_for_a_card(report):
    resumed = "private: continues at step 3 of 9"
    made = dataclasses.replace(report, notes=("rows were few",), interruptions=(resumed,))
    card = model_card(made, ExportedFiles("classify", "trustml", [], ""))
    assert "rows were few" in card
    assert resumed not in card
    assert resumed in render([made])
    assert from_json(to_json(made)) == made


def test_what_a_card_need_not_say_is_left_out(report):
    files = ExportedFiles("classify", "trustml", [], "")
    front, words = parts(model_card(report, files, utility=False))
    assert "model-index" not in front
    assert "license" not in front
    assert "## Utility\n\nNot given." in words
    assert report.data.fingerprint not in words
    bare = dataclasses.replace(report.data, train=None, evaluated=None, fingerprint=None)
    _, words = parts(model_card(dataclasses.replace(report, data=bare), files))
    assert "an unknown number of" in words
    assert "None" not in words.split("## Plan")[0]
