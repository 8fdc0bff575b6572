"""The CRF against all paths by brute force; the tagger sees letters, hides padding, and learns."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import trustml
from trustml.models.joint.char_tagger import build_char_tagger, char_encode
from trustml.models.joint.crf import crf_decode, crf_loss
from trustml.models.joint.decoding import allowed_transitions

TAGS = ("O", "B-a", "I-a", "B-b", "I-b")
SIZES = {"features": 16, "embedding": 8, "char_features": 6, "char_embedding": 5}
TIME, LETTERS = 7, 6
NET = build_char_tagger(table_sizes=(40, 20), tags=TAGS, **SIZES)


def chain(seed, time, tags):
    draw = np.random.default_rng(seed)
    shapes = ((time, tags), (tags, tags), (tags,), (tags,))
    return [(2 * draw.normal(size=shape)).astype(np.float32) for shape in shapes]


def all_paths(scores, transitions, start, end, length):
    """Every sequence of tags with its score, in float64."""
    paths = itertools.product(range(scores.shape[1]), repeat=length)
    wide = [array.astype(np.float64) for array in (scores, transitions, start, end)]
    return {path: path_score(path, *wide) for path in paths}


def path_score(path, scores, transitions, start, end):
    moves = sum(transitions[move] for move in itertools.pairwise(path))
    return (
        start[path[0]] + end[path[-1]] + moves + sum(scores[t, tag] for t, tag in enumerate(path))
    )


@pytest.mark.parametrize("length", [1, 2, 4, 5])
@pytest.mark.parametrize("tags", [1, 3])
def test_loss_and_gradient_are_those_of_all_paths(length, tags):
    time = 5
    scores, *rest = chain(length, time, tags)
    truth = np.random.default_rng(9).integers(tags, size=time)
    mask = np.arange(time) < length

    def loss(scores, transitions, start, end):
        inputs = (jnp.asarray(truth, jnp.int32), jnp.asarray(mask))
        return crf_loss(scores, *inputs, transitions, start, end)

    found, gradients = jax.value_and_grad(loss, range(4))(*map(jnp.asarray, (scores, *rest)))
    paths = all_paths(scores, *rest, length)
    values = np.array([*paths.values()])
    total = np.log(np.exp(values - values.max()).sum()) + values.max()
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, total - paths[tuple(truth[:length])], atol=2e-5)

    # The gradient is what the model expects to count, less what is there.
    expected = [np.zeros(array.shape) for array in (scores, *rest)]
    for path, weight in [
        *((path, np.exp(value - total)) for path, value in paths.items()),
        (tuple(truth[:length]), -1.0),
    ]:
        for place, tag in enumerate(path):
            expected[0][place, tag] += weight
        for move in itertools.pairwise(path):
            expected[1][move] += weight
        expected[2][path[0]] += weight
        expected[3][path[-1]] += weight
    for gradient, wanted in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(gradient, wanted, atol=2e-5)


@pytest.mark.parametrize("length", [1, 3, 5])
def test_the_decoded_path_is_the_best_of_all(length):
    for seed in range(5):
        scores, *rest = chain(seed, 5, 3)
        paths = all_paths(scores, *rest, length)
        found = crf_decode(*map(jnp.asarray, (scores, np.arange(5) < length, *rest)))
        assert found.tolist() == [*max(paths, key=paths.get), *[0] * (5 - length)]


def test_a_unit_of_padding_alone_loses_nothing():
    scores, *rest = map(jnp.asarray, chain(0, 4, 3))
    judge = jax.value_and_grad(lambda s: crf_loss(s, jnp.zeros(4, int), jnp.zeros(4, bool), *rest))
    loss, gradient = judge(scores)
    assert loss == 0.0
    assert not gradient.any()
    assert crf_decode(scores, jnp.zeros(4, bool), *rest).tolist() == [0, 0, 0, 0]


def test_scores_of_a_thousand_stay_finite_and_exact():
    # 3e3 and -3e3 overflow exp; between them all of the probability lies on one path.
    scores = jnp.asarray([[3e3, -3e3], [-3e3, 3e3]], jnp.float32)
    zeros = jnp.zeros(2)
    right, wrong = (
        crf_loss(scores, jnp.asarray(tags), jnp.ones(2, bool), jnp.zeros((2, 2)), zeros, zeros)
        for tags in ([0, 1], [1, 1])
    )
    assert right == 0.0
    assert wrong == 6e3


def sentences(count=6):
    """Sentences whose tag is told by the words' letters alone: the ids of words say nothing."""
    draw = np.random.default_rng(0)
    chars = np.zeros((count, TIME, LETTERS), np.int32)
    tags = np.zeros((count, TIME), np.int32)
    mask = np.arange(TIME) < draw.integers(2, TIME + 1, size=count)[:, None]
    for row, length in enumerate(mask.sum(1)):
        words = draw.choice(["12", "457", "abc", "word", "zo"], size=length).tolist()
        chars[row, :length] = char_encode(words, LETTERS)
        tags[row, :length] = [3 if word.isdigit() else 0 for word in words]
    tokens = np.broadcast_to(np.int32([5, 7]), (count, TIME, 2))
    arrays = {"tokens": tokens, "chars": chars, "mask": mask, "tags": tags}
    return jax.tree.map(jnp.asarray, arrays)


