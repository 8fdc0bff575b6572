"""Networks agree with Hugging Face's transformers: scores, gradients, files in both directions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trustml.models.pretrained.loading import from_pretrained, save_pretrained
from trustml.models.pretrained.saving import to_hf_tensors
from trustml.models.transformers.layers import Lora, Options
from trustml.models.transformers.lora import merge_lora

WAY = "needs torch and transformers: pip install 'trustml-jax[parity]'"
torch = pytest.importorskip("torch", reason=WAY)
transformers = pytest.importorskip("transformers", reason=WAY)

VOCABULARY, CLASSES = 60, 3
LABELS, TAGS = ("no", "yes", "maybe"), ("O", "B-a", "I-a")
_SHARED = {"vocab_size": VOCABULARY, "initializer_range": 0.3}
SIZES = {
    "bert": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 24,
    },
    "distilbert": {
        "dim": 32,
        "n_layers": 2,
        "n_heads": 2,
        "hidden_dim": 48,
        "max_position_embeddings": 24,
    },
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 24, "pad_token_id": 0},
    "bart": {
        "d_model": 32,
        "encoder_layers": 2,
        "decoder_layers": 1,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 40,
        "max_position_embeddings": 24,
        "scale_embedding": True,
        "init_std": 0.3,
    },
}
SIZES["roberta"] = SIZES["bert"] | {"type_vocab_size": 1, "hidden_act": "gelu_new"}
CASES = [
    *((kind, head) for kind in ("bert", "distilbert", "roberta") for head in ("classify", "mlm")),
    *((kind, head) for kind in ("bert", "gpt2") for head in ("tag", "qa")),
    ("distilbert", "tag"),
    ("roberta", "qa"),
    ("gpt2", "classify"),
    ("gpt2", "lm"),
    ("bart", "seq2seq"),
]
_CLASS = {
    "classify": "ForSequenceClassification",
    "tag": "ForTokenClassification",
    "qa": "ForQuestionAnswering",
    "mlm": "ForMaskedLM",
    "lm": "LMHeadModel",
    "seq2seq": "ForConditionalGeneration",
}
_FAMILY = {
    "bert": "Bert",
    "distilbert": "DistilBert",
    "roberta": "Roberta",
    "gpt2": "GPT2",
    "bart": "Bart",
}


@pytest.fixture(autouse=True, scope="module")
def _quick_compilation():
    """Small networks run for milliseconds and would compile for minutes."""
    name = "jax_disable_most_optimizations"
    before = jax.config.values[name]
    jax.config.update(name, True)
    yield
    jax.config.update(name, before)


def theirs(kind, head, **options):
    """A model of transformers with random weights, biases and norms too."""
    fields = _SHARED | SIZES[kind] | options
    labels = LABELS if head == "classify" else TAGS if head == "tag" else None
    if labels:
        fields["id2label"] = dict(enumerate(labels))
        fields["label2id"] = {name: place for place, name in enumerate(labels)}
    config = getattr(transformers, f"{_FAMILY[kind]}Config")(**fields)
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    model = getattr(transformers, _FAMILY[kind] + _CLASS[head])(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 1:
                weight += 0.1 * torch.randn_like(weight)
            elif name.endswith(("score.weight", "classifier.weight", "qa_outputs.weight")):
                weight.copy_(0.3 * torch.randn_like(weight))
    return model


def ours(model, head, folder, **options):
    model.save_pretrained(folder)
    return from_pretrained(folder, head=head, **options)


def units_of(kind, head, rows=3, time=11, seed=0):
    """Ragged rows with padding at the end; the first row has none."""
    rng = np.random.default_rng(seed)
    pad = 1 if kind in ("roberta", "bart") else 0
    lengths = np.array([time, *rng.integers(4, time, rows - 1)])
    mask = np.arange(time)[None, :] < lengths[:, None]
    ids = np.where(mask, rng.integers(3, VOCABULARY, (rows, time)), pad).astype(np.int32)
    units = {"ids": ids, "mask": mask}
    if kind == "bert":
        units["types"] = ((np.arange(time) >= 3) & mask).astype(np.int32)
    if head == "classify":
        units["label"] = rng.integers(0, CLASSES, rows).astype(np.int32)
    if head == "tag":
        units["tags"] = rng.integers(0, len(TAGS), (rows, time)).astype(np.int32)
        units["tag_mask"] = mask & (rng.random((rows, time)) < 0.7)
    if head == "qa":
        units |= {"start": np.ones(rows, np.int32), "end": np.full(rows, 3, np.int32)}
        units["context_mask"] = mask & (np.arange(time) > 0)
    if head == "mlm":
        units["labels"] = rng.integers(0, VOCABULARY, (rows, time)).astype(np.int32)
        units["label_mask"] = mask & (rng.random((rows, time)) < 0.5)
    if head == "lm":
        units["loss_mask"] = mask & (np.arange(time) > 2)
    if head == "seq2seq":
        sizes = rng.integers(2, time - 3, rows)
        units["target_mask"] = np.arange(time - 3)[None, :] < sizes[:, None]
        found = rng.integers(3, VOCABULARY, (rows, time - 3))
        units["target_ids"] = np.where(units["target_mask"], found, pad).astype(np.int32)
    return units


def call(model, head, units, row):
    """transformers' output for one row, labels included."""
    tensor = lambda x: torch.tensor(np.asarray(x)[row : row + 1]).long()  # noqa: E731
    given = {"input_ids": tensor(units["ids"]), "attention_mask": tensor(units["mask"])}
    if "types" in units:
        given["token_type_ids"] = tensor(units["types"])
    hidden = lambda ids, mask: tensor(np.where(mask, ids, -100))  # noqa: E731
    labels = {
        "classify": lambda: {"labels": tensor(units["label"])},
        "tag": lambda: {"labels": hidden(units["tags"], units["tag_mask"])},
        "qa": dict,
        "mlm": lambda: {"labels": hidden(units["labels"], units["label_mask"])},
        "lm": lambda: {"labels": hidden(units["ids"], units["loss_mask"])},
        "seq2seq": lambda: {"labels": hidden(units["target_ids"], units["target_mask"])},
    }
    output = model(**given, **labels[head]())
    if head == "qa":  # transformers lets padding and question answer too
        outside = ~torch.tensor(units["context_mask"][row : row + 1])
        pairs = ((output.start_logits, units["start"]), (output.end_logits, units["end"]))
        losses = [
            torch.nn.functional.cross_entropy(x.masked_fill(outside, -torch.inf), tensor(y))
            for x, y in pairs
        ]
        output.loss = sum(losses) / 2
    return output


