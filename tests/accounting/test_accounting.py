import dataclasses
import math
import subprocess
import sys

import dp_accounting as dp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from trustml.accounting import SUPPORTED, Accounting, SampledGaussian

ADD, REPLACE = "add-or-remove-one", "replace-one"


def poisson(noise_multiplier, sample_rate):
    return SampledGaussian(
        sampling="poisson", noise_multiplier=noise_multiplier, sample_rate=sample_rate
    )


def fixed(noise_multiplier, num_units, batch_size):
    return SampledGaussian(
        sampling="fixed",
        noise_multiplier=noise_multiplier,
        sample_rate=batch_size / num_units,
        num_units=num_units,
        batch_size=batch_size,
    )


def truncated(noise_multiplier, sample_rate, num_units, batch_size):
    return SampledGaussian(
        sampling="truncated_poisson",
        noise_multiplier=noise_multiplier,
        sample_rate=sample_rate,
        num_units=num_units,
        batch_size=batch_size,
    )


# --- Goldens ---


@pytest.mark.parametrize(
    ("accountant", "noise_multiplier", "rate", "steps", "delta", "expected", "tolerance"),
    [
        # jax_privacy's doctests.
        ("pld", 3.0, 0.1, 512, 1e-6, 3.7697, 1e-3),
        ("rdp", 3.0, 0.1, 512, 1e-6, 4.051, 1e-3),
        # Opacus, accountants_test: 2250 steps.
        ("rdp", 1.5, 0.04, 2250, 1e-5, 7.32911117143, 1e-3),
        # Abadi et al.'s MNIST setting and a common one, computed with dp_accounting 0.6.0.
        ("pld", 1.1, 256 / 60_000, 14_040, 1e-5, 2.3796, 1e-3),
        ("rdp", 1.1, 256 / 60_000, 14_040, 1e-5, 2.5944, 1e-3),
        ("pld", 1.0, 0.01, 1000, 1e-5, 1.8282, 1e-3),
        ("rdp", 1.0, 0.01, 1000, 1e-5, 2.1014, 1e-3),
    ],
)
def test_epsilon_equals_published_values(
    accountant, noise_multiplier, rate, steps, delta, expected, tolerance
):
    run = [(poisson(noise_multiplier, rate), steps)]
    assert Accounting(ADD, accountant).epsilon(run, delta=delta) == pytest.approx(
        expected, abs=tolerance
    )


@pytest.mark.parametrize(
    ("noise_multiplier", "rate", "steps", "bound"),
    [  # Opacus, prv_accountant `msr_values`, delta 1e-6: upper bounds with error 0.01 added.
        (1.5, 0.001, 100, 0.03937),
        (0.8, 0.05, 100, 6.74105),
        (1.5, 0.05, 1000, 6.20997),
        (3.0, 0.05, 1000, 2.52757),
        (2.0, 0.2, 100, 5.67206),
        (1.5, 0.001, 20_000, 0.43701),
        (3.0, 0.05, 20_000, 13.96111),
    ],
)
def test_pld_is_within_opacus_prv_bounds(noise_multiplier, rate, steps, bound):
    found = Accounting().epsilon([(poisson(noise_multiplier, rate), steps)], delta=1e-6)
    assert bound - 0.011 < found <= bound


def test_calibration_equals_the_published_multiplier_and_never_overshoots():
    accounting = Accounting()

    def run(noise_multiplier):
        return [(poisson(noise_multiplier, 0.1), 512)]

    found = accounting.noise_multiplier(run, epsilon=1.0, delta=1e-6)
    assert found == pytest.approx(9.66, abs=0.005)
    assert 0.999 < accounting.epsilon(run(found), delta=1e-6) <= 1.0


@pytest.mark.parametrize("accountant", ["pld", "rdp"])
@pytest.mark.parametrize(("epsilon", "delta"), [(0.1, 1e-8), (4.0, 1e-5)])
def test_calibration_is_tight_from_below(accountant, epsilon, delta):
    accounting = Accounting(ADD, accountant)

    def run(noise_multiplier):
        return [(poisson(noise_multiplier, 0.05), 300)]

    found = accounting.noise_multiplier(run, epsilon=epsilon, delta=delta, distance=delta * 1e-6)
    spent = accounting.epsilon(run(found), delta=delta, distance=delta * 1e-6)
    assert 0.99 * epsilon < spent <= epsilon


