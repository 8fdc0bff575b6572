"""Writing with kept keys and values equals reading everything anew; rules equal NumPy's; seeds."""

import dataclasses
import importlib
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trustml.models.transformers.config import ModelConfig
from trustml.models.transformers.generation import Writer, _write, generate
from trustml.models.transformers.language import build_language_model
from trustml.models.transformers.layers import Lora, Options
from trustml.models.transformers.sampling_rules import SamplingRule, top_k, top_p

SIZES = {"vocab_size": 40, "hidden_size": 16, "num_layers": 2, "num_heads": 2}
SIZES |= {"intermediate_size": 24, "max_positions": 40, "layer_norm_eps": 1e-5}
GPT2 = ModelConfig(model_type="gpt2", activation="gelu_new", initializer_range=0.4, **SIZES)
# Windows and frequencies of a cache begin to matter within the prompts.
LLAMA = dataclasses.replace(
    GPT2,
    **{
        "model_type": "llama",
        "activation": "silu",
        "num_heads": 4,
        "num_kv_heads": 2,
    },
    **{"head_width": None},
)
MISTRAL = dataclasses.replace(LLAMA, model_type="mistral", sliding_window=4, tied=False)
READER = {"decoder_layers": 2, "decoder_heads": 2, "decoder_intermediate_size": 24}
BART = ModelConfig(
    model_type="bart", pad_id=1, initializer_range=0.4, logits_bias=True, **READER, **SIZES
)
PROMPTS = [[5, 6, 7], [8], [3, 4, 5, 6, 7, 8, 9, 10, 11]]
NEW = 8
CASES = {
    "gpt2": (GPT2, Options()),
    "gpt2 stacked": (GPT2, Options(scan=True, remat=True)),
    "gpt2 lora": (GPT2, Options(lora=Lora(rank=2), dropout=0.5)),
    "gpt2 variant": (
        dataclasses.replace(GPT2, scale_attn_by_inverse_layer_idx=True, tied=False),
        Options(scan=True),
    ),
    "llama": (LLAMA, Options()),
    "llama stacked": (LLAMA, Options(scan=True, lora=Lora(rank=2))),
    "mistral": (MISTRAL, Options()),
    "bart": (BART, Options()),
    "bart stacked": (BART, Options(scan=True)),
}


def network(config, options=Options(), seed=0):  # noqa: B008
    head = "lm" if config.decoder_only else "seq2seq"
    net = build_language_model(config, head, options=options)

    def moved(path, leaf):
        # Adapters and biases begin at zero, where they would show nothing; and a BART that looks
        # at its source above all writes one token again and again.
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        leaf = leaf + 0.1 * jax.random.normal(jax.random.key(9), leaf.shape)
        factors = {"cross_attention/output": 0.3, "decoder/position": 3.0}
        return leaf * next((value for part, value in factors.items() if part in name), 1.0)

    return net, jax.tree_util.tree_map_with_path(moved, net.init(jax.random.key(seed)))


def anew(config, net):
    """The scores of the token behind `new`, from everything before it, without a cache."""
    logits = jax.jit(net.logits)
    room = max(map(len, PROMPTS)) + NEW

    def padded(ids):
        return jnp.asarray([*ids, *[0] * (room - len(ids))], jnp.int32), jnp.arange(room) < len(ids)

    def scores(params, prompt, new):
        if config.decoder_only:
            ids, mask = padded(prompt + new)
            return logits(params, {"ids": ids, "mask": mask})[len(prompt + new) - 1]
        ids, mask = padded(prompt)
        target, known = padded([*new, 0])
        unit = {"ids": ids, "mask": mask, "target_ids": target, "target_mask": known}
        return logits(params, unit)[len(new)]

    return scores


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_greedy_writing_equals_reading_everything_anew(case):
    config, options = CASES[case]
    net, params = network(config, options)
    read = anew(config, net)
    expected = []
    for prompt in PROMPTS:
        new = []
        for _ in range(NEW):
            new.append(int(read(params, prompt, new).argmax()))
        expected.append(new)
    found = generate(config, params, PROMPTS, max_new_tokens=NEW, options=options, eos_id=-1)
    assert found == expected
    assert max(len(set(row)) for row in found) > 1


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("config", [GPT2, MISTRAL, BART], ids=lambda config: config.model_type)
def test_scores_of_each_step_are_those_of_the_whole(config, dtype):
    options = Options(dtype=dtype)
    net, params = network(config, options)
    read, prompt, new = anew(config, net), PROMPTS[0], [9, 30, 2]
    capacity = 10 + NEW if config.decoder_only else NEW
    writer = Writer(config, options, capacity)
    step = jax.jit(writer.step)
    ids = jnp.asarray([*prompt, *[0] * 7], jnp.int32)
    scores, cache, place = jax.jit(writer.start)(params, ids, jnp.int32(len(prompt)))
    near = 1e-5 if dtype == "float32" else 0.05
    for count in range(len(new) + 1):
        wanted = read(params, prompt, new[:count])
        np.testing.assert_allclose(scores, wanted, atol=near * float(jnp.abs(wanted).max()))
        if count < len(new):
            token = jnp.int32(new[count])
            scores, cache = step(params, cache, token, place + count)


