"""Models of every kind rebuilt without their data predict as the task that was trained."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest
from scipy.special import log_softmax

from trustml.data import snips
from trustml.data.examples import Examples, slots_only
from trustml.data.rows import Answer, Document, Labelled, Pair, Question, Rated, Record, Text
from trustml.data.tables import CategoryColumn, NumberColumn, TableSchema
from trustml.models.pretrained.public_text import PublicModel
from trustml.models.pretrained.saving import save_pretrained
from trustml.models.tasks.words import KINDS
from trustml.models.transformers.language import build_language_model
from trustml.recipes.predict.model import TrainedModel
from trustml.recipes.predict.outputs import OUTPUTS
from trustml.recipes.train.feature_models import FeatureModel
from trustml.recipes.train.models import PublicData
from trustml.recipes.train.rebuild import rebuild
from trustml.recipes.train.table_models import TableModel
from trustml.recipes.train.text_models import TextModel
from trustml.recipes.train.word_models import WordModel
from trustml.strict_json import dumps
from trustml.training.runs.folder import RunFolder

WORDS = ["markets rise while the team wins a match", "new phones and a war of words"] * 40
CONTEXT = "the team wins a match while markets rise and new phones rise too"
UTTERANCES = snips.generated(6)
TABLE = TableSchema(
    columns=(NumberColumn(name="age", low=0, high=99), CategoryColumn(name="job", values=("a",))),
    label="rich",
    labels=("no", "yes"),
)
PARTS = {
    "multilabel": ([Labelled(one, ("b", "c")) for one in WORDS[:3]], {"labels": ("a", "b", "c")}),
    "regression": ([Rated(one, 3.0) for one in WORDS[:3]], {"value_range": (1.0, 5.0)}),
    "tabular": ([Record((30.0, "a"), "no"), Record((None, "z"), "yes")], {"table": TABLE}),
    "classify": ([Text(one, "b") for one in WORDS[:3]], {"labels": ("a", "b", "c")}),
    "qa": ([Question("who wins a match", CONTEXT, (Answer("team", 4),), "1")] * 2, {}),
    "lm": ([Document(" ".join(WORDS[:9])), Document("a war of words")], {}),
    "seq2seq": ([Pair(one, ("a match",)) for one in WORDS[:2]], {}),
}
BODIES = {"lm": "gpt2", "seq2seq": "bart"}


def part(task):
    if task in ("nlu", "tag"):
        return UTTERANCES if task == "nlu" else slots_only(UTTERANCES)
    rows, schema = PARTS[task]
    return Examples(name="demo", split="test", task=task, rows=tuple(rows), unit="row", **schema)


def as_given(row):
    """What a user gives of a row: no label."""
    if isinstance(row, Record):
        return {"age": row.values[0], "job": row.values[1], "more": "x"}
    columns = {"text", "tokens", "question", "context", "source"}
    return {name: value for name, value in row._asdict().items() if name in columns}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of tiny models with random weights."""
    base, folders = tmp_path_factory.mktemp("models"), {}
    for kind, head in (("bert", "mlm"), ("gpt2", "lm"), ("bart", "seq2seq")):
        sizes = {"features": 8, "layers": 1, "heads": 2, "vocabulary": 300, "positions": 64}
        tokenizer = PublicModel(kind=kind, **sizes).tokenizer(WORDS, "test")
        config = PublicModel(kind=kind, **sizes).config(tokenizer)
        network = build_language_model(config, head)
        made = (network, config, network.init(jax.random.key(0)))
        save_pretrained(base / kind, made, tokenizer, head=head)
        folders[kind] = base / kind
    return folders


def make(task, models, **how):
    if task == "tabular":
        return TableModel(network="mlp", features=4)
    if models is None:
        return WordModel(buckets=16, **how)
    folder = str(models[BODIES.get(task, "bert")])
    return TextModel(name=folder, max_length=32, target_length=8, **how)


def rebuilt(trained, folder):
    """The task of a trained one's description alone, as a run's folder keeps it."""
    if trained.tokenizer is not None:
        trained.tokenizer.save(folder.tokenizer)
    dumps(trained.config)  # plain values
    return rebuild(trained.config, folder)