def test_published_number_of_steps_fits():
    step = poisson(3.0, 0.1)
    assert Accounting().steps_within(lambda n: [(step, n)], epsilon=2.0, delta=1e-6) == 155


# --- Conventions, against oracles of our own ---


def hockey_stick(first, second, epsilon):
    """sup over events of P(first) - e^epsilon P(second), by quadrature."""
    value, _ = scipy.integrate.quad(
        lambda x: max(0.0, first(x) - math.exp(epsilon) * second(x)), -60, 60, limit=2000
    )
    return value


def mixture(rate, shift, stddev):
    return lambda x: (
        (1 - rate) * scipy.stats.norm.pdf(x, 0, stddev)
        + rate * scipy.stats.norm.pdf(x, shift, stddev)
    )


def true_delta(rate, stddev, epsilon, adjacency):
    """One step: the worst neighbours there are when all others contribute zero."""
    with_unit = mixture(rate, 1.0, stddev)
    other = mixture(0.0, 0.0, stddev) if adjacency == ADD else mixture(rate, -1.0, stddev)
    return max(hockey_stick(with_unit, other, epsilon), hockey_stick(other, with_unit, epsilon))


def gaussian_delta(mu, epsilon):
    """Balle, Wang 2018, Theorem 8."""
    cdf = scipy.stats.norm.cdf
    return cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * cdf(-mu / 2 - epsilon / mu)


def never_claims_less(accounting, step, epsilons=(0.2, 1.0)):
    """The accounted delta of one step is at least the true one."""
    return all(
        accounting.delta([(step, 1)], epsilon=epsilon)
        >= (1 - 1e-6)
        * true_delta(step.sample_rate, step.noise_multiplier, epsilon, accounting.adjacency)
        for epsilon in epsilons
    )


def halved(step):
    """A multiplier of std / (2C) given as if it were std / C, the other way around: 2 std / C."""
    return dataclasses.replace(step, noise_multiplier=2 * step.noise_multiplier)


EXAMPLES = {
    "poisson": poisson(1.5, 0.3),
    "truncated_poisson": truncated(1.5, 0.3, 200, 85),
    "fixed": fixed(1.5, 10, 10),
}


@pytest.mark.parametrize(
    ("sampling", "adjacency", "accountant"),
    [(*key, accountant) for key, accountants in SUPPORTED.items() for accountant in accountants],
)
def test_every_supported_combination_bounds_the_truth(sampling, adjacency, accountant):
    accounting = Accounting(adjacency, accountant)
    step = EXAMPLES[sampling]
    assert never_claims_less(accounting, step)
    # The planted bug: a convention off by the factor two that replace-one brings.
    wrong = Accounting(adjacency, accountant)
    claimed = wrong.delta([(halved(step), 1)], epsilon=0.5)
    assert claimed < true_delta(step.sample_rate, step.noise_multiplier, 0.5, adjacency)


def test_poisson_pld_is_tight_under_both_adjacencies():
    for adjacency in (ADD, REPLACE):
        found = Accounting(adjacency).delta([(poisson(1.5, 0.3), 1)], epsilon=0.5)
        assert found == pytest.approx(true_delta(0.3, 1.5, 0.5, adjacency), rel=1e-3)


@pytest.mark.parametrize("steps", [1, 20])
def test_a_full_batch_is_the_gaussian_mechanism(steps):
    run = [(poisson(5.0, 1.0), steps)]
    mu = math.sqrt(steps) / 5.0
    for adjacency, factor in ((ADD, 1), (REPLACE, 2)):
        found = Accounting(adjacency).delta(run, epsilon=0.7)
        assert found == pytest.approx(gaussian_delta(factor * mu, 0.7), rel=1e-3)


