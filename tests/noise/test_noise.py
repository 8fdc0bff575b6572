import math

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from trustml import noise
from trustml.noise import box_muller
from trustml.noise.chacha import chacha_blocks

KEY = noise.key_from_seed(0)
settings.register_profile("noise", derandomize=True, deadline=None, max_examples=60)


# --- Detectors: each must pass the real thing and reject a planted bug. ---


def has_scale(values, stddev):
    """Standard deviation within five standard errors; 5 % is forty of them at this size."""
    error = 5 / math.sqrt(2 * values.size)
    return abs(values.std() / stddev - 1) < error and abs(values.mean()) < 5 * stddev / math.sqrt(
        values.size
    )


def is_normal(values):
    return scipy.stats.kstest(values, "norm").pvalue > 1e-3


def is_fine_grained(values):
    """Nearly every draw is a value of its own."""
    return len(np.unique(values)) > 0.95 * values.size


def uses_every_key_bit(generate):
    """Flipping any of 256 bits changes the stream."""
    base = np.asarray(KEY)
    before = np.asarray(generate(jnp.asarray(base)))
    for word in range(8):
        for bit in (0, 7, 15, 31):
            flipped = base.copy()
            flipped[word] ^= np.uint32(1 << bit)
            if np.array_equal(before, np.asarray(generate(jnp.asarray(flipped)))):
                return False
    return True


def never_replays(transformation, steps=6, size=2000):
    """The noise of no two steps is correlated, let alone equal."""
    state, rows = transformation.init(None), []
    for _ in range(steps):
        noisy, state = transformation.update(jnp.zeros(size), state)
        rows.append(np.asarray(noisy))
    correlation = np.corrcoef(np.stack(rows)) - np.eye(steps)
    return np.abs(correlation).max() < 6 / math.sqrt(size)


def sample(size=200_000, step=0):
    return np.asarray(noise.gaussian(KEY, (size,), step=step)).astype(np.float64)


# --- ChaCha ---


def reference_chacha(words, rounds):
    def quarter(x, a, b, c, d):
        for p, q, r, n in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            x[p] = (x[p] + x[q]) & 0xFFFFFFFF
            y = x[r] ^ x[p]
            x[r] = ((y << n) | (y >> (32 - n))) & 0xFFFFFFFF

    x = list(words)
    for _ in range(rounds // 2):
        for i in range(4):
            quarter(x, i, 4 + i, 8 + i, 12 + i)
        for i in range(4):
            quarter(x, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return [(a + b) & 0xFFFFFFFF for a, b in zip(x, words, strict=True)]


def blocks(key_bytes, counter, rounds):
    key = jnp.asarray(np.frombuffer(key_bytes, "<u4").astype(np.uint32))
    words = chacha_blocks(key, [jnp.uint32(word) for word in counter], rounds=rounds)
    return np.stack(words).astype("<u4")


def test_twenty_rounds_hold_rfc_8439_section_2_3_2():
    found = blocks(bytes(range(32)), (1, 0x09000000, 0x4A000000, 0), 20)
    assert found.tobytes().hex() == (
        "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e"
        "d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e"
    )


def test_twelve_rounds_hold_the_vector_of_draft_strombergson():
    found = blocks(bytes(32), (0, 0, 0, 0), 12)
    assert (
        found.tobytes()
        .hex()
        .startswith("9bf49a6a0755f953811fce125f2683d50429c3bb49e074147e0089a52eae155f")
    )


@pytest.mark.parametrize("rounds", [8, 12, 20])
def test_blocks_of_counter_arrays_equal_the_scalar_oracle(rounds):
    counter = (jnp.arange(5, dtype=jnp.uint32), *map(jnp.uint32, (7, 2**32 - 1, 3)))
    found = np.stack(chacha_blocks(KEY, counter, rounds=rounds))
    for i in range(5):
        words = [0x61707865, 0x3320646E, 0x79622D32, 0x6B206574, *map(int, KEY), i, 7, 2**32 - 1, 3]
        assert found[:, i].tolist() == reference_chacha(words, rounds)


@pytest.mark.parametrize("rounds", [0, 7, -2])
def test_odd_rounds_are_refused(rounds):
    with pytest.raises(ValueError, match=r"`rounds` must be positive and even"):
        chacha_blocks(KEY, [jnp.uint32(0)] * 4, rounds=rounds)


# --- Normals ---


@settings(settings.get_profile("noise"))
@given(
    high=st.one_of(st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 2**31 - 1, 2**31, 2**32 - 1])),
    low=st.one_of(st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 2, 2**32 - 2, 2**32 - 1])),
    rest=st.integers(0, 2**32 - 1),
)
def test_the_radius_is_relatively_precise_at_both_ends(high, low, rest):
    with mpmath.workdps(60):
        uniform = (mpmath.mpf(high * 2**32 + low) + 0.5) / 2**64
        if high == low == 0:
            uniform = (mpmath.mpf(rest) + 0.5) / mpmath.mpf(2) ** 96
        exact = float(-mpmath.log(uniform))
    words = [jnp.asarray([word], jnp.uint32) for word in (high, low, rest)]
    found = float(box_muller._exponential(*words)[0])
    assert abs(found / exact - 1) < 5e-7


