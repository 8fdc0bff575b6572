"""Vectors of texts equal those of one text at a time; broken folders are named."""

import functools
import json
import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from trustml.data.buckets import length_batches
from trustml.models import ModelConfig, build_language_model, from_pretrained, save_pretrained
from trustml.models.pretrained.sentence import SentenceEncoder
from trustml.models.tokenizers import text_tokenizer
from trustml.models.tokenizers.text_tokenizer import TextTokenizer

WORDS = [f"word{number}" for number in range(40)]
TEXTS = ["", "a rose is a rose", *(" ".join(WORDS[: 3 * n]) for n in range(1, 7)), "word1 word2"]
POOLING = {"word_embedding_dimension": 8}


def write(path, fields):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(fields))


@pytest.fixture(scope="module")
def plain(tmp_path_factory, unoptimised):
    """A plain encoder's folder; the pooler and the masked head are no part of its vectors."""
    tokenizer = TextTokenizer.train(
        ["a rose is a rose", *WORDS], vocab_size=90, kind="wordpiece", source="the test"
    )
    sizes = {"vocab_size": 90, "hidden_size": 8, "intermediate_size": 12, "max_positions": 48}
    config = ModelConfig(
        model_type="bert",
        num_layers=3,
        num_heads=2,
        type_vocab_size=2,
        initializer_range=0.7,
        **sizes,
    )
    with unoptimised():
        network = build_language_model(config, "mlm")
        params = network.init(jax.random.key(3))
    folder = tmp_path_factory.mktemp("encoder") / "plain"
    save_pretrained(folder, (network, config, params), tokenizer, head="mlm")
    return folder


@pytest.fixture
def folder(plain, tmp_path):
    """The same with the modules of sentence-transformers: mean, then the norm."""
    made = tmp_path / "made"
    shutil.copytree(plain, made)
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    listed = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (path, kind) in enumerate(modules)
    ]
    write(made / "modules.json", listed)
    write(made / "1_Pooling" / "config.json", POOLING | {"pooling_mode_mean_tokens": True})
    write(made / "sentence_bert_config.json", {"max_seq_length": 24, "do_lower_case": False})
    return made


@pytest.fixture(scope="module")
def states_of(plain, unoptimised):
    """The last states of one text: the network with an identity as its head, one row at a time."""
    model = from_pretrained(plain, head="tag", tags=[str(n) for n in range(8)])
    identity = {"kernel": np.eye(8, dtype="f"), "bias": np.zeros(8, "f")}
    params = {**model.params, "head": {"classifier": identity}}
    logits = jax.jit(model.network.logits)

    @functools.cache
    def compute(text, length):
        ids = model.tokenizer.encode(text, max_length=length).ids
        unit = {"ids": np.zeros(48, np.int32), "mask": np.arange(48) < len(ids)}
        unit["ids"][: len(ids)] = ids
        with unoptimised():
            return np.asarray(logits(params, unit), np.float64)[: len(ids)]

    return compute


POOLED = {
    "cls": lambda x: x[0],
    "max": lambda x: x.max(0),
    "mean": lambda x: x.mean(0),
    "mean_sqrt_len_tokens": lambda x: x.sum(0) / np.sqrt(len(x)),
    "weightedmean": lambda x: np.average(x, axis=0, weights=np.arange(1, len(x) + 1)),
    "lasttoken": lambda x: x[-1],
}


def test_a_plain_encoder_gives_the_mean_of_its_states(plain, states_of):
    vectors = SentenceEncoder.from_folder(plain).embed(TEXTS)
    wanted = [states_of(text, 48).mean(0) for text in TEXTS]
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, wanted, atol=1e-5)


