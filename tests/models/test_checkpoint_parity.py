"""What a checkpoint may hold means here what it means in Hugging Face's transformers."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trustml.models.pretrained.loading import from_pretrained, save_pretrained
from trustml.models.pretrained.saving import to_hf_tensors
from trustml.models.transformers.activations import ACTIVATIONS
from trustml.models.transformers.layers import Options

WAY = "needs torch and transformers: pip install 'trustml-jax[parity]'"
torch = pytest.importorskip("torch", reason=WAY)
transformers = pytest.importorskip("transformers", reason=WAY)
from safetensors.torch import load_file, save_file  # noqa: E402

ENCODER = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 16,
}
SIZES = {
    "bert": ENCODER,
    "roberta": ENCODER | {"type_vocab_size": 1},
    "distilbert": {
        "dim": 16,
        "n_layers": 2,
        "n_heads": 2,
        "hidden_dim": 24,
        "max_position_embeddings": 16,
    },
    "gpt2": {"n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 16, "pad_token_id": 0},
    "bart": {
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 24,
        "decoder_ffn_dim": 24,
        "max_position_embeddings": 16,
        "init_std": 0.3,
    },
}
FAMILY = {
    "bert": "Bert",
    "distilbert": "DistilBert",
    "roberta": "Roberta",
    "gpt2": "GPT2",
    "bart": "Bart",
}
CLASS = {
    "classify": "ForSequenceClassification",
    "tag": "ForTokenClassification",
    "mlm": "ForMaskedLM",
    "lm": "LMHeadModel",
    "seq2seq": "ForConditionalGeneration",
}
LANGUAGE = {"bert": "mlm", "distilbert": "mlm", "roberta": "mlm", "gpt2": "lm", "bart": "seq2seq"}
WORD = {
    "bert": "bert.embeddings.word_embeddings.weight",
    "distilbert": "distilbert.embeddings.word_embeddings.weight",
    "roberta": "roberta.embeddings.word_embeddings.weight",
    "gpt2": "transformer.wte.weight",
    "bart": "model.shared.weight",
}
VOCABULARY, TIME = 40, 9


@pytest.fixture(autouse=True, scope="module")
def _quick_compilation():
    """Small networks run for milliseconds and would compile for minutes."""
    name = "jax_disable_most_optimizations"
    before = jax.config.values[name]
    jax.config.update(name, True)
    yield
    jax.config.update(name, before)


def architecture(kind, head):
    return getattr(transformers, FAMILY[kind] + CLASS[head])


def saved(kind, head, folder, **fields):
    """A folder as transformers writes it, with random weights, biases and norms too."""
    given = {"vocab_size": VOCABULARY, "initializer_range": 0.3, **SIZES[kind], **fields}
    config = getattr(transformers, f"{FAMILY[kind]}Config")(**given)
    torch.manual_seed(0)
    model = architecture(kind, head)(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn_like(weight)
    model.save_pretrained(folder)


def theirs(kind, head, folder):
    load = architecture(kind, head).from_pretrained
    return load(folder, attn_implementation="eager").eval()


def edit(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    tensors = {name: leaf.contiguous() for name, leaf in tensors.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def reconfigure(folder, **changes):
    fields = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(fields))


def units_of(head, rows=3):
    rng = np.random.default_rng(1)
    ids = rng.integers(3, VOCABULARY, (rows, TIME)).astype(np.int32)
    units = {"ids": ids, "mask": np.ones((rows, TIME), bool)}
    if head == "seq2seq":
        units["target_ids"] = rng.integers(3, VOCABULARY, (rows, TIME)).astype(np.int32)
        units["target_mask"] = np.ones((rows, TIME), bool)
    return units


def scores_of(model, units):
    given = {"input_ids": torch.tensor(units["ids"]).long()}
    if "target_ids" in units:
        given["labels"] = torch.tensor(units["target_ids"]).long()
    return model(**given).logits


def agree(kind, head, folder, **options):
    """Loads a folder here and there and compares the scores; gives our network."""
    found = from_pretrained(folder, head=head, **options)
    units = units_of(head)
    mine = jax.jit(jax.vmap(found.network.logits, (None, 0)))(found.params, units)
    reference = scores_of(theirs(kind, head, folder), units).detach().numpy()
    scale = max(1.0, float(np.abs(reference).max()))
    np.testing.assert_allclose(mine, reference, rtol=0, atol=1e-4 * scale)
    assert found.fresh == ()
    return found


def test_all_activations_without_parameters_are_known():
    known = set(transformers.activations.ACT2CLS)
    assert set(ACTIVATIONS) == known - {"prelu", "xielu"}


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_activations_and_their_slopes_agree(name):
    places = np.linspace(-14.03, 14.01, 57, dtype=np.float32)  # no kink among them
    x = torch.tensor(places, requires_grad=True)
    reference = transformers.activations.ACT2FN[name](x)
    reference.sum().backward()
    mine, slope = jax.vmap(jax.value_and_grad(ACTIVATIONS[name]))(jnp.asarray(places))
    np.testing.assert_allclose(mine, reference.detach(), rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(slope, x.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "head", "fields"),
    [
        ("bert", "mlm", {"hidden_act": "quick_gelu"}),
        ("roberta", "classify", {"hidden_act": "swish"}),
        ("distilbert", "mlm", {"activation": "tanh"}),
        ("gpt2", "lm", {"activation_function": "gelu_10"}),
        ("bart", "seq2seq", {"activation_function": "hardswish"}),
        ("gpt2", "lm", {"reorder_and_upcast_attn": True}),
        ("gpt2", "lm", {"eos_token_id": [1, 2]}),
    ],
)
def test_fields_of_the_configuration_mean_the_same(kind, head, fields, tmp_path):
    saved(kind, head, tmp_path, **fields)
    agree(kind, head, tmp_path)


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize(
    "fields",
    [
        {"scale_attn_weights": False},
        {"scale_attn_by_inverse_layer_idx": True},
        {"scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True},
    ],
)
def test_scales_of_gpt2s_scores_agree(fields, scan, tmp_path):
    saved("gpt2", "lm", tmp_path / "first", **fields)
    found = agree("gpt2", "lm", tmp_path / "first", options=Options(scan=scan))
    units = units_of("lm")

    def total(params):
        return jax.vmap(found.network.loss, (None, 0))(params, units).sum()

    gradient = to_hf_tensors(jax.jit(jax.grad(total))(found.params), found.config, "lm", Options())
    model = theirs("gpt2", "lm", tmp_path / "first")
    for row in torch.tensor(units["ids"]).long():
        model(input_ids=row[None], labels=row[None]).loss.backward()
    for name, weight in model.named_parameters():
        largest = max(float(weight.grad.abs().max()), 1e-3)
        np.testing.assert_allclose(gradient[name], weight.grad, rtol=0, atol=1e-3 * largest)
    save_pretrained(tmp_path / "second", found)
    agree("gpt2", "lm", tmp_path / "second")


@pytest.mark.parametrize(
    ("kind", "stored"),
    [
        ("bert", "cls.predictions.decoder.weight"),
        ("roberta", "lm_head.decoder.weight"),
        ("distilbert", "vocab_projector.weight"),
        ("gpt2", "lm_head.weight"),
        ("bart", "lm_head.weight"),
        ("bart", "model.encoder.embed_tokens.weight"),
        ("bart", "model.decoder.embed_tokens.weight"),
    ],
)
def test_tied_weights_are_read_under_any_of_their_names(kind, stored, tmp_path):
    head = LANGUAGE[kind]
    saved(kind, head, tmp_path)
    found = agree(kind, head, tmp_path)
    edit(tmp_path, lambda tensors: tensors.update({stored: tensors.pop(WORD[kind])}))
    again = agree(kind, head, tmp_path)
    jax.tree.map(np.testing.assert_array_equal, again.params, found.params)


@pytest.mark.parametrize(
    ("kind", "bias", "stored"),
    [
        ("bert", "cls.predictions.bias", "cls.predictions.decoder.bias"),
        ("roberta", "lm_head.bias", "lm_head.decoder.bias"),
    ],
)
def test_a_tied_bias_is_read_under_either_name(kind, bias, stored, tmp_path):
    saved(kind, "mlm", tmp_path)

    def rename(tensors):
        tensors[stored] = tensors.pop(bias)

    edit(tmp_path, rename)
    assert np.any(agree(kind, "mlm", tmp_path).params["head"]["bias"])


def test_a_body_is_read_from_the_output_that_it_is_tied_to(tmp_path):
    saved("gpt2", "lm", tmp_path)
    edit(tmp_path, lambda tensors: tensors.update({"lm_head.weight": tensors.pop(WORD["gpt2"])}))
    table = load_file(tmp_path / "model.safetensors")["lm_head.weight"]
    found = from_pretrained(tmp_path, head="classify", labels=("a", "b"))
    np.testing.assert_array_equal(found.params["word"]["embedding"], table)


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("kind", list(LANGUAGE))
def test_an_output_that_is_not_tied_is_read_trained_and_saved(kind, scan, tmp_path):
    head = LANGUAGE[kind]
    saved(kind, head, tmp_path / "first", tie_word_embeddings=False)
    if kind == "bart":  # here transformers would read three embeddings; files hold one

        def same(tensors):
            for side in ("encoder", "decoder"):
                tensors[f"model.{side}.embed_tokens.weight"] = tensors[WORD[kind]].clone()

        edit(tmp_path / "first", same)
    if kind in ("bert", "roberta"):  # of which the second is the one that counts
        bias = "cls.predictions" if kind == "bert" else "lm_head"

        def once(tensors):
            tensors[f"{bias}.bias"] = tensors[f"{bias}.decoder.bias"].clone()

        edit(tmp_path / "first", once)
    found = agree(kind, head, tmp_path / "first", options=Options(scan=scan))
    own = found.params["head"]["decoder"]["embedding"]
    assert own.shape == (VOCABULARY, 16)
    params = jax.tree.map(lambda leaf: leaf * 1.1 + 0.01, found.params)
    save_pretrained(tmp_path / "second", found._replace(params=params))
    again = agree(kind, head, tmp_path / "second", options=Options(scan=scan))
    jax.tree.map(np.testing.assert_array_equal, again.params, params)
    bare = (found.network, found.config, params)
    save_pretrained(tmp_path / "third", bare, options=Options(scan=scan))
    assert from_pretrained(tmp_path / "third", head=head).fresh == ()


PROBLEMS = [
    ("single_label_classification", 3, "one"),
    ("multi_label_classification", 3, "several"),
    ("regression", 3, "numbers"),
    ("regression", 1, "number"),
    ("multi_label_classification", 1, "several"),
    (None, 3, "one"),
    (None, 3, "several"),
    (None, 1, "number"),
]


def labels_of(kind, count, rows):
    rng = np.random.default_rng(2)
    if kind == "one":
        return rng.integers(0, count, rows).astype(np.int32)
    if kind == "several":
        return rng.integers(0, 2, (rows, count)).astype(np.float32)
    shape = (rows,) if kind == "number" else (rows, count)
    return rng.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
@pytest.mark.parametrize(("problem", "count", "labels"), PROBLEMS)
def test_losses_of_a_classifier_agree(kind, problem, count, labels, tmp_path):
    saved(kind, "classify", tmp_path / "m", num_labels=count, problem_type=problem)
    found = agree(kind, "classify", tmp_path / "m")
    assert found.config.problem_type == problem
    units = units_of("classify")
    units["label"] = labels_of(labels, count, len(units["ids"]))
    mine, gradient = jax.jit(
        jax.value_and_grad(lambda p: jax.vmap(found.network.loss, (None, 0))(p, units).mean())
    )(found.params)
    model = theirs(kind, "classify", tmp_path / "m")
    given = torch.tensor(units["label"])
    given = given if given.dtype == torch.float32 else given.long()
    reference = model(input_ids=torch.tensor(units["ids"]).long(), labels=given).loss
    reference.backward()
    assert float(mine) == pytest.approx(float(reference.detach()), rel=1e-4)
    head = "classifier.weight" if kind == "bert" else "score.weight"
    slope = dict(model.named_parameters())[head].grad
    np.testing.assert_allclose(
        gradient["head"]["classifier"]["kernel"].T, slope, rtol=1e-3, atol=1e-5
    )
    save_pretrained(tmp_path / "again", found)
    assert from_pretrained(tmp_path / "again", head="classify").config == found.config


@pytest.mark.parametrize(("kind", "head", "count"), [("bert", "classify", 2), ("bert", "tag", 4)])
@pytest.mark.parametrize("problem", [None, "single_label_classification"])
def test_a_finetuned_head_without_names_agrees(kind, head, count, problem, tmp_path):
    saved(kind, head, tmp_path, num_labels=count, problem_type=problem)
    names = tuple("abcd"[:count])
    given = {"labels": names} if head == "classify" else {"tags": names}
    agree(kind, head, tmp_path, **given)
    agree(kind, head, tmp_path)
