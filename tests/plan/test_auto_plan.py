"""Plans by rules, and searches whose cost is checked against the exact law of the best trial."""

import dataclasses
import json
import math
from collections import Counter

import dp_accounting
import numpy as np
import pytest
from dp_accounting import dp_event, rdp
from scipy.special import logsumexp

from trustml.accounting import SampledGaussian
from trustml.cli import main
from trustml.models.features import NORM
from trustml.plan import PrivacyPlan
from trustml.plan.auto import _learning_rate, _of_size, auto_plan
from trustml.plan.search import _bounds, calibrate_search, private_search, search_cost
from trustml.plan.selection import Trials, draw_trials, selected_epsilon, stopping
from trustml.recipes.train.presets import PRESETS

LAWS = [
    Trials(mean, shape)
    for mean in (1.0, 1.5, 8.0, 60.0)
    for shape in (0.0, 0.4, 1.0, 3.0, math.inf)
]


def plan_with(**changes):
    fields = {"clip_norm": 1.0, "noise_multiplier": 2.0, "sample_rate": 0.1, "steps": 50}
    return PrivacyPlan(**{**fields, "expected_batch": 100, **changes})


# The law of the best trial, exactly


def generating(x, trials):
    """E[x^K]: Papernot and Steinke 2022, definition 1, and Poisson."""
    if trials.shape == math.inf:
        return np.exp(trials.mean * (x - 1))
    if trials.mean == 1:
        return x
    stop = stopping(trials)
    if trials.shape == 0:
        return np.log1p(-(1 - stop) * x) / math.log(stop)
    return ((1 - (1 - stop) * x) ** -trials.shape - 1) / (stop**-trials.shape - 1)


def best_of(law, trials):
    """Probabilities of the best outcome; one of no trial at all comes first."""
    below = np.concatenate([[0.0], np.cumsum(law)])
    below[-1] = 1.0
    return np.concatenate([[generating(0.0, trials)], np.diff(generating(below, trials))])


def curve(one, other, epsilon):
    """Delta at epsilon, in both directions."""
    grown = math.exp(epsilon)
    return max(np.maximum(one - grown * other, 0).sum(), np.maximum(other - grown * one, 0).sum())


def epsilon_at(one, other, delta):
    low, high = 0.0, 40.0
    if curve(one, other, low) <= delta:
        return 0.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if curve(one, other, middle) <= delta else (middle, high)
    return high


def neighbours(rng):
    """Two laws over scores in order, of many kinds: near, far, pure and with masses that differ."""
    size = int(rng.integers(2, 8))
    one = rng.dirichlet(np.full(size, rng.choice([0.7, 1.0, 5.0])))
    kind = rng.integers(3)
    if kind == 0:
        return one, rng.dirichlet(np.full(size, 2.0))
    moved = rng.uniform(-1, 1, size) if kind == 1 else rng.choice([-1.0, 1.0], size)
    other = one * np.exp(rng.choice([0.1, 1.0, 3.0]) * moved)
    return one, other / other.sum()


def test_no_pair_of_neighbours_exceeds_the_bound_by_the_curve():
    rng, tight = np.random.default_rng(0), []
    for number in range(400):
        one, other = neighbours(rng)
        trials = LAWS[number % len(LAWS)]
        delta = float(rng.choice([1e-6, 1e-3, 1e-2, 0.1]))
        bound = selected_epsilon(
            lambda at, pair=(one, other): epsilon_at(*pair, at),
            lambda at, pair=(one, other): float(curve(*pair, at)),
            delta=delta,
            trials=trials,
        )
        true = epsilon_at(best_of(one, trials), best_of(other, trials), delta)
        assert true <= bound + 1e-6, (trials, delta, one, other)
        if true > 0 and trials.mean > 1:
            tight.append(bound / true)
    assert min(tight) < 1.05  # the bound is reached: less would be wrong
    assert np.median(tight) < 1.7


