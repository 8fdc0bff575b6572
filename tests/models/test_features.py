"""Features of texts: one norm, each row by itself; a head whose units of padding weigh nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trustml.data.examples import Examples
from trustml.data.rows import Document, Rated, Text
from trustml.models.features import NORM, TextFeatures, build_feature_head
from trustml.models.pretrained.public_text import PublicModel
from trustml.models.pretrained.saving import save_pretrained
from trustml.models.pretrained.sentence import SentenceEncoder
from trustml.models.tasks import group_examples, unit_loss
from trustml.models.tasks.features import features_task
from trustml.models.transformers.language import build_language_model

TEXTS = ["markets rise while the team wins", "a match", "new phones and a war of words"]
SIZES = {"features": 8, "layers": 2, "heads": 2, "vocabulary": 300, "positions": 64}


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    model = PublicModel(kind="bert", **SIZES)
    tokenizer = model.tokenizer(TEXTS * 40, "test")
    config = model.config(tokenizer)
    network = build_language_model(config, "mlm")
    made = (network, config, network.init(jax.random.key(0)))
    save_pretrained(folder, made, tokenizer, head="mlm")
    return TextFeatures(SentenceEncoder.from_folder(folder), (1, 2), 32)


def examples(rows, **schema):
    return Examples(name="demo", split="test", rows=tuple(rows), unit="row", **schema)


def test_every_row_has_one_norm_and_depends_on_itself_alone(features):
    together = features(TEXTS)
    assert together.shape == (3, features.width) == (3, 16)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), NORM, rtol=1e-5)
    for text, row in zip(TEXTS, together, strict=True):
        np.testing.assert_allclose(features([text])[0], row, atol=1e-4)


def test_means_of_each_layer_weigh_the_same(features):
    states = features.encoder.embed(TEXTS, layers=(1, 2), max_length=32)
    norms = np.linalg.norm(states, axis=-1, keepdims=True)
    wanted = NORM / np.sqrt(2) * (states / norms).reshape(3, 16)
    np.testing.assert_allclose(features(TEXTS), wanted, atol=1e-4)


def test_a_class_starts_from_its_name(features):
    data = examples(
        [Text(TEXTS[1], "a match"), Text(TEXTS[0], "phones")],
        task="classify",
        labels=("phones", "a match"),
    )
    task = features_task(data, features, config={})
    scores = task.scores(task.start(0), data)
    assert scores[0].argmax() == 1
    assert scores[0, 1] == pytest.approx(10.0, rel=1e-3)  # the text is the name


def test_absent_examples_of_a_unit_weigh_nothing(features):
    rows = [Text(text, label) for text, label in zip(TEXTS, "aba", strict=True)]
    data = examples(rows, task="classify", labels=("a", "b"))
    task = features_task(data, features, config={})
    units = group_examples(task.encode(data), [(0,), (1, 2)], 2)
    params = task.start(0)
    loss = unit_loss(task.network.loss)
    taken = {name: leaf[0] for name, leaf in units.items()}
    alone = {name: leaf[0] for name, leaf in task.encode(data).arrays.items()}
    assert float(loss(params, taken)) == pytest.approx(
        float(task.network.loss(params, alone)), rel=1e-5
    )


def test_the_gradient_of_a_padded_row_is_zero():
    head = build_feature_head(3, 2, "single_label_classification")
    params = head.init(jax.random.key(0))
    unit = {"features": jnp.zeros(3), "label": jnp.int32(0)}
    for leaf in jax.tree.leaves(jax.grad(head.loss)(params, unit)):
        assert not leaf.any()
    real = {**unit, "features": jnp.ones(3)}
    assert jax.grad(head.loss)(params, real)["head"]["bias"].any()


def test_numbers_start_from_zero(features):
    data = examples([Rated("a match", 2.0)], task="regression", value_range=(0.0, 4.0))
    task = features_task(data, features, config={})
    assert task.predict(task.start(0), data, False).tolist() == [2.0]
    assert task.config["value_range"] == [0.0, 4.0]
    assert task.scores is None


def test_other_tasks_are_refused(features):
    lm = examples([Document("a")], task="lm")
    with pytest.raises(ValueError, match="must be of a task on whole texts"):
        features_task(lm, features, config={})
