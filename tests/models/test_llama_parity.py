"""Llama and its relatives agree with Hugging Face's transformers, option by option."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trustml.models.pretrained.loading import from_pretrained, save_pretrained
from trustml.models.pretrained.saving import to_hf_tensors
from trustml.models.transformers.layers import Lora, Options

WAY = "needs torch and transformers: pip install 'trustml-jax[parity]'"
torch = pytest.importorskip("torch", reason=WAY)
transformers = pytest.importorskip("transformers", reason=WAY)

VOCABULARY, TIME = 60, 40
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 16,  # texts of `TIME` tokens go beyond it
    "initializer_range": 0.3,
}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4}
VARIANTS = {
    "plain": ("Llama", {}),
    "every head its own": ("Llama", {"num_key_value_heads": 4}),
    "one head of keys": ("Llama", {"num_key_value_heads": 1}),
    "tied": ("Llama", {"tie_word_embeddings": True}),
    "biases": ("Llama", {"attention_bias": True, "mlp_bias": True}),
    "wide heads": ("Llama", {"head_dim": 16}),
    "eps": ("Llama", {"rms_norm_eps": 1e-2}),
    "activation": ("Llama", {"hidden_act": "gelu"}),
    "theta": ("Llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}),
    "linear": ("Llama", {"rope_parameters": {"rope_type": "linear", "factor": 4.0}}),
    "dynamic": ("Llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}),
    "llama3": ("Llama", {"rope_parameters": LLAMA3 | {"original_max_position_embeddings": 8}}),
    "yarn": ("Llama", {"rope_parameters": YARN}),
    "yarn with scales": (
        "Llama",
        {
            "rope_parameters": YARN
            | {"original_max_position_embeddings": 8, "mscale": 0.7, "mscale_all_dim": 0.5}
            | {"beta_fast": 16, "beta_slow": 2, "truncate": False}
        },
    ),
    "yarn with a factor": ("Llama", {"rope_parameters": YARN | {"attention_factor": 0.8}}),
    "mistral": ("Mistral", {"sliding_window": None}),
    "mistral in a window": ("Mistral", {"sliding_window": 5, "head_dim": 16}),
    "qwen2": ("Qwen2", {}),
    "qwen3": ("Qwen3", {"head_dim": 16}),
    "gemma": ("Gemma", {"head_dim": 16}),
}
FAMILIES = ("Llama", "Mistral", "Qwen2", "Qwen3", "Gemma")
_QUICK = ("llama3", "mistral in a window")


@pytest.fixture(autouse=True, scope="module")
def _quick_compilation():
    """Small networks run for milliseconds and would compile for minutes."""
    name = "jax_disable_most_optimizations"
    before = jax.config.values[name]
    jax.config.update(name, True)
    yield
    jax.config.update(name, before)


def theirs(family, kind, **options):
    """A model of transformers with random weights, biases and norms too."""
    config = getattr(transformers, f"{family}Config")(**SIZES | options)
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    model = getattr(transformers, family + kind)(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 1:
                weight += 0.3 * torch.randn_like(weight)
    return model


def unit_of(time=TIME, padding=4, seed=0):
    ids = np.random.default_rng(seed).integers(1, VOCABULARY, time).astype(np.int32)
    mask = np.arange(time) < time - padding
    return {"ids": jnp.asarray(np.where(mask, ids, 0)), "mask": jnp.asarray(mask)}


def outputs(model, unit, **more):
    tensor = lambda x: torch.tensor(np.asarray(x)[None]).long()  # noqa: E731
    return model(input_ids=tensor(unit["ids"]), attention_mask=tensor(unit["mask"]), **more)


def close(mine, reference, tolerance=1e-4):
    reference = np.asarray(reference)
    scale = max(1.0, float(np.abs(reference).max()))
    np.testing.assert_allclose(mine, reference, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize(
    "variant",
    [pytest.param(name, marks=() if name in _QUICK else pytest.mark.slow) for name in VARIANTS],
)
def test_scores_gradients_and_files_agree(variant, tmp_path):
    family, fields = VARIANTS[variant]
    model = theirs(family, "ForCausalLM", **fields)
    model.save_pretrained(tmp_path / "first")
    found = from_pretrained(tmp_path / "first", head="lm")
    assert (found.fresh, found.unread) == ((), ())
    unit = unit_of()
    real = int(unit["mask"].sum())
    labels = torch.tensor(np.where(unit["mask"], unit["ids"], -100)[None]).long()
    output = outputs(model, unit, labels=labels)
    output.loss.backward()
    scores = jax.jit(found.network.logits)(found.params, unit)
    close(scores[:real], output.logits[0, :real].detach())
    loss, gradient = jax.jit(jax.value_and_grad(found.network.loss))(found.params, unit)
    assert float(loss) == pytest.approx(output.loss.item(), rel=1e-4)
    named = to_hf_tensors(gradient, found.config, "lm", Options())
    for name, weight in model.named_parameters():
        largest = max(float(weight.grad.abs().max()), 1e-3)
        np.testing.assert_allclose(
            named[name], weight.grad.numpy(), 0, 1e-3 * largest, err_msg=name
        )
    save_pretrained(tmp_path / "second", found)
    again, told = type(model).from_pretrained(
        tmp_path / "second", output_loading_info=True, attn_implementation="eager"
    )
    assert not told["mismatched_keys"] | told["unexpected_keys"]
    close(outputs(again.eval(), unit).logits[0, :real].detach(), output.logits[0, :real].detach())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "head"),
    [
        *((family, "qa") for family in FAMILIES[:-1]),  # transformers has no such Gemma
        *((family, head) for family in FAMILIES for head in ("classify", "tag")),
    ],
)
def test_heads_agree(family, head, tmp_path):
    kinds = {"classify": "SequenceClassification", "tag": "TokenClassification"}
    kind = f"For{kinds.get(head, 'QuestionAnswering')}"
    model = theirs(family, kind, num_labels=3, pad_token_id=0, head_dim=8)
    model.save_pretrained(tmp_path / "first")
    options = Options(scan=True, lora=Lora(rank=2))
    found = from_pretrained(tmp_path / "first", head=head, options=options)
    assert all("/lora_" in leaf for leaf in found.fresh)
    unit = unit_of()
    real = slice(None) if head == "classify" else slice(int(unit["mask"].sum()))

    def scores(one):
        output = outputs(one, unit)
        starts = (output.start_logits, output.end_logits) if head == "qa" else (output.logits,)
        return np.stack([each[0].detach().numpy() for each in starts])[:, real]

    mine = jax.jit(found.network.logits)(found.params, unit)
    close(np.stack(mine if head == "qa" else [mine])[:, real], scores(model))
    save_pretrained(tmp_path / "second", found)
    again = type(model).from_pretrained(tmp_path / "second", attn_implementation="eager")
    close(scores(again.eval()), scores(model))
