"""Lower bounds on epsilon: independent oracles, their calibration, and planted errors."""

import json
import math
import time

import numpy as np
import pytest
from scipy import optimize, stats

from trustml.audit import (
    Bonferroni,
    Counts,
    Explicit,
    Split,
    bayesian_epsilon,
    epsilon_from_counts,
    epsilon_from_scores,
    gaussian_epsilon,
    one_run_gaussian_epsilon,
    one_run_refutes,
    rate_ratio_bound,
)
from trustml.audit.bounds.scores import _at_ranks, _candidates, _reaching
from trustml.stats import rate_at_most
from trustml.verify import CHECKS, audit_values, audits

RATIO_METHODS = ("katz-log", "adjusted-log", "bailey", "inverse-sinh")


@pytest.mark.parametrize("counts", [(90, 10, 5, 95), (3, 997, 0, 1000), (400, 100, 450, 50)])
@pytest.mark.parametrize("delta", [0.0, 1e-3, 0.2])
def test_the_exact_bound_is_that_of_two_clopper_pearson_intervals(counts, delta):
    counts = Counts(*counts)
    found = epsilon_from_counts(counts, delta=delta, confidence=0.9)

    def interval(events, trials):
        return stats.binomtest(events, trials).proportion_ci(0.9, method="exact")

    tpr, fpr = interval(counts.tp, counts.members).low, interval(counts.fp, counts.nonmembers).high
    ways = [(tpr - delta) / fpr, (1 - fpr - delta) / (1 - tpr), 1.0]
    assert found.epsilon == pytest.approx(math.log(max(ways)), abs=1e-9)
    mirrored = Counts(counts.tn, counts.fp, counts.fn, counts.tp)
    again = epsilon_from_counts(mirrored, delta=delta, confidence=0.9)
    assert again.epsilon == pytest.approx(found.epsilon, abs=1e-12)
    assert found.counts == counts
    assert 0 <= found.epsilon <= found.ceiling < found.upper == math.inf
    assert (found.canaries, found.confidence) == (sum(counts), 0.9)


@pytest.mark.parametrize(("events", "sign"), [((90, 10, 5, 95), 1), ((5, 95, 90, 10), -1)])
def test_mu_is_read_from_both_bounds_and_a_negative_one_shows_nothing(events, sign):
    counts = Counts(*events)
    found = epsilon_from_counts(counts, delta=1e-5, method="gdp")
    tpr = stats.beta.ppf(0.025, counts.tp, counts.fn + 1)
    fpr = stats.beta.ppf(0.975, counts.fp + 1, counts.tn)
    mu = stats.norm.ppf(tpr) - stats.norm.ppf(fpr)
    assert math.copysign(1, mu) == sign
    want = gaussian_epsilon(mu, 1e-5) if mu > 0 else 0.0
    assert found.epsilon == pytest.approx(want, abs=1e-9)


@pytest.mark.parametrize("mu", [1e-4, 0.3, 1.0, 5.0, 30.0])
@pytest.mark.parametrize("delta", [1e-9, 1e-5, 0.1])
def test_epsilon_of_mu_solves_the_closed_form(mu, delta):
    epsilon = gaussian_epsilon(mu, delta)

    def log_delta(value):
        kept = stats.norm.logcdf(mu / 2 - value / mu)
        lost = value + stats.norm.logcdf(-mu / 2 - value / mu)
        return kept + math.log1p(-min(1.0, math.exp(lost - kept)) + 1e-300)

    if epsilon == 0:
        assert log_delta(0.0) <= math.log(delta)
    else:
        assert log_delta(epsilon) == pytest.approx(math.log(delta), abs=1e-6)


