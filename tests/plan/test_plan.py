import json
import math

import jax.numpy as jnp
import numpy as np
import pytest

import trustml
from trustml import noise, sampling
from trustml.plan import PrivacyPlan
from trustml.plan.releases import releases

BASE = {
    "clip_norm": 1.0,
    "noise_multiplier": 3.0,
    "sample_rate": 0.1,
    "steps": 512,
    "expected_batch": 100,
}
BUDGET = {
    "epsilon": 3.0,
    "delta": 1e-5,
    "num_units": 13_084,
    "expected_batch": 256,
    "steps": 100,
    "clip_norm": 1.0,
}


def plan(**changes):
    return PrivacyPlan(**{**BASE, **changes})


def fixed(**changes):
    return plan(**{"sampling": "fixed", "adjacency": "replace-one", "accountant": "rdp", **changes})


@pytest.fixture(scope="module")
def calibrated():
    return PrivacyPlan.calibrate(**BUDGET)


def test_epsilon_equals_the_published_value():
    assert plan().epsilon(delta=1e-6) == pytest.approx(3.7697, abs=1e-3)


def test_calibration_meets_the_budget_and_hardly_undershoots(calibrated):
    assert 2.99 < calibrated.epsilon(delta=1e-5) <= 3.0
    assert calibrated.sample_rate == 256 / 13_084
    assert calibrated.delta(epsilon=3.0) <= 1e-5


@pytest.mark.parametrize(
    "options",
    [
        {"sampling": "fixed", "adjacency": "replace-one", "accountant": "rdp"},
        {"sampling": "truncated_poisson"},
        {"accountant": "rdp"},
        {"adjacency": "replace-one"},
        {"clipping": "automatic", "clip_norm": {"a": 1.0, "b": 2.0}},
    ],
)
def test_every_mechanism_can_be_calibrated(options):
    found = PrivacyPlan.calibrate(**{**BUDGET, "epsilon": 0.5, "steps": 20, **options})
    assert 0.49 < found.epsilon(delta=1e-5) <= 0.5


def test_a_part_of_the_run_costs_less(calibrated):
    costs = [calibrated.epsilon(delta=1e-5, steps=steps) for steps in (0, 10, 40, 100)]
    assert costs[0] == 0.0
    assert costs == sorted(costs)
    assert costs[-1] == calibrated.epsilon(delta=1e-5)


def test_remaining_steps_end_where_the_budget_does():
    short = plan(noise_multiplier=6.0, steps=50)
    left = short.remaining_steps(epsilon=1.0, delta=1e-6, done=30)
    assert short.epsilon(delta=1e-6, steps=30 + left) <= 1.0
    assert short.epsilon(delta=1e-6, steps=31 + left) > 1.0
    assert short.remaining_steps(epsilon=0.1, delta=1e-6, done=30) == 0


# --- Overheads ---


def overflow_is_paid(plan, delta):
    """Capacity holds the run up to delta/1000, and epsilon charges for the rest."""
    tau = plan.steps * sampling.overflow_probability(
        plan.num_units + 1, plan.sample_rate, plan.capacity
    )
    fields = {**plan.to_dict(), "overflow_probability": 1e-15, "dimension": 1}
    del fields["capacity"]
    smaller = PrivacyPlan(**fields)
    return tau <= delta / 1000 and plan.delta(epsilon=1.0) - smaller.delta(epsilon=1.0) >= (
        0.99 * (1 + math.e) * tau
    )


def test_capacity_holds_the_run_and_overflow_is_charged(calibrated):
    assert overflow_is_paid(calibrated, 1e-5)
    cramped = plan(capacity=120)
    assert not overflow_is_paid(cramped, 1e-5)
    assert cramped.epsilon(delta=1e-5) == math.inf
    tight = plan(capacity=169)  # overflow takes a fifth of delta
    assert plan().epsilon(delta=1e-6) + 1e-3 < tight.epsilon(delta=1e-6) < 4.0


@pytest.mark.parametrize("epsilon", [8.0, 30.0])
def test_overflow_takes_a_thousandth_of_delta_at_any_epsilon(epsilon):
    found = PrivacyPlan.calibrate(**{**BUDGET, "epsilon": epsilon, "steps": 5, "accountant": "rdp"})
    assert 5 * sampling.overflow_probability(13_085, found.sample_rate, found.capacity) <= (
        1e-8 / (1 + math.exp(epsilon))
    )
    assert found.epsilon(delta=1e-5) <= epsilon


