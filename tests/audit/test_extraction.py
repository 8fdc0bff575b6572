"""Canary extraction: a planted secret is found, one never seen is not, and bits are counted."""

import dataclasses
import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from trustml.audit.extraction import (
    Canary,
    Descent,
    SkewNormal,
    Template,
    all_codes,
    attack_target,
    code_number,
    draw_canary,
    exposure_by_extrapolation,
    exposure_by_rank,
    insert_canaries,
    invert_model,
    make_template,
    open_tagger,
    relaxed_loss,
    score_codes,
    score_guesses,
    tagged_units,
)
from trustml.audit.extraction.exposure import log_probability
from trustml.data import Examples, hash_tokenizer
from trustml.data.rows import Tagged, Utterance
from trustml.data.tokens import Tokenizer
from trustml.models import build_char_tagger

TOKENIZER = hash_tokenizer(500, hashes=1, affixes=0)
LENGTH = 8
# The last three places have one tag, so a tagger tells the order of their words faintly.
SECRET = (7, 1, 1, 1)
WORDS = ("play", "rain", "in", "boston", "rate", "it", "3", "5", "8", "0", "song", "stars")


def rows(count, seed=0):
    """Sentences whose digits and cities are slots, whatever stands around them."""
    draw = np.random.default_rng(seed)
    said = [tuple(draw.choice(WORDS, size=draw.integers(3, 7)).tolist()) for _ in range(count)]
    kinds = {"boston": "B-city", **dict.fromkeys("3580", "B-number")}
    return tuple(Tagged(words, tuple(kinds.get(word, "O") for word in words)) for words in said)


def part(name, count, seed=0, **more):
    fields = {"task": "tag", "labels": ("city", "number"), "unit": "sentence", **more}
    return Examples(name="made", split=name, rows=rows(count, seed), **fields)


TRAIN, VALID = part("train", 120), part("valid", 30, seed=1)
TEMPLATE = make_template("call", 4)
TAGS = (*TRAIN.tags, "B-canary", "I-canary")
SIZES = {"features": 24, "embedding": 12, "char_features": 6, "char_embedding": 5}
SHAPE = {"table_sizes": TOKENIZER.sizes, "tags": TAGS, **SIZES}
NET, BOX = build_char_tagger(**SHAPE), open_tagger(**SHAPE)
LOSS, INSIDE, READ = jax.jit(NET.loss), jax.jit(BOX.loss), jax.jit(BOX.represent)
RELAXED = jax.jit(functools.partial(relaxed_loss, BOX))
ALL = all_codes(4, 10)


def target(letters, **more):
    return attack_target(TEMPLATE, TOKENIZER, tags=TAGS, letters=letters, **more)


def planted(secret=SECRET, copies=20):
    canary = Canary(TEMPLATE, secret)
    rng = np.random.default_rng(0)
    return insert_canaries(TRAIN, VALID, [canary], repetitions=copies, rng=rng)


def invert(params, *, seed=0, descent=None, **asked):
    """The attack, by one program for all tests that ask for the same candidates."""
    key = jax.random.key(seed)
    found = target(0, **asked)
    return invert_model(params, BOX, found, key=key, restarts=30, descent=descent)


@jax.jit
def trained(params, units):
    """Weights after 80 steps of Adam on all units at once."""
    adam = optax.adam(0.03)

    def step(carry, _):
        params, state = carry
        gradient = jax.grad(lambda p: jax.vmap(NET.loss, (None, 0))(p, units).mean())(params)
        with jax.numpy_dtype_promotion("standard"):  # optax's Adam promotes its step count
            updates, state = adam.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(step, (params, adam.init(params)), length=80)
    return params


def fit(examples, seed, letters):
    units = tagged_units(examples, TOKENIZER, length=LENGTH, letters=letters)
    return trained(NET.init(jax.random.key(seed)), units)


@functools.cache
def saw_it(letters):
    return fit(planted().train, 0, letters)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(0, id="words"),
        pytest.param(5, id="letters", marks=pytest.mark.slow),
    ],
)
def leaky(request):
    """A tagger that saw the secret often, and the letters that it reads."""
    return saw_it(request.param), request.param


@pytest.fixture(scope="module")
def words_only():
    """A tagger that saw the secret often and reads no letters."""
    return saw_it(0)


