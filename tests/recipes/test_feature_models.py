"""The model that a run gets by default, with and without the encoder, and what is refused."""

import dataclasses
import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trustml.cli import main
from trustml.data import Examples, snips
from trustml.data.examples import slots_only
from trustml.data.rows import Document
from trustml.models import SentenceEncoder, build_language_model, save_pretrained
from trustml.models.pretrained.public_text import PublicModel
from trustml.models.tasks.labels import PROBLEM_TYPES
from trustml.recipes.train import feature_models
from trustml.recipes.train.config import TrainConfig
from trustml.recipes.train.feature_models import FeatureModel
from trustml.recipes.train.models import PublicData
from trustml.recipes.train.presets import Training
from trustml.recipes.train.resolve import resolve, with_task
from trustml.recipes.train.resolve_preset import lacks_encoder, preset_name, resolve_preset
from trustml.recipes.train.text_models import TextModel
from trustml.recipes.train.word_models import WordModel


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """The folder of a tiny encoder with random weights."""
    folder = tmp_path_factory.mktemp("encoder") / "bert"
    model = PublicModel(kind="bert", features=8, layers=2, heads=2, vocabulary=300, positions=64)
    tokenizer = model.tokenizer(["play some jazz", "is it cold?"] * 20, "test")
    sizes = model.config(tokenizer)
    network = build_language_model(sizes, "mlm")
    made = (network, sizes, network.init(jax.random.key(0)))
    save_pretrained(folder, made, tokenizer, head="mlm")
    return str(folder)


TINY = {"steps": 2, "baseline_steps": 2, "audit_rows": 0}


def config(**changes):
    return with_task(TrainConfig(**{"data": "synthetic", "task": "classify", **changes}))


@pytest.fixture
def missing(monkeypatch):
    monkeypatch.setattr(feature_models, "installed", lambda: False)


@pytest.fixture
def here(monkeypatch):
    monkeypatch.setattr(feature_models, "installed", lambda: True)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("task", feature_models.TASKS)
def test_texts_are_read_as_features_where_the_encoder_is_installed(task):
    chosen = TrainConfig(data="mine.csv", task=task)
    length = {"tag": 32, "nlu": 24}.get(task, 128)
    assert resolve_preset(chosen).model == FeatureModel(max_length=length)
    assert not lacks_encoder(chosen)
    named = dataclasses.replace(chosen, model="conv")
    assert isinstance(resolve_preset(named).model, WordModel)
    mini = dataclasses.replace(chosen, model="mini-bert")
    assert isinstance(resolve_preset(mini).model, TextModel)


@pytest.mark.usefixtures("missing")
def test_without_the_encoder_texts_are_hashed_words_and_a_line_says_the_price():
    assert isinstance(resolve_preset(config()).model, WordModel)
    assert lacks_encoder(config())
    assert not lacks_encoder(config(model="conv"))
    assert not lacks_encoder(with_task(TrainConfig()))  # nlu
    for task in feature_models.TASKS:
        line = feature_models.advice(task)
        assert "\n" not in line
        assert 'pip install -e ".[encoder]"' in line


@pytest.mark.usefixtures("here")
def test_data_with_a_preset_of_their_own_keep_it_unless_features_are_asked_for():
    assert preset_name(with_task(TrainConfig())) == "synthetic"
    assert preset_name(with_task(TrainConfig(trainable="features"))) == "nlu-features"
    assert preset_name(TrainConfig(task="nlu", data="mine.csv")) == "nlu-features"


def test_what_a_run_resolved_to_does_not_change_with_what_is_installed(monkeypatch):
    monkeypatch.setattr(feature_models, "installed", lambda: False)
    experiment = resolve(config(model="conv", **TINY), quiet=True)
    monkeypatch.setattr(feature_models, "installed", lambda: True)
    again = dataclasses.replace(experiment.config, model=None)
    assert isinstance(resolve_preset(again).model, WordModel)


def test_a_task_without_a_head_on_features_is_refused():
    rows = (Document("to be"),)
    speeches = Examples(name="demo", split="train", task="lm", rows=rows, unit="speech")
    with pytest.raises(ValueError, match="must not be features for the task 'lm'"):
        FeatureModel().build(speeches, PublicData(quiet=True))


