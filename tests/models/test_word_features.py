"""Features of words: one norm, each row by itself; a head whose rows weigh the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trustml.data.buckets import shortener
from trustml.data.examples import Examples
from trustml.data.rows import Tagged, Text
from trustml.models.features import NORM
from trustml.models.pretrained.public_text import PublicModel
from trustml.models.pretrained.saving import save_pretrained
from trustml.models.pretrained.sentence import SentenceEncoder
from trustml.models.tasks import group_examples, unit_loss
from trustml.models.tasks.word_features import word_features_task
from trustml.models.transformers.language import build_language_model
from trustml.models.word_features import WordFeatures, build_tag_head, placed

ROWS = [text.split() for text in ("markets rise while the team wins", "a match", "new phones")]
SIZES = {"features": 8, "layers": 2, "heads": 2, "vocabulary": 300, "positions": 64}
TAGS = ("O", "B-x", "I-x")


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    model = PublicModel(kind="bert", **SIZES)
    tokenizer = model.tokenizer([" ".join(row) for row in ROWS] * 40, "test")
    config = model.config(tokenizer)
    network = build_language_model(config, "mlm")
    made = (network, config, network.init(jax.random.key(0)))
    save_pretrained(folder, made, tokenizer, head="mlm")
    return WordFeatures(SentenceEncoder.from_folder(folder), 1)


@pytest.fixture(scope="module")
def data():
    rows = tuple(Tagged(tuple(row), ("B-x", *("O",) * (len(row) - 1))) for row in ROWS)
    schema = {"task": "tag", "labels": ("x",), "unit": "row"}
    return Examples(name="demo", split="test", rows=rows, **schema)


def task_of(data, features, **lengths):
    lengths = {"max_length": 4, "evaluation_length": 8, **lengths}
    return word_features_task(data, features, config={}, **lengths)


def test_a_words_features_depend_on_its_row_alone(features):
    together = placed(features(ROWS), 0, 3, 8)
    for number, row in enumerate(ROWS):
        alone = placed(features([row]), 0, 1, 8)[0]
        np.testing.assert_allclose(together[number], alone, atol=1e-3)
        norms = np.linalg.norm(alone, axis=1)
        np.testing.assert_allclose(norms, np.arange(8) < len(row), atol=1e-3)
    np.testing.assert_array_equal(placed(features(ROWS), 1, 3, 5), together[1:, :5])


def test_the_head_reads_a_word_and_its_neighbours_under_one_norm():
    head = build_tag_head(4, TAGS)
    kernel = jax.random.normal(jax.random.key(1), (4, 3, 3))
    vectors = jax.random.normal(jax.random.key(2), (5, 4))
    vectors /= jnp.linalg.norm(vectors, axis=1, keepdims=True)
    found = head.logits({"head": {"kernel": kernel, "bias": jnp.zeros(3)}}, {"features": vectors})
    zero = np.zeros((1, 4))
    windows = np.stack(
        [0.5 * np.vstack([zero, vectors[:-1]]), vectors, 0.5 * np.vstack([vectors[1:], zero])], 1
    )
    windows *= NORM / np.linalg.norm(windows, axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(found, np.einsum("tnw,wnk->tk", windows, kernel), rtol=1e-3)


def test_a_row_weighs_the_same_whatever_its_length():
    head = build_tag_head(3, TAGS)
    params = head.init(jax.random.key(0))
    vectors = jnp.tile(jnp.array([1.0, 0.0, 0.0]), (6, 1))
    unit = {"features": vectors, "tags": jnp.ones(6, jnp.int32)}
    losses = [float(head.loss(params, {**unit, "mask": jnp.arange(6) < n})) for n in (1, 3, 6)]
    assert losses == pytest.approx([losses[0]] * 3)
    assert losses[0] > 3  # "O" is the likeliest tag at first
    empty = {**unit, "mask": jnp.zeros(6, bool)}
    for leaf in jax.tree.leaves(jax.grad(head.loss)(params, empty)):
        assert not leaf.any()


def test_absent_examples_of_a_unit_weigh_nothing(features, data):
    task = task_of(data, features)
    encoded = task.encode(data)
    units = group_examples(encoded, [(0,), (1, 2)], 2)
    params = task.start(0)
    taken = {name: leaf[0] for name, leaf in units.items()}
    alone = {name: leaf[0] for name, leaf in encoded.arrays.items()}
    together = jax.grad(unit_loss(task.network.loss))(params, taken)
    for left, right in zip(
        jax.tree.leaves(together),
        jax.tree.leaves(jax.grad(task.network.loss)(params, alone)),
        strict=True,
    ):
        np.testing.assert_allclose(left, right, atol=1e-6)


def test_a_batch_of_short_rows_is_cut_without_a_change(features, data):
    task = task_of(data, features, max_length=32)
    units = task.encode(data).arrays
    cut = shortener(units)(units, np.ones(3, bool))
    assert cut["features"].shape[1] == cut["tags"].shape[1] == 8
    params = task.start(0)
    for one, other in zip(
        jax.tree.leaves(jax.vmap(jax.grad(task.network.loss), (None, 0))(params, units)),
        jax.tree.leaves(jax.vmap(jax.grad(task.network.loss), (None, 0))(params, cut)),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_words_beyond_the_evaluated_ones_are_outside(features, data):
    task = task_of(data, features, evaluation_length=2)
    params = task.start(0)
    assert task.predict(params, data, False) == [("O",) * len(row) for row in ROWS]
    bias = {"head": {**params["head"], "bias": jnp.array([0.0, 9.0, 0.0])}}
    assert task.predict(bias, data, False) == [
        ("B-x",) * 2 + ("O",) * (len(row) - 2) for row in ROWS
    ]


def test_training_reads_the_first_words(features, data):
    arrays = task_of(data, features).encode(data).arrays
    assert {name: leaf.shape for name, leaf in arrays.items()} == {
        "features": (3, 4, 8),
        "mask": (3, 4),
        "tags": (3, 4),
    }
    assert arrays["features"].dtype == np.float16
    assert arrays["mask"].sum(1).tolist() == [4, 2, 2]
    assert arrays["tags"].tolist() == [[1, 0, 0, 0]] * 3


def test_other_tasks_are_refused(features):
    rows = (Text("a", "b"),)
    fields = {"name": "demo", "split": "test", "unit": "row"}
    with pytest.raises(ValueError, match="must be of the task 'tag', got 'classify'"):
        task_of(Examples(rows=rows, task="classify", labels=("b",), **fields), features)