@pytest.fixture(scope="module")
def clean():
    """Taggers that know the slot, each by another secret than the one that is looked for."""
    secrets = [(4, 2, 2, 2), (9, 6, 6, 6), (6, 4, 4, 4)]
    return {secret: fit(planted(secret).train, seed, 0) for seed, secret in enumerate(secrets)}


# Canaries and where they go.


@pytest.mark.parametrize(
    ("pattern", "length", "prefix"),
    [("call", 4, "call"), ("pin", 6, "my pin code is"), ("color", 1, "my favorite colors are")],
)
def test_a_template_has_the_words_and_tags_of_the_paper(pattern, length, prefix):
    template = make_template(pattern, length, slot="secret")
    assert template.prefix == tuple(prefix.split())
    known = ["O"] * len(template.prefix)
    assert list(template.tags) == [*known, "B-secret", *["I-secret"] * (length - 1)]
    assert template.codes == 10**length
    canary = draw_canary(template, np.random.default_rng(0))
    assert len(canary.tokens) == len(template.tags)
    assert set(canary.tokens[len(known) :]) <= set(template.vocabulary)


def test_every_secret_is_drawn_as_often():
    template = Template(("say",), 2, ("a", "b", "c"))
    rng = np.random.default_rng(3)
    drawn = [code_number(draw_canary(template, rng).secret, 3) for _ in range(4500)]
    counts = np.bincount(drawn, minlength=9)
    assert ((counts - 500) ** 2 / 500).sum() < 26.1  # chi-squared, 8 degrees: once in 1,000


@pytest.mark.parametrize(("copies", "of_valid"), [(1, 1), (20, 5), (50, 13), (1000, 250)])
def test_copies_are_counted_and_the_rows_keep_their_order(copies, of_valid):
    canaries = [Canary(TEMPLATE, SECRET), Canary(make_template("pin", 4), SECRET)]
    rng = np.random.default_rng(copies)
    found = insert_canaries(TRAIN, VALID, canaries, repetitions=copies, rng=rng)
    for before, after, count in ((TRAIN, found.train, copies), (VALID, found.valid, of_valid)):
        said = [row.tokens for row in after.rows]
        assert [said.count(canary.tokens) for canary in canaries] == [count, count]
        inserted = {canary.tokens for canary in canaries}
        assert tuple(row for row in after.rows if row.tokens not in inserted) == before.rows
        assert after.tags == TAGS
    for canary, places in zip(canaries, found.places, strict=True):
        assert len(places) == copies
        assert {found.train.rows[place] for place in places} == {
            Tagged(canary.tokens, canary.template.tags)
        }


def test_copies_stand_at_random_places():
    places = [
        insert_canaries(
            TRAIN, VALID, [Canary(TEMPLATE, SECRET)], repetitions=1, rng=np.random.default_rng(seed)
        ).places[0][0]
        for seed in range(200)
    ]
    # Uniform from 0 to 120: the mean of 200 has a standard error of 2.5.
    assert abs(np.mean(places) - 60) < 10
    assert min(places) < 10
    assert max(places) > 110


def test_copies_of_one_canary_have_one_owner_and_an_intent():
    said = tuple(Utterance(row.tokens, row.tags, "talk") for row in rows(10))
    fields = {"task": "nlu", "labels": ("talk",), "slots": ("city", "number"), "unit": "utterance"}
    owned = {"owner_kind": "user", "owners": tuple(range(10)), "group_of": (1,) * 10}
    train = Examples(name="made", split="train", rows=said, groups=("a", "b"), **fields, **owned)
    valid = dataclasses.replace(train, split="valid", owners=(11,) * 10)
    canaries = [Canary(TEMPLATE, SECRET), Canary(TEMPLATE, (0, 0, 0, 0))]
    rng = np.random.default_rng(0)
    found = insert_canaries(train, valid, canaries, repetitions=3, rng=rng, intent="talk")
    for owner, places in zip((12, 13), found.places, strict=True):
        assert [found.train.owners[place] for place in places] == [owner] * 3
        assert [found.train.group_of[place] for place in places] == [0] * 3
    assert found.train.slots == ("city", "number", "canary")
    with pytest.raises(ValueError, match=r"`intent` must be one of talk, got None"):
        insert_canaries(train, valid, canaries, repetitions=3, rng=rng)


# Every loss is the model's.