def test_fixed_batches_use_std_over_2c():
    # std / C would report about 7.7 where the truth is beyond 20: the whole data in every batch.
    accounting = Accounting(REPLACE, "rdp")
    run = [(fixed(1.0, 100, 100), 4)]
    mu = 2 * math.sqrt(4) / 1.0
    found = accounting.epsilon(run, delta=1e-6)
    assert gaussian_delta(mu, found) <= 1e-6
    raw = dp.rdp.RdpAccountant(neighboring_relation=dp.NeighboringRelation.REPLACE_ONE)
    raw.compose(dp.SampledWithoutReplacementDpEvent(100, 100, dp.GaussianDpEvent(1.0)), 4)
    assert gaussian_delta(mu, raw.get_epsilon(1e-6)) > 1e-3


def test_conventions_of_dp_accounting_are_the_ones_relied_on():
    relation = dp.NeighboringRelation
    gaussian = dp.GaussianDpEvent(3.0)
    without_replacement = dp.SampledWithoutReplacementDpEvent(1000, 100, gaussian)
    truncated_event = dp.TruncatedSubsampledGaussianDpEvent(1000, 0.1, 130, 3.0)
    for each in relation:
        assert not dp.pld.PLDAccountant(each).supports(without_replacement)
        assert dp.pld.PLDAccountant(each).supports(truncated_event)
        rdp_accountant = dp.rdp.RdpAccountant(neighboring_relation=each)
        assert not rdp_accountant.supports(truncated_event)
        assert rdp_accountant.supports(without_replacement) == (each is relation.REPLACE_ONE)

    def spent(accountant, event):
        return accountant.compose(event).get_epsilon(1e-6)

    doubled = dp.GaussianDpEvent(1.5)
    assert spent(dp.pld.PLDAccountant(relation.REPLACE_ONE), gaussian) == pytest.approx(
        spent(dp.pld.PLDAccountant(relation.ADD_OR_REMOVE_ONE), doubled), rel=1e-3
    )
    assert spent(
        dp.rdp.RdpAccountant(neighboring_relation=relation.REPLACE_ONE), gaussian
    ) == pytest.approx(
        spent(dp.rdp.RdpAccountant(neighboring_relation=relation.ADD_OR_REMOVE_ONE), gaussian)
    )


@pytest.mark.parametrize("capacity", [4, 7, 12])
def test_truncated_poisson_bounds_neighbours_that_truncation_moves(capacity):
    """All others pull one way and the unit the other: whoever it displaces counts twice."""
    others, rate, stddev = 20, 0.3, 1.5
    size = np.arange(others + 1)
    chance = scipy.stats.binom.pmf(size, others, rate)
    kept = np.minimum(size, capacity)
    taken = rate * np.where(size < capacity, 1.0, capacity / (size + 1))
    x = np.linspace(-40, 20, 20_001)  # sums err by less than 1e-5 of their value

    def density(weights, means):
        return sum(
            w * scipy.stats.norm.pdf(x, m, stddev) for w, m in zip(weights, means, strict=True)
        )

    without = density(chance, -kept)
    with_unit = density(chance * (1 - taken), -kept) + density(
        chance * taken, -np.minimum(size, capacity - 1) + 1
    )
    step = truncated(stddev, rate, others, capacity)  # the neighbour has one unit more
    for epsilon in (0.1, 0.5, 1.0):
        claimed = Accounting().delta([(step, 1)], epsilon=epsilon)
        for first, second in ((with_unit, without), (without, with_unit)):
            gap = np.maximum(0, first - math.exp(epsilon) * second).sum() * (x[1] - x[0])
            assert gap <= claimed * (1 + 1e-6)


def test_truncation_costs_a_little_and_only_when_it_happens():
    base = Accounting().epsilon([(poisson(2.0, 0.1), 100)], delta=1e-6)
    rare = Accounting().epsilon([(truncated(2.0, 0.1, 1000, 220), 100)], delta=1e-6)
    often = Accounting().epsilon([(truncated(2.0, 0.1, 1000, 100), 100)], delta=1e-6)
    assert rare == pytest.approx(base, abs=1e-6)
    assert often > base + 0.5


