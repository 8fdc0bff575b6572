"""Rounds under a plan: the bounded sum plus the plan's noise, and never a round more."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import trustml
from trustml.accounting.gaussian import gaussian_delta, gaussian_multiplier
from trustml.federated import (
    Clients,
    FederatedStep,
    Schedule,
    fedavg,
    fedper,
    locally_private,
    median,
    rounds,
    scaffold,
)
from trustml.federated.selection import proportional
from trustml.noise import key_from_seed
from trustml.sampling import Draw

USERS = 6


def loss(w, row):
    return 0.5 * jnp.sum((w - row) ** 2)


ROWS = np.random.default_rng(0).normal(size=(18, 3)).astype(np.float32) + 2
CLIENTS = Clients.from_arrays(ROWS, np.repeat(np.arange(USERS), [1, 2, 3, 3, 4, 5]))
ALGORITHM = fedavg(loss, optax.sgd(0.3), batch_size=2, weights="clients")
START = jnp.zeros(3)


def plan(**changes):
    fields = {"clip_norm": 0.5, "noise_multiplier": 0.5, "sample_rate": 0.8, "steps": 3}
    given = {**fields, "unit": "user", "num_units": USERS, **changes}
    expected = round(given["sample_rate"] * given["num_units"])
    return trustml.PrivacyPlan(expected_batch=expected, **given)


def deltas():
    """What each client changes, from rounds in which it alone takes part."""
    schedule = Schedule(steps=1, clients_per_round=USERS, activity=CLIENTS.counts)
    step = FederatedStep(ALGORITHM, schedule, CLIENTS, clients_at_once=1)
    everyone = schedule.drawn(b"0" * 32, 0)
    found = []
    for client in range(USERS):
        group = np.where(everyone.indices == client, 0, -1).astype(np.int32)
        alone = Draw(0, everyone.indices, group)
        alone.plan = everyone.plan
        state, _ = step.update(step.init(START, key=0), alone, CLIENTS)
        found.append(np.asarray(state.params, np.float64))
    return np.stack(found)


def noiseless(**options):
    chosen = plan(noise_multiplier=0.0, sample_rate=1.0, clip_norm=0.5)
    step = FederatedStep(ALGORITHM, chosen, CLIENTS, clients_at_once=1, **options)
    draw = next(chosen.batches(seed=0))
    return step, draw


def test_each_delta_is_bounded_and_the_sum_divided_by_a_public_number():
    step, draw = noiseless()
    state, metrics = step.update(step.init(START, key=0), draw, CLIENTS)
    alone = deltas()
    norms = np.linalg.norm(alone, axis=1, keepdims=True)
    expected = (alone * np.minimum(1, 0.5 / norms)).sum(0) / 6
    np.testing.assert_allclose(state.params, expected, atol=1e-6)
    assert float(metrics.norm) == pytest.approx(norms.mean(), rel=1e-5)
    assert float(metrics.clipped) == pytest.approx((norms > 0.5).mean())


def test_one_client_more_moves_the_sum_by_at_most_the_bound():
    step, draw = noiseless(rows_at_full_weight=1)
    whole, _ = step.update(step.init(START, key=0), draw, CLIENTS)
    whole = np.asarray(whole.params, np.float64)
    for client in range(USERS):
        without = Draw(0, draw.indices, np.where(draw.indices == client, -1, 0).astype(np.int32))
        without.plan = draw.plan
        state, _ = step.update(step.init(START, key=0), without, CLIENTS)
        moved = 6 * np.linalg.norm(whole - np.asarray(state.params, np.float64))
        assert 0 < moved <= 0.5 * (1 + 1e-5)


def test_weights_by_rows_are_inside_the_bound():
    step, draw = noiseless(rows_at_full_weight=4)
    state, _ = step.update(step.init(START, key=0), draw, CLIENTS)
    weighted = deltas() * np.minimum(CLIENTS.counts / 4, 1)[:, None]
    norms = np.linalg.norm(weighted, axis=1, keepdims=True)
    expected = (weighted * np.minimum(1, 0.5 / norms)).sum(0) / 6
    np.testing.assert_allclose(state.params, expected, atol=1e-6)


def test_noise_is_that_of_the_plan():
    quiet, draw = noiseless()
    chosen = plan(sample_rate=1.0)
    loud = FederatedStep(ALGORITHM, chosen, CLIENTS, clients_at_once=1)
    without, _ = quiet.update(quiet.init(START, key=5), draw, CLIENTS)
    with_noise, _ = loud.update(loud.init(START, key=5), next(chosen.batches(seed=0)), CLIENTS)
    noise = trustml.noise.gaussian_like(START, key_from_seed(5), jnp.int32(0))
    np.testing.assert_allclose(with_noise.params, without.params + 0.5 * 0.5 * noise / 6, atol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"clip_quantile": 0.5, "noise_multiplier": 1.0},
        {"noise": "banded", "sampling": "cyclic_poisson", "sample_rate": 0.5},
    ],
)
def test_bounds_that_adapt_and_correlated_noise_run_in_rounds(changes):
    crowd = Clients.from_arrays(np.tile(ROWS, (4, 1)), np.repeat(np.arange(24), 3))
    chosen = plan(steps=4, num_units=24, **changes)
    found = list(rounds(ALGORITHM, crowd, START, plan=chosen, seed=0, clients_at_once=1))
    assert len(found) == 4
    assert np.isfinite(np.asarray(found[-1].params)).all()
    if chosen.clip_quantile is not None:
        assert float(found[-1].state.mechanism.clip) != 0.5


def test_no_round_goes_beyond_the_plan():
    chosen = plan()
    step = FederatedStep(ALGORITHM, chosen, CLIENTS, clients_at_once=1)
    state = step.init(START, key=0)
    for draw in chosen.batches(seed=0):
        state, _ = step.update(state, draw, CLIENTS)
    again = Draw(3, draw.indices, draw.group)
    again.plan = draw.plan
    with pytest.raises(ValueError, match="must be one of the plan's 3 steps"):
        step.update(state, again, CLIENTS)
    other = next(plan(steps=4).batches(seed=0))
    with pytest.raises(ValueError, match="`batches\\(\\)` of the step's own plan"):
        step.update(step.init(START, key=0), other, CLIENTS)


def test_clients_stay_at_their_own_rates():
    rates = np.array([0.8, 0.4, 0.2, 0.0, 0.6, 0.1])
    many = Clients.from_arrays(np.zeros((6, 1), np.float32), np.arange(6))
    chosen = plan(steps=600, noise_multiplier=0.0, clip_norm=1.0)

    step = FederatedStep(ALGORITHM, chosen, many, rates=rates)
    state, places = step.init(jnp.zeros(1), key=3), jnp.arange(6)
    coins = jax.jit(jax.vmap(lambda at: step._coins.kept(state._replace(step=at), places)))(
        jnp.arange(4000)
    )
    found = np.asarray(coins).mean(0)
    spread = np.sqrt(rates / 0.8 * (1 - rates / 0.8) / 4000)
    assert (np.abs(found - rates / 0.8) <= 5 * spread).all()
    assert found[0] == 1.0
    assert found[3] == 0.0
    fewer = np.asarray(coins)[:, [2, 4]]
    assert abs(np.corrcoef(fewer.T)[0, 1]) < 0.08  # coins of two clients are unrelated


def test_a_client_that_is_left_out_adds_nothing():
    step, draw = noiseless(rates=np.array([1.0, 1.0, 0.0, 1.0, 1.0, 1.0]))
    state, metrics = step.update(step.init(START, key=0), draw, CLIENTS)
    alone = np.delete(deltas(), 2, axis=0)
    norms = np.linalg.norm(alone, axis=1, keepdims=True)
    expected = (alone * np.minimum(1, 0.5 / norms)).sum(0) / 5  # as many answer on average
    np.testing.assert_allclose(state.params, expected, atol=1e-6)
    assert int(metrics.batch_size) == 5


def test_a_run_in_a_folder_goes_on_to_the_same_bits(tmp_path):
    for name, chosen in {
        "private": plan(steps=6),
        "open": Schedule(steps=6, clients_per_round=3, activity=CLIENTS.counts),
    }.items():
        whole = _fit(chosen, tmp_path / f"{name}-whole")
        calls = []

        def stop(event, calls=calls):
            calls.append(event.step)
            if len(calls) == 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            _fit(chosen, tmp_path / name, callbacks=[stop])
        again = _fit(chosen, tmp_path / name, resume=True)
        np.testing.assert_array_equal(again.params, whole.params)
        assert again.charged == whole.charged == 6
        assert calls == [1, 2, 3]


def test_a_run_in_a_folder_wants_a_number_of_clients_at_once(tmp_path):
    step = FederatedStep(ALGORITHM, plan(), CLIENTS)
    with pytest.raises(ValueError, match="`clients_at_once` must be a number before a run"):
        trustml.fit(step, START, CLIENTS, out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def _fit(chosen, out, **options):
    step = FederatedStep(ALGORITHM, chosen, CLIENTS, clients_at_once=1)
    return trustml.fit(
        step, START, CLIENTS, out=out, seed=4, progress=False, checkpoint_every=0.0, **options
    )


MESH = """
import json, sys
import jax, numpy as np, optax
from tests.federated.test_private_rounds import ALGORITHM, CLIENTS, START, plan
from trustml.federated import FederatedStep, Schedule, scaffold
from tests.federated.test_private_rounds import loss
from trustml.sampling import Draw
found = {}
for devices in (1, 2, 4):
    mesh = jax.make_mesh((devices,), ("data",), devices=jax.devices()[:devices])
    for name, algorithm, chosen in (
        ("private", ALGORITHM, plan()),
        ("open", ALGORITHM, Schedule(steps=3, clients_per_round=5, activity=CLIENTS.counts)),
        ("kept", scaffold(loss, 0.1, batch_size=2),
         Schedule(steps=3, clients_per_round=5, activity=CLIENTS.counts)),
    ):
        step = FederatedStep(algorithm, chosen, CLIENTS, clients_at_once=1, mesh=mesh)
        state = step.init(START, key=1)
        for draw in chosen.batches(seed=2):
            state, metrics = step.update(state, draw, CLIENTS)
        found[f"{name} {devices}"] = np.asarray(state.params).tolist() + [float(metrics.loss)]
    everyone = Schedule(steps=1, clients_per_round=6, activity=CLIENTS.counts)
    for client in range(6):
        step = FederatedStep(ALGORITHM, everyone, CLIENTS, clients_at_once=1, mesh=mesh)
        drawn = everyone.drawn(b"0" * 32, 0)
        alone = Draw(0, drawn.indices, np.where(drawn.indices == client, 0, -1).astype(np.int32))
        alone.plan = drawn.plan
        state, _ = step.update(step.init(START, key=1), alone, CLIENTS)
        found[f"client {client} {devices}"] = np.asarray(state.params).tolist()
