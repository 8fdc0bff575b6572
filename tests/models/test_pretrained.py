"""Files of pretrained models: what is read, what is refused and how, what is written."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from trustml.models.pretrained.hub import find_model
from trustml.models.pretrained.loading import Pretrained, from_pretrained, save_pretrained
from trustml.models.tokenizers.text_tokenizer import TextTokenizer
from trustml.models.transformers.config import ModelConfig
from trustml.models.transformers.language import build_language_model
from trustml.models.transformers.layers import Lora, Options

LABELS, TAGS = ("no", "yes"), ("O", "B-x", "I-x")
TEXTS = ["the cat sat on the mat", "a dog, a cat and a mat", "the dog sat; the cat ran"] * 5
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


def model(head="classify", *, labels=LABELS, tags=(), crf=False, options=None, kind=BERT, seed=0):
    """A network with random weights, in the form that `from_pretrained` gives."""
    options = options or Options()
    config = ModelConfig.from_hf(kind)
    config = ModelConfig(**{**vars(config), "labels": labels, "tags": tags})
    network = build_language_model(config, head, labels=labels, tags=tags, crf=crf, options=options)
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    params = jax.tree.map(lambda like: rng.normal(size=like.shape).astype(np.float32), shapes)
    return Pretrained(network, params, config, None, (), head, options)


@pytest.fixture
def folder(tmp_path):
    save_pretrained(tmp_path / "model", model())
    return tmp_path / "model"


def edit(folder, change):
    """Rewrites the tensors; `change` takes and may alter the dict."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    tensors = {name: np.ascontiguousarray(leaf) for name, leaf in tensors.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def reconfigure(folder, **changes):
    fields = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(fields))


@pytest.mark.parametrize(
    ("head", "given", "options"),
    [
        ("classify", {}, Options()),
        ("tag", {"labels": (), "tags": TAGS, "crf": True}, Options(scan=True)),
        ("nlu", {"tags": TAGS, "crf": True}, Options()),
        ("qa", {"labels": ()}, Options(scan=True)),
        ("mlm", {"labels": ()}, Options()),
    ],
)
def test_what_is_saved_is_read(head, given, options, tmp_path):
    saved = model(head, options=options, **given)
    save_pretrained(tmp_path / "model", saved)
    found = from_pretrained(
        tmp_path / "model", head=head, crf=given.get("crf", False), options=options
    )
    assert found.fresh == ()
    assert found.config == saved.config
    jax.tree.map(np.testing.assert_array_equal, found.params, saved.params)


def test_layers_are_read_stacked_or_not(folder):
    plain = from_pretrained(folder, head="classify")
    stacked = from_pretrained(folder, head="classify", options=Options(scan=True))
    kernel = stacked.params["encoder"]["layers"]["up"]["kernel"]
    for place in range(2):
        expected = plain.params["encoder"][f"layer_{place}"]["up"]["kernel"]
        np.testing.assert_array_equal(kernel[place], expected)


def test_a_head_for_other_labels_starts_anew(folder):
    other = ("red", "green", "blue")
    found = from_pretrained(folder, head="classify", labels=other, key=jax.random.key(1))
    assert set(found.fresh) == {"head/classifier/kernel", "head/classifier/bias"}
    assert found.params["head"]["classifier"]["kernel"].shape == (8, 3)
    assert found.config.labels == other
    again = from_pretrained(folder, head="classify", labels=other, key=jax.random.key(2))
    kernels = [one.params["head"]["classifier"]["kernel"] for one in (found, again)]
    assert not np.array_equal(*kernels)
    tagging = from_pretrained(folder, head="tag", tags=TAGS)
    assert set(tagging.fresh) == {"head/classifier/kernel", "head/classifier/bias"}


def test_adapters_are_fresh_and_merged_when_saved(folder, tmp_path):
    options = Options(lora=Lora(rank=2))
    found = from_pretrained(folder, head="classify", options=options)
    assert len(found.fresh) == 8
    save_pretrained(tmp_path / "second", found)
    again = from_pretrained(tmp_path / "second", head="classify")
    plain = from_pretrained(folder, head="classify")
    jax.tree.map(np.testing.assert_array_equal, again.params, plain.params)
    bare = (found.network, found.config, found.params)
    with pytest.raises(ValueError, match="`options` must hold the `lora` of"):
        save_pretrained(tmp_path / "third", bare, head="classify")
    assert not (tmp_path / "third").exists()
    assert not list(tmp_path.glob(".third*"))