def shuffling_bound(noise_multiplier, steps, epsilon):
    """Delta of a shuffled epoch, at least: Chua et al. 2024, zero-out adjacency."""
    cut = np.linspace(0, 40 * noise_multiplier, 20_001)
    cdf = scipy.stats.norm.cdf
    s = noise_multiplier
    below = cdf(cut / s) ** (steps - 1)
    return np.max(
        1 - cdf((cut - 2) / s) * below - math.exp(epsilon) * (1 - cdf((cut - 1) / s) * below)
    )


def test_shuffling_accounted_as_poisson_would_claim_a_fraction_of_the_truth():
    claimed = Accounting().epsilon([(poisson(0.5, 1e-4), 10_000)], delta=1e-6)
    assert claimed == pytest.approx(1.953, abs=0.01)
    assert shuffling_bound(0.5, 10_000, epsilon=10.9) > 1e-6
    with pytest.raises(ValueError, match=r"`sampling` must be one of"):
        Accounting().check("shuffle")


# --- Properties ---


def test_epsilon_is_monotone():
    def spent(noise_multiplier=2.0, rate=0.05, steps=100, delta=1e-6):
        return Accounting().epsilon([(poisson(noise_multiplier, rate), steps)], delta=delta)

    base = spent()
    assert spent(noise_multiplier=1.5) > base
    assert spent(rate=0.1) > base
    assert spent(steps=200) > base
    assert spent(delta=1e-7) > base


@pytest.mark.parametrize("accountant", ["pld", "rdp"])
def test_different_steps_compose_exactly(accountant):
    accounting = Accounting(ADD, accountant)
    mixed = accounting.epsilon([(poisson(4.0, 1.0), 3), (poisson(3.0, 1.0), 2)], delta=1e-6)
    total = math.sqrt(3 / 16 + 2 / 9)  # Gaussians compose into one
    one = accounting.epsilon([(poisson(1 / total, 1.0), 1)], delta=1e-6)
    assert mixed == pytest.approx(one, rel=1e-3)
    split = accounting.epsilon([(poisson(2.0, 0.1), 40), (poisson(2.0, 0.1), 60)], delta=1e-6)
    whole = accounting.epsilon([(poisson(2.0, 0.1), 100)], delta=1e-6)
    assert split == pytest.approx(whole, rel=1e-3)


@pytest.mark.parametrize("accountant", ["pld", "rdp"])
@pytest.mark.parametrize("distance", [1e-10, 1e-8])
def test_overheads_are_inside_the_stated_delta(accountant, distance):
    accounting = Accounting(ADD, accountant)
    run = [(poisson(3.0, 0.1), 512)]
    epsilon = accounting.epsilon(run, delta=1e-6, distance=distance)
    ideal = accounting.delta(run, epsilon=epsilon)
    assert ideal + (1 + math.exp(epsilon)) * distance <= 1e-6 * (1 + 1e-6)
    assert epsilon > accounting.epsilon(run, delta=1e-6)


def test_overheads_beyond_delta_leave_no_epsilon():
    run = [(poisson(3.0, 0.1), 512)]
    assert Accounting().epsilon(run, delta=1e-6, distance=1e-6) == math.inf
    assert Accounting().delta(run, epsilon=1.0, distance=1.0) == 1.0


def test_nothing_costs_nothing_and_no_noise_everything():
    assert Accounting().epsilon([], delta=1e-6) == 0.0
    assert Accounting().epsilon([(poisson(1.0, 0.1), 0)], delta=1e-6) == 0.0
    assert Accounting().delta([], epsilon=1.0) == 0.0
    assert Accounting().epsilon([(poisson(0.0, 0.1), 1)], delta=1e-6) == math.inf


def test_steps_within_is_the_last_that_fits():
    step = poisson(4.0, 0.1)
    accounting = Accounting()
    spent = [(poisson(3.0, 0.1), 20)]
    more = accounting.steps_within(
        lambda count: [*spent, (step, count)],
        epsilon=1.0,
        delta=1e-6,
        distance=lambda count: 1e-12 * (20 + count),
    )

    def fits(count):
        run = [*spent, (step, count)]
        return accounting.epsilon(run, delta=1e-6, distance=1e-12 * (20 + count)) <= 1.0

    assert fits(more)
    assert not fits(more + 1)
    assert accounting.steps_within(lambda n: [(step, n)], epsilon=0.01, delta=1e-6) == 0
    assert accounting.steps_within(lambda n: [(step, n)], epsilon=3.0, delta=1e-6, limit=5) == 5