def valid(head, units):
    """Positions whose scores mean something."""
    return units["target_mask" if head == "seq2seq" else "mask"]


def scores_of(head, output):
    if head == "qa":
        return torch.stack([output.start_logits, output.end_logits], -1)[0].detach().numpy()
    return output.logits[0].detach().numpy()


def our_scores(network, head, params, units):
    found = jax.jit(jax.vmap(network.logits, (None, 0)))(params, units)
    return np.stack(found, -1) if head == "qa" else np.asarray(found)


def close(mine, reference, tolerance):
    scale = max(1.0, float(np.abs(reference).max()))
    np.testing.assert_allclose(mine, reference, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize(("kind", "head"), CASES)
def test_scores_and_gradients_agree(kind, head, tmp_path):
    model = theirs(kind, head)
    found = ours(model, head, tmp_path / "model")
    assert found.fresh == ()
    units = units_of(kind, head)
    rows = len(units["ids"])
    scores = our_scores(found.network, head, found.params, units)
    total = jax.jit(
        jax.value_and_grad(lambda p: jax.vmap(found.network.loss, (None, 0))(p, units).sum())
    )
    loss, gradient = total(found.params)
    model.zero_grad()
    expected = 0.0
    for row in range(rows):
        output = call(model, head, units, row)
        output.loss.backward()
        expected += float(output.loss.detach())
        reference = scores_of(head, output)
        keep = slice(None) if head == "classify" else valid(head, units)[row]
        close(scores[row][keep], reference[keep], 1e-4)
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    named = to_hf_tensors(gradient, found.config, head, Options())
    grads = {name: weight.grad for name, weight in model.named_parameters()}
    checked = 0
    for name, mine in named.items():
        reference = grads[name].numpy()
        largest = max(np.abs(reference).max(), 1e-3)
        np.testing.assert_allclose(mine, reference, rtol=0, atol=1e-3 * largest, err_msg=name)
        checked += 1
    missing = {name for name, grad in grads.items() if grad is not None} - set(named)
    assert checked > 10
    assert not missing


@pytest.mark.parametrize("time", [6, 24])
@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta", "gpt2"])
def test_other_lengths_agree(kind, time, tmp_path):
    longest = min(time, 22 if kind == "roberta" else 24)
    model = theirs(kind, "classify")
    found = ours(model, "classify", tmp_path / "model")
    units = units_of(kind, "classify", time=longest, seed=time)
    scores = our_scores(found.network, "classify", found.params, units)
    for row in range(len(scores)):
        close(scores[row], scores_of("classify", call(model, "classify", units, row)), 1e-4)


@pytest.mark.parametrize("options", [Options(scan=True), Options(scan=True, remat=True)])
@pytest.mark.parametrize(("kind", "head"), [("bert", "mlm"), ("gpt2", "lm"), ("bart", "seq2seq")])
def test_stacked_layers_read_the_same_files(kind, head, options, tmp_path):
    model = theirs(kind, head)
    found = ours(model, head, tmp_path / "model", options=options)
    units = units_of(kind, head)
    scores = our_scores(found.network, head, found.params, units)
    keep = valid(head, units)
    for row in range(len(scores)):
        reference = scores_of(head, call(model, head, units, row))
        close(scores[row][keep[row]], reference[keep[row]], 1e-4)


def changed(params, seed=1):
    """Every leaf moved, as by training."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    moved = [x + 0.05 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(structure, moved)


@pytest.mark.parametrize(
    ("kind", "head", "lora"),
    [
        ("bert", "classify", True),
        ("distilbert", "tag", False),
        ("roberta", "mlm", True),
        ("gpt2", "lm", True),
        ("gpt2", "classify", False),
        ("bart", "seq2seq", True),
    ],
)
def test_what_is_saved_loads_in_transformers(kind, head, lora, tmp_path):
    adapters = Lora(rank=2, alpha=3.0) if lora else None
    options = Options(scan=lora, lora=adapters)
    found = ours(theirs(kind, head), head, tmp_path / "first", options=options)
    params = changed(found.params)
    save_pretrained(tmp_path / "second", found._replace(params=params))
    architecture = getattr(transformers, _FAMILY[kind] + _CLASS[head])
    loaded, told = architecture.from_pretrained(
        tmp_path / "second", output_loading_info=True, attn_implementation="eager"
    )
    assert not told["mismatched_keys"]
    assert not told["unexpected_keys"]
    assert set(told["missing_keys"]) <= {"final_logits_bias", "lm_head.weight"}
    units = units_of(kind, head)
    scores = our_scores(found.network, head, params, units)
    for row in range(len(scores)):
        reference = scores_of(head, call(loaded.eval(), head, units, row))
        keep = slice(None) if head == "classify" else valid(head, units)[row]
        close(scores[row][keep], reference[keep], 1e-4)
    again = from_pretrained(tmp_path / "second", head=head, options=Options(scan=lora))
    assert again.fresh == ()
    assert again.config == found.config
    merged = merge_lora(params, adapters) if lora else params
    jax.tree.map(np.testing.assert_array_equal, again.params, merged)


def test_a_body_without_prefix_or_head_is_read(tmp_path):
    model = theirs("bert", "mlm")
    model.bert.save_pretrained(tmp_path / "body")
    found = from_pretrained(tmp_path / "body", head="classify", labels=LABELS)
    assert set(found.fresh) == {
        *("head/classifier/bias", "head/classifier/kernel"),
        *("pooler/bias", "pooler/kernel"),
    }
    table = found.params["embeddings"]["word"]["embedding"]
    np.testing.assert_array_equal(table, model.bert.embeddings.word_embeddings.weight.detach())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_and_shards_are_read(dtype, tmp_path):
    model = theirs("gpt2", "lm").to(getattr(torch, dtype))
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert not (tmp_path / "model.safetensors").exists()
    found = from_pretrained(tmp_path, head="lm")
    assert {leaf.dtype for leaf in jax.tree.leaves(found.params)} == {jnp.dtype("float32")}
    kernel = found.params["decoder"]["layer_1"]["up"]["kernel"]
    np.testing.assert_array_equal(kernel, model.transformer.h[1].mlp.c_fc.weight.float().detach())


def test_a_bias_of_bart_that_is_not_zero_is_kept(tmp_path):
    model = theirs("bart", "seq2seq")
    model.final_logits_bias.copy_(torch.randn(1, VOCABULARY))
    found = ours(model, "seq2seq", tmp_path / "model")
    assert found.config.logits_bias
    units = units_of("bart", "seq2seq")
    scores = our_scores(found.network, "seq2seq", found.params, units)
    keep = units["target_mask"][0]
    close(scores[0][keep], scores_of("seq2seq", call(model, "seq2seq", units, 0))[keep], 1e-4)
    save_pretrained(tmp_path / "second", found)
    again = transformers.BartForConditionalGeneration.from_pretrained(tmp_path / "second")
    np.testing.assert_array_equal(again.final_logits_bias, model.final_logits_bias)


def test_adapters_start_as_no_change(tmp_path):
    model = theirs("roberta", "classify")
    found = ours(model, "classify", tmp_path / "model", options=Options(lora=Lora(rank=2)))
    assert len(found.fresh) == 8  # two layers, two maps, two factors
    units = units_of("roberta", "classify")
    scores = our_scores(found.network, "classify", found.params, units)
    close(scores[0], scores_of("classify", call(model, "classify", units, 0)), 1e-4)