@pytest.fixture(scope="module")
def writer():
    """`generate` of one small GPT-2, and its parameters."""
    _, params = network(GPT2, seed=3)

    def write(prompts=PROMPTS, **options):
        return generate(GPT2, params, prompts, **{"max_new_tokens": NEW, "eos_id": -1, **options})

    return write, params


def test_a_sequence_ends_before_its_end_token_and_the_loop_with_the_last(writer):
    write, params = writer
    whole = write()
    end = whole[0][2]
    cut = write(eos_id=end)
    assert cut == [row[: row.index(end)] if end in row else row for row in whole]
    assert len(cut[0]) < NEW
    # The same prompt alone: the loop ends with it, and what it did not come to stays zero.
    ids = np.array([PROMPTS[0] + [0] * 13], np.int32)
    length = np.array([3], np.int32)
    rest = (params, ids, length, jax.random.key(0))
    stopped, sizes, _ = _write(Writer(GPT2, Options(), 24), SamplingRule(), NEW, end, *rest)
    assert sizes[0] == len(cut[0])
    assert not stopped[0, len(cut[0]) + 1 :].any()
    assert any(whole[0][len(cut[0]) + 1 :])


def test_the_configs_end_token_is_the_default(writer):
    write, params = writer
    config = dataclasses.replace(GPT2, eos_id=write()[0][1])
    found = generate(config, params, PROMPTS, max_new_tokens=NEW)
    assert found == write(eos_id=config.eos_id)


def test_draws_repeat_by_seed_and_depend_on_nobody_beside(writer):
    write, _ = writer
    draw = {"method": "sample", "temperature": 1.5}
    first = write(**draw, seed=1)
    assert first == write(**draw, seed=1)
    assert first != write(**draw, seed=2)
    others = write([PROMPTS[0], [30, 31], PROMPTS[2]], **draw, seed=1)
    assert (others[0], others[2]) == (first[0], first[2])
    twins = write([PROMPTS[0]] * 3, **draw, seed=1)
    assert twins[0] == first[0]
    assert twins[0] != twins[1]


def test_one_token_kept_is_the_best_one(writer):
    write, _ = writer
    assert write(method="sample", top_k=1, seed=5) == write()
    assert write(method="sample", top_p=1e-6, seed=5) == write()


def numpy_kept(scores, temperature, count, share):
    """The rule in float64, token by token."""
    scores = scores.astype(np.float64) / temperature
    order = sorted(range(len(scores)), key=lambda token: -scores[token])
    order = order[: count or None]
    chances = np.exp(scores[order] - scores.max())
    chances /= chances.sum()
    kept, mass = [], 0.0
    for token, chance in zip(order, chances, strict=True):
        kept.append(token)
        mass += chance
        if mass >= share:
            break
    return set(kept)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("count", [0, 1, 7, 100])
@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_kept_tokens_equal_those_of_numpy(temperature, count, share):
    rule = SamplingRule(method="sample", temperature=temperature, top_k=count, top_p=share)
    for seed in range(5):
        scores = 2 * np.random.default_rng(seed).normal(size=50).astype(np.float32)
        found = np.asarray(rule.kept(jnp.asarray(scores)))
        kept = set(np.flatnonzero(np.isfinite(found)).tolist())
        assert kept == numpy_kept(scores, temperature, count, share)
        np.testing.assert_allclose(found[[*kept]], scores[[*kept]] / temperature, rtol=1e-6)


def test_ties_with_the_last_token_are_kept():
    scores = jnp.asarray([1.0, 3.0, 1.0, 1.0, 0.0])
    assert np.isfinite(top_k(scores, 2)).tolist() == [True, True, True, True, False]
    assert np.isfinite(top_p(scores, 0.75)).tolist() == [True, True, True, True, False]


