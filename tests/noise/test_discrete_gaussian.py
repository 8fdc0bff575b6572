import math
from fractions import Fraction

import dp_accounting
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.special
import scipy.stats
from dp_accounting import rdp
from hypothesis import given, settings
from hypothesis import strategies as st

from trustml import noise
from trustml.noise import alias, box_muller, discrete, tiles
from trustml.noise.chacha import chacha_blocks
from trustml.noise.discrete import as_private_as, discrete_gaussian, discrete_gaussian_like
from trustml.noise.grid import (
    _check_spacing,
    add_discrete_noise,
    grid_sensitivity,
    grid_spacing,
    rounded,
)

KEY = noise.key_from_seed(0)
settings.register_profile("grid", derandomize=True, deadline=None, max_examples=60)
# One, two and three levels; the least, and the largest that int32 holds.
STDDEVS = [20.0, 300.0, 2e5, 1e7, 1e8]


def drawn(law, size=400_000, step=0):
    like = jax.ShapeDtypeStruct((size,), jnp.float32)
    return np.asarray(discrete_gaussian_like(like, KEY, jnp.int32(step), law))


def exact(stddev, half):
    """Probabilities of the discrete Gaussian at -half to half, in float64."""
    x = np.arange(-half, half + 1)
    weights = np.exp(-0.5 * (x / stddev) ** 2)
    return weights / weights.sum()


# --- The table ---


def probabilities(table, slot_bits):
    """What a table gives each value, as whole numbers; they sum to 2^(80 + slot_bits)."""
    found = [0] * (1 << slot_bits)
    for slot, (high, middle, packed) in enumerate(zip(*(c.tolist() for c in table), strict=True)):
        threshold = (high << 48) | (middle << 16) | (packed & 0xFFFF)
        found[slot] += threshold
        found[packed >> 16] += (1 << 80) - threshold
    return found


def distance_of_table(table, base, half, slot_bits):
    """Total variation distance from the discrete Gaussian on all integers, in 60 digits."""
    mpmath.mp.dps = 60
    weights = [mpmath.exp(-(mpmath.mpf(x) ** 2) / (2 * mpmath.mpf(base) ** 2)) for x in range(half)]
    whole = mpmath.jtheta(3, 0, mpmath.exp(-1 / (2 * mpmath.mpf(base) ** 2)))
    found = probabilities(table, slot_bits)
    total = mpmath.mpf(1 << (80 + slot_bits))
    apart, inside = mpmath.mpf(0), mpmath.mpf(0)
    for place, weight in enumerate(found):
        value = abs(place - half)
        ideal = weights[value] / whole if value < half else mpmath.mpf(0)
        apart += abs(weight / total - ideal)
        inside += ideal
    return (apart + 1 - inside) / 2


@pytest.mark.parametrize("base", [20.0, 53.7])
def test_the_table_is_the_discrete_gaussian_up_to_the_stated_error(base):
    law = discrete_gaussian(base)
    table = alias.alias_table(law.base, law.half_width, law.slot_bits)
    sizes = law.base, law.half_width, law.slot_bits
    assert law.levels == 1
    assert sum(probabilities(table, law.slot_bits)) == 1 << (80 + law.slot_bits)
    assert distance_of_table(table, *sizes) < law.distance < 1e-22
    planted = tuple(np.roll(column, 1) for column in table)  # thresholds one slot off
    assert distance_of_table(planted, *sizes) > 1e-4


