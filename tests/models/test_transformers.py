"""Pretrained architectures with their heads: meaning of masks, options, the fast path."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import trustml
from trustml.models.joint.crf import crf_decode, crf_loss
from trustml.models.pretrained.tensor_names import restacked, unstacked
from trustml.models.transformers.config import ModelConfig
from trustml.models.transformers.language import HEADS, build_language_model
from trustml.models.transformers.layers import Lora, Options
from trustml.models.transformers.lora import merge_lora
from trustml.models.transformers.problem_types import PROBLEM_TYPES

VOCABULARY = 60
LABELS, TAGS = ("a", "b", "c"), ("O", "B-x", "I-x", "B-y", "I-y")
NAMED = {
    "classify": {"labels": LABELS},
    "tag": {"tags": TAGS},
    "nlu": {"labels": LABELS, "tags": TAGS},
}
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_layers": 2,
    "num_heads": 4,
    "intermediate_size": 48,
    "max_positions": 40,
    "initializer_range": 0.2,
    "layer_norm_eps": 1e-5,
}
EXTRA = {
    "bert": {"type_vocab_size": 2, "pad_id": 0},
    "distilbert": {"pad_id": 0},
    "roberta": {"type_vocab_size": 1, "pad_id": 1},
    "gpt2": {"activation": "gelu_new", "eos_id": 2},
    "llama": {"activation": "silu", "num_kv_heads": 2, "attention_bias": True, "mlp_bias": True},
    "mistral": {"activation": "silu", "num_kv_heads": 1, "tied": False, "sliding_window": 3},
    "qwen2": {"activation": "silu", "num_kv_heads": 2, "attention_bias": True},
    "qwen3": {"activation": "silu", "num_kv_heads": 2, "head_width": 12},
    "gemma": {"activation": "gelu_pytorch_tanh", "num_kv_heads": 2, "head_width": 16},
    "bart": {
        "pad_id": 1,
        "decoder_layers": 2,
        "decoder_heads": 4,
        "decoder_intermediate_size": 48,
        "scale_embedding": True,
    },
}
PAIRS = [(kind, head) for kind, heads in HEADS.items() for head in heads]
QUICK = (("bert", "classify"), ("gpt2", "lm"), ("bart", "seq2seq"), ("llama", "lm"))
# Every kind, head and option at least once.
EXACT = [
    ("bert", "classify", Options()),
    ("bert", "mlm", Options(scan=True)),
    ("distilbert", "qa", Options(scan=True, remat=True)),
    ("roberta", "nlu", Options(scan=True, lora=Lora(rank=2))),
    ("gpt2", "lm", Options(remat=True)),
    ("gpt2", "tag", Options(scan=True)),
    ("bart", "seq2seq", Options(scan=True, lora=Lora(rank=2, targets="attention/query$"))),
    ("llama", "lm", Options(scan=True, remat=True, lora=Lora(rank=2))),
    ("mistral", "qa", Options(scan=True)),
    ("qwen2", "tag", Options()),
    ("qwen3", "qa", Options(scan=True)),
    ("gemma", "nlu", Options(remat=True)),
]


def config_of(kind, **changes):
    return ModelConfig(model_type=kind, **(SIZES | EXTRA[kind] | changes))


def network_of(kind, head, options=None, **changes):
    if options is None or not options.scan:
        changes = {"num_layers": 1, "decoder_layers": int(kind == "bart")} | changes
    more = {"crf": changes.pop("crf", False)}
    return build_language_model(
        config_of(kind, **changes), head, options=options, **NAMED.get(head, {}), **more
    )


def units_of(kind, head, rows=4, time=10, seed=0):
    rng = np.random.default_rng(seed)
    lengths = np.array([time, *rng.integers(4, time, rows - 1)])
    mask = np.arange(time)[None, :] < lengths[:, None]
    ids = np.where(mask, rng.integers(3, VOCABULARY, (rows, time)), 1).astype(np.int32)
    units = {"ids": ids, "mask": mask}
    if kind == "bert":
        units["types"] = ((np.arange(time) >= 3) & mask).astype(np.int32)
    if head in ("classify", "nlu"):
        units["label"] = rng.integers(0, len(LABELS), rows).astype(np.int32)
    if head in ("tag", "nlu"):
        units["tags"] = rng.integers(0, len(TAGS), (rows, time)).astype(np.int32)
        units["tag_mask"] = mask & (rng.random((rows, time)) < 0.7)
        units["tag_mask"][:, 1] = True
    if head == "qa":
        units |= {"start": np.ones(rows, np.int32), "end": np.full(rows, 3, np.int32)}
        units["context_mask"] = mask & (np.arange(time) > 0)
    if head == "mlm":
        units["labels"] = rng.integers(0, VOCABULARY, (rows, time)).astype(np.int32)
        units["label_mask"] = mask & (rng.random((rows, time)) < 0.5)
    if head == "seq2seq":
        sizes = rng.integers(2, time - 3, rows)
        units["target_mask"] = np.arange(time - 3)[None, :] < sizes[:, None]
        found = rng.integers(3, VOCABULARY, (rows, time - 3))
        units["target_ids"] = np.where(units["target_mask"], found, 1).astype(np.int32)
    return jax.tree.map(jnp.asarray, units)


def params_of(network, seed=0):
    """Random numbers for every leaf, biases and adapters too: no start leaves them at zero."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(network.init, jax.random.key(0))

    def leaf(path, like):
        found = 0.2 * rng.normal(size=like.shape) + (path[-1].key == "scale")
        return jnp.asarray(found, like.dtype)

    return jax.tree.map_with_path(leaf, shapes)