def test_angles_are_those_of_the_circle():
    turn = np.random.default_rng(0).integers(0, 2**32, 4000, dtype=np.uint32)
    cosine, sine = map(np.asarray, box_muller._unit_vector(jnp.asarray(turn)))
    assert np.abs(cosine.astype(np.float64) ** 2 + sine.astype(np.float64) ** 2 - 1).max() < 5e-7
    octant = np.floor((np.arctan2(sine, cosine) % (2 * np.pi)) / (np.pi / 4)).astype(int)
    assert (np.abs(np.bincount(octant, minlength=8) - 500) < 120).all()


def test_support_reaches_its_bound_where_float32_uniforms_would_not():
    def largest(radius_bits):
        return float(jnp.sqrt(2 * box_muller._exponential(*radius_bits))[0])

    zero = jnp.zeros(1, jnp.uint32)
    assert largest((zero, zero, zero)) > noise.SUPPORT > 11.5
    single_word = (zero, jnp.full(1, 2**31, jnp.uint32), zero)  # what 32 random bits could reach
    assert largest(single_word) < 6.8


def test_values_are_standard_normal():
    values = sample()
    assert has_scale(values, 1.0)
    assert is_normal(values)
    assert abs((values**4).mean() - 3) < 0.1
    assert abs((np.abs(values) > 4).mean() - 6.334e-5) < 6 * math.sqrt(6.334e-5 / values.size)


def test_noise_too_small_by_five_percent_is_noticed():
    assert not has_scale(0.95 * sample(), 1.0)
    assert not is_normal(0.95 * sample())


def test_a_lattice_of_128_values_is_noticed():
    values = sample(20_000)
    assert is_fine_grained(values)
    assert not is_fine_grained(np.asarray(jnp.asarray(values).astype(jnp.bfloat16), np.float64))
    assert not is_fine_grained(np.round(values * 16) / 16)


def test_a_key_of_64_bits_is_noticed():
    assert uses_every_key_bit(lambda key: noise.gaussian(key, (4,)))
    assert not uses_every_key_bit(
        lambda key: jax.random.normal(jax.random.wrap_key_data(key[:2]), (4,))
    )


def test_a_replayed_counter_is_noticed():
    real = noise.add_gaussian_noise(1.0, KEY)
    assert never_replays(real)

    def stuck(updates, state, params=None):
        noisy, _ = real.update(updates, state, params)
        return noisy, state

    assert not never_replays(real._replace(update=stuck))


def test_values_of_a_block_and_of_leaves_are_uncorrelated():
    size = 20_000
    tree = {"a": jnp.zeros(10 * size), "b": jnp.zeros((10, size))}
    normals = noise.gaussian_like(tree, KEY, jnp.uint32(0))
    rows = np.concatenate([np.asarray(leaf).reshape(10, size) for leaf in normals.values()])
    correlation = np.corrcoef(np.concatenate([rows, rows**2])) - np.eye(40)
    assert np.abs(correlation).max() < 6 / math.sqrt(size)


def test_a_leaf_does_not_depend_on_the_others():
    one = noise.gaussian_like([jnp.zeros(33), jnp.zeros((3, 7))], KEY, jnp.uint32(4))
    two = noise.gaussian_like([jnp.zeros(1), jnp.zeros((3, 7)), jnp.zeros(5)], KEY, jnp.uint32(4))
    np.testing.assert_array_equal(one[1], two[1])
    assert not np.array_equal(one[0][:21].reshape(3, 7), one[1])


def test_many_values_are_drawn_in_parts_that_change_nothing(monkeypatch):
    tree = {"a": jnp.zeros((30, 70)), "b": jnp.zeros(1300)}
    whole = noise.gaussian_like(tree, KEY, jnp.uint32(4))
    monkeypatch.setattr(box_muller, "_TILES_ON_A_CPU", 4)
    jax.clear_caches()  # compiled for the shapes, whatever the constant
    parts = noise.gaussian_like(tree, KEY, jnp.uint32(4))
    jax.tree.map(np.testing.assert_array_equal, parts, whole)
    jax.clear_caches()


