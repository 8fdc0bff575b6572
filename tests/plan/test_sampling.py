import math

import mpmath
import numpy as np
import pytest
import scipy.stats

from trustml import sampling
from trustml.sampling import Draw, Sampler

UNITS, RATE, STEPS = 400, 0.1, 1000
SECRET = sampling.secret_from_seed(0)


def sampler(kind="poisson", units=UNITS, rate=RATE, capacity=100, secret=SECRET):
    return Sampler(
        sampling=kind, num_units=units, sample_rate=rate, capacity=capacity, secret=secret
    )


def membership(draw, units=UNITS, steps=STEPS):
    """One row a step, one column a unit."""
    rows = np.zeros((steps, units), bool)
    for step in range(steps):
        indices = np.asarray(draw(step).indices)
        rows[step, indices[indices >= 0]] = True
    return rows


def near(found, expected, samples, spread):
    """Within six standard errors of a variance estimate."""
    return abs(found / expected - 1) < 6 * spread / math.sqrt(samples)


def looks_poisson(draw):
    """Sizes and inclusion counts vary as independent coins do, and pairs meet as often."""
    rows = membership(draw)
    variance = RATE * (1 - RATE)
    sizes_vary = near(rows.sum(1).var(), UNITS * variance, STEPS, math.sqrt(2))
    counts_vary = near(rows.sum(0).var(), STEPS * variance, UNITS, math.sqrt(2))
    together = (rows[:, :-1] & rows[:, 1:]).mean()
    pairs_meet = near(together, RATE**2, STEPS * (UNITS - 1), 1 / RATE)
    return sizes_vary and counts_vary and pairs_meet and looks_uniform(rows)


def looks_uniform(rows):
    counts = rows.sum(0)
    expected = counts.mean()
    statistic = ((counts - expected) ** 2 / (expected * (1 - rows.mean()))).sum()
    return scipy.stats.chi2.sf(statistic, rows.shape[1] - 1) > 1e-4


def shuffling(step):
    """The bug that claims epsilon 1.95 for at least 11: a permutation cut into batches."""
    batch = int(UNITS * RATE)
    per_epoch = UNITS // batch
    order = np.random.default_rng(step // per_epoch).permutation(UNITS)
    start = (step % per_epoch) * batch
    return Draw(step, order[start : start + batch].astype(np.int32), np.zeros(batch, np.int32))


def test_poisson_draws_are_independent_coins():
    assert looks_poisson(sampler().draw)


def test_a_sampler_that_shuffles_is_noticed():
    assert not looks_poisson(shuffling)


def test_fixed_batches_are_not_mistaken_for_poisson():
    fixed = sampler("fixed", capacity=40)
    assert not looks_poisson(fixed.draw)
    rows = membership(fixed.draw)
    assert (rows.sum(1) == 40).all()
    assert looks_uniform(rows)
    assert near(rows.sum(0).var(), STEPS * RATE * (1 - RATE), UNITS, math.sqrt(2))


def test_truncation_drops_uniformly():
    cut = sampler("truncated_poisson", capacity=38)
    rows = membership(cut.draw)
    assert rows.sum(1).max() == 38
    assert (rows.sum(1) < 38).any()
    assert looks_uniform(rows)


def test_a_sampler_that_drops_the_last_units_is_noticed():
    def draw(step):
        taken = np.flatnonzero(np.random.default_rng(step).random(UNITS) < RATE)[:38]
        return Draw(step, taken.astype(np.int32), np.zeros(len(taken), np.int32))

    assert not looks_uniform(membership(draw))


def test_draws_are_padded_and_without_repeats():
    for step in range(50):
        draw = sampler().draw(step)
        taken = draw.indices[draw.group == 0]
        assert draw.step == step
        assert draw.indices.dtype == draw.group.dtype == np.int32
        assert draw.indices.shape == draw.group.shape == (100,)
        assert len(np.unique(taken)) == len(taken)
        assert ((taken >= 0) & (taken < UNITS)).all()
        assert (draw.indices[draw.group == -1] == -1).all()


def test_any_step_can_be_drawn_without_those_before():
    walked = list(sampler().draws(0, 20))
    np.testing.assert_array_equal(sampler().draw(17).indices, walked[17].indices)
    np.testing.assert_array_equal(next(sampler().draws(5, 6)).indices, walked[5].indices)
    assert not np.array_equal(walked[3].indices, walked[4].indices)


def test_every_bit_of_the_secret_matters():
    base = sampler().draw(3).indices
    for byte in range(32):
        changed = bytearray(SECRET)
        changed[byte] ^= 1
        assert not np.array_equal(base, sampler(secret=bytes(changed)).draw(3).indices)


def test_secrets_are_fresh_and_of_256_bits():
    secrets = {sampling.new_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert {len(secret) for secret in secrets} == {32}


@pytest.mark.parametrize(
    ("units", "rate", "probability"),
    [(13_084, 256 / 13_084, 1e-11), (1000, 0.1, 1e-15), (50, 0.5, 1e-3), (10**9, 1e-7, 1e-9)],
)
def test_capacity_is_the_smallest_by_the_exact_tail(units, rate, probability):
    capacity = sampling.poisson_capacity(units, rate, probability)

    def tail(above):
        with mpmath.workdps(40):
            # The regularised incomplete beta function is the binomial tail.
            return float(mpmath.betainc(above + 1, units - above, 0, rate, regularized=True))

    assert tail(capacity) <= probability < tail(capacity - 1)


def test_a_full_batch_needs_the_whole_data():
    assert sampling.poisson_capacity(100, 1.0, 1e-9) == 100
    whole = sampler(units=100, rate=1.0).draw(0)
    assert sorted(whole.indices) == list(range(100))


def test_a_batch_of_a_billion_units_costs_what_it_holds():
    draw = sampler(units=10**9, rate=1e-7, capacity=200).draw(10**9)
    assert 40 < (draw.group == 0).sum() < 180


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("kind", "shuffle", ValueError),
        ("rate", 0.0, ValueError),
        ("rate", math.nan, ValueError),
        ("rate", 1.1, ValueError),
        ("capacity", 0, ValueError),
        ("capacity", UNITS + 2, ValueError),
        ("secret", b"short", TypeError),
        pytest.param("secret", 5, TypeError, marks=pytest.mark.kinds),
    ],
)
def test_messages_name_the_argument(field, value, error):
    name = {"kind": "sampling", "rate": "sample_rate"}.get(field, field)
    with pytest.raises(error, match=f"`{name}` must"):
        sampler(**{field: value})


def test_bad_steps_seeds_and_probabilities_are_refused():
    with pytest.raises(ValueError, match=r"`step` must not be negative"):
        sampler().draw(-1)
    with pytest.raises(ValueError, match=r"`seed` must not be negative"):
        sampling.secret_from_seed(-1)
    with pytest.raises(ValueError, match=r"`probability` must be in \(0, 1\)"):
        sampling.poisson_capacity(10, 0.5, math.nan)


@pytest.mark.kinds
def test_seeds_of_other_kinds_are_refused():
    with pytest.raises(TypeError, match=r"`seed` must be an integer"):
        sampling.secret_from_seed("x")