def losses_of(network):
    return jax.jit(jax.vmap(network.loss, (None, 0)))


def first(units):
    return {name: leaf[0] for name, leaf in units.items()}


def log_softmax(scores):
    scores = np.asarray(scores, np.float64)
    shifted = scores - scores.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


@pytest.mark.parametrize("scan", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize(
    ("kind", "head"),
    [pytest.param(*pair, marks=() if pair in QUICK else pytest.mark.slow) for pair in PAIRS],
)
def test_the_fast_path_covers_every_large_leaf(kind, head, scan):
    network = network_of(kind, head, Options(scan=scan, lora=Lora(rank=2) if scan else None))
    params = jax.eval_shape(network.init, jax.random.key(0))
    rows = trustml.clipped_grad(network.loss, clip_norm=1.0).explain(params, units_of(kind, head))
    assert len(rows) >= len(jax.tree.leaves(params))
    total = sum(leaf.size for leaf in jax.tree.leaves(params))
    large = [row for row in rows if np.prod(row.shape) > 0.01 * total]
    assert len(large) > 5
    assert not [row for row in large if row.fallback]
    assert not [row for row in rows if row.rule == "unused"]


def both_ways(network):
    """Clipped sums by the fast path and by one gradient per unit."""

    @jax.jit
    def sums(params, units, key=None):
        return tuple(
            trustml.clipped_grad(network.loss, clip_norm=0.05, strategy=strategy)(
                params, units, key=key
            )
            for strategy in ("auto", "vmap")
        )

    return sums


@pytest.mark.parametrize(
    ("kind", "head", "options"),
    [
        pytest.param(*case, marks=() if case[1] in ("classify", "lm") else pytest.mark.slow)
        for case in EXACT
    ],
)
def test_clipped_sums_are_exact(kind, head, options):
    network = network_of(kind, head, options)
    params, units = params_of(network), units_of(kind, head)
    (fast, told), (slow, expected) = both_ways(network)(params, units)
    assert float(told.norm.min()) > 0.05  # all are clipped
    np.testing.assert_allclose(told.norm, expected.norm, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), fast, slow)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "head", "changes", "label"),
    [
        ("gpt2", "lm", {"scale_attn_by_inverse_layer_idx": True, "tied": False}, None),
        ("bert", "mlm", {"tied": False, "activation": "quick_gelu"}, None),
        ("bert", "classify", {"problem_type": "regression"}, np.float32([[0.5, -1.0, 2.0]])),
        ("gpt2", "classify", {"problem_type": PROBLEM_TYPES[1]}, np.float32([[0.0, 1.0, 1.0]])),
    ],
)
def test_clipped_sums_of_variants_are_exact(kind, head, changes, label):
    network = network_of(kind, head, Options(scan=True), **changes)
    params, units = params_of(network), units_of(kind, head)
    if label is not None:
        units["label"] = jnp.asarray(np.repeat(label, 4, 0))
    rows = trustml.clipped_grad(network.loss, clip_norm=1.0).explain(params, units)
    assert not [row for row in rows if row.fallback]
    (fast, told), (slow, expected) = both_ways(network)(params, units)
    np.testing.assert_allclose(told.norm, expected.norm, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), fast, slow)


