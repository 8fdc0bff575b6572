"""Numbers of a checkpoint are loaded as its files mean them, or refused with a way out."""

import json

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from trustml.models.pretrained.loading import Pretrained, from_pretrained, save_pretrained
from trustml.models.transformers.config import ModelConfig
from trustml.models.transformers.language import build_language_model
from trustml.models.transformers.layers import Options

LABELS, TAGS = ("no", "yes"), ("O", "B-x", "I-x")
BERT = {
    "model_type": "bert",
    "vocab_size": 60,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 12,
    "type_vocab_size": 2,
}
GPT2 = {
    "model_type": "gpt2",
    "vocab_size": 60,
    "n_embd": 8,
    "n_layer": 2,
    "n_head": 2,
    "n_positions": 12,
}
UP = "bert.encoder.layer.0.intermediate.dense.weight"


def saved(folder, head="classify", *, labels=LABELS, tags=(), crf=False, kind=BERT):
    """A folder with random weights, and what was written to it."""
    config = ModelConfig.from_hf(kind)
    config = ModelConfig(**{**vars(config), "labels": labels, "tags": tags})
    network = build_language_model(config, head, labels=labels, tags=tags, crf=crf)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    params = jax.tree.map(lambda like: rng.normal(size=like.shape).astype(np.float32), shapes)
    found = Pretrained(network, params, config, None, (), head, Options())
    save_pretrained(folder, found)
    return found


@pytest.fixture
def folder(tmp_path):
    saved(tmp_path / "model")
    return tmp_path / "model"