@pytest.mark.parametrize("moved", [-1, 0, 1])
def test_a_draw_compares_all_eighty_bits(moved):
    """Words at a threshold, a unit below and a unit above, for every slot."""
    law = discrete_gaussian(20.0)
    table = alias.alias_table(law.base, law.half_width, law.slot_bits)
    words, expected = [], []
    for slot, (high, middle, packed) in enumerate(zip(*(c.tolist() for c in table), strict=True)):
        threshold = (high << 48) | (middle << 16) | (packed & 0xFFFF)
        uniform = min(max(threshold + moved, 0), (1 << 80) - 1)
        # Bits of the last word that name no slot are drawn too, and must not matter.
        spare = 1 if law.slot_bits < 16 else 0
        last = ((slot | (spare << law.slot_bits)) << 16) | (uniform & 0xFFFF)
        words.append((uniform >> 48, (uniform >> 16) & 0xFFFFFFFF, last))
        expected.append((slot if uniform < threshold else packed >> 16) - law.half_width)
    columns = [jnp.asarray(np.asarray(column, np.uint32)) for column in zip(*words, strict=True)]
    found = discrete._looked_up(law, [jnp.asarray(column) for column in table], columns)
    assert found.tolist() == expected


def fits(values, stddev):
    """Chi-square against the exact law, by some sixty bins of the integers."""
    half = math.ceil(9 * stddev)
    edges = np.unique(np.round(np.linspace(-3, 3, 61) * stddev).astype(int))
    of_values = np.searchsorted(edges, values)
    masses = exact(stddev, half)
    expected = np.bincount(np.searchsorted(edges, np.arange(-half, half + 1)), weights=masses)
    counts = np.bincount(of_values, minlength=len(expected))
    return scipy.stats.chisquare(counts, expected * values.size).pvalue > 1e-3


@pytest.mark.parametrize("stddev", [20.0, 31.4, 300.0])
def test_values_follow_the_law(stddev):
    assert fits(drawn(discrete_gaussian(stddev)), stddev)


def test_thresholds_one_slot_off_are_noticed(monkeypatch):
    law = discrete_gaussian(20.5)  # of no other test: what is drawn by a law is kept
    table = alias.alias_table(law.base, law.half_width, law.slot_bits)
    monkeypatch.setattr(
        discrete, "alias_table", lambda *_: (*(np.roll(c, 1) for c in table[:2]), table[2])
    )
    assert not fits(drawn(law), 20.5)


# --- Levels ---


@pytest.mark.parametrize("stddev", STDDEVS)
def test_scale_and_shape_at_every_number_of_levels(stddev):
    law = discrete_gaussian(stddev)
    values = drawn(law).astype(np.float64)
    assert abs(values.std() / stddev - 1) < 5 / math.sqrt(2 * values.size)
    assert abs(values.mean()) < 5 * stddev / math.sqrt(values.size)
    spread = values + np.random.default_rng(0).uniform(-0.5, 0.5, values.size)
    narrow = scipy.stats.kstest(spread / math.hypot(stddev, 12**-0.5), "norm")
    assert narrow.pvalue > 1e-3
    assert np.abs(values).max() <= law.largest


@pytest.mark.parametrize("stddev", [2e5, 1e7])
def test_low_digits_are_uniform_and_tell_nothing_of_the_high_ones(stddev):
    """A level left out, or a step between levels too wide, would show here."""
    law = discrete_gaussian(stddev)
    values = drawn(law)
    for modulus in (2, 7, law.factor):
        counts = np.bincount(values % modulus, minlength=modulus)
        assert scipy.stats.chisquare(counts).pvalue > 1e-3
        assert abs(np.corrcoef(values % modulus, np.abs(values))[0, 1]) < 5 / math.sqrt(values.size)


@pytest.mark.parametrize("stddev", [20.0, 34.9, 100.0, 3e3, 1.7e5, 1.7e6, 6e6, 4e7, 1e8])
def test_every_law_is_as_wide_as_asked_smooth_and_within_int32(stddev):
    law = discrete_gaussian(stddev)
    with mpmath.workdps(50):
        powers = [mpmath.mpf(law.factor) ** (2 * level) for level in range(law.levels)]
        realised = law.base * mpmath.sqrt(sum(powers))
        assert stddev <= realised < stddev * (1 + mpmath.mpf(3e-12))
    assert law.levels == 1 or law.base / math.hypot(1.0, law.factor) >= 1.75
    assert law.half_width >= 10.5 * law.base
    assert 2 * law.half_width < 1 << law.slot_bits <= 1 << 16
    assert 2**30 + law.largest < 2**31
    assert law.distance < discrete._with_levels(1e7, 4).distance < discrete.MOST_DISTANCE
    assert law.gaussian_stddev > 0.9949 * stddev
    again = as_private_as(law.gaussian_stddev)
    assert again.gaussian_stddev >= law.gaussian_stddev
    assert again.stddev < stddev * (1 + 1e-11)