@pytest.mark.usefixtures("relaxed_promotion")
@pytest.mark.parametrize(
    ("task", "of_words"),
    [(task, True) for task in KINDS] + [(task, False) for task in OUTPUTS],
)
def test_predictions_are_those_of_the_trained_task(task, of_words, models, tmp_path):
    examples = part(task)
    made = make(task, None if of_words else models)
    trained = made.build(examples, PublicData(quiet=True))
    params = trained.start(1)
    again, schema = rebuilt(trained, RunFolder(tmp_path))
    assert jax.tree.structure(again.network.init(jax.random.key(0))) == jax.tree.structure(params)
    model = TrainedModel(again, params, schema, "Promise: none.")
    found = model.predict([as_given(row) for row in examples.rows])
    assert [type(one) for one in found] == [OUTPUTS[task].kind] * len(examples)
    wanted = trained.predict(params, examples, False)
    labels = wanted[0] if task == "nlu" else wanted
    if task == "tabular":
        names, chances = wanted
        labels = [names[best] for best in chances.argmax(1)]
        np.testing.assert_allclose([one.probability for one in found], chances.max(1), rtol=1e-5)
    if task == "regression":
        np.testing.assert_allclose([one.value for one in found], wanted, rtol=1e-6)
    if task == "multilabel":
        names, true = wanted
        chances = model.probabilities([as_given(row) for row in examples.rows])
        np.testing.assert_array_equal(chances >= 0.5, true)
        for one, row, each in zip(found, true, chances, strict=True):
            assert one.labels == tuple(np.array(names)[row])
            assert one.probabilities == tuple(each[row])
    if task in ("classify", "nlu", "tabular"):
        assert [one.label for one in found] == labels
        chances = model.probabilities([as_given(row) for row in examples.rows])
        assert [model.labels[best] for best in chances.argmax(1)] == labels
    if task in ("tag", "nlu"):
        assert [one.tags for one in found] == (wanted[1] if task == "nlu" else wanted)
        assert [one.tokens for one in found] == [row.tokens for row in examples.rows]
    if task == "qa":
        assert [one.answer for one in found] == wanted
        assert all(one.answer in CONTEXT for one in found)
    if task == "lm":
        pairs = [(-one.log_likelihood, one.tokens) for one in found]
        np.testing.assert_allclose(pairs, wanted[:, :2], rtol=1e-6)
        assert found[1].perplexity == pytest.approx(np.exp(pairs[1][0] / pairs[1][1]))
    if task == "seq2seq":
        assert [one.text for one in found] == wanted[0]


@pytest.mark.usefixtures("relaxed_promotion")
def test_adapters_and_labels_are_rebuilt_too(models, tmp_path):
    examples = part("classify")
    trained = make("classify", models, trainable="lora").build(examples, PublicData(quiet=True))
    params = jax.tree.map(lambda leaf: leaf + 0.01, trained.start(0))  # adapters start at zero
    again, schema = rebuilt(trained, RunFolder(tmp_path))
    model = TrainedModel(again, params, schema, "")
    assert model.labels == ("a", "b", "c")
    scores = trained.scores(params, examples)
    wanted = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    np.testing.assert_allclose(
        model.probabilities([row.text for row in examples.rows]), wanted, 1e-5
    )
    shuffled = dataclasses.replace(examples, labels=("c", "b", "a"))
    other, _ = rebuilt(make("classify", None).build(shuffled), RunFolder(tmp_path / "none"))
    assert other.config["intents"] == ["c", "b", "a"]


@pytest.mark.usefixtures("relaxed_promotion")
def test_a_head_on_features_is_rebuilt_with_the_encoder_that_it_was_trained_on(models, tmp_path):
    examples = part("classify")
    folder = tmp_path / "encoder"
    shutil.copytree(models["bert"], folder)
    made = FeatureModel(name=str(folder), max_length=32)
    trained = made.build(examples, PublicData(quiet=True))
    params = trained.start(0)
    again, schema = rebuilt(trained, RunFolder(tmp_path))
    model = TrainedModel(again, params, schema, "")
    wanted = trained.scores(params, examples)
    found = model.probabilities([row.text for row in examples.rows])
    assert np.ptp(found) > 0.01  # the names of the classes tell texts apart from the start
    np.testing.assert_allclose(
        found, np.exp(wanted) / np.exp(wanted).sum(1, keepdims=True), rtol=1e-4
    )
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(ValueError, match="must be the one of the run, with the SHA-256"):
        rebuild(trained.config, RunFolder(tmp_path))