def test_a_folder_that_is_no_encoder_is_refused_before_the_run(tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    assert not feature_models.is_encoder(str(tmp_path))
    assert not feature_models.is_encoder(str(tmp_path / "none"))
    arguments = ["--data", "synthetic", "--task", "classify", "--preset", "classify-features"]
    out = tmp_path / "out"
    assert main(["train", *arguments, "--model", str(tmp_path), "--out", str(out)]) == 2
    assert "`--model` must be an encoder" in capsys.readouterr().err
    assert not out.exists()


def test_the_choice_of_weights_follows_the_model():
    assert FeatureModel().with_trainable("lora").trainable == "lora"
    assert FeatureModel().with_pretraining(False, "x").from_scratch
    assert FeatureModel().with_max_length(9).max_length == 9
    words = slots_only(snips.generated(3))
    with pytest.raises(ValueError, match="`--trainable` must be features for the preset tag-feat"):
        FeatureModel(trainable="lora").build(words, PublicData(quiet=True))


@pytest.mark.slow
@pytest.mark.usefixtures("relaxed_promotion")
@pytest.mark.parametrize("task", ["classify", "tag"])
def test_a_later_run_reads_features_from_the_folder_that_the_user_names(
    task, encoder, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    asked = TrainConfig(
        data="synthetic",
        task=task,
        model=encoder,
        trainable="features",
        feature_cache="kept",
        **TINY,
    )
    first = resolve(asked, quiet=True)
    assert first.config.feature_cache == str(tmp_path / "kept")  # a resumed run finds it too
    assert sorted(os.listdir(tmp_path)) == ["kept"]
    feature_models._computed.cache_clear()  # as in another process

    def again(*rows, **options):
        raise AssertionError("features must not be computed again")

    monkeypatch.setattr(SentenceEncoder, "embed", again)
    monkeypatch.setattr(SentenceEncoder, "states", again)
    second = resolve(asked, quiet=True)
    np.testing.assert_array_equal(second.units["features"], first.units["features"])


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("trainable", ["lora", "bitfit", "all", "last-1"])
def test_an_encoder_is_trained_under_the_head_on_its_features(trainable):
    for task in PROBLEM_TYPES:
        preset = resolve_preset(TrainConfig(data="mine.csv", task=task, trainable=trainable))
        assert preset.model.trainable == trainable
        assert preset.private.encoder_scale < 1
    words = TrainConfig(data="mine.csv", task="classify", model="conv", trainable="all")
    assert isinstance(resolve_preset(words).model, WordModel)


def test_a_classifier_goes_on_with_its_own_head(tmp_path):
    sizes = {"vocab_size": 9, "hidden_size": 4, "intermediate_size": 4, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": 1, "max_position_embeddings": 9, "type_vocab_size": 1}
    chosen = TrainConfig(data="mine.csv", task="classify", model=str(tmp_path), trainable="lora")
    for kind, model in (("Model", FeatureModel), ("ForSequenceClassification", TextModel)):
        fields = {"model_type": "bert", "architectures": [f"Bert{kind}"], **sizes}
        (tmp_path / "config.json").write_text(json.dumps(fields))
        assert isinstance(resolve_preset(chosen).model, model)


@pytest.mark.usefixtures("relaxed_promotion")  # optax's Adam promotes its step count
def test_weights_below_the_head_take_smaller_steps():
    training = Training(expected_batch=8, steps=4, learning_rate=0.1, encoder_scale=0.25, warmup=0)
    params = {"head": {"bias": jnp.zeros(2)}, "encoder": {"up": {"bias": jnp.zeros(2)}}}
    optimizer = training.optimizer()
    gradient = jax.tree.map(jnp.ones_like, params)
    updates, _ = optimizer.update(gradient, optimizer.init(params), params)
    ratio = updates["encoder"]["up"]["bias"] / updates["head"]["bias"]
    np.testing.assert_allclose(ratio, 0.25, rtol=1e-6)