@pytest.mark.parametrize(
    ("base", "factor"), [(3.0, 3), (3.0, 4), (4.0, 8), (6.0, 5)], ids=lambda x: f"{x}"
)
def test_two_levels_differ_from_the_law_by_the_stated_factor_and_by_no_less(base, factor):
    """Levels further apart than any that are used, so that float64 sees what they differ by."""
    half = math.ceil(12 * base)
    low, high = exact(base, half), np.zeros(2 * factor * half + 1)
    high[::factor] = exact(base, half)
    values = np.convolve(low, high)
    stddev = base * math.hypot(1.0, factor)
    ideal = exact(stddev, (len(values) - 1) // 2)
    middle = ideal > 1e-9
    ratio = values[middle] / ideal[middle]
    error = discrete.smoothing_error(base / math.hypot(1.0, factor))
    slack = 1e-11  # of float64
    assert ratio.max() <= (1 + error) / (1 - error) + slack
    assert ratio.min() >= (1 - error) / (1 + error) - slack
    assert 0.5 * np.abs(values - ideal).sum() <= error / (1 - error) + slack
    assert error < 1e-10 or ratio.max() - 1 > 0.1 * error


def test_two_levels_as_they_are_used_in_sixty_digits():
    law = discrete._with_levels(100.0, 2)
    with mpmath.workdps(60):
        base, k = mpmath.mpf(law.base), law.factor
        stddev = base * mpmath.sqrt(1 + k**2)
        rho = lambda x, s: mpmath.exp(-(mpmath.mpf(x) ** 2) / (2 * s**2))  # noqa: E731
        whole = lambda s: mpmath.jtheta(3, 0, mpmath.exp(-1 / (2 * s**2)))  # noqa: E731
        reach = 20 * math.ceil(law.base)
        for n in (0, 1, k // 2, k + 1, 101, 350):
            sums = sum(rho(y, base) * rho(n - k * y, base) for y in range(-reach, reach + 1))
            ratio = (sums / whole(base) ** 2) / (rho(n, stddev) / whole(stddev))
            error = discrete.smoothing_error(law.base / math.hypot(1.0, k))
            assert abs(ratio - 1) < 2.001 * error < 1e-24


# --- Privacy ---


@pytest.mark.parametrize(("stddev", "t"), [(0.6, 0.4), (0.8, 0.5), (3.0, 0.5), (5.0, 0.9)])
def test_a_real_gaussian_rounded_at_random_is_the_discrete_one(stddev, t):
    """K of the proof by quadrature, with a narrower t than the one that is used."""
    half = math.ceil(12 * stddev)
    x = np.arange(-half - 9, half + 10)
    y = np.linspace(-half, half, 400 * half + 1)
    kernel = np.exp(-0.5 * ((x[:, None] - y[None, :]) / t) ** 2)
    density = scipy.stats.norm.pdf(y, scale=math.sqrt(stddev**2 - t**2)) * (y[1] - y[0])
    found = (kernel / kernel.sum(0)[None, :]) @ density
    distance = 0.5 * np.abs(found - exact(stddev, half + 9)).sum()
    assert abs(found.sum() - 1) < 1e-12
    assert distance <= discrete.smoothing_error(t) + 1e-12
    assert stddev > 1 or distance > 1e-4  # too narrow: the laws do differ, and it is seen


def deltas(first, second, epsilons):
    return [np.maximum(first - math.exp(e) * second, 0).sum() for e in epsilons]


def deltas_of_gaussians(shift, stddev, rate, epsilons):
    """Hockey-stick divergences of the sampled Gaussian, both ways, by its closed form."""
    mu, found, back = shift / stddev, [], []
    Q = scipy.stats.norm.sf
    for e in epsilons:
        # The mixture against one: its ratio 1 - q + q r grows with x.
        level = (math.exp(e) - 1 + rate) / rate
        cut = math.log(level) / mu + mu / 2 if level > 0 else -math.inf
        found.append((1 - rate - math.exp(e)) * Q(cut) + rate * Q(cut - mu))
        level = (math.exp(-e) - 1 + rate) / rate
        if level <= 0:
            back.append(0.0)
            continue
        cut = math.log(level) / mu + mu / 2
        below, above = Q(-cut), Q(mu - cut)
        back.append(below - math.exp(e) * ((1 - rate) * below + rate * above))
    return found, back


@pytest.mark.parametrize("shift", [1, 7, 20, 60])
@pytest.mark.parametrize("rate", [0.01, 0.2, 1.0])
def test_delta_of_the_sampled_discrete_gaussian_is_at_most_that_of_the_real_one(shift, rate):
    """Every epsilon, both directions: what the pld accountant computes covers integer noise."""
    law = discrete_gaussian(20.0)
    half = 400
    masses = exact(law.stddev, half)
    none = np.concatenate([masses, np.zeros(shift)])
    mixed = (1 - rate) * none + rate * np.concatenate([np.zeros(shift), masses])
    epsilons = [0.0, *np.geomspace(1e-4, 6, 60).tolist()]
    ahead, back = deltas_of_gaussians(shift, law.gaussian_stddev, rate, epsilons)
    for found, bound in (
        (deltas(mixed, none, epsilons), ahead),
        (deltas(none, mixed, epsilons), back),
    ):
        assert (np.asarray(found) <= np.asarray(bound) + 1e-15).all()


def test_the_real_gaussian_of_the_same_width_would_not_cover_it():
    """Why `gaussian_stddev` is the smaller one: at some epsilon integer noise has more delta."""
    stddev, half, shift = 20.0, 400, 7
    masses = exact(stddev, half)
    none = np.concatenate([masses, np.zeros(shift)])
    moved = np.concatenate([np.zeros(shift), masses])
    epsilons = np.geomspace(1e-4, 3, 400).tolist()
    bound, _ = deltas_of_gaussians(shift, stddev, 1.0, epsilons)
    assert (np.asarray(deltas(moved, none, epsilons)) > np.asarray(bound) + 1e-9).any()


ORDERS = [2, 3, 4, 7, 16, 32, 64]


def renyi_of_accountant(rate, multiplier):
    accountant = rdp.RdpAccountant(ORDERS)
    event = dp_accounting.GaussianDpEvent(multiplier)
    accountant.compose(event if rate == 1 else dp_accounting.PoissonSampledDpEvent(rate, event))
    return np.asarray(accountant._rdp)


def renyi(log_first, log_second, order):
    log_sum = scipy.special.logsumexp(order * log_first + (1 - order) * log_second)
    return log_sum / (order - 1)


def log_law(stddev, centres, grid):
    """Log masses of the product of discrete Gaussians about integers, on a grid of points."""
    x = np.arange(-grid, grid + 1, dtype=np.float64)
    whole = scipy.special.logsumexp(-0.5 * (x / stddev) ** 2)
    found = np.zeros(())
    for centre in centres:
        found = found[..., None] - 0.5 * ((x - centre) / stddev) ** 2 - whole
    return found


@pytest.mark.parametrize(
    ("stddev", "shift"),
    [(2.0, (1,)), (2.0, (3,)), (6.0, (5,)), (20.0, (20,)), (2.0, (1, 1)), (3.0, (2, -1))],
)
@pytest.mark.parametrize("rate", [0.01, 0.3, 1.0])
def test_at_whole_orders_the_rdp_accountant_covers_the_same_width(stddev, shift, rate):
    """Exact sums in one and two dimensions, both directions, against dp_accounting."""
    size = math.sqrt(sum(z * z for z in shift))
    # At order 64 the sum's weight lies about 64 shifts away.
    grid = math.ceil(10 * stddev) + max(ORDERS) * max(map(abs, shift))
    none = log_law(stddev, [0] * len(shift), grid)
    moved = log_law(stddev, shift, grid)
    mixed = np.logaddexp(np.log1p(-rate) + none, np.log(rate) + moved) if rate < 1 else moved
    ahead = [renyi(mixed, none, order) for order in ORDERS]
    back = [renyi(none, mixed, order) for order in ORDERS]
    bound = renyi_of_accountant(rate, stddev / size)
    np.testing.assert_allclose(ahead, bound, rtol=1e-9, atol=1e-12)
    assert (np.asarray(back) <= bound * (1 + 1e-9) + 1e-12).all()


# --- The stream ---


def test_a_value_is_what_its_own_counters_give():
    """Value j of leaf l at a step, by hand: blocks, words, table and levels."""
    law = discrete_gaussian(2e5)
    table = alias.alias_table(law.base, law.half_width, law.slot_bits)
    like = [jnp.zeros(300), jnp.zeros((3, 70))]
    found = discrete_gaussian_like(like, KEY, jnp.int32(9), law)
    for leaf, place in ((0, 0), (0, 299), (1, 17), (1, 209)):
        row, lane = place % tiles._TILE // tiles._LANES, place % tiles._LANES
        block = jnp.uint32(place // tiles._TILE * tiles._LANES + lane)
        words = []
        for number in range(3):
            counter = (block, jnp.uint32(leaf), jnp.uint32(9), jnp.uint32(0x47524400 + number))
            words += [int(word) for word in chacha_blocks(KEY, counter)]
        value = 0
        for level in range(law.levels):
            at = 3 * (8 * level + row)
            high, middle, last = words[at : at + 3]
            slot = (last >> 16) % (1 << law.slot_bits)
            first, second, packed = (int(column[slot]) for column in table)
            own = (high << 48 | middle << 16 | last & 0xFFFF) < (
                first << 48 | second << 16 | packed & 0xFFFF
            )
            value = law.factor * value + (slot if own else packed >> 16) - law.half_width
        assert int(found[leaf].reshape(-1)[place]) == value


def test_blocks_are_no_other_noises():
    from trustml.training import steps

    mine = {discrete._PURPOSE + number for number in range(256)}
    assert not mine & {box_muller._PURPOSE, steps._PURPOSE}


def test_leaves_steps_and_keys_are_independent():
    law = discrete_gaussian(2e5)
    like = [jax.ShapeDtypeStruct((20_000,), jnp.float32)] * 2
    rows = []
    for key, step in ((KEY, 0), (KEY, 1), (noise.key_from_seed(1), 0)):
        rows += discrete_gaussian_like(like, key, jnp.int32(step), law)
    correlation = np.corrcoef(np.stack(rows).astype(np.float64)) - np.eye(len(rows))
    assert np.abs(correlation).max() < 5 / math.sqrt(20_000)
    neighbours = np.asarray(rows[0][:19_200], np.float64).reshape(-1, tiles._TILE)
    within = np.corrcoef(neighbours.T) - np.eye(tiles._TILE)
    assert np.abs(within).max() < 6 / math.sqrt(len(neighbours))


@pytest.mark.slow
def test_a_leaf_depends_on_neither_others_nor_parts_nor_places(monkeypatch):
    law = discrete_gaussian(300.0)
    like = {"a": jnp.zeros(1000), "b": jnp.zeros((3, 256)), "c": jnp.zeros(()), "d": jnp.zeros(0)}
    whole = discrete_gaussian_like(like, KEY, jnp.int32(3), law)
    alone = discrete_gaussian_like({"a": like["a"]}, KEY, jnp.int32(3), law)
    assert (alone["a"] == whole["a"]).all()
    assert whole["c"].shape == ()
    assert whole["d"].shape == (0,)
    auto = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((1,), ("x",), axis_types=auto)
    there = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    placed = discrete_gaussian_like(
        like, KEY, jnp.int32(3), law, shardings=jax.tree.map(lambda _: there, like)
    )
    monkeypatch.setattr(discrete, "_TILES_ON_A_CPU", 4)
    parts = discrete_gaussian_like(like, KEY, jnp.int32(3), law)
    jitted = jax.jit(lambda step: discrete_gaussian_like(like, KEY, step, law))(jnp.int32(3))
    for other in (placed, parts, jitted):
        assert jax.tree.all(jax.tree.map(lambda x, y: bool((x == y).all()), whole, other))
    assert discrete_gaussian_like({}, KEY, jnp.int32(0), law) == {}


# --- The grid ---


@settings(settings.get_profile("grid"))
@given(st.floats(1e-6, 1e6), st.floats(1, 1e10))
def test_the_spacing_is_the_widest_that_keeps_a_hundredth(clip_bound, dimension):
    spacing = Fraction(grid_spacing(clip_bound, dimension))
    most = Fraction(clip_bound) ** 2 / (10_000 * Fraction(dimension))
    assert spacing**2 <= most < (2 * spacing) ** 2
    bound = grid_sensitivity(clip_bound, float(spacing), dimension)
    # (bound - clip_bound)^2 = spacing^2 d, from above, with no square root.
    assert (Fraction(bound) - Fraction(clip_bound)) ** 2 >= spacing**2 * Fraction(dimension)
    assert bound <= 1.0101 * clip_bound


def test_the_spacing_is_exact_where_float_square_roots_would_mislead():
    assert grid_spacing(100.0, 4.0**10) == 2.0**-10
    assert grid_spacing(math.nextafter(100.0, 0), 4.0**10) == 2.0**-11


@settings(settings.get_profile("grid"))
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 64, 300]), st.floats(-3, 3))
def test_rounding_moves_neighbours_apart_by_at_most_the_stated_bound(seed, size, scale):
    rng = np.random.default_rng(seed)
    spacing = 0.25
    sums = (rng.normal(size=size) * 10**scale).astype(np.float32)
    others = sums + (rng.normal(size=size) * 10 ** rng.uniform(-3, 1)).astype(np.float32)
    bound = float(np.linalg.norm(others.astype(np.float64) - sums.astype(np.float64)))
    moved = spacing * np.linalg.norm(
        np.asarray(rounded(jnp.asarray(others), spacing), np.float64)
        - np.asarray(rounded(jnp.asarray(sums), spacing), np.float64)
    )
    assert moved <= (grid_sensitivity(bound, spacing, float(size)) if bound else 0.0)