@pytest.mark.parametrize(
    ("before", "after"),
    [("bert.", ""), ("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta")],
)
def test_other_names_of_the_same_tensors_are_read(folder, before, after):
    expected = from_pretrained(folder, head="classify").params

    def rename(tensors):
        for name in [name for name in tensors if before in name]:
            tensors[name.replace(before, after)] = tensors.pop(name)
        tensors["bert.embeddings.position_ids"] = np.arange(12)

    edit(folder, rename)
    found = from_pretrained(folder, head="classify")
    assert found.fresh == ()
    jax.tree.map(np.testing.assert_array_equal, found.params, expected)


def test_a_missing_tensor_is_named(folder):
    edit(folder, lambda tensors: tensors.pop("bert.encoder.layer.1.output.dense.weight"))
    with pytest.raises(ValueError, match=r"must hold the tensor `bert.encoder.layer.1.output.dens"):
        from_pretrained(folder, head="classify")


def test_a_wrong_shape_is_named(folder):
    name = "bert.encoder.layer.0.intermediate.dense.weight"
    edit(folder, lambda tensors: tensors.update({name: np.zeros((16, 7), np.float32)}))
    with pytest.raises(ValueError, match=rf"`{name}` in the shape \[16, 8\].*got \[16, 7\]"):
        from_pretrained(folder, head="classify")


def test_an_output_of_its_own_is_refused(tmp_path):
    save_pretrained(tmp_path / "m", model("mlm", labels=()))
    top = "cls.predictions.decoder.weight"
    word = "bert.embeddings.word_embeddings.weight"
    edit(tmp_path / "m", lambda tensors: tensors.update({top: tensors[word]}))
    assert from_pretrained(tmp_path / "m", head="mlm").fresh == ()
    edit(tmp_path / "m", lambda tensors: tensors.update({top: tensors[word] + 1}))
    with pytest.raises(ValueError, match=f"`{top}` must equal"):
        from_pretrained(tmp_path / "m", head="mlm")


def test_more_tokens_than_rows_are_refused(folder):
    TextTokenizer.train(TEXTS, 300, "bpe").save(folder)
    with pytest.raises(ValueError, match=r"tokenizer has 2\d\d tokens, .* 60 rows"):
        from_pretrained(folder, head="classify")


def test_a_pickle_is_refused(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"got pytorch_model.bin alone, a pickle"):
        from_pretrained(folder, head="classify")
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(ValueError, match=r"must hold model.safetensors or .* got neither"):
        from_pretrained(folder, head="classify")


def test_a_file_that_is_cut_off_is_refused(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="must be a whole safetensors file"):
        from_pretrained(folder, head="classify")
    path.rename(folder / "x")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": 3}')
    with pytest.raises(ValueError, match="must be a readable index"):
        from_pretrained(folder, head="classify")
    index = {"weight_map": {"bert.pooler.dense.bias": "model-1.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"model-1.safetensors must be a whole safetensors file"):
        from_pretrained(folder, head="classify")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "t5"}, "`model_type` must be one of bert, .*, got 't5'"),
        ({"position_embedding_type": "relative_key"}, "`position_embedding_type` .* 'absolute'"),
        ({"add_cross_attention": True}, "`add_cross_attention` of config.json must be False"),
        ({"hidden_act": "swiglu"}, "`activation` must be one of gelu, .* got 'swiglu'"),
        ({"num_attention_heads": 3}, "`hidden_size` must be a multiple of `num_heads`, got 8 and"),
        ({"vocab_size": "many"}, "`vocab_size` must be a positive integer, got 'many'"),
    ],
)
def test_a_config_that_is_not_supported_is_refused(folder, changes, message):
    reconfigure(folder, **changes)
    with pytest.raises(ValueError, match=message):
        from_pretrained(folder, head="classify")