def test_every_pooling_mode_joined_and_normed(folder, states_of):
    write(folder / "1_Pooling" / "config.json", POOLING | {"pooling_mode": list(POOLED)})
    vectors = SentenceEncoder.from_folder(folder).embed(TEXTS)
    for text, vector in zip(TEXTS, vectors, strict=True):
        wanted = np.concatenate([pool(states_of(text, 24)) for pool in POOLED.values()])
        np.testing.assert_allclose(vector, wanted / np.linalg.norm(wanted), atol=1e-5)


def test_dense_modules_follow_the_pooling(folder, states_of):
    listed = json.loads((folder / "modules.json").read_text())
    listed[2] |= {"path": "2_Dense", "type": "sentence_transformers.models.Dense"}
    write(folder / "modules.json", listed)
    torch = "torch.nn.modules.activation.Tanh"
    sizes = {"in_features": 8, "out_features": 5, "bias": True, "activation_function": torch}
    write(folder / "2_Dense" / "config.json", sizes)
    draw = np.random.default_rng(0)
    kernel, bias = draw.normal(size=(5, 8)).astype("f"), draw.normal(size=5).astype("f")
    save_file({"linear.weight": kernel, "linear.bias": bias}, folder / "2_Dense/model.safetensors")
    encoder = SentenceEncoder.from_folder(folder)
    wanted = [np.tanh(kernel @ states_of(text, 24).mean(0) + bias) for text in TEXTS]
    np.testing.assert_allclose(encoder.embed(TEXTS), wanted, atol=1e-5)
    assert encoder.width == 5


def test_layers_are_averaged_and_the_last_is_that_of_a_plain_encoder(plain):
    encoder = SentenceEncoder.from_folder(plain)
    layers = encoder.embed(TEXTS, layers=(0, 3))
    assert layers.shape == (len(TEXTS), 2, 8)
    np.testing.assert_allclose(layers[:, 1], encoder.embed(TEXTS), atol=1e-6)
    assert np.abs(layers[:, 0] - layers[:, 1]).max() > 0.1


def test_states_of_words_are_those_of_their_first_tokens(plain, states_of):
    encoder = SentenceEncoder.from_folder(plain)
    rows = [["a", "", "rose"], [], ["rose"]]
    found = encoder.states(rows, layer=3, first_only=True)
    assert found.row.tolist() == [0, 0, 2]
    assert found.word.tolist() == [0, 2, 0]
    assert found.first.all()
    every = encoder.states(rows, layer=3)
    np.testing.assert_array_equal(every.values[every.first], found.values)
    np.testing.assert_allclose(every.values[every.row == 2], states_of("rose", 48), atol=1e-5)
    assert (every.word[~every.first] == -1).sum() == 6  # the two special tokens of each row


def test_lower_case_and_the_prompt_are_the_folders(folder):
    write(folder / "sentence_bert_config.json", {"max_seq_length": 24, "do_lower_case": True})
    prompts = {"prompts": {"query": "a rose "}, "default_prompt_name": "query"}
    before = SentenceEncoder.from_folder(folder).embed(["a rose IS a"])
    write(folder / "config_sentence_transformers.json", prompts)
    after = SentenceEncoder.from_folder(folder).embed(["is a"])
    np.testing.assert_allclose(before, after, atol=1e-6)


def test_nothing_gives_nothing(plain):
    encoder = SentenceEncoder.from_folder(plain)
    assert encoder.embed([]).shape == (0, 8)
    assert encoder.states([], layer=1).values.shape == (0, 8)


def test_texts_are_read_some_at_a_time(plain, monkeypatch):
    tokenizer = SentenceEncoder.from_folder(plain).tokenizer
    wanted = [one.ids for one in tokenizer.encode_batch([f"a {text}" for text in TEXTS], 8)]
    monkeypatch.setattr(text_tokenizer, "_CHUNK", 2)
    assert len(TEXTS) > 2
    assert [ids.tolist() for ids in tokenizer.encode_ids(TEXTS, 8, "a ")] == wanted


def test_progress_counts_every_row_once(plain):
    seen = []
    SentenceEncoder.from_folder(plain).embed(TEXTS, progress=lambda *now: seen.append(now))
    assert seen[-1] == (len(TEXTS), len(TEXTS))