def test_noise_tails_are_charged_by_dimension():
    small, large = plan(dimension=1e6), plan(dimension=1e20)
    extra = large.delta(epsilon=1.0) - small.delta(epsilon=1.0)
    assert extra == pytest.approx(noise.tail_delta(1.0, steps=512, dimension=1e20), rel=1e-3)
    assert plan().delta(epsilon=1.0) - small.delta(epsilon=1.0) < 1e-14


def test_a_neighbour_with_one_unit_more_is_covered():
    added = plan(overflow_probability=1e-9)
    assert 512 * sampling.overflow_probability(1001, 0.1, added.capacity) <= 1e-9
    assert 512 * sampling.overflow_probability(1001, 0.1, added.capacity - 1) > 1e-9


# --- Sampler and accountant cannot disagree ---


@pytest.mark.parametrize("kind", ["poisson", "truncated_poisson", "fixed"])
def test_the_sampler_draws_what_the_accountant_charges(kind):
    each = fixed() if kind == "fixed" else plan(sampling=kind)
    ((charged, count),) = releases(each, each.steps)
    drawn = each.sampler(seed=0)
    assert count == each.steps
    assert drawn.sampling == charged.sampling == kind
    assert drawn.num_units == charged.num_units == 1000
    assert drawn.sample_rate == charged.sample_rate
    assert drawn.capacity == charged.batch_size
    sizes = [(draw.group == 0).sum() for draw in drawn.draws(0, 200)]
    assert abs(np.mean(sizes) - 100) < 5
    assert (np.std(sizes) == 0) == (kind == "fixed")


def test_batches_are_seekable_and_carry_the_plan():
    each = plan(steps=6)
    walked = list(each.batches(seed=1))
    assert [draw.step for draw in walked] == list(range(6))
    assert {draw.plan for draw in walked} == {each.fingerprint}
    resumed = list(each.batches(start=4, seed=1))
    np.testing.assert_array_equal(resumed[1].indices, walked[5].indices)
    step, indices, group = walked[0]
    assert step == 0
    assert indices.shape == group.shape == (each.capacity,)


def test_unseeded_batches_are_secret():
    first, second = (next(plan().batches()) for _ in range(2))
    assert not np.array_equal(first.indices, second.indices)
    kept = plan().sampler()
    np.testing.assert_array_equal(
        next(plan().batches(seed=kept.secret)).indices, kept.draw(0).indices
    )


# --- Bounds ---


def test_per_layer_bounds_add_in_squares():
    layered = plan(clip_norm={"a": 3.0, "b": {"c": 4.0}})
    assert layered.sensitivity == 5.0
    assert layered.stddev == 15.0
    assert layered.epsilon(delta=1e-6) == plan().epsilon(delta=1e-6)


def test_the_bound_agrees_with_the_clipped_gradient():
    layered = {"a": 3.0, "b": 4.0}
    grad = trustml.clipped_grad(lambda p, x: jnp.sum(p["a"] * x), clip_norm=layered)
    assert plan(clip_norm=layered).sensitivity == grad.sensitivity


# --- Words ---


def test_the_statement_says_what_is_promised():
    words = plan(unit="utterance").statement(delta=1e-6)
    for part in (
        "(3.7697, 1e-06)-differential privacy",
        "adding or removing one utterance",
        "one utterance, of 1000",
        "Poisson sampling at rate 0.1",
        "PLD",
        "real-number arithmetic",
        "lattice",
        "Covers: the trained weights",
        "Not covered: losses, norms and other metrics",
        "Void if",
        "added to this one",
    ):
        assert part in words, part
    assert "Reproducible" not in words
    seeded = plan().statement(delta=1e-6, reproducible=True)
    assert "Who knows or guesses the seed" in seeded


def test_a_printed_epsilon_is_never_rounded_down():
    words = plan().statement(delta=1e-6)
    printed = float(words.split("(")[1].split(",")[0])
    assert printed >= plan().epsilon(delta=1e-6)


def test_the_statement_names_other_mechanisms():
    words = fixed(steps=10).statement(delta=1e-6)
    assert "replacing one example by another" in words
    assert "100 drawn without replacement" in words
    assert "truncated to" in plan(sampling="truncated_poisson").statement(delta=1e-6)
    assert "no differential privacy" in plan(noise_multiplier=0.0).statement(delta=1e-6)


def test_plans_survive_json_and_fingerprints_tell_them_apart(calibrated):
    for each in (calibrated, plan(clip_norm={"a": 1.0, "b": 2.0}), fixed()):
        again = PrivacyPlan.from_dict(json.loads(json.dumps(each.to_dict())))
        assert again == each
        assert again.fingerprint == each.fingerprint
    assert plan().fingerprint != plan(steps=511).fingerprint