def test_empty_and_scalar_leaves():
    normals = noise.gaussian_like({"a": jnp.zeros((0, 3)), "b": jnp.zeros(())}, KEY, jnp.uint32(0))
    assert normals["a"].shape == (0, 3)
    assert np.isfinite(normals["b"])
    assert noise.gaussian_like([jnp.zeros(0)], KEY, jnp.uint32(0))[0].dtype == jnp.float32


def test_one_program_serves_all_steps():
    traces = []

    @jax.jit
    def update(updates, state):
        traces.append(0)
        return transformation.update(updates, state)

    transformation = noise.add_gaussian_noise(1.0, KEY)
    state = transformation.init(None)
    for _ in range(3):
        _, state = update(jnp.zeros(10), state)
    assert len(traces) == 1
    assert int(state.step) == 3


def test_jit_changes_nothing_beyond_rounding():
    eager = noise.gaussian(KEY, (1000,), step=5)
    jitted = jax.jit(lambda key, step: noise.gaussian_like(jnp.zeros(1000), key, step))
    np.testing.assert_allclose(jitted(KEY, jnp.uint32(5)), eager, rtol=1e-5, atol=1e-7)


# --- Tails ---


def test_tail_delta_covers_the_mass_beyond_the_support():
    with mpmath.workdps(50):
        beyond = 2 * mpmath.ncdf(-mpmath.mpf(noise.SUPPORT))
        needed = float((1 + mpmath.e**3) * 1000 * 10**9 * beyond)
    found = noise.tail_delta(3.0, steps=1000, dimension=1e9)
    assert needed < found < 100 * needed
    # jax.random.normal in float32 stops at 5.2: the figure that made us draw 96 bits.
    assert (1 + math.e) * 1e6 * 2 * scipy.stats.norm.sf(5.2) > 0.1


# --- Keys and refusals ---


def test_new_keys_hold_256_bits_and_differ():
    keys = np.stack([np.asarray(noise.new_key()) for _ in range(64)])
    assert keys.shape == (64, 8)
    assert keys.dtype == np.uint32
    assert len(np.unique(keys)) == keys.size  # a repeated word has probability 3e-5
    bits = np.unpackbits(keys.view(np.uint8))
    assert abs(bits.mean() - 0.5) < 6 * 0.5 / math.sqrt(bits.size)


def test_seeds_are_repeatable_and_distinct():
    np.testing.assert_array_equal(noise.key_from_seed(7), noise.key_from_seed(7))
    seeds = [0, 1, 255, 256, 2**64, 2**200]
    assert len({tuple(np.asarray(noise.key_from_seed(seed))) for seed in seeds}) == len(seeds)


@pytest.mark.kinds
@pytest.mark.parametrize("seed", ["1", 1.0, True, None])
def test_seeds_of_other_kinds_are_refused(seed):
    with pytest.raises(TypeError, match=r"`seed` must be an integer"):
        noise.key_from_seed(seed)


def test_negative_seeds_are_refused():
    with pytest.raises(ValueError, match=r"`seed` must not be negative, got -1"):
        noise.key_from_seed(-1)


@pytest.mark.kinds
@pytest.mark.parametrize(
    "key",
    [
        lambda: jax.random.key(0),
        lambda: jax.random.PRNGKey(0),
        lambda: 0,
        lambda: None,
        lambda: jnp.zeros(8, jnp.int32),
        lambda: jnp.zeros(4, jnp.uint32),
    ],
)
def test_other_keys_are_refused_with_the_way_out(key):
    with pytest.raises(TypeError, match=r"`key` must be .*trustml.noise.new_key"):
        noise.add_gaussian_noise(1.0, key())


@pytest.mark.parametrize("stddev", [-1.0, math.inf, math.nan])
def test_stddev_must_be_finite_and_not_negative(stddev):
    with pytest.raises(ValueError, match=r"`stddev` must be finite and not negative"):
        noise.add_gaussian_noise(stddev, KEY)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.int32])
def test_updates_below_float32_are_refused(dtype):
    transformation = noise.add_gaussian_noise(1.0, KEY)
    with pytest.raises(TypeError, match=r"`updates` must be float32"):
        transformation.update(jnp.zeros(3, dtype), transformation.init(None))


def test_noise_has_the_asked_scale_and_is_added():
    transformation = noise.add_gaussian_noise(0.7, KEY)
    noisy, _ = transformation.update(jnp.full(100_000, 5.0), transformation.init(None))
    assert has_scale(np.asarray(noisy, np.float64) - 5.0, 0.7)