def test_the_worst_case_reaches_the_bound_and_a_bound_without_rounding_is_broken():
    size, spacing = 64, 2.0**-3
    below = np.full(size, spacing / 2 * (1 - 2.0**-20), np.float32)
    above = np.full(size, spacing / 2 * (1 + 2.0**-20) + 3 * spacing, np.float32)
    clip_bound = float(np.linalg.norm(above.astype(np.float64) - below.astype(np.float64)))
    steps = rounded(jnp.asarray(above), spacing) - rounded(jnp.asarray(below), spacing)
    moved = spacing * float(np.linalg.norm(np.asarray(steps, np.float64)))
    assert clip_bound * 1.3 < moved <= grid_sensitivity(clip_bound, spacing, float(size))
    assert moved > 0.999 * grid_sensitivity(clip_bound, spacing, float(size))


def test_results_are_on_the_grid_and_are_sums_plus_noise():
    spacing = 2.0**-12
    law = discrete_gaussian(5e4)
    sums = {"w": jnp.linspace(-3, 3, 4000, dtype=jnp.float32), "b": jnp.ones((), jnp.float32)}
    noisy = add_discrete_noise(sums, spacing, law, KEY, jnp.int32(5))
    steps = discrete_gaussian_like(sums, KEY, jnp.int32(5), law)
    for name, values in noisy.items():
        assert values.dtype == jnp.float32
        exactly = np.asarray(values, np.float64) / spacing
        assert (exactly == np.round(exactly)).all()
        expected = np.round(np.asarray(sums[name], np.float64) / spacing) + np.asarray(steps[name])
        assert (exactly == expected).all()
    jitted = jax.jit(lambda s: add_discrete_noise(s, spacing, law, KEY, jnp.int32(5)))(sums)
    assert jax.tree.all(jax.tree.map(lambda x, y: bool((x == y).all()), noisy, jitted))
    plain = noise.gaussian(KEY, (4000,), step=5) * jnp.float32(5e4 * spacing) + sums["w"]
    off = np.asarray(plain, np.float64) / spacing  # what float noise leaves in the last bits
    assert (off != np.round(off)).mean() > 0.5