@pytest.mark.parametrize(
    ("problem", "label", "message"),
    [
        (None, 1.5, "`label` must have a number per class, shape"),
        ("single_label_classification", 1.5, "`label` must be the integer of one class"),
        ("multi_label_classification", 1, r"number per class, shape \[3\], .* got shape \[\]"),
        ("regression", [1.0, 2.0], r"number per class, shape \[3\], .* got shape \[2\]"),
    ],
)
def test_a_label_of_another_problem_is_refused(problem, label, message):
    network = network_of("bert", "classify", problem_type=problem)
    params, unit = params_of(network), first(units_of("bert", "classify"))
    with pytest.raises(ValueError, match=message):
        network.loss(params, unit | {"label": jnp.asarray(label)})


def test_predictions_are_those_of_the_problem():
    units = units_of("bert", "classify")
    plain = network_of("bert", "classify")
    params = params_of(plain)
    scores = jax.jit(jax.vmap(plain.logits, (None, 0)))(params, units)
    expected = (scores.argmax(-1), scores > 0, scores)
    for problem, best in zip(PROBLEM_TYPES, expected, strict=True):
        network = network_of("bert", "classify", problem_type=problem)
        np.testing.assert_allclose(network.predict(params, units), best, rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "head"),
    [
        ("bert", "nlu"),
        *(
            pytest.param(*pair, marks=pytest.mark.slow)
            for pair in (
                *(("roberta", "qa"), ("gpt2", "classify"), ("gpt2", "lm")),
                ("bart", "seq2seq"),
            )
        ),
    ],
)
def test_padding_influences_nothing(kind, head):
    network, units = network_of(kind, head, Options(scan=True)), units_of(kind, head)
    params = params_of(network)
    other = dict(units)
    other["ids"] = jnp.where(units["mask"], units["ids"], 7)
    longer = {
        name: jnp.pad(leaf, [(0, 0), (0, 3)]) if leaf.ndim == 2 else leaf
        for name, leaf in other.items()
    }
    if head == "seq2seq":
        other["target_ids"] = jnp.where(units["target_mask"], units["target_ids"], 9)
    losses = losses_of(network)
    expected = losses(params, units)
    assert float(jnp.abs(expected).min()) > 0
    np.testing.assert_allclose(losses(params, other), expected, rtol=1e-5)
    np.testing.assert_allclose(losses(params, longer), expected, rtol=1e-5)


@pytest.mark.parametrize("kind_head", [("bert", "nlu"), ("gpt2", "lm")])
def test_a_unit_of_padding_alone_has_loss_zero(kind_head):
    network, units = network_of(*kind_head, Options(scan=True)), units_of(*kind_head)
    params = params_of(network)
    nothing = {k: jnp.zeros_like(v) if v.dtype == bool else v for k, v in first(units).items()}
    loss, gradient = jax.jit(jax.value_and_grad(network.loss))(params, nothing)
    assert float(loss) == 0
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradient))


def test_tokens_see_nothing_that_follows():
    network, units = network_of("gpt2", "lm"), units_of("gpt2", "lm")
    params, unit = params_of(network), first(units)
    changed = unit | {"ids": unit["ids"].at[6:].set(5)}
    before, after = jax.jit(network.logits)(params, unit), jax.jit(network.logits)(params, changed)
    np.testing.assert_allclose(before[:6], after[:6], atol=1e-6)
    assert not np.allclose(before[6:], after[6:], atol=1e-3)


def test_losses_are_means_over_the_counted_positions():
    network = network_of("gpt2", "lm")
    params, unit = params_of(network), first(units_of("gpt2", "lm"))
    counted = np.array([False] * 3 + [True] * 5 + [False] * 2)
    scores = log_softmax(jax.jit(network.logits)(params, unit))
    terms = [-scores[t - 1, int(unit["ids"][t])] for t in range(1, 10) if counted[t]]
    unit = unit | {"loss_mask": jnp.asarray(counted)}
    assert float(jax.jit(network.loss)(params, unit)) == pytest.approx(np.mean(terms), rel=1e-5)
    sums = network.predict(params, jax.tree.map(lambda leaf: leaf[None], unit))
    right = [scores[t - 1].argmax() == int(unit["ids"][t]) for t in range(1, 10) if counted[t]]
    np.testing.assert_allclose(sums[0], [np.sum(terms), 5, np.sum(right)], rtol=1e-5)


def test_tags_count_where_a_word_begins():
    network, units = network_of("distilbert", "tag"), units_of("distilbert", "tag")
    params, unit = params_of(network), first(units)
    scores = log_softmax(jax.jit(network.logits)(params, unit))
    places = np.flatnonzero(unit["tag_mask"])
    terms = [-scores[place, int(unit["tags"][place])] for place in places]
    assert float(jax.jit(network.loss)(params, unit)) == pytest.approx(np.mean(terms), rel=1e-5)