@pytest.mark.parametrize("method", RATIO_METHODS)
def test_ratios_allow_for_delta(method):
    """Where counts are many the bound of (TPR - delta) / FPR exceeds it in about 5 %."""
    tpr, fpr, delta, size = 0.5, 0.2, 0.3, 2000
    rng = np.random.default_rng(0)
    tp, fp = (rng.binomial(size, rate, size=4000) for rate in (tpr, fpr))
    found = np.array(
        [
            rate_ratio_bound(Counts(a, size - a, b, size - b), method=method, delta=delta)
            for a, b in zip(tp.tolist(), fp.tolist(), strict=True)
        ]
    )
    share = np.mean(found > (tpr - delta) / fpr)
    assert 0.04 < share < 0.06
    # The planted error: the variance of TPR without delta.
    without = np.array(
        [
            rate_ratio_bound(Counts(a, size - a, b, size - b), method=method) - delta * size / b
            for a, b in zip(tp.tolist(), fp.tolist(), strict=True)
        ]
    )
    assert not 0.04 < np.mean(without > (tpr - delta) / fpr) < 0.06


@pytest.mark.parametrize("method", RATIO_METHODS)
def test_two_directions_are_two_tests(method):
    counts = Counts(90, 10, 5, 95)
    halves = [
        rate_ratio_bound(each, method=method, confidence=0.975)
        for each in (counts, Counts(95, 5, 10, 90))
    ]
    found = epsilon_from_counts(counts, method=method)
    assert found.epsilon == pytest.approx(math.log(max(halves)))
    assert epsilon_from_counts(Counts(0, 100, 50, 50), method=method, delta=0.2).epsilon == 0.0
    assert rate_ratio_bound(Counts(1, 99, 50, 50), method=method, delta=0.2) == 0.0


@pytest.fixture(scope="module")
def scores():
    rng = np.random.default_rng(5)
    return rng.normal(1.5, 1.0, size=400), rng.normal(0.0, 1.0, size=300)


def counts_at(member, nonmember, threshold):
    tp, fp = int(np.sum(member >= threshold)), int(np.sum(nonmember >= threshold))
    return Counts(tp, len(member) - tp, fp, len(nonmember) - fp)


@pytest.mark.parametrize("method", ["clopper-pearson", "gdp"])
@pytest.mark.parametrize("grid", [[0.7], [2.5, -1.0, 0.7, 1.5]])
def test_several_thresholds_share_the_error_probability(scores, method, grid):
    rule = Bonferroni(grid) if len(grid) > 1 else Explicit(grid[0])
    found = epsilon_from_scores(*scores, delta=1e-4, method=method, threshold=rule)
    each = 1 - 0.05 / len(grid)
    singly = {
        value: epsilon_from_counts(
            counts_at(*scores, value), delta=1e-4, confidence=each, method=method
        )
        for value in grid
    }
    best = max(singly, key=lambda value: singly[value].epsilon)
    assert found.epsilon == pytest.approx(singly[best].epsilon, rel=1e-9)
    assert (found.threshold, found.counts) == (best, counts_at(*scores, best))
    assert found.ceiling == pytest.approx(singly[best].ceiling)
    assert found.confidence == 0.95


def test_ranks_are_tried_from_both_samples(scores):
    member, nonmember = scores
    found = epsilon_from_scores(member, nonmember, delta=0.0)
    rules = _at_ranks(member, nonmember)
    assert rules.fp[:9].tolist() == [0, 1, 2, 4, 9, 18, 37, 75, 150]
    assert (400 - rules.tp[9:]).tolist() == [0, 1, 3, 6, 12, 25, 50, 100, 200]
    for threshold, tp, fp in zip(*rules, strict=True):
        assert counts_at(member, nonmember, threshold)[::2] == (tp, fp)
    each = 1 - 0.05 / 18
    want = max(
        epsilon_from_counts(counts_at(member, nonmember, value), confidence=each).epsilon
        for value in rules.threshold
    )
    assert found.epsilon == pytest.approx(want, rel=1e-9)
    assert "best of 18 thresholds" in found.method


