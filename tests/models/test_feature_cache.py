"""Kept features are the computed ones; broken files are not used; the owner alone reads them."""

import dataclasses
import os
import stat

import jax
import numpy as np
import pytest

from trustml.models import FeatureCache, ModelConfig, SentenceEncoder, TextTokenizer
from trustml.models.features import TextFeatures
from trustml.models.pretrained.pooling import Pooling
from trustml.models.pretrained.sentence import TokenStates
from trustml.models.transformers.bert import Bert
from trustml.models.transformers.layers import Options
from trustml.models.word_features import WordFeatures

TEXTS = ["a rose", "is a rose"]
ROWS = [["a", "rose"], ["is", "a", "rose"]]


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
    """Counts how often features are computed."""
    calls = []
    for name in ("embed", "states"):
        compute = getattr(SentenceEncoder, name)

        def counted(self, *arguments, compute=compute, **options):
            calls.append(arguments)
            return compute(self, *arguments, **options)

        monkeypatch.setattr(SentenceEncoder, name, counted)
    return calls


@pytest.fixture
def cache(tmp_path):
    return FeatureCache(tmp_path / "kept")


def test_kept_features_of_texts_are_the_computed_ones(encoder, cache, count):
    features = TextFeatures(encoder, (0, 1), 16)
    plain = features(TEXTS)
    first, second = (cache.features(features, TEXTS) for _ in range(2))
    np.testing.assert_array_equal(first, plain)
    np.testing.assert_array_equal(second, plain)
    assert len(count) == 2  # without a cache, and once with it
    with pytest.raises(ValueError, match="read-only"):
        second[0] = 0


def test_kept_features_of_words_are_the_computed_ones(encoder, cache, count):
    features = WordFeatures(encoder, 1)
    plain = features(ROWS)
    first, second = (cache.features(features, ROWS) for _ in range(2))
    for found in (first, second):
        assert found._fields == plain._fields
        for array, own in zip(found, plain, strict=True):
            np.testing.assert_array_equal(array, own)
            assert array.dtype == own.dtype
    assert len(count) == 2


def changes(encoder):
    other = jax.tree.map(lambda leaf: leaf * 2, encoder.params)
    renamed = TextTokenizer.train(["a rose is"], vocab_size=29, kind="wordpiece")
    texts = lambda made: TextFeatures(made, (1,), 16)  # noqa: E731
    replaced = lambda **new: texts(dataclasses.replace(encoder, **new))  # noqa: E731
    return {
        "texts": (texts(encoder), [TEXTS[0], "is a rose "]),
        "order": (texts(encoder), TEXTS[::-1]),
        "split": (texts(encoder), ["a rosei", "s a rose"]),
        "odd": (texts(encoder), ["\ud800"]),
        "layers": (TextFeatures(encoder, (0,), 16), TEXTS),
        "length": (TextFeatures(encoder, (1,), 4), TEXTS),
        "weights": (replaced(params=other), TEXTS),
        "pooling": (replaced(pooling=Pooling(("cls",))), TEXTS),
        "prompt": (replaced(prompt="a "), TEXTS),
        "tokenizer": (replaced(tokenizer=renamed), TEXTS),
        "words": (WordFeatures(encoder, 1), ROWS),
        "another layer of words": (WordFeatures(encoder, 0), ROWS),
        "words in other rows": (WordFeatures(encoder, 1), [["a", "rose", "is"], ["a", "rose"]]),
    }


def test_whatever_changes_the_features_changes_the_key(encoder, cache, count, monkeypatch):
    def computed(self, rows, show):
        count.append(rows)
        some = np.zeros(1, np.float32)
        return some if isinstance(self, TextFeatures) else TokenStates(some, some, some, some)

    monkeypatch.setattr(TextFeatures, "__call__", computed)
    monkeypatch.setattr(WordFeatures, "__call__", computed)
    cache.features(TextFeatures(encoder, (1,), 16), TEXTS)
    for number, (name, (features, rows)) in enumerate(changes(encoder).items(), 2):
        cache.features(features, rows)
        assert len(count) == number, name


def test_files_and_their_folder_are_the_owners_alone(encoder, cache):
    before = os.umask(0)
    try:
        cache.features(TextFeatures(encoder, (1,), 16), TEXTS)
    finally:
        os.umask(before)
    (file,) = cache.folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def _cut(content):
    return content[: len(content) // 2]


def _flipped(content):
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    "broken", [_cut, _flipped, lambda _: b"", lambda _: b"not a file of tensors"]
)
def test_a_broken_file_is_computed_again_and_mended(encoder, cache, count, broken):
    features = TextFeatures(encoder, (1,), 16)
    first = cache.features(features, TEXTS)
    (file,) = cache.folder.iterdir()
    file.write_bytes(broken(file.read_bytes()))
    np.testing.assert_array_equal(cache.features(features, TEXTS), first)
    assert len(count) == 2
    cache.features(features, TEXTS)
    assert len(count) == 2
    assert [one.name for one in file.parent.iterdir()] == [file.name]


def test_a_folder_that_cannot_be_made_is_refused_before_the_work(encoder, tmp_path, count):
    (tmp_path / "taken").write_text("")
    with pytest.raises(ValueError, match="`feature_cache` must be a folder"):
        FeatureCache(tmp_path / "taken").features(TextFeatures(encoder, (1,), 16), TEXTS)
    assert count == []
