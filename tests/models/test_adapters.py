"""What each predicate trains, by name, and that nothing else moves."""

import jax
import jax.numpy as jnp
import pytest

import trustml
from trustml.models.transformers import adapters

LAYER = ("attention/query/kernel", "attention/query/bias", "attention/query/lora_a")
LAYER += ("attention/query/lora_b", "norm/scale", "norm/bias")
NAMES = ["embeddings/word/embedding", *(f"layer_{i}/{leaf}" for i in range(12) for leaf in LAYER)]
NAMES += ["pooler/kernel", "classifier/kernel", "classifier/bias"]


def chosen(predicate):
    return {name for name in NAMES if predicate(name)}


def test_bitfit_trains_biases_and_the_head():
    found = chosen(adapters.bitfit(head="^classifier/"))
    assert found == {name for name in NAMES if name.endswith("/bias")} | {"classifier/kernel"}
    assert "classifier/kernel" not in chosen(adapters.bitfit())
    assert not adapters.bitfit()("final_logits_bias")


def test_lora_trains_the_factors_and_the_head():
    found = chosen(adapters.lora_only(head="classifier"))
    factors = {name for name in NAMES if "lora" in name}
    assert found == factors | {"classifier/kernel", "classifier/bias"}
    assert chosen(adapters.lora_only()) == factors


@pytest.mark.parametrize("count", [0, 1, 3, 12])
def test_last_layers_train_the_last(count):
    found = chosen(adapters.last_layers(count, 12, head="^(pooler|classifier)/"))
    layers = {name for name in NAMES for i in range(12 - count, 12) if f"layer_{i}/" in name}
    assert found == layers | {"pooler/kernel", "classifier/kernel", "classifier/bias"}


def test_patterns_split_the_leaves_in_two():
    kept, others = (chosen(make("query|^pool")) for make in (adapters.matching, adapters.all_but))
    assert kept | others == set(NAMES)
    assert not kept & others
    assert len(kept) == 4 * 12 + 1


def test_the_summary_counts_parameters():
    params = {
        "encoder": {"layer_0": {"kernel": jnp.zeros((3, 4)), "bias": jnp.zeros(4)}},
        "classifier": {"kernel": jnp.zeros((4, 2)), "bias": jnp.zeros(2)},
        "steps": jnp.zeros((), jnp.int32),
    }
    assert adapters.count_trainable(params) == (26, 27)
    assert adapters.count_trainable(params, adapters.bitfit()) == (6, 27)
    assert adapters.count_trainable(params, adapters.last_layers(1, 1)) == (16, 27)


def test_clipped_gradients_are_of_the_chosen_leaves_alone():
    params = {
        "layer_0": {"kernel": jnp.ones((3, 4)), "bias": jnp.zeros(4)},
        "layer_1": {"kernel": jnp.ones((4, 1)), "bias": jnp.zeros(1)},
    }

    def loss(params, x):
        for layer in params.values():
            x = x @ layer["kernel"] + layer["bias"]
        return x.sum()

    for trainable, expected in (
        (adapters.last_layers(1, 2), {"layer_1/kernel", "layer_1/bias"}),
        (adapters.bitfit(), {"layer_0/bias", "layer_1/bias"}),
    ):
        gradient = trustml.clipped_grad(loss, clip_norm=1.0, trainable=trainable)
        sums, _ = gradient(params, jnp.ones((2, 3)))
        paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(sums)]
        names = {jax.tree_util.keystr(path, simple=True, separator="/") for path in paths}
        assert names == expected
        assert all(bool(jnp.any(leaf != 0)) for leaf in jax.tree.leaves(sums))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: adapters.last_layers(3, 2), "`count` must be from 0 to `num_layers` = 2, got 3"),
        (lambda: adapters.last_layers(0, 0), "`num_layers`"),
        (lambda: adapters.last_layers(1, 2)("encoder/layers/query/kernel"), "without `scan`"),
        (lambda: adapters.last_layers(1, 2)("layer_2/kernel"), "`num_layers` is 2"),
        (lambda: adapters.matching("("), "`pattern` must be a regular expression, got '\\('"),
        (lambda: adapters.bitfit(head="["), "`head`"),
    ],
)
def test_bad_arguments_are_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