def test_ranks_obey_the_law_that_the_bound_takes_for_granted():
    """At its own order statistics the true rate is above the exact bound in the stated share."""
    rng = np.random.default_rng(0)
    level, audits_made = 0.1, 4000
    above = np.zeros(5)
    for _ in range(audits_made):
        nonmember = rng.random(20)
        rules = _at_ranks(rng.random(16), nonmember)
        truth = 1 - rules.threshold[:5]  # of uniform scores
        above += truth > rate_at_most(rules.fp[:5], 20, level)
    error = 4 * math.sqrt(level * (1 - level) / audits_made)
    assert np.abs(above / audits_made - level).max() < error


def test_tied_scores_are_counted_as_errors_of_the_rank():
    member, nonmember = np.ones(50), np.zeros(50)
    found = epsilon_from_scores(member, nonmember, delta=0.0)
    assert found.counts == Counts(50, 0, 0, 50)
    assert found.epsilon == found.ceiling > 1
    blind = epsilon_from_scores(np.zeros(50), np.zeros(50), delta=0.0)
    assert blind.epsilon == 0.0
    # Above an infinite score there is nothing, and nobody who has it is called a member.
    rules = _at_ranks(np.full(8, np.inf), np.array([np.inf] * 4 + [0.0] * 4))
    assert rules.tp[:3].tolist() == [0, 0, 0]
    assert epsilon_from_scores(np.full(80, np.inf), np.zeros(80), delta=0.0).epsilon > 1


def spread(count, mean=0.0):
    """Scores that stand where those of a normal law stand on average: nothing is drawn."""
    return stats.norm.ppf((np.arange(count) + 0.5) / count) + mean


def most_shown(mean, delta):
    """The epsilon at delta that the best threshold between N(0, 1) and N(mean, 1) shows."""
    cuts = np.linspace(-4.0, 6.0, 100_001)
    right = stats.norm.sf(cuts - mean) - delta
    shown = np.log(np.maximum(right, 1e-300)) - stats.norm.logsf(cuts)
    return float(shown.max())


MILLION = 1_000_000


@pytest.mark.parametrize("nonmembers", [MILLION, 2 * MILLION, 4 * MILLION])
def test_a_small_effect_on_many_scores_is_found(nonmembers):
    member, nonmember = spread(2 * MILLION, 0.3), spread(nonmembers)
    truth = most_shown(0.3, 0.1)
    assert truth == pytest.approx(gaussian_epsilon(0.3, 0.1), rel=1e-3)  # the law's own epsilon
    for rule in (Bonferroni(), Split(np.random.default_rng(0))):
        options = {"delta": 0.1, "confidence": 0.8, "threshold": rule}
        found = epsilon_from_scores(member, nonmember, **options).epsilon
        assert 0.8 * truth < found < truth


@pytest.mark.parametrize(
    ("members", "nonmembers", "mean", "delta", "confidence"),
    [
        (2 * MILLION, 2 * MILLION, 0.3, 0.1, 0.8),
        (2 * MILLION, MILLION, 0.3, 0.1, 0.8),
        (2 * MILLION, 4 * MILLION, 0.3, 0.1, 0.8),
        (100_000, 100_000, 1.0, 1e-5, 0.95),
        (100_000, 30_000, 2.0, 0.1, 0.95),
        (10_000, 10_000, 0.3, 0.0, 0.95),
        (1_000, 1_000, 1.0, 0.0, 0.95),
        (1_000, 1_000, 2.0, 1e-5, 0.95),
        (100, 100, 1.0, 0.0, 0.95),
    ],
)
def test_ranks_show_as_much_as_jax_privacys_thresholds(
    members, nonmembers, mean, delta, confidence
):
    auditing = pytest.importorskip("jax_privacy.auditing", reason="the rival is not installed")
    member, nonmember = spread(members, mean), spread(nonmembers)
    rival = auditing.CanaryScoreAuditor(member, nonmember).epsilon_clopper_pearson(
        1 - confidence, delta, one_sided=False
    )
    found = epsilon_from_scores(member, nonmember, delta=delta, confidence=confidence)
    assert rival <= found.epsilon < most_shown(mean, delta)


