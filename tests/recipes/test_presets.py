"""Pretraining, evaluation and the table of settings, on small networks."""

import dataclasses

import jax
import numpy as np
import optax
import pytest

from trustml.data import hash_tokenizer, snips
from trustml.data.rows import Utterance
from trustml.models.joint import nlu
from trustml.models.joint.evaluation import evaluate, predict
from trustml.models.joint.pretraining import pretrain
from trustml.recipes.train.presets import PRESETS
from trustml.recipes.train.word_models import Pretraining, WordModel

TOKENIZER = hash_tokenizer(128, hashes=1, affixes=32)
SIZES = {"features": 16, "layers": 1, "embedding": 8}


@pytest.fixture(scope="module")
def corpus():
    return snips.generated(300)


def network(corpus):
    return nlu.build(
        "conv", table_sizes=TOKENIZER.sizes, intents=len(corpus.labels), tags=corpus.tags, **SIZES
    )


@pytest.mark.slow
@pytest.mark.usefixtures("relaxed_promotion")  # optax's Adam promotes its step count
def test_pretraining_learns_from_generated_rows(corpus):
    net = network(corpus)
    params = pretrain(net, corpus, TOKENIZER, steps=40, batch=32, learning_rate=0.02)
    before = evaluate(net, net.init(jax.random.key(0)), corpus, TOKENIZER)
    after = evaluate(net, params, corpus, TOKENIZER)
    assert after.intent_accuracy > before.intent_accuracy + 0.3


def test_pretraining_refuses_rows_that_people_said(corpus):
    real = dataclasses.replace(corpus, name="mine", synthetic=False)
    with pytest.raises(ValueError, match="`examples` must be synthetic, got 'mine'"):
        pretrain(network(corpus), real, TOKENIZER, steps=1)
    with pytest.raises(ValueError, match="`steps`"):
        pretrain(network(corpus), corpus, TOKENIZER, steps=0)


def test_generated_rows_carry_the_labels_of_snips(corpus):
    assert corpus.labels == snips.SCHEMA.labels
    assert corpus.slots == snips.SCHEMA.slots
    assert {row.intent for row in corpus.rows} == set(corpus.labels)


def test_tokens_beyond_the_length_are_tagged_as_outside(corpus):
    long = Utterance(("play",) * 9, ("O",) * 9, "PlayMusic")
    short = Utterance(("play",), ("O",), "PlayMusic")
    both = dataclasses.replace(corpus, rows=(long, short), owner_kind=None, owners=None)
    net = network(corpus)
    found = predict(net, net.init(jax.random.key(0)), both, TOKENIZER, max_length=4)
    assert [len(row) for row in found.tags] == [9, 1]
    assert found.tags[0][4:] == ("O",) * 5
    assert set(found.intents) <= set(corpus.labels)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_presets_schedules_end_low(name):
    for training in (PRESETS[name].private, PRESETS[name].baseline):
        rates = [float(training.learning_rates()(step)) for step in (0, training.steps)]
        assert rates[1] < training.learning_rate / 10
        assert rates[0] < training.learning_rate


@pytest.mark.parametrize("name", ["synthetic", "snips", "snips-scratch", "nlu"])
def test_every_preset_on_words_builds(name, corpus):
    net = PRESETS[name].model.build(corpus).network
    shapes = jax.eval_shape(net.init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) > 10_000


@pytest.mark.slow
def test_a_model_starts_from_public_rows_or_from_chance():
    schema = snips.generated(2)
    chance = WordModel(sizes=SIZES, buckets=64)
    problem = chance.build(schema)
    first, again = problem.start(1), problem.start(1)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    with jax.numpy_dtype_promotion("standard"):
        public = dataclasses.replace(chance, pretraining=Pretraining(rows=20, steps=2))
        learned = public.build(schema).start(1)
    assert optax.tree.norm(jax.tree.map(np.subtract, learned, first)) > 0
    assert public.with_pretraining(False, "x") == chance


def test_a_model_discloses_what_saw_the_data():
    schema = snips.generated(2)
    words = " ".join(PRESETS["snips"].model.build(schema).disclosures)
    for word in ("independent of the data", "60,000 generated rows", "five of its training rows"):
        assert word in words
    assert "outside the guarantee" in PRESETS["snips"].tuned_on
    scratch = PRESETS["snips-scratch"].model.build(schema)
    assert "random weights" in " ".join(scratch.disclosures)