@pytest.mark.parametrize("spacing", [2.0**-96, 2.0**-7, 2.0**96])
def test_extreme_sums_neither_overflow_nor_show_through(spacing):
    law = discrete_gaussian(1e8)
    # Wrapped around, 2^30 plus noise would be negative.
    sums = jnp.full(4000, 3e38, jnp.float32)
    sums = jnp.concatenate([sums, jnp.full(4000, jnp.inf, jnp.float32)])
    noisy = np.asarray(add_discrete_noise(sums, spacing, law, KEY, jnp.int32(0)), np.float64)
    steps = drawn(law, 8000).astype(np.float64)
    cut = min(np.round(float(sums[0]) / spacing), 2.0**30)
    np.testing.assert_allclose(noisy[:4000], (cut + steps[:4000]) * spacing, rtol=1e-7)
    np.testing.assert_allclose(noisy[4000:], (2.0**30 + steps[4000:]) * spacing, rtol=1e-7)
    no_number = jnp.full(4000, jnp.nan, jnp.float32)
    of_none = add_discrete_noise(no_number, spacing, law, KEY, jnp.int32(0))
    of_zero = add_discrete_noise(jnp.zeros(4000, jnp.float32), spacing, law, KEY, jnp.int32(0))
    assert np.isfinite(of_none).all()
    assert (of_none == of_zero).all()