@pytest.mark.parametrize("rule", [Bonferroni(), Split(np.random.default_rng(0))], ids=type)
def test_four_million_scores_take_less_than_a_second(rule):
    rng = np.random.default_rng(1)
    member, nonmember = rng.normal(0.3, 1, 2 * MILLION), rng.normal(0.0, 1, 2 * MILLION)
    times = []
    for _ in range(3):  # others may use the machine too
        began = time.process_time()
        epsilon_from_scores(member, nonmember, delta=0.1, confidence=0.8, threshold=rule)
        times.append(time.process_time() - began)
    assert min(times) < 1


@pytest.mark.parametrize(
    ("sizes", "mean", "delta"), [((300, 200), 0.0, 0.0), ((900, 900), 0.5, 0.1)]
)
def test_in_a_thousand_audits_the_bound_by_ranks_exceeds_the_truth_in_few(sizes, mean, delta):
    rng, audits_made = np.random.default_rng(0), 1_000
    truth = gaussian_epsilon(mean, delta) if mean else 0.0
    above = sum(
        epsilon_from_scores(
            rng.normal(mean, 1, sizes[0]), rng.normal(0, 1, sizes[1]), delta=delta
        ).epsilon
        > truth
        for _ in range(audits_made)
    )
    # What a rate of 5 % shows with probability 0.999.
    assert above <= stats.binom.ppf(0.999, audits_made, 0.05)


def test_counts_beyond_many_thresholds_are_those_of_counting():
    rng = np.random.default_rng(2)
    scores = rng.integers(-3, 4, 500) + np.array([0.0, 0.5])[rng.integers(0, 2, 500)]
    scores[:4] = [-np.inf, np.inf, np.inf, -np.inf]
    cuts = np.array([1.0, -np.inf, 0.5, np.inf, 1.0, -9.0, 9.0])
    assert _reaching(scores, cuts).tolist() == [(scores >= cut).sum() for cut in cuts]
    above = _reaching(scores, cuts, strictly=True)
    assert above.tolist() == [(scores > cut).sum() for cut in cuts]


def test_a_split_of_very_many_scores_chooses_among_fewer():
    used = [np.sort(spread(5_000, mean)) for mean in (1.0, 0.0)]
    found = _candidates(used)
    assert len(found) <= 2_000
    assert {used[0][0], used[0][-1], used[1][0], used[1][-1]} <= set(found.tolist())
    few = [part[:100] for part in used]
    assert _candidates(few).tolist() == np.unique(np.concatenate(few)).tolist()


