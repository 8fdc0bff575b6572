"""Joint models: padding is invisible, units are independent, tags obey BIO, and they learn."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from trustml.data import encode, hash_tokenizer, synthetic
from trustml.models.joint import decoding, nlu

KINDS = [
    pytest.param(kind, marks=() if kind == "conv" else pytest.mark.slow)
    for kind in sorted(nlu.ENCODERS)
]
TOKENIZER = hash_tokenizer(256, hashes=1, affixes=64)


@pytest.fixture(scope="module")
def part():
    return synthetic.generate(train=48, valid=1, test=1, intents=["set_timer", "get_weather"]).train


def network(part, kind, **options):
    sizes = {"features": 16, "layers": 1, "embedding": 8, **options}
    return nlu.build(kind, table_sizes=TOKENIZER.sizes, intents=2, tags=part.tags, **sizes)


def row(arrays, place):
    return jax.tree.map(lambda leaf: leaf[place], arrays)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing(part, kind):
    net = network(part, kind)
    params = net.init(jax.random.key(0))
    judge = jax.jit(jax.value_and_grad(net.loss))
    short, long = (judge(params, row(encode(part, TOKENIZER, length), 0)) for length in (24, 40))
    for a, b in zip(*map(jax.tree.leaves, (short, long)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_an_utterance_is_judged_alone(part, kind):
    net = network(part, kind)
    params = net.init(jax.random.key(0))
    arrays = encode(part, TOKENIZER, 24)
    intents, tags = net.predict(params, arrays)
    alone = net.predict(params, {name: leaf[3:4] for name, leaf in arrays.items()})
    assert intents[3] == alone[0][0]
    assert tags[3].tolist() == alone[1][0].tolist()
    assert (intents.shape, tags.shape) == ((48,), (48, 24))


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_and_loss_are_float32_and_every_parameter_learns(part, kind):
    net = network(part, kind)
    params = net.init(jax.random.key(0))
    arrays = encode(part, TOKENIZER, 24)

    @jax.jit
    @jax.value_and_grad
    def judge(params):
        return jax.vmap(net.loss, (None, 0))(params, arrays).mean()

    loss, gradient = judge(params)
    assert loss.dtype == jnp.float32
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert leaf.dtype == jnp.float32
        assert bool((leaf != 0).any()), jax.tree_util.keystr(path)


@pytest.mark.slow
@pytest.mark.usefixtures("relaxed_promotion")  # optax's Adam promotes its step count
@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_the_utterances_it_sees(part, kind):
    net = network(part, kind, features=32)
    arrays = encode(part, TOKENIZER, 16)
    params = net.init(jax.random.key(0))
    optimizer = optax.adam(0.02)

    @jax.jit
    def step(carry, _):
        params, state = carry
        gradient = jax.grad(lambda p: jax.vmap(net.loss, (None, 0))(p, arrays).mean())(params)
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), length=80)
    intents, tags = net.predict(params, arrays)
    assert (intents == arrays["intent"]).mean() > 0.95
    assert (tags == arrays["tags"])[arrays["mask"]].mean() > 0.9


def test_viterbi_finds_the_best_allowed_sequence():
    tags = ("O", "B-x", "I-x", "B-y", "I-y")
    allowed = decoding.allowed_transitions(tags)
    scores = np.random.default_rng(0).normal(size=(20, 4, 5)).astype(np.float32)
    for score, length in zip(scores, itertools.cycle((1, 2, 3, 4)), strict=False):
        mask = np.arange(4) < length
        path = decoding.viterbi(jnp.asarray(score), jnp.asarray(mask), allowed)
        paths = [
            choice
            for choice in itertools.product(range(5), repeat=length)
            if all(allowed[a, b] for a, b in itertools.pairwise((0, *choice)))
        ]
        best = max(paths, key=lambda choice: sum(score[t, tag] for t, tag in enumerate(choice)))
        assert path.tolist() == [*best, *[0] * (4 - length)]


def test_bad_arguments_are_refused_by_name(part):
    with pytest.raises(ValueError, match="`kind` must be one of conv, bilstm, transformer"):
        network(part, "bert")
    with pytest.raises(ValueError, match="`features`"):
        network(part, "conv", features=0)
    with pytest.raises(ValueError, match="`slot_weight`"):
        network(part, "conv", slot_weight=float("nan"))