def test_unknown_and_missing_fields_are_refused():
    with pytest.raises(
        ValueError, match=r"`fields` must name fields of PrivacyPlan, got \['sigma'\]"
    ):
        PrivacyPlan.from_dict({**BASE, "sigma": 1.0})
    with pytest.raises(ValueError, match=r"`fields` must hold every field"):
        PrivacyPlan.from_dict({"clip_norm": 1.0})


def test_plans_are_frozen():
    with pytest.raises(AttributeError):
        plan().noise_multiplier = 0.1


# --- Messages ---


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("clip_norm", 0.0),
        ("clip_norm", math.inf),
        ("clip_norm", math.nan),
        ("clip_norm", {"a": 1.0, "b": -1.0}),
        ("noise_multiplier", -1.0),
        ("noise_multiplier", math.nan),
        ("noise_multiplier", math.inf),
        ("sample_rate", 0.0),
        ("sample_rate", math.nan),
        ("sample_rate", 1.5),
        ("steps", 0),
        ("expected_batch", 0),
        ("expected_batch", math.nan),
        ("expected_batch", 300),
        ("num_units", 5000),
        ("capacity", 0),
        ("capacity", 1002),
        ("overflow_probability", 0.0),
        ("overflow_probability", math.nan),
        ("dimension", -1),
        ("clipping", "none"),
        ("sampling", "shuffle"),
        ("adjacency", "zero-out"),
        ("accountant", "prv"),
    ],
)
def test_messages_name_the_argument(name, value):
    changes = {"num_units": 1000, name: value}
    blamed = "expected_batch" if name == "num_units" else name
    with pytest.raises(ValueError, match=f"`{blamed}`"):
        plan(**changes)


@pytest.mark.kinds
@pytest.mark.parametrize(
    ("name", "value"), [("steps", 1.5), ("steps", True), ("num_units", 10.0), ("clip_norm", "1")]
)
def test_kinds_are_checked(name, value):
    with pytest.raises(TypeError, match=f"`{name}` must be"):
        plan(**{name: value})


def test_unsupported_combinations_are_refused_by_name():
    with pytest.raises(ValueError, match=r"`accountant`='pld' cannot account `sampling`='fixed'"):
        fixed(accountant="pld")
    with pytest.raises(ValueError, match=r"`sample_rate` must be a whole batch"):
        fixed(sample_rate=0.1003)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epsilon", 0.0),
        ("epsilon", math.nan),
        ("delta", 0.0),
        ("delta", math.nan),
        ("expected_batch", 20_000),
        ("num_units", 0),
        ("steps", 0),
    ],
)
def test_calibration_names_what_is_wrong(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must"):
        PrivacyPlan.calibrate(**{**BUDGET, name: value})


def test_calibration_refuses_what_it_decides_itself():
    with pytest.raises(ValueError, match=r"`noise_multiplier` and `sample_rate` follow"):
        PrivacyPlan.calibrate(**BUDGET, noise_multiplier=1.0)


def test_a_budget_that_overheads_exhaust_names_the_way_out():
    with pytest.raises(ValueError, match=r"`delta`=1e-05 cannot be met .* Use fewer steps"):
        PrivacyPlan.calibrate(**BUDGET, dimension=1e30)


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("delta", lambda p: p.epsilon(delta=math.nan)),
        ("steps", lambda p: p.epsilon(delta=1e-6, steps=-1)),
        ("epsilon", lambda p: p.delta(epsilon=-1.0)),
        ("start", lambda p: p.batches(start=513)),
    ],
)
def test_questions_are_checked(argument, call):
    with pytest.raises(ValueError, match=f"`{argument}` must"):
        call(plan())


@pytest.mark.parametrize(
    ("sampling", "adjacency", "accountant"),
    [("poisson", "add-or-remove-one", "pld"), ("fixed", "replace-one", "rdp")],
)
def test_without_noise_nothing_is_promised(sampling, adjacency, accountant):
    silent = trustml.PrivacyPlan(
        clip_norm=1.0,
        noise_multiplier=0.0,
        sample_rate=0.1,
        steps=4,
        expected_batch=10,
        sampling=sampling,
        adjacency=adjacency,
        accountant=accountant,
    )
    assert silent.epsilon(delta=1e-5) == float("inf")
    assert silent.delta(epsilon=1.0) == 1.0
    assert "no differential privacy" in silent.statement(delta=1e-5)
