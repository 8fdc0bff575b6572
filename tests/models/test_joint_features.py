"""Intents and slots on features: what each head gives alone, under one bound."""

import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trustml.data import snips
from trustml.data.buckets import shortener
from trustml.data.examples import intents_only, slots_only
from trustml.models.features import NORM
from trustml.models.pretrained.sentence import TokenStates
from trustml.models.tasks.features import features_task
from trustml.models.tasks.joint_features import joint_features_task
from trustml.models.tasks.word_features import word_features_task

DATA = snips.generated(5)
WIDTH = 6


class Features:
    """Vectors by the hash of a text or word, in the place of an encoder."""

    width, layer = WIDTH, 1

    def __call__(self, rows):
        return NORM * np.stack([_vector(row) for row in rows])


def _vector(word):
    draw = np.random.default_rng(zlib.crc32(word.encode()))
    vector = draw.normal(size=WIDTH).astype(np.float32)
    return vector / np.linalg.norm(vector)


def _states(part):
    words = [word for row in part.rows for word in row.tokens]
    lengths = [len(row.tokens) for row in part.rows]
    places = np.concatenate([np.arange(length) for length in lengths])
    rows = np.repeat(np.arange(len(part)), lengths)
    return TokenStates(
        np.stack([_vector(word) for word in words]), rows, places, np.ones(len(words), bool)
    )


@pytest.fixture(scope="module")
def tasks():
    """The joint task, and those of its heads."""
    texts = features_task(intents_only(DATA), Features(), config={}, disclosures=("start: a", "b"))
    words = word_features_task(
        slots_only(DATA),
        Features(),
        max_length=16,
        evaluation_length=16,
        config={},
        disclosures=("start: a",),
        read=_states,
    )
    return joint_features_task(DATA, texts, words, config={"encoder": "x"}), texts, words


def _noisy(params):
    draw = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: leaf + draw.normal(size=leaf.shape).astype("f4"), params)


def test_each_head_gives_what_it_gives_alone(tasks):
    both, texts, words = tasks
    params = _noisy(both.start(0))
    intents, tags = both.predict(params, DATA, False)
    assert intents == texts.predict(params["intent"], intents_only(DATA), False)
    assert tags == words.predict(params["slots"], slots_only(DATA), False)
    wanted = texts.scores(params["intent"], intents_only(DATA))
    np.testing.assert_array_equal(both.scores(params, DATA), wanted)
    units = both.encode(DATA).arrays
    found = both.network.predict(params, units)
    assert [DATA.labels[index] for index in found[0]] == intents
    losses = jax.vmap(both.network.loss, (None, 0))(params, units)
    apart = [
        jax.vmap(task.network.loss, (None, 0))(params[head], task.encode(of(DATA)).arrays)
        for task, head, of in ((texts, "intent", intents_only), (words, "slots", slots_only))
    ]
    np.testing.assert_allclose(losses, apart[0] + apart[1], rtol=1e-6)


def test_the_start_knows_the_names_of_the_intents(tasks):
    both, texts, _ = tasks
    start = both.start(0)
    assert jax.tree.structure(start) == jax.tree.structure(both.network.init(jax.random.key(0)))
    wanted = texts.start(0)["head"]["kernel"]
    np.testing.assert_array_equal(start["intent"]["head"]["kernel"], wanted)
    assert wanted.any()


def test_an_absent_row_weighs_nothing_and_a_short_batch_is_cut_without_a_change(tasks):
    both = tasks[0]
    units, params = both.encode(DATA).arrays, _noisy(both.start(0))
    empty = {name: jnp.zeros_like(leaf[0]) for name, leaf in units.items()}
    for leaf in jax.tree.leaves(jax.grad(both.network.loss)(params, empty)):
        assert not leaf.any()
    taken = units["mask"].sum(1) <= 8
    assert taken.any()
    cut = shortener(units)({name: leaf[taken] for name, leaf in units.items()}, taken[taken])
    assert cut["features"].shape[1:] == (8, WIDTH)
    loss = jax.vmap(both.network.loss, (None, 0))
    np.testing.assert_allclose(loss(params, cut), loss(params, units)[taken], rtol=1e-6)


def test_the_statement_says_each_thing_once_and_the_description_names_both(tasks):
    both, texts, _ = tasks
    assert len(set(both.disclosures)) == len(both.disclosures)
    assert set(texts.disclosures) <= set(both.disclosures)
    assert both.config["slots"] == list(DATA.slots)
    assert both.config["labels"] == list(DATA.labels)
    assert (both.config["task"], both.config["encoder"]) == ("nlu", "x")


def test_a_flipped_intent_changes_the_loss_of_its_row_alone(tasks):
    both = tasks[0]
    units, params = both.encode(DATA).arrays, _noisy(both.start(0))
    flipped = {**units, "label": (units["label"] + np.eye(5, dtype=np.int32)[2]) % 7}
    loss = jax.vmap(both.network.loss, (None, 0))
    changed = np.flatnonzero(loss(params, units) != loss(params, flipped))
    assert changed.tolist() == [2]