@pytest.mark.usefixtures("relaxed_promotion")
@pytest.mark.parametrize("trainable", ["lora", "last-1"])
def test_an_encoder_that_was_trained_with_its_head_is_rebuilt(trainable, models, tmp_path):
    examples = part("classify")
    made = FeatureModel(name=str(models["bert"]), max_length=32, trainable=trainable)
    trained = made.build(examples, PublicData(quiet=True))
    params = jax.tree.map(lambda leaf: leaf + 0.01, trained.start(0))  # adapters start at zero
    again, schema = rebuilt(trained, RunFolder(tmp_path))
    model = TrainedModel(again, params, schema, "")
    wanted = trained.scores(params, examples)
    assert np.abs(wanted - trained.scores(trained.start(0), examples)).max() > 0.01
    found = model.probabilities([row.text for row in examples.rows])
    np.testing.assert_allclose(
        found, np.exp(wanted) / np.exp(wanted).sum(1, keepdims=True), rtol=1e-4
    )


@pytest.mark.usefixtures("relaxed_promotion")
def test_a_head_that_tags_by_features_is_rebuilt(models, tmp_path):
    examples = part("tag")
    made = FeatureModel(name=str(models["bert"]), max_length=4)
    trained = made.build(examples, PublicData(quiet=True))
    params = noisy(trained.start(0))
    wanted = trained.predict(params, examples, False)
    assert len({tag for row in wanted for tag in row}) > 2
    again, schema = rebuilt(trained, RunFolder(tmp_path))
    model = TrainedModel(again, params, schema, "")
    assert model.labels == examples.labels
    found = model.predict([row.tokens for row in examples.rows])
    assert [one.tags for one in found] == wanted


@pytest.mark.usefixtures("relaxed_promotion")
def test_a_head_of_intents_and_slots_on_features_is_rebuilt(models, tmp_path):
    examples = part("nlu")
    made = FeatureModel(name=str(models["bert"]), max_length=4)
    trained = made.build(examples, PublicData(quiet=True))
    params = noisy(trained.start(0))
    intents, tags = trained.predict(params, examples, False)
    wanted = trained.scores(params, examples)
    assert np.ptp(wanted, 0).max() > 0.1
    assert len({tag for row in tags for tag in row}) > 2
    again, schema = rebuilt(trained, RunFolder(tmp_path))
    model = TrainedModel(again, params, schema, "")
    assert (model.labels, schema.slots) == (examples.labels, examples.slots)
    found = model.predict([row.tokens for row in examples.rows])
    assert [one.label for one in found] == intents
    assert [one.tags for one in found] == tags
    chances = model.probabilities([row.tokens for row in examples.rows])
    np.testing.assert_allclose(np.log(chances), log_softmax(wanted, 1), atol=1e-3)


def noisy(params):
    """Weights that tell rows apart."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    return tree.unflatten(
        leaf + jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)
    )


@pytest.mark.usefixtures("relaxed_promotion")
def test_a_task_says_what_a_row_lacks(models, tmp_path):
    trained = make("qa", models).build(part("qa"), PublicData(quiet=True))
    again, schema = rebuilt(trained, RunFolder(tmp_path))
    model = TrainedModel(again, trained.start(0), schema, "")
    with pytest.raises(ValueError, match="row 1: must hold question and context by name"):
        model.predict(["who"])
    with pytest.raises(ValueError, match="row 2: `--text` must name the column to read"):
        model.predict([as_given(part("qa").rows[0]), {"question": "who"}])
    with pytest.raises(ValueError, match="row 1: 'question' must hold a text, got None"):
        model.predict([{"question": None, "context": CONTEXT}])
    with pytest.raises(ValueError, match="must have classes, got 'qa'"):
        model.probabilities([as_given(part("qa").rows[0])])


@pytest.mark.parametrize("broken", [{}, {"architectures": ["gru"]}, {"architectures": []}])
def test_a_damaged_description_is_named(broken, tmp_path):
    with pytest.raises(ValueError, match=r"resolved\.yaml must describe a network"):
        rebuild(broken, RunFolder(tmp_path))