# --- Messages ---


@pytest.mark.parametrize(
    ("sampling", "adjacency", "accountant", "way_out"),
    [
        ("fixed", REPLACE, "pld", "adjacency='replace-one' with accountant='rdp'"),
        ("fixed", ADD, "rdp", "adjacency='replace-one' with accountant='rdp'"),
        ("fixed", ADD, "pld", "adjacency='replace-one' with accountant='rdp'"),
        ("poisson", REPLACE, "rdp", "adjacency='replace-one' with accountant='pld'"),
        ("truncated_poisson", ADD, "rdp", "accountant='pld'"),
        ("truncated_poisson", REPLACE, "rdp", "accountant='pld'"),
    ],
)
def test_unsupported_combinations_are_refused_by_name(sampling, adjacency, accountant, way_out):
    with pytest.raises(ValueError, match="cannot account") as caught:
        Accounting(adjacency, accountant).epsilon([(EXAMPLES[sampling], 1)], delta=1e-6)
    for word in (sampling, adjacency, accountant, way_out):
        assert word in str(caught.value)


def test_budgets_that_cannot_be_met_name_the_nearest_that_can():
    def run(noise_multiplier):
        return [(poisson(noise_multiplier, 1.0), 1_000_000)]

    with pytest.raises(
        ValueError, match=r"`epsilon`=1e-07 .* nearest that can is epsilon=0\.0"
    ) as e:
        Accounting(ADD, "rdp").noise_multiplier(run, epsilon=1e-7, delta=1e-12)
    nearest = float(str(e.value).split("epsilon=")[-1].split(";")[0])
    Accounting(ADD, "rdp").noise_multiplier(run, epsilon=nearest * 1.01, delta=1e-12)
    with pytest.raises(ValueError, match=r"`delta`=1e-06 cannot be met .* Use a delta above"):
        Accounting().noise_multiplier(run, epsilon=1.0, delta=1e-6, distance=1e-6)


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, math.nan])
def test_delta_must_be_a_probability(value):
    with pytest.raises(ValueError, match=r"`delta` must be in \(0, 1\)"):
        Accounting().epsilon([], delta=value)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_epsilon_must_be_positive_and_finite(value):
    with pytest.raises(ValueError, match=r"`epsilon` must be positive and finite"):
        Accounting().noise_multiplier(lambda noise: [], epsilon=value, delta=1e-6)


@pytest.mark.parametrize(
    ("step", "name"),
    [
        (poisson(math.nan, 0.1), "noise_multiplier"),
        (poisson(-1.0, 0.1), "noise_multiplier"),
        (poisson(math.inf, 0.1), "noise_multiplier"),
        (poisson(1.0, 0.0), "sample_rate"),
        (poisson(1.0, math.nan), "sample_rate"),
        (truncated(1.0, 0.1, 10, 11), "batch_size"),
    ],
)
def test_steps_that_describe_nothing_are_refused(step, name):
    with pytest.raises(ValueError, match=f"`{name}` must"):
        Accounting().epsilon([(step, 1)], delta=1e-6)


def test_names_and_counts_are_checked():
    with pytest.raises(ValueError, match=r"`adjacency` must be one of"):
        Accounting("zero-out")
    with pytest.raises(ValueError, match=r"`accountant` must be one of"):
        Accounting(ADD, "prv")
    with pytest.raises(ValueError, match=r"`run` must not hold negative counts"):
        Accounting().epsilon([(poisson(1.0, 0.1), -1), (poisson(1.0, 0.1), 2)], delta=1e-6)


def test_accounting_imports_no_jax_of_its_own():
    code = (
        "import sys, types; package = types.ModuleType('trustml'); "
        "package.__path__ = [sys.argv[1]]; sys.modules['trustml'] = package; "
        "import trustml.accounting; "
        "sys.exit('jax' in sys.modules or 'dp_accounting' in sys.modules)"
    )
    import trustml

    subprocess.run([sys.executable, "-c", code, trustml.__path__[0]], check=True)
