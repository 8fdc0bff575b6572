"""Kept vectors are the computed ones; broken files are not used; the owner alone reads them."""

import dataclasses
import os
import stat

import jax
import numpy as np
import pytest

from trustml.models import ModelConfig, SentenceEncoder, TextTokenizer
from trustml.models.pretrained.feature_cache import FeatureCache, feature_key
from trustml.models.pretrained.pooling import Pooling
from trustml.models.transformers.bert import Bert
from trustml.models.transformers.layers import Options

TEXTS = ["a rose", "is a rose"]


@pytest.fixture(scope="module")
def encoder():
    tokenizer = TextTokenizer.train(["a rose is a rose"], vocab_size=30, kind="wordpiece")
    sizes = {"hidden_size": 4, "intermediate_size": 4, "max_positions": 16}
    sizes |= {"type_vocab_size": 1}
    config = ModelConfig(model_type="bert", vocab_size=30, num_layers=1, num_heads=1, **sizes)
    module = Bert(config, Options())
    unit = {"ids": np.zeros(1, np.int32), "mask": np.ones(1, bool)}
    params = module.init(jax.random.key(0), unit)["params"]
    return SentenceEncoder(config, module, (params, ()), Pooling(), tokenizer, 16)


@pytest.fixture
def count(monkeypatch):
    """Counts how often vectors are computed."""
    calls = []
    compute = SentenceEncoder._embedded

    def counted(self, *arguments):
        calls.append(arguments)
        return compute(self, *arguments)

    monkeypatch.setattr(SentenceEncoder, "_embedded", counted)
    return calls


@pytest.fixture(params=["memory", "folder"])
def cache(request, tmp_path):
    return FeatureCache(None if request.param == "memory" else tmp_path / "kept")


def test_kept_vectors_are_the_computed_ones(encoder, cache, count):
    plain = encoder.embed(TEXTS)
    first, second = (encoder.embed(TEXTS, cache=cache) for _ in range(2))
    np.testing.assert_array_equal(first, plain)
    np.testing.assert_array_equal(second, plain)
    assert len(count) == 2  # without a cache, and once with it
    with pytest.raises(ValueError, match="read-only"):
        second[0] = 0


def changes(encoder):
    other = jax.tree.map(lambda leaf: leaf * 2, encoder.params)
    renamed = TextTokenizer.train(["a rose is"], vocab_size=29, kind="wordpiece")
    return {
        "texts": (encoder, [TEXTS[0], "is a rose "], {}),
        "order": (encoder, TEXTS[::-1], {}),
        "split": (encoder, ["a rosei", "s a rose"], {}),
        "layers": (encoder, TEXTS, {"layers": (1,)}),
        "length": (encoder, TEXTS, {"max_length": 4}),
        "weights": (dataclasses.replace(encoder, params=other), TEXTS, {}),
        "pooling": (dataclasses.replace(encoder, pooling=Pooling(("cls",))), TEXTS, {}),
        "prompt": (dataclasses.replace(encoder, prompt="a "), TEXTS, {}),
        "tokenizer": (dataclasses.replace(encoder, tokenizer=renamed), TEXTS, {}),
    }


def test_whatever_changes_the_vectors_changes_the_key(encoder, cache, count):
    encoder.embed(TEXTS, cache=cache)
    for number, (name, (other, texts, options)) in enumerate(changes(encoder).items(), 2):
        found = other.embed(texts, cache=cache, **options)
        assert len(count) == number, name
        assert len(found) == 2


def test_files_and_their_folder_are_the_owners_alone(encoder, tmp_path):
    before = os.umask(0)
    try:
        encoder.embed(TEXTS, cache=FeatureCache(tmp_path / "kept"))
    finally:
        os.umask(before)
    (file,) = (tmp_path / "kept").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def _cut(content):
    return content[: len(content) // 2]


def _flipped(content):
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    "broken", [_cut, _flipped, lambda _: b"", lambda _: b"not a file of tensors"]
)
def test_a_broken_file_is_computed_again_and_mended(encoder, tmp_path, count, broken):
    cache = FeatureCache(tmp_path / "kept")
    first = encoder.embed(TEXTS, cache=cache)
    (file,) = (tmp_path / "kept").iterdir()
    file.write_bytes(broken(file.read_bytes()))
    np.testing.assert_array_equal(encoder.embed(TEXTS, cache=cache), first)
    assert len(count) == 2
    encoder.embed(TEXTS, cache=cache)
    assert len(count) == 2
    assert [one.name for one in file.parent.iterdir()] == [file.name]


def test_nothing_is_written_unasked(encoder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    encoder.embed(TEXTS)
    encoder.embed(TEXTS, cache=FeatureCache())
    assert list(tmp_path.iterdir()) == []
    encoder.embed(TEXTS, cache=FeatureCache.of_user())
    assert [path.name for path in (tmp_path / "trustml").iterdir()] == ["features"]


def test_memory_keeps_the_last_ones(monkeypatch):
    monkeypatch.setattr("trustml.models.pretrained.feature_cache._MOST_BYTES", 100)
    cache = FeatureCache()
    for key in ("a", "b", "c"):
        cache.get(key, lambda: np.zeros(12, np.float32))  # 48 bytes
    assert list(cache._kept) == ["b", "c"]


def test_keys_tell_any_parts_apart():
    parts = [[], [""], ["", ""], ["a", "b"], ["ab"], ["b", "a"], ["\ud800"]]
    assert len({feature_key(one) for one in parts}) == len(parts)