def test_the_cost_of_one_run_would_be_exceeded():
    """The oracle can see an error: neither one run nor a law with another gamma covers the best."""
    one, other, delta = np.array([0.1, 0.9]), np.array([0.03, 0.97]), 1e-9
    for trials in (Trials(8, 1), Trials(8, 0), Trials(8, math.inf)):
        true = epsilon_at(best_of(one, trials), best_of(other, trials), delta)
        assert true > 1.02 * epsilon_at(one, other, delta)
        bounds = [
            selected_epsilon(
                lambda at: epsilon_at(one, other, at),
                lambda at: float(curve(one, other, at)),
                delta=delta,
                trials=law,
            )
            for law in (trials, trials._replace(mean=1.0))
        ]
        assert bounds[1] < true <= bounds[0]


@pytest.mark.parametrize("trials", LAWS)
@pytest.mark.parametrize(("noise", "buckets"), [(0.1, 2), (0.5, 3), (0.9, 5)])
def test_dp_accounting_bounds_the_best_of_randomised_responses(trials, noise, buckets):
    """Pure differential privacy: the exact Rényi divergence of the best, at every order."""
    relation = dp_accounting.NeighboringRelation.REPLACE_ONE
    accountant = rdp.RdpAccountant([1.5, 2, 4, 16, 64, 256], relation)
    base = dp_event.RandomizedResponseDpEvent(noise, buckets)
    accountant.compose(dp_event.RepeatAndSelectDpEvent(base, trials.mean, trials.shape))
    laws = noise / buckets + (1 - noise) * np.eye(buckets)
    for truth in range(buckets):
        for other in range(buckets):
            if other == truth:
                continue
            p, q = (np.log(best_of(laws[at], trials) + 1e-300) for at in (truth, other))
            for order, bound in zip(accountant._orders, accountant._rdp, strict=True):
                exact = logsumexp(order * p + (1 - order) * q) / (order - 1)
                assert exact <= bound * (1 + 1e-9) + 1e-9


# The cost of a plan


def test_one_trial_costs_what_one_run_costs():
    plan = plan_with()
    cost = search_cost(plan, delta=1e-5, trials=Trials(1.0, 1.0))
    assert cost.epsilon == pytest.approx(plan.epsilon(1e-5), rel=1e-6)
    assert cost.one_run == cost.epsilon


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"noise_multiplier": 12.0}, {"sample_rate": 1.0}])
def test_costs_grow_with_trials_and_stay_below_those_of_all_of_them(changes):
    if "sample_rate" in changes:
        changes = {**changes, "num_units": 1_000, "expected_batch": 1_000, "noise_multiplier": 9.0}
    plan, found = plan_with(**changes), {}
    for shape in (0.0, 1.0, math.inf):
        costs = [search_cost(plan, delta=1e-6, trials=Trials(mean, shape)) for mean in (4, 16, 64)]
        found[shape] = [cost.epsilon for cost in costs]
        assert costs[0].one_run < found[shape][0] < found[shape][1] < found[shape][2]
    assert all(one < two for one, two in zip(found[0.0], found[1.0], strict=True))
    everything = plan_with(**{**changes, "steps": 64 * plan.steps}).epsilon(1e-6)
    assert found[1.0][2] < everything


@pytest.mark.slow
def test_the_rdp_bound_alone_is_above_the_curve_and_replaces_it_where_it_is_lower():
    plan = plan_with()
    _, found = _bounds(plan, 1e-5, Trials(10, 1), (), plan._accounting)
    assert found["profile"] < found["rdp"] < 2 * found["profile"]
    only = plan_with(sampling="truncated_poisson")
    assert set(_bounds(only, 1e-5, Trials(10, 1), (), only._accounting)[1]) == {"profile"}
    fixed = plan_with(sampling="fixed", adjacency="replace-one", accountant="rdp")
    assert search_cost(fixed, delta=1e-5).epsilon > fixed.epsilon(1e-5)


def test_scores_are_paid_for():
    plan, trials = plan_with(), Trials(10, 1)
    without = search_cost(plan, delta=1e-5, trials=trials).epsilon
    score = [(SampledGaussian(sampling="poisson", noise_multiplier=5.0, sample_rate=1.0), 1)]
    noisy = search_cost(plan, delta=1e-5, trials=trials, score=score)
    assert noisy.epsilon > 1.01 * without
    assert search_cost(plan_with(noise_multiplier=0.0), delta=1e-5).epsilon == math.inf


