"""Fine-tuning starts as the frozen encoder with its head, and padding weighs nothing in it."""

import jax
import numpy as np
import optax
import pytest

import trustml
from trustml.data.examples import Examples
from trustml.data.rows import Labelled, Rated, Text
from trustml.models import Lora, SentenceEncoder, lora_only, save_pretrained
from trustml.models.features import TextFeatures
from trustml.models.pretrained.public_text import PublicModel
from trustml.models.tasks import group_examples, unit_loss
from trustml.models.tasks.features import features_task
from trustml.models.tasks.finetuning import finetuning_task
from trustml.models.transformers.language import build_language_model

TEXTS = ["markets rise while the team wins", "a match", "new phones and a war of words"]
SIZES = {"features": 8, "layers": 2, "heads": 2, "vocabulary": 300, "positions": 64}
SCHEMAS = {
    "classify": ([Text(one, "phones") for one in TEXTS], {"labels": ("phones", "a match")}),
    "multilabel": ([Labelled(one, ("b",)) for one in TEXTS], {"labels": ("a", "b")}),
    "regression": ([Rated(one, 3.0) for one in TEXTS], {"value_range": (1.0, 5.0)}),
}
pytestmark = pytest.mark.usefixtures("relaxed_promotion")


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


def part(task):
    rows, schema = SCHEMAS[task]
    return Examples(name="demo", split="test", task=task, rows=tuple(rows), unit="row", **schema)


def units_of(task, data):
    return jax.tree.map(jax.numpy.asarray, task.encode(data).arrays)


@pytest.mark.parametrize("lora", [Lora(rank=2), None])
@pytest.mark.parametrize("kind", sorted(SCHEMAS))
def test_it_starts_as_the_head_on_frozen_features(kind, lora, features):
    data = part(kind)
    frozen = features_task(data, features, config={})
    tuned = finetuning_task(data, features, lora=lora, config={})
    head, params = frozen.start(0), tuned.start(3)
    for name, leaf in head["head"].items():
        np.testing.assert_array_equal(params["head"][name], leaf)
    assert jax.tree.structure(tuned.network.init(jax.random.key(0))) == jax.tree.structure(params)
    for one, other in zip(
        *(losses(task, weights, data) for task, weights in ((frozen, head), (tuned, params))),
        strict=True,
    ):
        assert float(one) == pytest.approx(float(other), rel=1e-4)
    if kind != "regression":
        scores = tuned.scores(params, data)
        np.testing.assert_allclose(scores, frozen.scores(head, data), atol=1e-4)
        # What is computed in batches of like lengths is what the loss sees.
        each = jax.jit(jax.vmap(tuned.network.logits, (None, 0)))
        alone = each(params, units_of(tuned, data))
        np.testing.assert_allclose(scores, alone, atol=1e-4)


def test_adapters_and_head_learn_and_the_rest_stays(features):
    data = part("classify")
    task = finetuning_task(data, features, lora=Lora(rank=2), config={})
    plan = trustml.PrivacyPlan(
        clip_norm=1.0, noise_multiplier=0.0, sample_rate=1.0, steps=30, expected_batch=3
    )
    trainable = lora_only(head="^head/")
    step = trustml.private_step(task.network.loss, optax.adam(0.05), plan, trainable=trainable)
    start = task.start(0)
    before = float(np.mean(losses(task, start, data)))
    result = trustml.fit(step, start, units_of(task, data), seed=0, progress=False)
    assert float(np.mean(losses(task, result.params, data))) < before / 2
    assert task.predict(result.params, data, False) == ["phones"] * 3
    moved = {
        jax.tree_util.keystr(path, simple=True, separator="/")
        for (path, old), new in zip(
            jax.tree_util.tree_leaves_with_path(start), jax.tree.leaves(result.params), strict=True
        )
        if not np.array_equal(old, new)
    }
    assert "head/kernel" in moved
    assert "encoder/layer_0/attention/query/lora_a" in moved
    assert all(trainable(name) for name in moved)


def losses(task, params, data):
    return jax.jit(jax.vmap(task.network.loss, (None, 0)))(params, units_of(task, data))


def test_seeds_differ_in_the_random_factors_alone(features):
    task = finetuning_task(part("classify"), features, lora=Lora(rank=2), config={})
    one, other = task.start(0), task.start(1)
    differ = jax.tree.map(lambda a, b: not np.array_equal(a, b), one, other)
    names = [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, changed in jax.tree_util.tree_leaves_with_path(differ)
        if changed
    ]
    assert names
    assert all(name.endswith("lora_a") for name in names)


def test_absent_examples_of_a_unit_weigh_nothing_and_have_a_gradient_of_zero(features):
    data = part("classify")
    task = finetuning_task(data, features, lora=None, config={})
    params = task.start(0)
    units = group_examples(task.encode(data), [(0,), (1, 2)], 2)
    loss = unit_loss(task.network.loss)
    taken = {name: leaf[0] for name, leaf in units.items()}
    alone = {name: leaf[0] for name, leaf in task.encode(data).arrays.items()}
    found = jax.jit(jax.value_and_grad(loss))(params, taken)
    one = jax.jit(jax.value_and_grad(task.network.loss))
    wanted = one(params, alone)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), found, wanted)
    padding = {**alone, "mask": np.zeros_like(alone["mask"])}
    _, gradient = one(params, padding)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradient))
