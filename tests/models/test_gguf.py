"""GGUF files mean here what llama.cpp wrote; what cannot be read is refused by name."""

import dataclasses

import jax
import numpy as np
import pytest

from trustml.models.pretrained.loading import from_pretrained, save_pretrained
from trustml.models.pretrained.saving import to_hf_tensors
from trustml.models.transformers.config import ModelConfig
from trustml.models.transformers.language import build_language_model
from trustml.models.transformers.layers import Options
from trustml.models.transformers.rope import Rope

gguf = pytest.importorskip("gguf", reason="needs gguf: pip install 'trustml-jax[decoder]'")

SIZES = {
    "vocab_size": 270,
    "hidden_size": 32,
    "num_layers": 2,
    "num_heads": 4,
    "num_kv_heads": 2,
    "intermediate_size": 64,
    "max_positions": 48,
    "activation": "silu",
    "layer_norm_eps": 1e-5,
}
LLAMA = ModelConfig(model_type="llama", bos_id=1, eos_id=2, **SIZES)
TOKENS = ["<pad>", "<s>", "</s>", "<tool>"]
_BYTES = [chr(code) for code in (*range(33, 127), *range(161, 173), *range(174, 324))]
TOKENS += [*_BYTES, "Ġa", "bc", "Ġabc", "12"]
MERGES = ["Ġ a", "b c", "Ġa bc", "1 2"]
TENSORS = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def weights_of(config, seed=0):
    shapes = jax.eval_shape(build_language_model(config, "lm").init, jax.random.key(0))
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: np.float32(0.3 * rng.normal(size=x.shape)), shapes)


def turned(array, heads):
    """llama.cpp's own words: its converter's `permute`."""
    return (
        array.reshape(heads, 2, array.shape[0] // heads // 2, *array.shape[1:])
        .swapaxes(1, 2)
        .reshape(array.shape)
    )


def name_of(name):
    module, _, part = name.rpartition(".")
    if module in TENSORS:
        return f"{TENSORS[module]}.{part}"
    _, _, number, inner = module.split(".", 3)
    return f"blk.{number}.{TENSORS[inner]}.{part}"


def written(path, config=LLAMA, *, kind="F32", fields=(), extra=(), seed=0):
    """A file as llama.cpp's converter writes it, and the weights in it."""
    architecture, params = config.model_type, weights_of(config, seed)
    writer = gguf.GGUFWriter(path, dict(fields).get("general.architecture", architecture))
    writer.add_context_length(config.max_positions)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_key_length(config.head_width)
    writer.add_layer_norm_rms_eps(config.layer_norm_eps)
    writer.add_rope_freq_base(config.rope.rope_theta)
    for name, value in fields:
        if name != "general.architecture":
            add = writer.add_string if isinstance(value, str) else writer.add_float32
            (writer.add_uint32 if isinstance(value, int) else add)(name, value)
    add_vocabulary(writer, **dict(extra))
    for name, array in to_hf_tensors(params, config, "lm", Options()).items():
        if architecture == "llama" and ".q_proj." in name:
            array = turned(array, config.num_heads)
        if architecture == "llama" and ".k_proj." in name:
            array = turned(array, config.num_kv_heads)
        stored = gguf.GGMLQuantizationType[kind if array.ndim == 2 else "F32"]
        writer.add_tensor(name_of(name), gguf.quantize(array, stored), raw_dtype=stored)
    return params, writer


def add_vocabulary(writer, model="gpt2", pre="smollm"):
    writer.add_tokenizer_model(model)
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, 3, 4, *[1] * (len(TOKENS) - 4)])
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def equal(found, params, tolerance=0.0):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 0, tolerance), found.params, params)


@pytest.mark.parametrize(
    "config",
    [
        dataclasses.replace(LLAMA, rope=Rope(rope_theta=500.0)),
        dataclasses.replace(LLAMA, tied=False, attention_bias=True, mlp_bias=True),
        dataclasses.replace(LLAMA, model_type="qwen2", attention_bias=True),
        dataclasses.replace(LLAMA, model_type="qwen3", head_width=12),
    ],
    ids=["llama", "biases", "qwen2", "qwen3"],
)
def test_what_is_written_is_read(config, tmp_path):
    path = tmp_path / "model.gguf"
    params, writer = written(path, config)
    finish(writer)
    found = from_pretrained(tmp_path, head="lm")
    assert found.config == config
    assert (found.fresh, found.unread) == ((), ())
    equal(found, params)
    equal(
        from_pretrained(path, head="lm", options=Options(scan=True)),
        stacked(params),
    )


def stacked(params):
    layers = params["decoder"]
    whole = jax.tree.map(lambda *each: np.stack(each), *(layers[f"layer_{i}"] for i in range(2)))
    return params | {"decoder": {"layers": whole}}


@pytest.mark.parametrize(("kind", "near"), [("F16", 1e-3), ("BF16", 1e-2), ("Q8_0", 0.02)])
def test_numbers_are_dequantised(kind, near, tmp_path):
    params, writer = written(tmp_path / "model.gguf", kind=kind)
    finish(writer)
    equal(from_pretrained(tmp_path, head="lm"), params, near)


def test_it_becomes_a_folder_of_transformers(tmp_path):
    _, writer = written(tmp_path / "model.gguf")
    finish(writer)
    found = from_pretrained(tmp_path / "model.gguf", head="lm")
    save_pretrained(tmp_path / "folder", found)
    again = from_pretrained(tmp_path / "folder", head="lm")
    assert again.config == found.config
    equal(again, found.params)
    text = "a abc 1234 <s> <tool>é"
    assert again.tokenizer.encode(text).ids == found.tokenizer.encode(text).ids
    assert again.tokenizer.specials["eos"] == found.tokenizer.specials["eos"] == "</s>"