def test_draws_have_the_chances_of_the_kept_tokens():
    rule = SamplingRule(method="sample", temperature=2.0, top_k=3)
    scores = jnp.asarray([0.0, 4.0, 2.0, -1.0, 3.0])
    keys = jax.random.split(jax.random.key(0), 20_000)
    drawn = np.bincount(jax.vmap(rule.choose, (0, None))(keys, scores), minlength=5) / 20_000
    chances = np.exp([-np.inf, 2.0, 1.0, -np.inf, 1.5])
    np.testing.assert_allclose(drawn, chances / chances.sum(), atol=0.015)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"prompts": [[1], []]}, r"`prompts\[1\]` must have 1 to 32 tokens.*got 0"),
        ({"prompts": [[1] * 33]}, r"leaves room for 8 new ones, got 33"),
        ({"prompts": [[1, 40]]}, r"`prompts\[0\]` must hold ids from 0 to 39, got 40"),
        ({"max_new_tokens": 0}, "`max_new_tokens`"),
        ({"method": "beam"}, "`method` must be one of greedy, sample, got 'beam'"),
        ({"method": "sample", "temperature": 0.0}, "`temperature`"),
        ({"method": "sample", "top_p": 0.0}, "`top_p`"),
        ({"method": "sample", "top_k": -1}, "`top_k`"),
        ({"temperature": 0.5}, "method='sample'"),
        ({"options": Options(lora=Lora())}, "`options` must be those of the network"),
    ],
)
def test_bad_arguments_are_refused_by_name(writer, changed, message):
    with pytest.raises(ValueError, match=message):
        writer[0](**changed)


def test_what_cannot_write_is_refused_by_name(writer):
    _, params = writer
    bert = ModelConfig(model_type="bert", type_vocab_size=2, **SIZES)
    with pytest.raises(ValueError, match=r"`config` must be of gpt2, llama, .* got 'bert'"):
        generate(bert, params, PROMPTS, max_new_tokens=1)
    with pytest.raises(ValueError, match="`max_new_tokens` must be at most 40"):
        generate(BART, params, PROMPTS, max_new_tokens=41)
    broken = jax.tree.map(lambda leaf: leaf.at[(0,) * leaf.ndim].set(jnp.nan), params)
    with pytest.raises(ValueError, match=r"`params` must give finite scores.*`prompts\[0\]`"):
        generate(GPT2, broken, PROMPTS, max_new_tokens=NEW, eos_id=-1)
    assert generate(GPT2, params, [], max_new_tokens=1) == []


@pytest.mark.parametrize("kind", ["gpt2", "llama", "bart"])
def test_greedy_writing_equals_that_of_transformers(kind, tmp_path):
    why = "needs transformers and torch: pip install transformers torch"
    torch, transformers = (
        pytest.importorskip(name, reason=why) for name in ("torch", "transformers")
    )
    from trustml.models.pretrained.loading import from_pretrained

    torch.manual_seed(0)
    if kind == "gpt2":
        sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 40}
        config = transformers.GPT2Config(vocab_size=40, initializer_range=0.4, **sizes)
        model = transformers.GPT2LMHeadModel(config)
    elif kind == "llama":
        sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
        sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.4}
        config = transformers.LlamaConfig(vocab_size=40, max_position_embeddings=40, **sizes)
        model = transformers.LlamaForCausalLM(config)
    else:
        sizes = {"d_model": 16, "max_position_embeddings": 40, "init_std": 0.4}
        for side in ("encoder", "decoder"):
            sizes |= {f"{side}_layers": 2, f"{side}_attention_heads": 2, f"{side}_ffn_dim": 24}
        config = transformers.BartConfig(vocab_size=40, forced_eos_token_id=None, **sizes)
        model = transformers.BartForConditionalGeneration(config)
    model.eval().save_pretrained(tmp_path)
    head = "seq2seq" if kind == "bart" else "lm"
    ours = from_pretrained(tmp_path, head=head)
    found = generate(ours.config, ours.params, PROMPTS, max_new_tokens=NEW, eos_id=39)
    for prompt, row in zip(PROMPTS, found, strict=True):
        options = {"max_new_tokens": NEW, "do_sample": False, "eos_token_id": 39, "pad_token_id": 0}
        ids = torch.tensor([prompt])
        theirs = model.generate(ids, attention_mask=torch.ones_like(ids), **options)[0].tolist()
        theirs = theirs[1:] if kind == "bart" else theirs[len(prompt) :]
        assert row == (theirs[: theirs.index(39)] if 39 in theirs else theirs)


@pytest.mark.slow
def test_the_bench_counts_tokens_of_both_sides(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "bench"))
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        assert importlib.import_module("generation").main(["--quick", "--cases", "batch2"]) == 0
    printed = capsys.readouterr().out.splitlines()
    rows = {row["rival"]: row for row in (json.loads(line) for line in printed if line[:1] == "{")}
    assert set(rows) == {"trustml", "transformers"}
    for row in rows.values():
        assert row["note"] or row["tokens_per_s"] > 0
    assert rows["trustml"]["tokens_per_s"] > 0
    assert rows["transformers"]["note"] or rows["transformers"]["same_tokens"] is True