def edit(folder, change):
    """Rewrites the tensors; `change` takes and may alter the dict."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(
        {name: np.ascontiguousarray(leaf) for name, leaf in tensors.items()},
        folder / "model.safetensors",
    )


def reconfigure(folder, drop=(), **changes):
    fields = json.loads((folder / "config.json").read_text()) | changes
    fields = {name: value for name, value in fields.items() if name not in drop}
    (folder / "config.json").write_text(json.dumps(fields))


def split(folder, stale):
    """The tensors in two shards; the second holds `stale` too, which the index does not say."""
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    first, second = names[: len(names) // 2], names[len(names) // 2 :]
    save_file({name: tensors[name] for name in first}, folder / "model-1.safetensors")
    save_file({name: tensors[name] for name in second} | stale, folder / "model-2.safetensors")
    shards = dict.fromkeys(first, "model-1.safetensors")
    shards |= dict.fromkeys(second, "model-2.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    (folder / "model.safetensors").unlink()
    return shards


def test_the_index_says_which_shard_holds_a_tensor(folder):
    expected = from_pretrained(folder, head="classify").params
    name = "bert.embeddings.word_embeddings.weight"
    shards = split(folder, {name: np.zeros((60, 8), np.float32)})
    assert shards[name] == "model-1.safetensors"
    found = from_pretrained(folder, head="classify").params
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_a_shard_that_lacks_what_the_index_says_is_refused(folder):
    shards = split(folder, {})
    shards["bert.pooler.dense.bias"] = "model-1.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    with pytest.raises(ValueError, match=r"model-1.safetensors must hold `bert.pooler.dense.bias`"):
        from_pretrained(folder, head="classify")


@pytest.mark.parametrize("name", ["quantization_config", "compression_config"])
def test_the_configuration_of_a_quantized_model_is_refused(folder, name):
    reconfigure(folder, **{name: {"load_in_8bit": True}})
    with pytest.raises(ValueError, match=rf"`{name}` of config.json must be absent.*dequantize"):
        from_pretrained(folder, head="classify")


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32, ml_dtypes.float8_e4m3fn, bool])
def test_tensors_of_a_quantized_model_are_refused(folder, kind):
    edit(folder, lambda tensors: tensors.update({UP: tensors[UP].astype(kind)}))
    with pytest.raises(ValueError, match=rf"`{UP}` must hold floating-point .*dequantize"):
        from_pretrained(folder, head="classify")


@pytest.mark.parametrize("end", ["_scale", ".absmax", "_format"])
def test_scales_beside_a_tensor_are_refused(folder, end):
    edit(folder, lambda tensors: tensors.update({UP + end: np.ones(16, np.float32)}))
    with pytest.raises(ValueError, match=rf"does not describe, got `{UP}{end}`"):
        from_pretrained(folder, head="classify")


@pytest.mark.parametrize("kind", [BERT, GPT2])
@pytest.mark.parametrize("prefix", [True, False])
def test_a_file_with_more_layers_than_its_configuration_is_refused(tmp_path, kind, prefix):
    saved(tmp_path / "m", kind=kind)
    root, count = ("bert.", 16) if kind is BERT else ("transformer.", 12)
    layers = "num_hidden_layers" if kind is BERT else "n_layer"

    def bare(tensors):
        for name in [name for name in tensors if name.startswith(root)]:
            tensors[name.removeprefix(root)] = tensors.pop(name)

    if not prefix:
        edit(tmp_path / "m", bare)
    assert from_pretrained(tmp_path / "m", head="classify").unread == ()
    reconfigure(tmp_path / "m", **{layers: 1})
    with pytest.raises(ValueError, match=rf"\.1\..* and {count - 1} more; correct config.json"):
        from_pretrained(tmp_path / "m", head="classify")


@pytest.mark.parametrize(
    "name",
    [
        "bert.encoder.layer.0.attention.self.distance_embedding.weight",
        "bert.encoder.layer.0.crossattention.self.query.weight",
        "encoder.layer.0.attention.self.query.lora_A.default.weight",
        "bert.embeddings.task_type_embeddings.weight",
    ],
)
def test_tensors_of_another_body_are_refused(folder, name):
    edit(folder, lambda tensors: tensors.update({name: np.ones((8, 8), np.float32)}))
    with pytest.raises(ValueError, match=rf"does not describe, got `{name}`"):
        from_pretrained(folder, head="classify")


def test_tensors_of_other_heads_are_listed(folder):
    def add(tensors):
        tensors["cls.seq_relationship.bias"] = np.ones(2, np.float32)
        tensors["bert.embeddings.position_ids"] = np.arange(12)

    edit(folder, add)
    found = from_pretrained(folder, head="qa")
    assert found.fresh == ("head/classifier/bias", "head/classifier/kernel")
    assert found.unread == (
        "bert.embeddings.position_ids",
        "bert.pooler.dense.bias",
        "bert.pooler.dense.weight",
        "classifier.bias",
        "classifier.weight",
        "cls.seq_relationship.bias",
    )


def test_copies_that_differ_are_refused(folder):
    name = "bert.embeddings.word_embeddings.weight"
    short = name.removeprefix("bert.")
    edit(folder, lambda tensors: tensors.update({short: tensors[name] + 1}))
    with pytest.raises(ValueError, match=f"`{short}` must equal `{name}`"):
        from_pretrained(folder, head="classify")


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (BERT, {"embedding_size": 8, "num_key_value_heads": 2, "head_dim": 4}),
        (BERT, {"pruned_heads": {}, "normalization_type": "layer_norm", "use_bottleneck": False}),
        (GPT2, {"reorder_and_upcast_attn": True, "position_embedding_type": "absolute"}),
    ],
)
def test_fields_of_variants_that_change_nothing_are_read(tmp_path, kind, changes):
    made = saved(tmp_path / "m", kind=kind)
    reconfigure(tmp_path / "m", **changes)
    found = from_pretrained(tmp_path / "m", head="classify")
    jax.tree.map(np.testing.assert_array_equal, found.params, made.params)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embedding_size": 4}, "`embedding_size` of config.json must be 8, as `hidden_size`"),
        ({"num_key_value_heads": 1}, "`num_key_value_heads` of config.json must be 2"),
        ({"head_dim": 8}, "`head_dim` of config.json must be 4, as `num_heads`"),
        ({"pruned_heads": {"0": [1]}}, "`pruned_heads` of config.json must be {}"),
        ({"normalization_type": "no_norm"}, "`normalization_type` .* must be 'layer_norm'"),
        ({"pre_norm": True}, "`pre_norm` of config.json must be False"),
        ({"hidden_act": "prelu"}, "`activation` must be one of gelu, .* got 'prelu'"),
        ({"problem_type": "ranking"}, "`problem_type` must be one of None, single_label"),
    ],
)
def test_fields_of_variants_that_change_the_arithmetic_are_refused(folder, changes, message):
    reconfigure(folder, **changes)
    with pytest.raises(ValueError, match=message):
        from_pretrained(folder, head="classify")


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("kind", [BERT, GPT2])
def test_a_head_with_default_names_is_read_in_the_order_of_the_labels(tmp_path, kind, named):
    made = saved(tmp_path / "m", kind=kind)
    default = {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}} if named else {}
    reconfigure(tmp_path / "m", drop=() if named else ("id2label", "label2id"), **default)
    for labels in (LABELS, ()):
        found = from_pretrained(tmp_path / "m", head="classify", labels=labels)
        assert found.fresh == ()
        assert found.config.labels == (labels or ("LABEL_0", "LABEL_1"))
        jax.tree.map(np.testing.assert_array_equal, found.params, made.params)


def test_a_tagger_with_default_names_is_read(tmp_path):
    made = saved(tmp_path / "m", "tag", labels=(), tags=TAGS)
    reconfigure(tmp_path / "m", id2label={str(i): f"LABEL_{i}" for i in range(3)})
    found = from_pretrained(tmp_path / "m", head="tag", tags=TAGS)
    assert (found.fresh, found.config.tags) == ((), TAGS)
    jax.tree.map(np.testing.assert_array_equal, found.params, made.params)


@pytest.mark.parametrize("crf", [False, True])
def test_labels_in_another_order_take_their_own_rows(tmp_path, crf):
    made = saved(tmp_path / "m", "tag", labels=(), tags=TAGS, crf=crf).params["head"]
    order = [2, 0, 1]
    tags = tuple(TAGS[place] for place in order)
    found = from_pretrained(tmp_path / "m", head="tag", tags=tags, crf=crf)
    assert found.fresh == ()
    head = found.params["head"]
    for name, leaf in made["classifier"].items():
        np.testing.assert_array_equal(head["classifier"][name], leaf[..., order])
    if crf:
        np.testing.assert_array_equal(head["start"], made["start"][order])
        moves = made["transitions"][np.ix_(order, order)]
        np.testing.assert_array_equal(head["transitions"], moves)


def test_labels_in_other_letters_take_their_own_rows(tmp_path):
    made = saved(tmp_path / "m", labels=("NO", "YES")).params["head"]["classifier"]
    found = from_pretrained(tmp_path / "m", head="classify", labels=("yes", "no"))
    assert (found.fresh, found.config.labels) == ((), ("yes", "no"))
    bias = found.params["head"]["classifier"]["bias"]
    np.testing.assert_array_equal(bias, made["bias"][::-1])
    both = saved(tmp_path / "both", labels=("no", "No")).params["head"]["classifier"]
    found = from_pretrained(tmp_path / "both", head="classify", labels=("No", "no"))
    bias = found.params["head"]["classifier"]["bias"]
    np.testing.assert_array_equal(bias, both["bias"][::-1])
    assert from_pretrained(tmp_path / "both", head="classify", labels=("no", "NO")).fresh


@pytest.mark.parametrize("labels", [("red", "blue"), ("a", "b", "c")])
def test_a_head_for_labels_of_another_meaning_starts_anew(folder, labels):
    reconfigure(folder, problem_type="single_label_classification")
    found = from_pretrained(folder, head="classify", labels=labels)
    assert set(found.fresh) == {"head/classifier/kernel", "head/classifier/bias"}
    expected = "single_label_classification" if len(labels) == 2 else None
    assert found.config.problem_type == expected


def test_heads_of_other_classes_of_transformers_are_not_taken_for_each_other(tmp_path):
    saved(tmp_path / "m")
    reconfigure(tmp_path / "m", id2label={"0": "LABEL_0", "1": "LABEL_1"})
    tagger = from_pretrained(tmp_path / "m", head="tag", tags=("O", "B-x"))
    assert set(tagger.fresh) == {"head/classifier/kernel", "head/classifier/bias"}
    with pytest.raises(ValueError, match="`tags` must name"):
        from_pretrained(tmp_path / "m", head="tag")
    reconfigure(tmp_path / "m", architectures=["BertForMultipleChoice"])
    chooser = from_pretrained(tmp_path / "m", head="classify", labels=LABELS)
    assert set(chooser.fresh) == {"head/classifier/kernel", "head/classifier/bias"}


def test_a_head_of_another_size_than_its_labels_is_refused(folder):
    reconfigure(folder, id2label={"0": "a", "1": "b", "2": "c"})
    with pytest.raises(ValueError, match=r"`classifier.weight` with 3 rows.*got 2; correct"):
        from_pretrained(folder, head="classify")


@pytest.mark.parametrize("places", [{"1": "a", "2": "b"}, {"0": "a", "x": "b"}, ["a", "b"]])
def test_labels_that_are_not_numbered_from_0_are_refused(folder, places):
    reconfigure(folder, id2label=places)
    with pytest.raises(ValueError, match=r"`id2label` of config.json must map the numbers from"):
        from_pretrained(folder, head="classify")


def test_scores_of_neighbouring_tags_are_not_left_out(tmp_path):
    saved(tmp_path / "m", "tag", labels=(), tags=TAGS, crf=True)
    with pytest.raises(ValueError, match=r"`trustml.head.end` must be read .* pass crf=True"):
        from_pretrained(tmp_path / "m", head="tag")
    anew = from_pretrained(tmp_path / "m", head="tag", tags=("O", "B-other"))
    assert set(anew.fresh) == {"head/classifier/kernel", "head/classifier/bias"}


@pytest.mark.parametrize("rows", [(2, 60), (1, 70)])
def test_a_bias_of_another_shape_is_refused(tmp_path, rows):
    bart = {
        **{"model_type": "bart", "vocab_size": 60, "d_model": 8, "max_position_embeddings": 12},
        **{"encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 16},
        **{"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 16},
    }
    saved(tmp_path / "m", "seq2seq", labels=(), kind=bart)
    other = {"final_logits_bias": np.zeros(rows, np.float32)}
    edit(tmp_path / "m", lambda tensors: tensors.update(other))
    with pytest.raises(ValueError, match=r"`final_logits_bias` in the shape \[60\].*got \["):
        from_pretrained(tmp_path / "m", head="seq2seq")