def row(units, place):
    return {name: leaf[place] for name, leaf in units.items()}


def test_bytes_of_words():
    assert char_encode(["é", ""], 3).tolist() == [[0xC3 + 1, 0xA9 + 1, 0], [0, 0, 0]]
    assert char_encode(["abcdef"], 2).tolist() == [[98, 99]]
    with pytest.raises(ValueError, match="`letters`"):
        char_encode(["a"], 0)


@pytest.mark.slow
def test_padding_of_time_and_of_letters_changes_nothing():
    params = NET.init(jax.random.key(0))
    judge = jax.jit(jax.value_and_grad(NET.loss))
    unit = row(sentences(), 0)
    longer = {
        "tokens": jnp.pad(unit["tokens"], ((0, 3), (0, 0))),
        "chars": jnp.pad(unit["chars"], ((0, 3), (0, 4))),
        "mask": jnp.pad(unit["mask"], (0, 3)),
        "tags": jnp.pad(unit["tags"], (0, 3), constant_values=2),
    }
    for a, b in zip(
        *map(jax.tree.leaves, (judge(params, unit), judge(params, longer))), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("relaxed_promotion")  # optax's Adam promotes its step count
def test_it_learns_what_letters_tell():
    units = sentences(16)
    params = NET.init(jax.random.key(0))
    optimizer = optax.adam(0.02)

    @jax.jit
    def step(carry, _):
        params, state = carry
        gradient = jax.grad(lambda p: jax.vmap(NET.loss, (None, 0))(p, units).mean())(params)
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), length=60)
    found = NET.predict(params, units)
    assert found.dtype == jnp.int32
    assert (found == units["tags"])[units["mask"]].mean() > 0.98


@pytest.mark.slow
def test_predictions_obey_bio_whatever_the_weights():
    allowed = allowed_transitions(TAGS)
    units = sentences(16)
    broken = 0
    for seed in range(3):
        params = jax.tree.map(lambda leaf: 4 * leaf, NET.init(jax.random.key(seed)))
        scores = jax.vmap(NET.logits, (None, 0))(params, units)
        for tags, score, kept in zip(
            NET.predict(params, units), scores, units["mask"], strict=True
        ):
            pairs = [(0, int(tags[0])), *itertools.pairwise(tags[kept].tolist())]
            assert all(allowed[pair] for pair in pairs)
            best = jnp.argmax(score, -1)[kept].tolist()
            broken += not all(allowed[pair] for pair in itertools.pairwise([0, *best]))
    assert broken  # without the rule there would be tags that break it


@pytest.mark.slow
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_clipped_gradients_take_the_fast_path_and_are_exact(dropout):
    net = build_char_tagger(table_sizes=(40, 20), tags=TAGS, dropout=dropout, **SIZES)
    params, units = net.init(jax.random.key(0)), sentences()
    options = {"key": jax.random.key(1)} if dropout else {}
    fast = trustml.clipped_grad(net.loss, clip_norm=0.1)
    slow = trustml.clipped_grad(net.loss, clip_norm=0.1, strategy="vmap")
    rows = fast.explain(params, units, **options)
    total = sum(leaf.size for leaf in jax.tree.leaves(params))
    large = [one for one in rows if np.prod(one.shape) > 0.01 * total]
    assert len(large) >= 8
    assert not any(one.fallback for one in large), str(rows)
    found, wanted = fast(params, units, **options), slow(params, units, **options)
    assert not wanted[1].clip_factor.min() >= 1.0  # the bound binds
    for a, b in zip(*map(jax.tree.leaves, (found[0], wanted[0])), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * float(jnp.abs(b).max()))


@pytest.mark.slow
def test_dropout_is_in_training_alone_and_repeats():
    net = build_char_tagger(table_sizes=(40, 20), tags=TAGS, dropout=0.5, **SIZES)
    params, unit = NET.init(jax.random.key(0)), row(sentences(), 0)
    loss = jax.jit(net.loss)
    once, again, other = (loss(params, unit, jax.random.key(seed)) for seed in (1, 1, 2))
    assert once == again != other
    np.testing.assert_array_equal(net.logits(params, unit), NET.logits(params, unit))


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"tags": ("B-a", "O")}, "tags"),
        ({"features": 7}, "`features` must be a positive even"),
        ({"char_features": 0}, "char_features"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_bad_arguments_are_refused_by_name(changed, name):
    with pytest.raises(ValueError, match=name):
        build_char_tagger(**{"table_sizes": (8,), "tags": TAGS, **changed})