print(json.dumps(found))
"""


@pytest.mark.slow
def test_devices_share_the_clients_of_a_round():
    flags = "--xla_force_host_platform_device_count=4"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", MESH],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(root)},
        cwd=root,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    for name in ("private", "open", "kept"):
        for devices in (2, 4):
            np.testing.assert_allclose(found[f"{name} {devices}"], found[f"{name} 1"], rtol=2e-6)
    for client in range(6):  # what a client answers is the same to the bit
        assert found[f"client {client} 1"] == found[f"client {client} 2"]
        assert found[f"client {client} 1"] == found[f"client {client} 4"]


def test_rounds_with_a_plan_are_secret_unless_a_seed_is_given():
    chosen = plan(steps=1)
    first, second = (
        next(rounds(ALGORITHM, CLIENTS, START, plan=chosen, clients_at_once=1)) for _ in range(2)
    )
    assert (np.asarray(first.params) != np.asarray(second.params)).all()


def test_who_is_left_out_is_not_computed():
    """A step of 1,000 drawn clients of whom few stay costs what few clients cost."""
    traces = []

    def loud(w, row):
        jax.debug.callback(lambda: traces.append(1))
        return loss(w, row)

    many = Clients.from_arrays(np.tile(ROWS, (8, 1)), np.arange(144))
    rates = np.where(np.arange(144) % 36 == 0, 1.0, 0.0)
    chosen = plan(num_units=144, sample_rate=1.0, noise_multiplier=0.0)
    algorithm = fedavg(loud, optax.sgd(0.3), batch_size=1)
    step = FederatedStep(algorithm, chosen, many, rates=rates, clients_at_once=1)
    draw = next(chosen.batches(seed=0))
    _, metrics = step.update(step.init(START, key=0), draw, many)
    jax.effects_barrier()
    assert int(metrics.batch_size) == 4
    assert len(traces) <= 12


def test_the_program_knows_how_cohorts_are_made():
    schedule = Schedule(steps=1, clients_per_round=3, activity=CLIENTS.counts)
    found = set()
    for chosen, how in (
        (schedule, {}),
        (schedule, {"seed": 1}),
        (plan(), {}),
        (plan(), {"rows_at_full_weight": 3}),
        (plan(), {"rates": np.full(USERS, 0.2)}),
        (plan(), {"rates": np.full(USERS, 0.3)}),
    ):
        step = FederatedStep(ALGORITHM, chosen, CLIENTS, clients_at_once=1, **how)
        found.add(step.program(step.init(START, key=0), CLIENTS))
    assert len(found) == 6


def test_noise_of_the_clients_own_hides_twice_the_bound():
    many = Clients.from_arrays(np.ones((400, 1), np.float32) * 5, np.arange(400))
    epsilon, rounds_of_all = 4.0, 3
    algorithm = locally_private(
        ALGORITHM, epsilon=epsilon, delta=1e-5, clip_norm=0.5, rounds=rounds_of_all
    )
    # The change of each client is bounded to 0.5; what is left is noise, seen in the spread of
    # rounds of one client each.
    found = rounds(algorithm, many, jnp.zeros(1), number=300, clients_per_round=1, seed=2)
    params = np.array([0.0, *(float(one.params[0]) for one in found)])
    spread = np.diff(params).std()
    multiplier = spread / (2 * 0.5) / np.sqrt(rounds_of_all)
    assert multiplier == pytest.approx(gaussian_multiplier(epsilon, 1e-5), rel=0.15)


def test_the_analytic_curve_agrees_with_that_of_privacy_losses():
    from dp_accounting.pld import privacy_loss_distribution as pld

    for multiplier, epsilon in ((0.7, 2.0), (1.0, 1.0), (4.0, 0.5)):
        curve = pld.from_gaussian_mechanism(multiplier, value_discretization_interval=1e-4)
        exact = gaussian_delta(multiplier, epsilon)
        assert curve.get_delta_for_epsilon(epsilon) == pytest.approx(exact, rel=1e-3)
    for number in (1, 16):
        found = gaussian_multiplier(1.0, 1e-5, number)
        assert gaussian_delta(found / number**0.5, 1.0) == pytest.approx(1e-5, rel=1e-5)
        assert gaussian_delta(found / number**0.5, 1.0) <= 1e-5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: FederatedStep(scaffold(loss, 0.1), plan(), CLIENTS),
            "`algorithm` must send the change of the parameters alone",
        ),
        (
            lambda: FederatedStep(
                fedper(loss, optax.sgd(0.1), shared=lambda name: True), plan(), CLIENTS
            ),
            "`algorithm` must keep no state at the clients",
        ),
        (
            lambda: FederatedStep(ALGORITHM, plan(num_units=7), CLIENTS),
            "`plan` must be of 6 clients, as `clients` holds, got one of 7",
        ),
        (
            lambda: FederatedStep(ALGORITHM, plan(), CLIENTS, rates=np.full(6, 0.9)),
            "the plan covers no client that takes part more often",
        ),
        (
            lambda: next(rounds(ALGORITHM, CLIENTS, START, plan=plan(), selection=proportional())),
            "`selection` must be None with a plan, got proportional",
        ),
        (
            lambda: FederatedStep(
                dataclasses.replace(ALGORITHM, combine=median()), plan(), CLIENTS
            ),
            "`algorithm` must send the change of the parameters alone",
        ),
        (
            lambda: next(rounds(ALGORITHM, CLIENTS, START, plan=plan(), number=3)),
            "must be None with a plan, which holds both, got 3",
        ),
    ],
)
def test_messages_name_what_a_plan_does_not_cover(call, message):
    with pytest.raises((ValueError, TypeError, AttributeError), match=message):
        call()