def test_a_split_is_tested_on_what_it_did_not_choose_from(scores):
    found = epsilon_from_scores(*scores, delta=0.0, threshold=Split(np.random.default_rng(0)))
    assert (found.counts.members, found.counts.nonmembers) == (200, 150)
    rng = np.random.default_rng(0)
    kept = [sample[rng.permutation(len(sample))[len(sample) // 2 :]] for sample in scores]
    assert counts_at(*kept, found.threshold) == found.counts
    assert found.epsilon == epsilon_from_counts(found.counts).epsilon
    assert found.canaries == 700


def test_a_split_that_tests_what_it_chose_from_is_caught():
    """The planted error: 400 canaries that tell nothing, the best threshold on all of them."""
    rng = np.random.default_rng(0)
    shares = np.zeros(2)
    for _ in range(100):
        member, nonmember = rng.normal(size=200), rng.normal(size=200)
        rule = Split(np.random.default_rng(rng.integers(1 << 30)))
        honest = epsilon_from_scores(member, nonmember, delta=0.0, confidence=0.5, threshold=rule)
        everything = np.unique(np.concatenate([member, nonmember]))
        chosen = max(
            epsilon_from_scores(
                member, nonmember, delta=0.0, confidence=0.5, threshold=Explicit(float(value))
            ).epsilon
            for value in everything[::20]
        )
        shares += honest.epsilon > 0, chosen > 0
    assert shares[0] / 100 < 0.5 < shares[1] / 100


def allowed(epsilon, delta):
    """The least false positive rate for a true positive rate, of (epsilon, delta)-privacy."""
    grow = math.exp(epsilon)
    return lambda tpr: np.maximum(
        np.maximum((tpr - delta) / grow, 1 - (1 - tpr) * grow - delta), 0.0
    )


def most_often(guesses, correct, canaries, epsilon, delta):
    """The largest P(correct or more) that the theorem's inequalities allow: a linear program."""
    grow = math.exp(epsilon)
    numbers = np.arange(guesses + 1)
    rows, limits = [], []
    for least in range(1, correct + 1):
        right = np.where(numbers >= least, numbers, 0) / canaries
        wrong = np.where(numbers >= least - 1, guesses - numbers, 0) / canaries
        # Both lines of the curve, from below and from above.
        rows += [right - grow * wrong, grow * right - wrong]
        limits += [delta, grow - (1 - delta)]
    found = optimize.linprog(
        -(numbers >= correct).astype(float),
        A_ub=np.array(rows),
        b_ub=np.array(limits),
        A_eq=np.ones((1, guesses + 1)),
        b_eq=[1.0],
    )
    return -found.fun


@pytest.mark.parametrize(
    ("guesses", "correct", "canaries"), [(1, 1, 1), (5, 5, 5), (8, 7, 8), (8, 6, 20), (20, 18, 25)]
)
@pytest.mark.parametrize(("epsilon", "delta"), [(0.0, 0.0), (0.5, 0.0), (1.0, 0.01), (0.1, 0.05)])
def test_the_recursion_solves_the_linear_program(guesses, correct, canaries, epsilon, delta):
    most = most_often(guesses, correct, canaries, epsilon, delta)
    curve = allowed(epsilon, delta)
    for level, refuted in ((most * 1.0001, True), (most * 0.9999, False)):
        if 0 < level < 1:
            found = one_run_refutes(
                curve, guesses, correct, canaries=canaries, confidence=1 - level
            )
            assert found is refuted, (level, most)


@pytest.mark.parametrize(
    ("guesses", "correct", "canaries"), [(10, 10, 10), (100, 80, 300), (300, 290, 300)]
)
def test_the_gaussian_bound_is_where_the_curve_stops_being_refuted(guesses, correct, canaries):
    found = one_run_gaussian_epsilon(guesses, correct, canaries=canaries, delta=1e-5)

    def excess(mu):
        return gaussian_epsilon(mu, 1e-5) - found

    mu = optimize.brentq(excess, 1e-3, 20)
    for factor, refuted in ((1 - 1e-5, True), (1 + 1e-5, False)):

        def curve(tpr, mu=mu * factor):
            return stats.norm.cdf(stats.norm.ppf(tpr) - mu)

        assert one_run_refutes(curve, guesses, correct, canaries=canaries) is refuted
    assert one_run_gaussian_epsilon(guesses, guesses // 2, canaries=canaries, delta=1e-5) == 0.0


def hull(points):
    """Corners of the upper convex hull of points that are sorted by their first coordinate."""
    kept = []
    for point in points:
        while len(kept) >= 2:
            (x, y), (u, v) = kept[-2], kept[-1]
            if (v - y) * (point[0] - x) > (u - x) * (point[1] - y):
                break
            kept.pop()
        kept.append(tuple(point))
    return kept


@pytest.mark.parametrize("shift", [1.0, 2.0, 4.0])
def test_counts_of_the_published_one_run_values_are_those_of_the_published_scores(shift):
    size = 10_000
    quantiles = stats.norm.ppf((np.arange(size) + 0.5) / size)
    member, nonmember = quantiles + shift, quantiles
    cuts = np.append(np.union1d(member, nonmember), np.inf)
    missed, spared = (np.searchsorted(each, cuts, side="left") for each in (member, nonmember))
    corners = hull(np.stack([missed, spared], axis=1).tolist())
    # Spared non-members over missed members: the upper corners are the best attacks.
    tests = {(size - fn) + (size - tn): (size - fn, len(corners)) for fn, tn in corners}
    place = {1.0: 0, 2.0: 1, 4.0: 2}[shift]
    for row in (audit_values.ONE_RUN[8 + place], audit_values.ONE_RUN_GAUSSIAN[place]):
        canaries, guesses, correct, _, corrected, _, _ = row
        assert canaries == 2 * size
        assert tests[guesses] == (correct, corrected)


def drawn(counts, delta, draws=1_000_000):
    """The posterior of epsilon by drawing rates."""
    rng = np.random.default_rng(0)
    fnr = rng.beta(counts.fn + 0.5, counts.tp + 0.5, size=draws)
    fpr = rng.beta(counts.fp + 0.5, counts.tn + 0.5, size=draws)
    ways = [
        (1 - fnr - delta) / fpr,
        (1 - fpr - delta) / fnr,
        (fnr - delta) / (1 - fpr),
        (fpr - delta) / (1 - fnr),
    ]
    return np.log(np.maximum(np.max(ways, axis=0), 1.0))


@pytest.mark.parametrize(
    ("counts", "delta"),
    [
        ((487, 0, 512, 1), 1e-5),
        ((76, 923, 19, 982), 0.0),
        ((10, 10, 10, 10), 0.05),
        ((3, 0, 0, 3), 1e-5),
        ((600_000, 400_000, 20, 80), 1e-5),
    ],
)
def test_the_posterior_is_that_of_draws(counts, delta):
    counts = Counts(*counts)
    start = time.perf_counter()
    found = bayesian_epsilon(counts, delta=delta, confidence=0.9)
    assert time.perf_counter() - start < 2
    values = drawn(counts, delta)
    for end, part in ((found.epsilon, 0.05), (found.upper, 0.95)):
        below, up_to = np.mean(values < end - 1e-9), np.mean(values <= end + 1e-9)
        # Five standard errors of a million draws; at 0 the posterior has an atom.
        assert below - 0.0011 <= part <= up_to + 0.0011


def test_the_posterior_reads_an_attack_and_its_mirrors_alike():
    counts = Counts(200, 12, 58, 200)
    ends = [
        bayesian_epsilon(each, delta=1e-5)
        for each in (counts, Counts(200, 58, 12, 200), Counts(12, 200, 200, 58))
    ]
    assert [each.epsilon for each in ends] == pytest.approx([ends[0].epsilon] * 3, abs=1e-6)
    assert [each.upper for each in ends] == pytest.approx([ends[0].upper] * 3, abs=1e-6)
    exact = epsilon_from_counts(counts, delta=1e-5, confidence=0.95)
    assert exact.epsilon < ends[0].epsilon < ends[0].upper < math.inf


@pytest.fixture(scope="module")
def rows():
    return list(audits.audit_checks(audits=400))  # the command draws 1,000


@pytest.mark.slow
def test_every_row_of_the_verify_command_holds(rows):
    assert CHECKS["audits"] is audits.audit_checks
    assert [row for row in rows if not row.holds] == []
    assert len({row.check for row in rows}) == len(rows) >= 60
    text = json.dumps([row._asdict() | {"holds": row.holds} for row in rows])
    assert "NaN" not in text
    assert "Infinity" not in text


@pytest.mark.slow
def test_known_errors_are_planted_and_would_not_pass(rows):
    planted = [row for row in rows if row.planted]
    assert len(planted) == 5
    for name in ("Privacy Meter", "jax_privacy 2.0.0"):
        assert sum(name in row.check for row in planted) == 1
    assert not any(row._replace(planted=not row.planted).holds for row in rows)
    assert not any(row._replace(found=math.nan).holds for row in rows)


def test_a_wrong_published_value_does_not_hold():
    for row in audit_values.published_bounds():
        assert not row._replace(found=1.2 * row.found + 0.03).holds, row


def test_a_bound_without_its_correction_fails_the_calibration(monkeypatch):
    """The planted error: each number of guesses tested as if it were the only one."""
    nothing = audits.MECHANISMS[0]
    real = audits.one_run_audit

    def uncorrected(member, nonmember, *, confidence=0.95, **options):
        return real(member, nonmember, confidence=1 - 6 * (1 - confidence), **options)

    monkeypatch.setattr(audits, "one_run_audit", uncorrected)
    failed = {
        row.check
        for row in audits._calibrated(nothing, np.random.default_rng(0), 500)
        if not row.holds
    }
    assert f"{nothing.name}: one run, epsilon-delta, both" in failed
    assert not any("clopper" in name for name in failed)


GOOD = Counts(90, 10, 5, 95)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: epsilon_from_counts(GOOD._replace(tp=-1)), "`counts.tp` must be at least 0, got"),
        (lambda: epsilon_from_counts(Counts(0, 0, 5, 95)), "`tp` . `fn` = 0: no members"),
        (lambda: epsilon_from_counts(Counts(5, 95, 0, 0)), "`fp` . `tn` = 0: no nonmembers"),
        (lambda: epsilon_from_counts(GOOD, delta=math.nan), "`delta` must be in .0, 1., got nan"),
        (lambda: epsilon_from_counts(GOOD, confidence=1.0), "`confidence` must be in"),
        (
            lambda: epsilon_from_counts(GOOD, method="gdp"),
            "`delta` must be in .0, 1., got 0.0: a G",
        ),
        (
            lambda: epsilon_from_counts(Counts(3, 0, 0, 3)),
            "Too few canaries: 3 members .* FPR of 0.7",
        ),
        (lambda: bayesian_epsilon(GOOD, delta=1.0), "`delta` must be in .0, 1., got 1.0"),
        (lambda: gaussian_epsilon(math.nan, 0.1), "`mu` must be a number, got nan"),
        (lambda: gaussian_epsilon(1.0, 0.0), "`delta` must be in .0, 1., got 0.0"),
        (lambda: of_scores([1.0, math.nan], [0.0]), "`member_scores` must not hold NaN, got .* 1:"),
        (lambda: of_scores([1.0], []), "`nonmember_scores` must be a vector of at least 1"),
        (lambda: of_scores([1.0] * 5, [0.0] * 5), "Too few canaries: 5 members and 5"),
        (lambda: of_scores([1.0] * 9, [0.0] * 9, threshold=Bonferroni([])), "at least one number"),
        (lambda: of_scores([1.0] * 9, [0.0] * 9, threshold=Explicit(math.nan)), "got nan"),
        (
            lambda: of_scores([1.0], [0.0] * 9, threshold=Split(np.random.default_rng())),
            "`member_scores` must hold enough to split, got 1",
        ),
        (
            lambda: of_scores([1.0], [0.0], threshold=Split(np.random.default_rng(), 1.0)),
            "`part` must be in .0, 1., got 1.0",
        ),
        (
            lambda: one_run_gaussian_epsilon(5, 6, canaries=9, delta=0.1),
            "`correct` must be from 0 to `guesses` .5., got 6",
        ),
        (
            lambda: one_run_gaussian_epsilon(5, 5, canaries=9, delta=0.0),
            "`delta` must be in .0, 1., got 0.0",
        ),
    ],
)
def test_messages_name_the_argument_and_the_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def of_scores(member, nonmember, **options):
    return epsilon_from_scores(member, nonmember, delta=0.0, **options)


@pytest.mark.kinds
def test_wrong_kinds_are_named():
    with pytest.raises(TypeError, match=r"`counts.fp` must be an integer, got 0.5"):
        epsilon_from_counts(GOOD._replace(fp=0.5))
    with pytest.raises(ValueError, match=r"`method` must be any of .*, got 'wald'"):
        epsilon_from_counts(GOOD, method="wald")
    with pytest.raises(ValueError, match=r"`method` must be any of .*, got 'wald'"):
        rate_ratio_bound(GOOD, method="wald")
    with pytest.raises(TypeError, match=r"`threshold` must be Explicit, .* got 0.5"):
        of_scores([1.0] * 9, [0.0] * 9, threshold=0.5)