def test_overflow_and_tails_of_every_trial_count():
    """A plan that may overflow with probability 1e-7 a step costs more as trials grow."""
    plain, loose = (plan_with(overflow_probability=each) for each in (1e-12, 5e-6))
    for trials in (Trials(10, 1), Trials(10, math.inf)):
        costs = [search_cost(each, delta=1e-3, trials=trials).epsilon for each in (plain, loose)]
        assert costs[1] > costs[0]


def test_a_calibrated_search_stays_within_its_budget():
    trials = Trials(8, 0)
    plan = calibrate_search(plan_with(), epsilon=2.0, delta=1e-5, trials=trials)
    cost = search_cost(plan, delta=1e-5, trials=trials)
    assert 1.98 < cost.epsilon <= 2.0
    assert plan == dataclasses.replace(plan_with(), noise_multiplier=plan.noise_multiplier)


# Drawing and searching


@pytest.mark.parametrize("trials", [*LAWS, Trials(1.0005, 1.0), Trials(8.0, 1e-4)])
def test_the_number_of_trials_follows_its_law(trials):
    rng, size = np.random.default_rng(1), 4_000
    drawn = np.array([draw_trials(trials, rng) for _ in range(size)])
    if trials.shape < math.inf:
        assert drawn.min() >= 1
    error = drawn.std() / math.sqrt(size)
    assert abs(drawn.mean() - trials.mean) <= 4.5 * error + 1e-9
    for x in (0.3, 0.9):  # the generating function, which the cost rests on
        values = x ** drawn.astype(float)
        error = values.std() / math.sqrt(size)
        assert abs(values.mean() - generating(x, trials)) <= 4.5 * error + 1e-9


def test_a_search_keeps_the_best_and_nothing_else():
    plan, tried = plan_with(noise_multiplier=8.0), []

    def train(rate):
        tried.append(rate)
        return f"weights {len(tried)}", {0.1: float("nan"), 0.2: 2.0, 0.3: -1.0}[rate]

    found = private_search(
        train, [0.1, 0.2, 0.3], plan=plan, delta=1e-5, trials=Trials(30, math.inf), seed=3
    )
    assert found.candidate == 0.2
    assert found.output == f"weights {tried.index(0.2) + 1}"  # the first of equals
    assert found.score == 2.0
    assert found.cost == search_cost(plan, delta=1e-5, trials=Trials(30, math.inf))
    assert set(tried) == {0.1, 0.2, 0.3}
    assert found._fields == ("candidate", "output", "score", "cost")  # no number of trials
    worst = private_search(
        lambda rate: ("weights", float("nan")), [1], plan=plan, delta=1e-5, seed=0
    )
    assert (worst.candidate, worst.score) == (1, -math.inf)


def test_searches_draw_anew_unless_seeded_and_may_find_nothing():
    plan, counts = plan_with(noise_multiplier=8.0), Counter()

    def number(seed, trials):
        tried = []
        private_search(
            lambda each: (tried.append(each), 0.0), [0, 1], plan=plan, delta=1e-5, trials=trials,
            seed=seed,
        )  # fmt: skip
        return tuple(tried)

    assert number(5, Trials(8, 1)) == number(5, Trials(8, 1))
    counts.update(number(None, Trials(8, 1)) for _ in range(8))
    assert len(counts) > 1
    empty = [seed for seed in range(20) if not number(seed, Trials(1, math.inf))]
    none = private_search(
        lambda each: (each, 0.0), [0], plan=plan, delta=1e-5, trials=Trials(1, math.inf),
        seed=empty[0],
    )  # fmt: skip
    assert none[:3] == (None, None, -math.inf)


@pytest.mark.parametrize(
    ("named", "changes"),
    [
        ("trials", {"trials": Trials(0.5, 1)}),
        ("trials", {"trials": Trials(float("nan"), 1)}),
        ("trials", {"trials": Trials(10, -0.5)}),
        ("trials", {"trials": Trials(10, float("nan"))}),
        ("delta", {"delta": 0.0}),
        ("delta", {"delta": float("nan")}),
        ("candidates", {"candidates": []}),
    ],
)
def test_bad_searches_are_refused(named, changes):
    fields = {"candidates": [1], "plan": plan_with(), "delta": 1e-5, "trials": Trials(10, 1)}
    fields |= changes
    called = []
    with pytest.raises(ValueError, match=f"`{named}`"):
        private_search(called.append, fields.pop("candidates"), **fields)
    assert not called