def test_the_vocabulary_splits_as_its_kind_says(tmp_path):
    texts = {}
    for pre in ("smollm", "gpt-2", "llama-bpe", "qwen2"):
        path = tmp_path / f"{pre}.gguf"
        _, writer = written(path, extra=[("pre", pre)])
        finish(writer)
        tokenizer = from_pretrained(path, head="lm").tokenizer
        ids = tokenizer.encode("x abc12 </s>", special=False).ids
        texts[pre] = [TOKENS[one] for one in ids]
        assert tokenizer.decode(ids, skip_special=False) == "x abc12 </s>"
        assert (tokenizer.encode("x").ids[0] == 1) == (pre == "llama-bpe")
        assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.model_max_length) == (1, 2, 48)
    assert texts["gpt-2"] == ["x", "Ġabc", "12", "Ġ", "</s>"]
    assert texts["llama-bpe"] == texts["gpt-2"]
    assert texts["smollm"] == texts["qwen2"] == ["x", "Ġabc", "1", "2", "Ġ", "</s>"]


def test_the_frequencies_of_llama_3_become_its_scaling(tmp_path):
    scaled = Rope(rope_type="llama3", factor=8.0, original_max_position_embeddings=8192)
    config = dataclasses.replace(LLAMA, rope=scaled, head_width=64)
    plain = Rope().frequencies(64, 0, 48)[0]
    for name, divisors in (
        ("good", plain / scaled.frequencies(64, 0, 48)[0]),
        ("bad", np.linspace(1, 8, 32, dtype=np.float32)),
    ):
        _, writer = written(tmp_path / f"{name}.gguf", config)
        writer.add_tensor("rope_freqs.weight", divisors)
        finish(writer)
    assert from_pretrained(tmp_path / "good.gguf", head="lm").config.rope == scaled
    with pytest.raises(ValueError, match=r"`rope_freqs.weight` must be those of Llama 3"):
        from_pretrained(tmp_path / "bad.gguf", head="lm")


def test_scalings_are_read(tmp_path):
    linear = [("llama.rope.scaling.type", "linear"), ("llama.rope.scaling.factor", 4.0)]
    yarn = [("llama.rope.scaling.type", "yarn"), ("llama.rope.scaling.factor", 4.0)]
    yarn.append(("llama.rope.scaling.original_context_length", 12))
    for name, fields in (("linear", linear), ("yarn", yarn)):
        _, writer = written(tmp_path / f"{name}.gguf", fields=fields)
        finish(writer)
    found = from_pretrained(tmp_path / "linear.gguf", head="lm").config.rope
    assert found == Rope(rope_type="linear", factor=4.0)
    found = from_pretrained(tmp_path / "yarn.gguf", head="lm").config.rope
    assert found == Rope(rope_type="yarn", factor=4.0, original_max_position_embeddings=12)


@pytest.mark.parametrize(
    ("fields", "extra", "message"),
    [
        ([("general.architecture", "mamba")], [], r"one of llama, .* got the architecture 'mamba'"),
        ([("llama.expert_count", 8)], [], "`llama.expert_count` must be 0, got 8"),
        ([("llama.rope.dimension_count", 4)], [], "`rope.dimension_count` must be 8, got 4"),
        ([("llama.rope.scaling.type", "longrope")], [], "`rope_type` must be one of"),
        ([("split.count", 3)], [], "must be a whole model, got one of 3 parts"),
        ([], [("model", "llama")], "`tokenizer.ggml.model` must be one of gpt2, got 'llama'"),
        ([], [("pre", "dbrx")], "`tokenizer.ggml.pre` must be one of gpt-2, .* got 'dbrx'"),
    ],
)
def test_what_is_not_supported_is_refused(fields, extra, message, tmp_path):
    _, writer = written(tmp_path / "model.gguf", fields=fields, extra=extra)
    finish(writer)
    with pytest.raises(ValueError, match=message):
        from_pretrained(tmp_path, head="lm")


def test_a_broken_file_is_refused(tmp_path):
    path = tmp_path / "model.gguf"
    _, writer = written(path)
    finish(writer)
    whole = path.read_bytes()
    for size in (0, 3, 100, 4000, len(whole) - 5000):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"model.gguf must be a whole GGUF file: [^\n]*$"):
            from_pretrained(path, head="lm")
    (tmp_path / "other.gguf").write_bytes(whole)
    with pytest.raises(ValueError, match="must hold one GGUF file, got 2; name the file"):
        from_pretrained(tmp_path, head="lm")


def test_a_quantisation_that_gguf_cannot_read_is_refused(tmp_path):
    path = tmp_path / "model.gguf"
    _, writer = written(path, kind="Q8_0")
    kind = gguf.GGMLQuantizationType.Q8_1  # gguf knows its size alone
    for tensors in writer.tensors:
        info = tensors["token_embd.weight"]
        info.dtype, info.tensor = kind, np.zeros((270, 40), np.uint8)
        info.nbytes = info.tensor.nbytes
    finish(writer)
    with pytest.raises(ValueError, match=r"`token_embd.weight` has the quantisation Q8_1, which"):
        from_pretrained(path, head="lm")


def test_a_tensor_that_the_architecture_lacks_is_refused(tmp_path):
    path = tmp_path / "model.gguf"
    _, writer = written(path)
    writer.add_tensor("blk.0.ffn_gate_inp.weight", np.zeros((2, 32), np.float32))
    finish(writer)
    with pytest.raises(ValueError, match=r"must hold no tensor of a llama .*ffn_gate_inp"):
        from_pretrained(path, head="lm")
