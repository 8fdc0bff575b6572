"""Planted errors of a trainer are caught, a correct one passes, and both rows could fail."""

import json

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from trustml.audit.canaries import canary_optimizer
from trustml.audit.canary_scores import canary_records
from trustml.plan import PrivacyPlan
from trustml.verify import CHECKS, bugs, faulty

pytestmark = pytest.mark.slow  # simulations of bugs


@pytest.fixture(scope="module")
def rows():
    """All attacks within one training, and one of those over many, with fewer runs."""
    one = list(bugs.one_training(np.random.default_rng(0)))
    shuffled = [each for each in bugs.experiments() if each.trainer == "shuffles"]
    return [*one, *(bugs.many_runs(each, np.random.default_rng(0), 500) for each in shuffled)]


def test_errors_are_caught_and_correct_trainers_pass(rows):
    assert CHECKS["bugs"] is bugs.bug_checks
    assert [row for row in rows if not row.holds] == []
    assert [row.trainer for row in rows if row.planted] == [
        "no bound on a unit's gradient",
        "bounds the mean of the batch",
        "the same noise in every step",
        "shuffles",
    ]
    assert max(row.audited for row in rows if not row.planted) > 0.2  # not for want of an attack


def test_every_attack_is_tried_on_the_correct_trainer():
    every = bugs.experiments()
    tried = {each.attack for each in every if each.trainer == "correct"}
    assert {each.attack for each in every} == tried
    assert all(each.plan(bugs._CROWD).epsilon(bugs._DELTA_OF_RUNS) < 2.4 for each in every)


def test_the_scores_of_runs_are_those_of_their_sums():
    whole, shuffles = bugs.experiments()[0], bugs.experiments()[-1]
    full, epoch = whole.plan(64), shuffles.plan(64)
    assert whole.score(np.array([-62.0]), full) == 1.0
    assert whole.score(np.array([-63.0]), full) == 0.0
    # Eight batches of eight, by the densities.
    rng, noise = np.random.default_rng(0), epoch.noise_multiplier
    sums = rng.normal(size=8) - 8

    def density(means):
        return np.exp(-((sums - means) ** 2) / (2 * noise**2)).prod()

    having = np.mean([density(2 * np.eye(8)[batch] - 8) for batch in range(8)])
    want = np.log(having / density(np.eye(8)[7] - 8))
    assert shuffles.score(sums, epoch) == pytest.approx(want, rel=1e-9)


def test_rows_can_be_written_as_json(rows):
    text = json.dumps([row._asdict() | {"holds": row.holds} for row in rows])
    assert "NaN" not in text
    assert "Infinity" not in text


def test_a_row_that_says_the_opposite_does_not_hold(rows):
    for row in rows:
        assert not row._replace(planted=not row.planted).holds, row
        assert not row._replace(audited=float("nan")).holds
        assert row.confidence == (0.99 if row.planted else 0.999)


def test_a_correct_trainer_is_not_caught_as_if_it_were_one_with_an_error():
    """What catches an error is the error: with the correct trainer in its place a row fails."""
    result = bugs._trained(faulty.correct, np.random.default_rng(1))
    row = bugs._one_run("no bound on a unit's gradient", "sums", result.total, result)
    assert row.planted
    assert not row.holds


# --- The errors are what they say ---


def plan_for(units, noise_multiplier=2.0):
    return PrivacyPlan(
        clip_norm=0.5,
        noise_multiplier=noise_multiplier,
        sample_rate=0.25,
        steps=8,
        expected_batch=5.0,
        num_units=units,
    )


PLAN = plan_for(20)


def released(make, canaries=2000):
    """What each step adds to coordinates that no unit moves, in bounds: noise alone."""

    def loss(params, unit):
        return params["model"] * unit + 0 * jnp.sum(params["canaries"])

    params = {"model": jnp.zeros(()), "canaries": jnp.zeros(canaries)}
    optimizer = canary_optimizer(optax.sgd(1.0), records=PLAN.steps)
    units = np.ones(PLAN.num_units, np.float32)
    _, state = make(loss, optimizer, PLAN)(params, units, np.random.default_rng(0))
    return canary_records(state, PLAN)


@pytest.mark.parametrize(
    ("make", "multiplier"),
    [
        (faulty.correct, 2.0),
        (faulty.shuffled, 2.0),
        (faulty.no_bound, 2.0),
        (faulty.bounded_mean, 2.0),
        (faulty.half_noise, 1.0),
    ],
)
def test_each_trainer_adds_the_noise_that_it_says(make, multiplier):
    records = released(make)
    error = 5 / np.sqrt(2 * records.size)
    assert records.std() == pytest.approx(multiplier, rel=error)
    assert np.abs(np.corrcoef(records)[0, 1:]).max() < 5 / np.sqrt(records.shape[1])


def test_the_same_noise_is_the_same():
    records = released(faulty.same_noise)
    assert np.abs(records - records[0]).max() < 1e-4
    assert records.std() == pytest.approx(2.0, rel=0.1)


def test_shuffled_draws_deal_every_unit_once_an_epoch():
    plan = plan_for(19)
    draws = list(faulty._shuffled(plan, np.random.default_rng(0)))
    assert [int(np.sum(draw.group == 0)) for draw in draws] == [5, 5, 5, 4] * 2
    assert {draw.plan for draw in draws} == {plan.fingerprint}
    for epoch in (draws[:4], draws[4:]):
        taken = np.concatenate([draw.indices[draw.group == 0] for draw in epoch])
        assert sorted(taken) == list(range(19))


def test_the_divisor_is_what_was_drawn():
    """With next to no noise the mean of equal units is one bound, however many were drawn."""
    plan = plan_for(20, noise_multiplier=1e-6)
    optimizer = canary_optimizer(optax.sgd(1.0), records=plan.steps)
    params = {"model": {}, "canaries": jnp.zeros(1)}
    units = np.full(plan.num_units, -1, np.int32)
    found = {}
    for make in (faulty.drawn_divisor, faulty.correct):
        train = make(bugs._crowd_loss, optimizer, plan)
        _, state = train(params, units, np.random.default_rng(0))
        found[make] = np.asarray(state.records)[:, 0]
    np.testing.assert_allclose(found[faulty.drawn_divisor], -plan.clip_norm, rtol=1e-4)
    assert found[faulty.correct].std() > 0.1 * plan.clip_norm