def test_searches_that_no_noise_pays_for_are_refused():
    with pytest.raises(ValueError, match="`epsilon`"):
        calibrate_search(plan_with(), epsilon=float("nan"), delta=1e-5)
    loud = [(SampledGaussian(sampling="poisson", noise_multiplier=0.5, sample_rate=1.0), 1)]
    with pytest.raises(ValueError, match=r"`epsilon`=1\.0 cannot be met"):
        calibrate_search(plan_with(), epsilon=1.0, delta=1e-5, score=loud)


# Plans by rules


@pytest.fixture(scope="module")
def typical():
    return auto_plan(15_519, 3.0, 1e-5, epochs=26.4, parameters=200_000, tokens_per_unit=10)


def test_the_plan_keeps_the_budget_and_spends_the_compute(typical):
    plan = typical.plan
    assert 2.95 < plan.epsilon(1e-5) <= 3.0
    assert plan.expected_batch * plan.steps == pytest.approx(26.4 * 15_519, rel=0.01)
    assert (plan.clipping, plan.clip_norm, plan.dimension) == ("automatic", 1.0, 200_000.0)


def test_the_batch_is_the_smallest_of_nearly_the_least_cumulative_noise(typical):
    cumulative = {}
    for batch, steps, noise, product in typical.choices:
        plan = plan_with(
            noise_multiplier=noise, sample_rate=batch / 15_519, steps=steps, expected_batch=batch
        )
        assert plan.epsilon(1e-5) == pytest.approx(3.0, rel=0.01)  # each is one within the budget
        assert batch * steps == pytest.approx(26.4 * 15_519, rel=0.01)
        assert steps >= 100
        assert product == pytest.approx(noise * math.sqrt(steps))
        cumulative[batch] = product
    least = min(cumulative.values())
    near = [batch for batch, noise in cumulative.items() if noise <= 1.05 * least]
    assert typical.plan.expected_batch == min(near)
    assert min(cumulative) < min(near) < max(cumulative)  # neither end: the rule decides


@pytest.mark.slow
def test_tighter_privacy_takes_smaller_batches(typical):
    tight = auto_plan(15_519, 0.5, 1e-5, epochs=26.4, clip_norm=0.1, unit="utterance")
    assert tight.plan.expected_batch < typical.plan.expected_batch / 2
    assert (tight.plan.clipping, tight.plan.clip_norm, tight.plan.unit) == (
        "flat",
        0.1,
        "utterance",
    )
    assert tight.plan.stddev == pytest.approx(0.1 * tight.plan.noise_multiplier)
    assert "Li et al. 2022" in tight.reasons[2]


def test_every_choice_says_why_and_by_whom(typical):
    text = "\n".join(typical.reasons)
    for part in ("Batch", "Noise multiplier", "Clipping", "Learning rate", "Optimizer", "Size"):
        assert sum(line.startswith(part) for line in typical.reasons) == 1
    for source in ("Rehn", "McKenna", "Bu et al.", "Tang", "our choice"):
        assert source in text
    assert all("\n" not in line for line in typical.reasons)
    assert f"{typical.plan.expected_batch}, {typical.plan.steps} steps" in typical.reasons[0]


@pytest.mark.parametrize(
    ("parameters", "pretrained", "rate"),
    [
        (10_000, False, 3e-2 * math.sqrt(0.5)),
        (100_000_000, False, 2**-8),
        (None, False, 2**-8),
        (10_000, True, 5e-4 * math.sqrt(1.024)),
    ],
)
def test_learning_rates_follow_the_batch_and_the_model(parameters, pretrained, rate):
    found, why = _learning_rate(1_024, parameters, pretrained)
    assert found == pytest.approx(rate)
    assert f"{found:.3g}" in why
    assert _learning_rate(4_096, parameters, pretrained)[0] == pytest.approx(2 * rate)