def test_answers_lie_in_the_context_and_are_short():
    network = network_of("bert", "qa", max_positions=64)
    params, units = params_of(network), units_of("bert", "qa", time=50)
    units["context_mask"] = units["mask"] & (jnp.arange(50) > 4)[None, :]
    starts, ends = network.predict(params, units)
    scores = jax.jit(jax.vmap(network.logits, (None, 0)))(params, units)
    for row, (start, end) in enumerate(zip(np.asarray(starts), np.asarray(ends), strict=True)):
        held = np.flatnonzero(units["context_mask"][row])
        legal = [(i, j) for i in held for j in held if i <= j < i + 30]
        best = max(legal, key=lambda p: float(scores[0][row, p[0]] + scores[1][row, p[1]]))
        assert (start, end) == best
    outside = first(units) | {"start": jnp.int32(2)}
    assert float(jax.jit(network.loss)(params, outside)) == 0


def test_a_crf_runs_over_the_positions_that_bear_a_tag():
    network, units = network_of("bert", "tag", crf=True), units_of("bert", "tag")
    params = params_of(network)
    chain = [params["head"][name] for name in ("transitions", "start", "end")]
    found = network.predict(params, units)
    for row in range(2):
        unit = {name: leaf[row] for name, leaf in units.items()}
        places = np.flatnonzero(unit["tag_mask"])
        scores, every = jax.jit(network.logits)(params, unit)[places], jnp.ones(len(places), bool)
        loss = crf_loss(scores, unit["tags"][places], every, *chain) / len(places)
        assert float(jax.jit(network.loss)(params, unit)) == pytest.approx(float(loss), rel=1e-5)
        np.testing.assert_array_equal(found[row][places], crf_decode(scores, every, *chain))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "head"), [("bert", "classify"), ("gpt2", "lm")])
def test_options_change_nothing_but_rounding(kind, head):
    units = units_of(kind, head)
    plain = network_of(kind, head, num_layers=2)
    params = params_of(plain)
    expected, slope = jax.jit(
        jax.value_and_grad(lambda p: jax.vmap(plain.loss, (None, 0))(p, units).mean())
    )(params)
    for options in (Options(scan=True, remat=True), Options(dtype="bfloat16")):
        network = network_of(kind, head, options, num_layers=2)
        like = jax.eval_shape(network.init, jax.random.key(0))
        own = restacked(unstacked(params).get, like)
        found, gradient = jax.jit(
            jax.value_and_grad(
                lambda p, net=network: jax.vmap(net.loss, (None, 0))(p, units).mean()
            )
        )(own)
        tolerance = 0.05 if options.dtype == "bfloat16" else 1e-5
        assert float(found) == pytest.approx(float(expected), rel=tolerance)
        same = restacked(unstacked(gradient).get, slope)
        for mine, reference in zip(jax.tree.leaves(same), jax.tree.leaves(slope), strict=True):
            assert mine.dtype == jnp.float32
            error = float(jnp.linalg.norm(mine - reference))
            # A gradient of zero, as of a key's bias, is rounding alone.
            assert error <= 2 * tolerance * max(float(jnp.linalg.norm(reference)), 1e-2)


@pytest.mark.slow
def test_merged_adapters_are_the_same_network():
    lora = Lora(rank=3, alpha=2.0, targets="attention/(query|output)$")
    for scan in (False, True):
        network = network_of("roberta", "classify", Options(scan=scan, lora=lora))
        plain = network_of("roberta", "classify", Options(scan=scan))
        params, units = params_of(network), units_of("roberta", "classify")
        merged = merge_lora(params, lora)
        shapes = jax.eval_shape(plain.init, jax.random.key(0))
        assert jax.tree.structure(merged) == jax.tree.structure(shapes)
        expected = losses_of(network)(params, units)
        np.testing.assert_allclose(losses_of(plain)(merged, units), expected, rtol=1e-5)
    with pytest.raises(ValueError, match="`lora` must have the rank"):
        merge_lora(params, Lora(rank=2))


def test_adapters_begin_as_no_change():
    network = network_of("gpt2", "lm", Options(lora=Lora(rank=2)))
    plain = network_of("gpt2", "lm")
    params, units = network.init(jax.random.key(0)), units_of("gpt2", "lm")
    adapted = [name for name in unstacked(params) if name.endswith("lora_a")]
    assert adapted == [f"decoder/layer_{i}/attention/qkv/lora_a" for i in range(1)]
    own = merge_lora(params, Lora(rank=2))
    np.testing.assert_array_equal(losses_of(network)(params, units), losses_of(plain)(own, units))