def test_the_largest_sum_and_the_largest_noise_are_within_int32():
    top = np.int64(2**30) + discrete.LARGEST_VALUE
    assert top == np.iinfo(np.int32).max
    edge = jnp.float32([2.0**31, -(2.0**31)])
    assert rounded(edge, 1.0).tolist() == [2**30, -(2**30)]


# --- What is refused ---


@pytest.mark.parametrize("stddev", [0.0, -1.0, 19.9, math.nan])
def test_noise_too_narrow_is_refused_with_the_least(stddev):
    with pytest.raises(ValueError, match=r"`stddev` must be at least 20 .*finer grid"):
        discrete_gaussian(stddev)


@pytest.mark.parametrize("stddev", [1.1e8, 1e12, 1e300, math.inf])
def test_noise_too_wide_for_int32_is_refused(stddev):
    with pytest.raises(ValueError, match=r"`stddev` must leave values within int32.*coarser"):
        discrete_gaussian(stddev)


@pytest.mark.parametrize("spacing", [0.0, -0.5, 0.3, math.inf, math.nan, 2.0**-97, 2.0**97])
def test_other_spacings_are_refused(spacing):
    with pytest.raises(ValueError, match="`spacing` must be"):
        _check_spacing(spacing)


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_bounds_and_dimensions_must_be_positive(value):
    for function in (grid_spacing, lambda c, d: grid_sensitivity(c, 0.5, d)):
        with pytest.raises(ValueError, match=r"`clip_bound` must be positive"):
            function(value, 10.0)
        with pytest.raises(ValueError, match=r"`dimension` must be positive"):
            function(1.0, value)


@pytest.mark.kinds
def test_sums_below_float32_and_other_keys_are_refused():
    law = discrete_gaussian(300.0)
    with pytest.raises(TypeError, match="`values` must be float32"):
        add_discrete_noise(jnp.zeros(3, jnp.bfloat16), 0.5, law, KEY, jnp.int32(0))
    with pytest.raises(TypeError, match="`key` must be 256 bits"):
        add_discrete_noise(jnp.zeros(3), 0.5, law, jax.random.key(0), jnp.int32(0))