def test_a_head_on_features_has_the_rate_of_the_preset_whatever_the_batch():
    preset = PRESETS["classify-features"]
    found = auto_plan(1_000, 3.0, 1e-5, epochs=40, features=True)
    assert found.learning_rate == pytest.approx(preset.private.learning_rate)
    assert f"{NORM:g} in `trustml train`" in found.reasons[3]


@pytest.mark.parametrize(("ratio", "advice"), [(10, "below"), (1e4, "within"), (1e7, "above")])
def test_tokens_per_parameter_are_judged(ratio, advice):
    assert advice in _of_size(ratio)


def test_few_units_and_many_epochs_end_in_whole_batches():
    found = auto_plan(50, 8.0, 1e-4, epochs=500, min_steps=40)
    assert found.choices[0][:2] == (50, 500)
    assert all(choice.steps <= 20 * 40 for choice in found.choices)
    assert found == auto_plan(50, 8.0, 1e-4, epochs=500, min_steps=40)


@pytest.mark.parametrize(
    ("named", "changes"),
    [
        ("num_units", {"num_units": 0}),
        ("epsilon", {"epsilon": float("nan")}),
        ("delta", {"delta": 1e-3}),
        ("delta", {"delta": float("nan")}),
        ("epochs", {"epochs": -1.0}),
        ("epochs", {"epochs": 0.05}),
        ("min_steps", {"min_steps": 0}),
    ],
)
def test_bad_budgets_are_refused(named, changes):
    error = ValueError
    with pytest.raises(error, match=f"`{named}`"):
        auto_plan(**{"num_units": 1_000, "epsilon": 1.0, "delta": 1e-5, **changes})


# The command


AUTO = ["plan", "--num-units", "1000", "--epsilon", "3"]


def shown(capsys, *arguments):
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_command_gives_the_plan_of_the_rules_and_their_reasons(capsys):
    found = shown(capsys, *AUTO, "--auto", "--epochs", "10", "--parameters", "500")
    assert found["plan"]["expected_batch"] * found["plan"]["steps"] == 10 * 1000
    assert found["plan"]["dimension"] == 500
    assert found["epsilon"] <= 3.0
    taken = [choice["expected_batch"] for choice in found["auto"]["choices"]]
    assert found["plan"]["expected_batch"] in taken
    assert main([*AUTO, "--auto", "--epochs", "10"]) == 0
    said = capsys.readouterr().out
    assert said.count("(taken)") == 1
    assert said.count("Why: ") == len(found["auto"]["reasons"])


@pytest.mark.slow
def test_the_command_keeps_a_whole_search_within_the_budget(capsys):
    given = ["--batch", "100", "--steps", "50", "--search", "5"]
    found = shown(capsys, *AUTO, *given)
    assert found["epsilon"] < found["search"]["epsilon"] <= 3.0
    assert found["search"]["one_run"] == pytest.approx(found["epsilon"], rel=1e-6)
    fixed = ["--noise-multiplier", f"{found['plan']['noise_multiplier']}"]
    assert main([*AUTO[:3], *fixed, *given, "--search-shape", "inf"]) == 0  # a Poisson law
    said = capsys.readouterr().out
    assert float(said.split("the whole")[1].split()[0]) > 3.0  # costs more for the same noise
    assert "Publish the best trial alone" in said
    assert "One trial by itself:" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([*AUTO, "--auto", "--batch", "10"], "`--batch` cannot go with `--auto`"),
        ([*AUTO, "--auto", "--sampling", "fixed"], "`--sampling` must be poisson with `--auto`"),
        (["plan", "--auto", "--epsilon", "3"], "`--num-units` must be given with `--auto`"),
        ([*AUTO, "--epochs", "3"], "`--epochs` needs `--auto`"),
        ([*AUTO, "--batch", "9", "--steps", "9", "--search-shape", "0"], "needs `--search`"),
        ([*AUTO, "--batch", "9", "--steps", "9", "--search", "0.5"], "`trials` must have a mean"),
        ([*AUTO, "--auto", "--delta", "0.1"], "`delta` must be below 1 / `num_units`"),
    ],
)
def test_the_command_refuses_what_does_not_go_together(arguments, said, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