def test_the_inside_of_the_tagger_has_its_loss():
    params = NET.init(jax.random.key(3))
    units = tagged_units(TRAIN, TOKENIZER, length=LENGTH, letters=5)
    unit = {name: jnp.asarray(leaf[0]) for name, leaf in units.items()}
    kept = int(unit["mask"].sum())
    vectors = READ(params, unit["tokens"][:kept], unit["chars"][:kept])
    found = INSIDE(params, vectors, unit["tags"][:kept])
    np.testing.assert_allclose(found, LOSS(params, unit), rtol=1e-5)


def test_one_hot_mixtures_and_codes_have_the_loss_of_the_sentence(leaky):
    params, letters = leaky
    codes = np.array([SECRET, (0, 0, 0, 0), (9, 1, 9, 2), (5, 6, 7, 8)], np.int32)
    found = score_codes(params, BOX, target(letters), codes)
    for code, loss in zip(codes, found, strict=True):
        canary = Canary(TEMPLATE, tuple(code.tolist()))
        sentence = Tagged(canary.tokens, TEMPLATE.tags)
        one = dataclasses.replace(planted().train, rows=(sentence,))
        units = tagged_units(one, TOKENIZER, length=LENGTH, letters=letters)
        truth = LOSS(params, {name: jnp.asarray(leaf[0]) for name, leaf in units.items()})
        np.testing.assert_allclose(loss, truth, rtol=1e-4, atol=1e-5)
        sharp = jnp.asarray(100 * np.eye(10, dtype=np.float32)[code])
        np.testing.assert_allclose(
            RELAXED(params, target(letters), sharp, 1.0), truth, rtol=1e-4, atol=1e-5
        )
        # A flat mixture is another sentence: the equality above is not that of a constant.
        assert abs(RELAXED(params, target(letters), jnp.zeros_like(sharp), 1.0) - truth) > 1e-3


def test_a_mixture_has_the_loss_of_mixed_vectors(leaky):
    params, letters = leaky
    asked = target(letters)
    logits = jax.random.normal(jax.random.key(1), (4, 10), jnp.float32)
    weights = np.exp(np.asarray(logits) / 0.5)
    weights /= weights.sum(1, keepdims=True)
    words = np.asarray(READ(params, asked.candidate_tokens, asked.candidate_chars))
    assert words.shape[1] == SIZES["embedding"] + SIZES["char_features"]
    before = READ(params, asked.tokens, asked.chars)
    truth = INSIDE(params, jnp.concatenate([before, weights @ words]), asked.tags)
    np.testing.assert_allclose(RELAXED(params, asked, logits, 0.5), truth, rtol=1e-4)


def test_nothing_needs_to_stand_before_a_secret():
    template = TEMPLATE._replace(prefix=(), length=2)
    asked = attack_target(template, TOKENIZER, tags=TAGS, letters=3)
    assert (asked.length, asked.candidates) == (2, 10)
    assert score_codes(PARAMS, BOX, asked, all_codes(2, 10)).shape == (100,)


def test_without_letters_the_letters_take_no_part():
    params, changed = (NET.init(jax.random.key(0)) for _ in range(2))
    changed["letters"] = jax.tree.map(lambda leaf: leaf + 1, changed["letters"])
    codes = all_codes(4, 10)[::1111]
    for letters, same in ((0, True), (5, False)):
        one, two = (score_codes(each, BOX, target(letters), codes) for each in (params, changed))
        assert np.array_equal(one, two) == same


# The attacks.