def test_a_config_that_is_not_whole_is_refused(folder):
    fields = json.loads((folder / "config.json").read_text())
    del fields["num_hidden_layers"]
    (folder / "config.json").write_text(json.dumps(fields))
    with pytest.raises(ValueError, match=r"`num_hidden_layers` of config.json is missing"):
        from_pretrained(folder, head="classify")
    for text, message in (("{", "must be a readable JSON file"), ("[]", "must hold a JSON object")):
        (folder / "config.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            from_pretrained(folder, head="classify")


def test_fields_of_a_config_survive():
    fields = BERT | {"task_specific_params": {"a": 1}, "id2label": {"1": "yes", "0": "no"}}
    config = ModelConfig.from_hf(fields)
    assert config.labels == LABELS
    written = config.to_hf()
    assert written["task_specific_params"] == {"a": 1}
    assert ModelConfig.from_hf(written) == config
    gpt2 = {"model_type": "gpt2", "vocab_size": 9, "n_embd": 8, "n_layer": 1, "n_head": 2}
    found = ModelConfig.from_hf(gpt2 | {"n_positions": 4, "n_inner": None})
    assert (found.intermediate_size, found.activation) == (32, "gelu_new")
    scaled = {"scale_attn_by_inverse_layer_idx": True, "scale_attn_weights": False}
    config = ModelConfig.from_hf(gpt2 | {"n_positions": 4, "problem_type": "regression"} | scaled)
    assert ModelConfig.from_hf(config.to_hf()) == config
    assert {name: config.to_hf()[name] for name in scaled} == scaled
    assert config.problem_type == "regression"


def test_only_an_empty_folder_is_written_to(folder, tmp_path):
    before = sorted(path.name for path in folder.iterdir())
    with pytest.raises(ValueError, match="`folder` must be new or empty"):
        save_pretrained(folder, model())
    assert sorted(path.name for path in folder.iterdir()) == before
    (tmp_path / "empty").mkdir()
    save_pretrained(tmp_path / "empty", model())
    assert (tmp_path / "empty" / "config.json").exists()


def test_what_is_saved_must_have_a_head_and_labels(tmp_path):
    found = model()
    with pytest.raises(ValueError, match="`head` must name the head"):
        save_pretrained(tmp_path / "a", (found.network, found.config, found.params))
    config = ModelConfig.from_hf(BERT)
    with pytest.raises(ValueError, match="`config` must hold the `labels` of the head"):
        save_pretrained(tmp_path / "a", found._replace(config=config))
    masked = model("mlm", labels=())
    save_pretrained(tmp_path / "b", (masked.network, masked.config, masked.params))
    assert from_pretrained(tmp_path / "b", head="mlm").fresh == ()
    written = json.loads((tmp_path / "b" / "config.json").read_text())
    assert written["architectures"] == ["BertForMaskedLM"]


@pytest.fixture
def no_cache(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.mark.usefixtures("no_cache")
def test_a_name_that_the_cache_lacks_is_refused():
    with pytest.raises(ValueError, match=r"got 'nobody/nothing', which is none of them") as caught:
        find_model("nobody/nothing")
    assert "\n" not in str(caught.value)
    for path in ("./nothing", "/nowhere/at/all", "a/b/c"):
        with pytest.raises(ValueError, match="`folder_or_name` must be a folder that exists"):
            find_model(path)


@pytest.mark.usefixtures("no_cache")
def test_a_download_without_a_connection_is_one_line():
    with pytest.raises(ValueError, match="nobody/nothing could not be downloaded") as caught:
        find_model("nobody/nothing", download=True, endpoint="http://127.0.0.1:9")
    assert "\n" not in str(caught.value)


def test_a_name_in_the_cache_is_found(no_cache, tmp_path, folder):
    commit, root = "0" * 40, tmp_path / "hub" / "models--nobody--small"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(commit)
    (root / "snapshots").mkdir()
    folder.rename(root / "snapshots" / commit)
    assert from_pretrained("nobody/small", head="classify").fresh == ()


@pytest.mark.parametrize("kind", ["bpe", "wordpiece"])
def test_a_trained_tokenizer_is_saved_and_read(kind, tmp_path):
    made = TextTokenizer.train(TEXTS, 400, kind, source="three sentences")
    made.save(tmp_path)
    for tokenizer in (made, TextTokenizer.from_folder(tmp_path)):
        found = tokenizer.encode("the dog ran")
        assert found.ids[0] == tokenizer.cls_id
        assert found.ids[-1] == tokenizer.sep_id
        assert found.words[0] is found.sequence[-1] is None
        assert tokenizer.decode(found.ids) == "the dog ran"
        assert tokenizer.statement == "vocabulary from three sentences"
        assert tokenizer.pad_id == 0
        assert (tokenizer.bos_id is None) == (kind == "wordpiece")
        assert max(found.ids) < tokenizer.vocab_size
    assert tokenizer.encode("the dog", special=False).ids == found.ids[1:3]


def test_any_text_comes_back_from_bytes():
    tokenizer = TextTokenizer.train(TEXTS, 300)
    text = "Ünïcode\t  and 漢字 \n"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


@pytest.mark.parametrize("kind", ["bpe", "wordpiece"])
def test_pieces_know_their_word_and_place(kind):
    tokenizer = TextTokenizer.train(TEXTS, 280, kind)
    words = ["the", "zebra", "sat"]
    found = tokenizer.encode_words(words)
    inner = [place for place in found.words if place is not None]
    assert sorted(set(inner)) == [0, 1, 2]
    assert inner == sorted(inner)
    # A word is written as it is inside of a text, with the space before it.
    inside = tokenizer.encode("sat the zebra sat").ids
    assert found.ids[1:-1] == inside[2:-1] if kind == "bpe" else found.ids[1:-1]
    text = "a dog sat"
    whole = tokenizer.encode(text)
    pieces = [
        text[a:b].strip() for (a, b), place in zip(*whole[3:1:-1], strict=True) if place is not None
    ]
    assert "".join(pieces) == text.replace(" ", "")


def test_long_texts_are_cut():
    tokenizer = TextTokenizer.train(TEXTS, 300, "wordpiece")
    question, context = "the cat", "a dog sat on the mat " * 4
    found = tokenizer.encode(question, context, max_length=12)
    assert len(found.ids) == 12
    assert found.ids[-1] == tokenizer.sep_id
    assert found.types == [0] * 4 + [1] * 8
    assert [one for one in found.sequence if one is not None] == [0] * 2 + [1] * 7
    assert len(tokenizer.encode(context).ids) > 20  # a cut lasts for one call
    assert len(tokenizer.encode_words(context.split(), max_length=5).ids) == 5
    with pytest.raises(ValueError, match="`max_length` must be more than 3, got 3"):
        tokenizer.encode(question, context, max_length=3)


def test_vocabularies_without_tokenizer_json_are_read(tmp_path):
    made = TextTokenizer.train(TEXTS, 300, "wordpiece")
    (tmp_path / "bert").mkdir()
    vocabulary = sorted(made.model.get_vocab().items(), key=lambda entry: entry[1])
    (tmp_path / "bert" / "vocab.txt").write_text("\n".join(word for word, _ in vocabulary))
    text, pair = "the dog", "sat on it"
    assert TextTokenizer.from_folder(tmp_path / "bert").encode(text, pair) == made.encode(
        text, pair
    )
    made = TextTokenizer.train(TEXTS, 300, "bpe")
    (tmp_path / "roberta").mkdir()
    made.model.model.save(str(tmp_path / "roberta"))
    found = TextTokenizer.from_folder(tmp_path / "roberta")
    assert found.encode(text).ids == made.encode(text).ids
    assert (found.pad_id, found.mask_id) == (made.pad_id, made.mask_id)


def test_tokenizers_that_cannot_be_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`kind` must be one of bpe, wordpiece, got 'words'"):
        TextTokenizer.train(TEXTS, 300, "words")
    with pytest.raises(ValueError, match="`vocab_size` must be at least 261 for bpe, got 100"):
        TextTokenizer.train(TEXTS, 100)
    with pytest.raises(ValueError, match=r"must hold tokenizer.json, .* got none of them"):
        TextTokenizer.from_folder(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="must hold a readable vocabulary"):
        TextTokenizer.from_folder(tmp_path)