@pytest.mark.parametrize("seed", range(6))
def test_batches_hold_every_row_once_in_few_shapes(seed):
    draw = np.random.default_rng(seed)
    lengths = np.minimum(draw.geometric(1 / (3 + 20 * seed), size=3000) + 1, 256)
    batches = length_batches(lengths, 256)
    rows = np.concatenate([batch.rows for batch in batches])
    assert sorted(rows) == list(range(3000))
    for batch in batches:
        assert lengths[batch.rows].max() <= batch.length
        assert len(batch.rows) <= batch.size
        assert batch.size * batch.length <= 4096
    computed = sum(batch.size * batch.length for batch in batches)
    shapes = {(batch.size, batch.length) for batch in batches}
    # Two batches of padding, and what a shape is worth, beside what the rows hold.
    assert computed <= 1.15 * lengths.sum() + 4096 * (2 + len(shapes))
    assert len(shapes) <= 10


def change(path, **fields):
    write(path, json.loads(path.read_text()) | fields)


def list_modules(folder, *kinds):
    listed = [{"path": f"{n}_{kind}" if n else "", "type": kind} for n, kind in enumerate(kinds)]
    write(folder / "modules.json", listed)


def drop_tensor(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("bert.encoder.layer.1.output.dense.weight")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def other_tokenizer(folder):
    large = TextTokenizer.train(["rose"], vocab_size=300, kind="bpe")
    large.save(folder)


BROKEN = {
    "Transformer and its Pooling": lambda at: list_modules(at, "Transformer", "Normalize"),
    "got WeightedLayerPooling: not supported": lambda at: list_modules(
        at, "Transformer", "Pooling", "WeightedLayerPooling"
    ),
    "`pooling_mode` must be of cls": lambda at: change(
        at / "1_Pooling/config.json", pooling_mode="median"
    ),
    "`include_prompt` must be true": lambda at: change(
        at / "1_Pooling/config.json", include_prompt=False
    ),
    "`max_seq_length` must be an integer up to 48": lambda at: change(
        at / "sentence_bert_config.json", max_seq_length=512
    ),
    "modules.json must be a readable JSON file": lambda at: (at / "modules.json").write_text("[{"),
    "modules.json must hold a JSON list, got dict": lambda at: write(at / "modules.json", {}),
    "`model_type` must be one of": lambda at: change(at / "config.json", model_type="t5"),
    "must hold the tensor `bert.encoder.layer.1.output.dense.weight`": drop_tensor,
    "the tokenizer has 264 tokens": other_tokenizer,
}


@pytest.mark.parametrize("message", BROKEN)
def test_a_broken_folder_is_refused_in_one_line(folder, message):
    BROKEN[message](folder)
    with pytest.raises(ValueError, match=message) as caught:
        SentenceEncoder.from_folder(folder)
    assert "\n" not in str(caught.value)


def test_a_decoder_is_no_encoder(folder):
    sizes = {"vocab_size": 90, "n_embd": 8, "n_layer": 1, "n_head": 1, "n_positions": 8}
    write(folder / "config.json", {"model_type": "gpt2", **sizes})
    with pytest.raises(ValueError, match=r"must hold an encoder .*, got gpt2"):
        SentenceEncoder.from_folder(folder)


@pytest.mark.parametrize("layers", [(4,), (-1,), (1.0,)])
def test_a_layer_that_is_not_there_is_refused(plain, layers):
    with pytest.raises(ValueError, match="`layers` must be integers from 0 to 3"):
        SentenceEncoder.from_folder(plain).embed(TEXTS, layers=layers)


def test_a_length_beyond_the_positions_is_refused(plain):
    with pytest.raises(ValueError, match="`max_length` must be an integer up to 48, got 49"):
        SentenceEncoder.from_folder(plain).embed(TEXTS, max_length=49)