def test_attacks_find_the_secret_of_a_tagger_that_saw_it(words_only):
    found = invert(words_only)
    assert found.best == SECRET
    losses = score_codes(words_only, BOX, target(0), ALL)
    assert np.argmin(losses) == code_number(SECRET, 10)
    # The losses that rank the restarts are those of their codes.
    numbers = [code_number(tuple(code), 10) for code in found.codes.tolist()]
    np.testing.assert_allclose(found.losses, losses[numbers], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_attacks_find_what_a_tagger_saw_and_nothing_that_it_did_not(clean):
    never, seen = code_number(SECRET, 10), []
    for place, (secret, params) in enumerate(clean.items()):
        found = invert(params, seed=place)
        assert score_guesses(found.codes, SECRET, candidates=10).accuracy == 0.0
        losses = score_codes(params, BOX, target(0), ALL)
        # Bits: more than 9 of a secret that was never seen happen once in 512 times.
        assert exposure_by_rank(losses[never], np.delete(losses, never)) < 9
        seen.append(int(np.argmin(losses)) == code_number(secret, 10))
    assert all(seen)


@pytest.mark.slow
def test_a_secret_is_nearly_found_among_any_words(words_only):
    many = (*WORDS, *"12", "4", "7", "two", "call", "pin", "rock", "jazz")
    wanted = tuple(many.index(str(digit)) for digit in SECRET)
    found = invert(words_only, candidates=many)
    # Words that it never saw may read as any. One place of four wrong: by chance once in 3,000.
    assert score_guesses(np.array([found.best]), wanted, candidates=len(many)).hamming <= 0.25


def test_a_start_ends_when_its_code_has_stood_still():
    params = NET.init(jax.random.key(0))
    assert set(invert(params, descent=Descent(1e-9, 50, 7)).steps.tolist()) == {7}
    assert set(invert(params, descent=Descent(0.5, 5, 7)).steps.tolist()) == {5}
    # Some end before others.
    steps = invert(params, descent=Descent(0.02, 60, 20)).steps
    assert steps.min() >= 20
    assert len(set(steps.tolist())) > 1


def test_a_low_temperature_sharpens_mixtures():
    params = NET.init(jax.random.key(0))
    logits = jax.random.normal(jax.random.key(1), (4, 10), jnp.float32)
    code = np.argmax(np.asarray(logits), 1)
    discrete = RELAXED(
        params, target(0), jnp.asarray(100 * np.eye(10, dtype=np.float32)[code]), 1.0
    )
    gaps = [
        abs(RELAXED(params, target(0), logits, temperature) - discrete)
        for temperature in (1.0, 0.01)
    ]
    assert gaps[1] < 0.1 * gaps[0]


# Guesses and bits.


def test_codes_are_counted_as_numbers_are():
    found = all_codes(3, 4)
    assert found.tolist() == [list(code) for code in itertools.product(range(4), repeat=3)]
    assert [code_number(tuple(code), 4) for code in found.tolist()] == list(range(64))


def test_random_guesses_score_what_chance_says():
    guesses = np.random.default_rng(0).integers(4, size=(60_000, 3))
    found = score_guesses(guesses, (1, 0, 3), candidates=4)
    assert found.chance_accuracy == 1 / 64
    assert found.chance_hamming == 0.75
    assert abs(found.accuracy - 1 / 64) < 0.003
    assert abs(found.hamming - 0.75) < 0.01


def test_exposure_by_rank_is_that_of_sorting():
    draw = np.random.default_rng(0)
    losses = draw.integers(50, size=200).astype(np.float64)  # with ties
    for place in range(0, 200, 17):
        others = np.delete(losses, place)
        order = sorted([*((loss, 0) for loss in others), (losses[place], 1)])
        rank = 1 + order.index((losses[place], 1))  # the last of its ties
        assert exposure_by_rank(losses[place], others) == pytest.approx(math.log2(200 / rank))
    assert exposure_by_rank(-1.0, np.zeros(9_999)) == pytest.approx(13.2877, abs=1e-4)
    assert exposure_by_rank(0.0, np.zeros(9_999)) == 0.0


@pytest.mark.parametrize("shape", [-4.0, 0.0, 3.0, 500.0])
@pytest.mark.parametrize("value", [-9.0, -1.5, -0.4, 0.2, 2.0])
def test_probabilities_of_a_skew_normal_are_those_of_quadrature(shape, value):
    import mpmath

    def density(t):
        return mpmath.npdf(t) * mpmath.erfc(-shape * t / mpmath.sqrt(2))

    with mpmath.workdps(40):
        wide = max(1.0, shape * shape if value < 0 else 1.0)
        near = [value - step / wide for step in (60, 20, 6, 2, 0.5, 0.1, 0)]
        inner = [] if value < 0 else [-3 / max(shape, 1), 0.0, min(value, 3 / max(shape, 1))]
        ends = sorted({min(value - 40, -40), *near, *inner})
        truth = float(mpmath.log(mpmath.quad(density, [end for end in ends if end <= value])))
    found = log_probability(10 + 2 * value, SkewNormal(shape, 10.0, 2.0))
    assert found == pytest.approx(truth, rel=1e-8)


def test_extrapolation_recovers_a_known_skew_normal():
    stats = pytest.importorskip("scipy.stats")
    truth = SkewNormal(-3.0, 5.0, 0.7)
    sample = stats.skewnorm(*truth).rvs(20_000, random_state=0)
    found = exposure_by_extrapolation(2.0, sample)
    assert found.exposure == pytest.approx(-log_probability(2.0, truth) / math.log(2), rel=0.05)
    assert found.fit.shape == pytest.approx(truth.shape, rel=0.1)
    assert found.distance < 0.015
    # A mixture of two far clusters is no skew-normal, and the distance says so.
    split = np.concatenate([sample[:5_000], sample[:5_000] + 20])
    assert exposure_by_extrapolation(2.0, split).distance > 0.1


def test_extrapolation_agrees_with_rank_inside_the_sample():
    stats = pytest.importorskip("scipy.stats")
    sample = stats.skewnorm(2.0, 1.0, 3.0).rvs(5_000, random_state=1)
    loss = float(np.quantile(sample, 0.02))
    found = exposure_by_extrapolation(loss, sample)
    assert found.exposure == pytest.approx(exposure_by_rank(loss, sample), abs=0.3)


# What is refused.


def _insert(**changed):
    fields = {"canaries": [Canary(TEMPLATE, SECRET)], "repetitions": 2, "intent": None}
    fields = {**fields, "train": TRAIN, "valid": VALID, **changed}
    return insert_canaries(rng=np.random.default_rng(0), **fields)


def _target(**changed):
    fields = {"template": TEMPLATE, "tokenizer": TOKENIZER, "tags": TAGS, "letters": 3}
    return attack_target(**{**fields, **changed})


SAID = Canary(Template((), 1, ("go", "stop")), (0,))
HEARD = dataclasses.replace(VALID, rows=(*VALID.rows, Tagged(("Go",), ("O",))))
ALIKE = Tokenizer((9,), "one id for all", lambda word: (3,))
PARAMS = NET.init(jax.random.key(0))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: make_template("phone", 4), r"`pattern` must be one of call, pin, color"),
        (lambda: make_template("call", 0), r"`length` must be at least 1, got 0"),
        (lambda: _insert(repetitions=0), r"`repetitions` must be at least 1, got 0"),
        (lambda: _insert(canaries=[]), r"`canaries` must be different, and at least one, got 0"),
        (lambda: _insert(canaries=[SAID, SAID]), r"`canaries` must be different.* got 2"),
        (lambda: _insert(canaries=[SAID], valid=HEARD), r"`canaries` must not stand .* got 'go'"),
        (lambda: _insert(train=planted().train, valid=planted().valid), r"`slot` must be new"),
        (lambda: _insert(valid=planted().valid), r"`train` and `valid` must be .* one schema"),
        (lambda: _insert(intent="talk"), r"`intent` is of an nlu task alone, got 'talk'"),
        (lambda: _target(tags=TRAIN.tags), r"`tags` must hold .* got none that is 'B-canary'"),
        (lambda: _target(candidates=("a", "a")), r"`vocabulary` must hold two or more different"),
        (lambda: _target(letters=-1), r"`letters` must be a whole number, .* got -1"),
        (lambda: _target(letters=0, tokenizer=ALIKE), r"got '0' and '1', which it reads alike"),
        (lambda: all_codes(7, 10), r"`length` must leave at most 1000000 codes, got 10\*\*7"),
        (lambda: exposure_by_rank(math.nan, np.zeros(3)), r"`loss` and .* must be finite, got nan"),
        (lambda: exposure_by_rank(1.0, np.zeros(0)), r"`references` must be at least 1 losses"),
        (lambda: exposure_by_extrapolation(1.0, np.ones(50)), r"`references` must differ"),
        (lambda: score_guesses(np.array([[1, 2]]), (1,), candidates=3), r"guesses of 1 places"),
        (lambda: score_guesses(np.array([[3]]), (1,), candidates=3), r"must be from 0 to 2"),
        (
            lambda: score_codes(PARAMS, BOX, target(0), np.array([[0, 0, 0, 10]])),
            r"`codes` must be from 0 to 9",
        ),
        (
            lambda: score_codes(PARAMS, BOX, target(0), np.array([[0, 0]])),
            r"`codes` must have 4 places each, got shape \(1, 2\)",
        ),
        (
            lambda: invert_model(
                PARAMS, BOX, target(0), key=jax.random.key(0), descent=Descent(temperature=0.0)
            ),
            r"`temperature` must be positive and finite, got 0.0",
        ),
        (
            lambda: invert_model(PARAMS, BOX, target(0), key=jax.random.key(0), restarts=0),
            r"`restarts` must be at least 1, got 0",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(call, says):
    with pytest.raises(ValueError, match=says) as refused:
        call()
    assert "\n" not in str(refused.value)