@pytest.mark.parametrize("scan", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_dropout_takes_a_key(scan):
    options = Options(dropout=0.3, scan=scan)
    network, units = network_of("bert", "classify", options), units_of("bert", "classify")
    params, unit = params_of(network), first(units)
    loss = jax.jit(network.loss)
    one = [float(loss(params, unit, jax.random.key(seed))) for seed in (0, 0, 1)]
    assert one[0] == one[1] != one[2]
    with pytest.raises(TypeError, match="key"):
        network.loss(params, unit)
    with pytest.raises(TypeError, match="`key` must be given, got none"):
        trustml.clipped_grad(network.loss, clip_norm=1.0)(params, units)
    plain = network_of("bert", "classify", Options(scan=scan))
    np.testing.assert_allclose(
        jax.jit(network.logits)(params, unit), jax.jit(plain.logits)(params, unit), rtol=1e-6
    )
    with pytest.raises(TypeError, match="positional argument"):
        plain.loss(params, unit, jax.random.key(0))


@pytest.mark.slow
@pytest.mark.parametrize("build", [trustml.private_step, trustml.baseline_step])
def test_a_network_with_dropout_trains_as_it_is(build):
    network, units = (
        network_of("bert", "classify", Options(dropout=0.3)),
        units_of("bert", "classify"),
    )
    size = len(units["label"])
    plan = trustml.PrivacyPlan(
        clip_norm=1.0, noise_multiplier=1e-6, sample_rate=1.0, steps=2, expected_batch=size
    )
    step = build(network.loss, optax.sgd(0.1), plan)
    state = step.init(params_of(network), key=0)
    draws = plan.batches(seed=0)
    losses = []
    for draw in draws:
        state = state._replace(params=step.init(params_of(network), key=0).params)
        state, metrics = step.update(state, draw, units)
        losses.append(float(metrics.loss))
    assert losses[0] != losses[1]  # the same weights and rows, another dropout


@pytest.mark.slow
def test_clipped_sums_with_dropout_are_exact():
    options = Options(dropout=0.3, scan=True, remat=True)
    network, units = network_of("gpt2", "classify", options), units_of("gpt2", "classify")
    (fast, _), (slow, _) = both_ways(network)(params_of(network), units, jax.random.key(3))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), fast, slow)


def test_an_unknown_id_makes_the_loss_nan():
    network, units = network_of("bert", "classify"), units_of("bert", "classify")
    params, unit = params_of(network), first(units)
    unit["ids"] = unit["ids"].at[1].set(VOCABULARY)
    assert np.isnan(jax.jit(network.loss)(params, unit))


def test_a_sequence_longer_than_the_model_is_refused():
    network, units = network_of("roberta", "classify"), units_of("roberta", "classify", time=39)
    params = params_of(network)
    with pytest.raises(ValueError, match="`ids` must have at most 38 positions"):
        network.loss(params, first(units))


@pytest.mark.parametrize(
    ("kind", "head", "given", "message"),
    [
        ("bart", "classify", {"labels": LABELS}, "`head` must be one of seq2seq for bart"),
        ("bert", "lm", {}, "`head` must be one of classify, tag, nlu, qa, mlm for bert"),
        ("bert", "classify", {}, "`labels` must name"),
        ("bert", "tag", {}, "`tags` must name"),
        ("bert", "qa", {"labels": LABELS}, "`labels` must be empty for the head 'qa'"),
        ("bert", "qa", {"crf": True}, "`crf` needs tags"),
    ],
)
def test_a_head_that_does_not_fit_is_refused(kind, head, given, message):
    with pytest.raises(ValueError, match=message):
        build_language_model(config_of(kind), head, **given)


def test_options_out_of_range_are_refused():
    for options, message in (
        ({"dtype": "float16"}, "`dtype` must be float32 or bfloat16, got 'float16'"),
        ({"dropout": 1.0}, r"`dropout` must be in \[0, 1\), got 1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            Options(**options)
    for lora, message in (
        ({"rank": 0}, "`rank` must be a positive integer, got 0"),
        ({"alpha": float("nan")}, "`alpha` must be finite"),
        ({"targets": "("}, "`targets` must be a pattern"),
    ):
        with pytest.raises(ValueError, match=message):
            Lora(**lora)
    with pytest.raises(ValueError, match="`targets` of `lora` must match"):
        network_of("bert", "classify", Options(lora=Lora(targets="qkv$")))
