"""Llama and its relatives: their configurations, positions, grouped heads, and refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trustml.models.transformers.attention import attend
from trustml.models.transformers.config import ModelConfig
from trustml.models.transformers.language import build_language_model
from trustml.models.transformers.layers import Options
from trustml.models.transformers.rope import Rope, rotate, rotation

FIELDS = {
    "model_type": "llama",
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 32,
}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


@pytest.fixture(autouse=True, scope="module")
def _quick_compilation():
    """Small networks run for milliseconds and would compile for minutes."""
    name = "jax_disable_most_optimizations"
    before = jax.config.values[name]
    jax.config.update(name, True)
    yield
    jax.config.update(name, before)


def test_old_and_new_files_name_the_same_positions():
    old = ModelConfig.from_hf(FIELDS | {"rope_theta": 5e5, "rope_scaling": LLAMA3})
    new = ModelConfig.from_hf(FIELDS | {"rope_parameters": LLAMA3 | {"rope_theta": 5e5}})
    assert old == new
    assert old.rope.original_max_position_embeddings == 32
    older = {"rope_scaling": {"type": "linear", "factor": 2.0}}  # before transformers 4.43
    assert ModelConfig.from_hf(FIELDS | older).rope == Rope(rope_type="linear", factor=2.0)
    for config in (old, ModelConfig.from_hf(FIELDS)):
        assert ModelConfig.from_hf(config.to_hf()) == config
    assert (old.num_kv_heads, old.head_width, old.tied) == (4, 4, False)


def test_what_a_file_omits_is_as_in_transformers():
    for kind, kv, width, window in (("qwen3", 4, 128, None), ("mistral", 2, 4, 4096)):
        fields = FIELDS | {"model_type": kind, "num_key_value_heads": kv}
        config = ModelConfig.from_hf(fields)
        assert (config.num_kv_heads, config.head_width, config.sliding_window) == (
            *(kv, width),
            window,
        )
    plain = FIELDS | {"model_type": "mistral", "num_key_value_heads": 4, "sliding_window": None}
    assert ModelConfig.from_hf(plain).sliding_window is None
    qwen = ModelConfig.from_hf(FIELDS | {"model_type": "qwen2", "num_key_value_heads": 2})
    assert qwen.attention_bias
    assert ModelConfig.from_hf(qwen.to_hf()) == qwen


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_key_value_heads": 3}, "`num_heads` must be a multiple of `num_kv_heads`, got 4 and"),
        ({"head_dim": 5}, "`head_width` must be even, got 5"),
        ({"hidden_size": 18}, "`hidden_size` must be a multiple of `num_heads`, got 18 and 4"),
        ({"rope_scaling": {"rope_type": "longrope"}}, "`rope_type` must be one of .*'longrope'"),
        ({"rope_scaling": {"rope_type": "linear"}}, "`factor` of `rope_parameters` is missing"),
        ({"rope_scaling": LLAMA3 | {"low_freq_factor": 4.0}}, "`high_freq_factor` must be more"),
        ({"rope_scaling": LLAMA3 | {"factor": float("nan")}}, "`factor` must be positive"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "`partial_rotary_factor` of"),
        ({"rope_parameters": {"mrope_section": [1]}}, "`mrope_section` of .* is not supported"),
        ({"rope_parameters": 3}, "`rope_parameters` must be a JSON object, got 3"),
        ({"layer_types": ["sliding_attention"]}, "`layer_types` .* got 'sliding_attention'"),
        ({"model_type": "qwen2", "use_sliding_window": True}, "`use_sliding_window` .* False"),
        ({"model_type": "mistral", "num_key_value_heads": 2, "sliding_window": 0}, "`sliding_win"),
        ({"model_type": "gemma2"}, "`model_type` must be one of .*gemma, got 'gemma2'"),
    ],
)
def test_a_configuration_that_is_not_supported_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig.from_hf(FIELDS | changes)


def test_turned_pairs_keep_their_length_and_see_distances_only():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 1, 8)), jnp.float32)

    def products(first, second):
        at = jnp.asarray([first, second], jnp.int32)
        q = rotate(x, *rotation(Rope(), 8, at, 32, length=2))
        np.testing.assert_allclose(jnp.linalg.norm(q, axis=-1), jnp.linalg.norm(x, axis=-1), 1e-5)
        return float(jnp.vdot(q[0], q[1]))

    assert products(3, 7) == pytest.approx(products(20, 24), rel=1e-4)
    assert products(3, 7) != pytest.approx(products(3, 8), rel=1e-2)


def test_grouped_heads_equal_repeated_ones():
    rng = np.random.default_rng(1)
    q, k, v = (jnp.asarray(rng.normal(size=(5, h, 4)), jnp.float32) for h in (6, 2, 2))
    allowed = jnp.tril(jnp.ones((5, 5), bool))
    repeated = [jnp.repeat(x, 3, 1) for x in (k, v)]
    np.testing.assert_allclose(
        attend(q, k, v, allowed), attend(q, *repeated, allowed), rtol=1e-5, atol=1e-6
    )


def test_a_window_hides_what_is_farther_back():
    """One layer: a state depends on exactly the tokens of its window."""
    config = ModelConfig.from_hf(
        FIELDS
        | {"model_type": "mistral", "num_key_value_heads": 2, "sliding_window": 3}
        | {"num_hidden_layers": 1, "initializer_range": 0.3}
    )
    network = build_language_model(config, "lm")
    params, logits = network.init(jax.random.key(0)), jax.jit(network.logits)
    ids = jnp.arange(3, 13, dtype=jnp.int32)
    scores = [
        logits(params, {"ids": ids.at[2].set(token), "mask": jnp.ones(10, bool)})
        for token in (40, 41)
    ]
    moved = np.abs(scores[0] - scores[1]).max(-1) > 1e-6
    assert moved.tolist() == [False, False, True, True, True, *[False] * 5]


def test_products_run_in_bfloat16_and_stay_near():
    config = ModelConfig.from_hf(FIELDS | {"num_key_value_heads": 2, "num_hidden_layers": 1})
    unit = {"ids": jnp.arange(8, dtype=jnp.int32), "mask": jnp.ones(8, bool)}
    params = build_language_model(config, "lm").init(jax.random.key(0))
    exact, rounded = (
        jax.jit(build_language_model(config, "lm", options=Options(dtype=dtype)).logits)(
            params, unit
        )
        for dtype in ("float32", "bfloat16")
    )
    assert rounded.dtype == exact.dtype == jnp.float32
    difference = float(jnp.abs(exact - rounded).max())
    assert 0 < difference < 0.05 * float(jnp.abs(exact).max())
