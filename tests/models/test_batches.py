"""Rows in batches of similar lengths: the same results as all rows padded to the longest."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trustml.data import buckets
from trustml.models.tasks.batches import by_length
from trustml.models.transformers.config import ModelConfig
from trustml.models.transformers.language import build_language_model

_SIZES = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 16, "max_positions": 64}
_MORE = {
    "bert": {"type_vocab_size": 2},
    "gpt2": {},
    "bart": {"decoder_layers": 1, "decoder_heads": 2, "decoder_intermediate_size": 16},
}
_TIME, _LENGTHS = 32, [31, 3, 9, 32, 1, 17, 8, 2, 25, 4, 12]


def _config(kind):

    return ModelConfig(model_type=kind, num_layers=1, num_heads=2, **_SIZES, **_MORE[kind])


def _rows():
    draw = np.random.default_rng(0)
    size = (len(_LENGTHS), _TIME)
    mask = np.arange(_TIME) < np.array(_LENGTHS)[:, None]
    rows = {"mask": mask, "types": np.zeros(size, np.int32), "context_mask": mask}
    targets = mask[::-1, :12]  # lengths of their own
    # Nothing may be read from padding, so it is filled with ids too.
    rows |= {"ids": draw.integers(1, 32, size).astype(np.int32), "target_mask": targets}
    return rows | {"target_ids": draw.integers(1, 32, targets.shape).astype(np.int32)}


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """Batches of two rows of 32, so that a few rows fill several of each length."""
    monkeypatch.setattr(buckets, "_BATCH_TOKENS", 64)


@pytest.mark.parametrize(
    ("kind", "head", "named"),
    [
        ("bert", "tag", {"tags": ("O", "B-x", "I-x")}),
        ("bert", "qa", {}),
        ("gpt2", "lm", {}),
        ("bart", "seq2seq", {}),
    ],
)
def test_predictions_are_those_of_rows_padded_to_the_longest(kind, head, named):
    network = build_language_model(_config(kind), head, **named)
    params, rows = network.init(jax.random.key(1)), _rows()
    found = by_length(network.predict, params, rows)
    padded = jax.tree.map(np.asarray, network.predict(params, rows))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(padded), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=2e-6)


def test_few_programs_are_compiled_and_short_rows_are_not_padded_to_the_longest():
    traced = []

    @jax.jit
    def ends(params, rows):
        traced.append(rows["mask"].shape)
        return rows["mask"].sum(1, dtype=jnp.int32) + params, rows["mask"]

    rows = {"mask": _rows()["mask"]}
    for part in (slice(None), slice(0, 3), slice(5, 6)):
        some = {"mask": rows["mask"][part]}
        sums, masks = by_length(ends, jnp.int32(100), some)
        assert sums.tolist() == [100 + length for length in _LENGTHS[part]]
        assert (masks == some["mask"]).all()
    shapes = [shape for shape in traced if shape[0] > 1]
    assert sorted(shapes) == [(2, 32), (4, 16), (8, 8)]


def test_no_rows_give_empty_results():
    rows = {"mask": np.zeros((0, 8), bool)}
    assert by_length(lambda params, rows: rows["mask"].sum(1), None, rows).shape == (0,)
