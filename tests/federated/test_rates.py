"""Rates of selection by activity, thinning to them, and what they cost."""

import math
import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import binomtest

import trustml
from trustml.federated.execution import Coins
from trustml.federated.rates import inclusion_rates, price
from trustml.federated.selection import log, power, proportional, top, uniform
from trustml.noise import key_from_seed
from trustml.sampling import Draw

ACTIVITY = np.array([1, 1, 2, 4, 40])


def plan(rate, clients, *, steps=100, **changes):
    fields = {"clip_norm": 1.0, "noise_multiplier": 1.0, "accountant": "rdp", "unit": "user"}
    sizes = {"sample_rate": rate, "expected_batch": rate * clients, "num_units": clients}
    return trustml.PrivacyPlan(**{**fields, **sizes, "steps": steps, **changes})


@pytest.mark.parametrize("expected", [0.5, 1.0, 2.0, 3.5, 5.0])
@pytest.mark.parametrize("selection", [uniform(), proportional(), log(), power(2)], ids=str)
def test_rates_add_up_are_capped_and_keep_the_order_of_the_weights(selection, expected):
    rates = inclusion_rates(selection, ACTIVITY, expected)
    assert rates.sum() == pytest.approx(expected)
    assert rates.min() > 0
    assert rates.max() <= 1
    free = rates < 1
    ratio = rates[free] / selection.weights(ACTIVITY)[free]
    np.testing.assert_allclose(ratio, ratio.mean() if free.any() else 1, rtol=1e-9)
    assert (np.diff(rates) >= 0).all()


def test_what_is_above_one_is_shared_again():
    # 40 of 48 takes 2.5 of 3: capped at 1. Then 4 of 8 takes exactly 1, the rest a quarter each.
    rates = inclusion_rates(proportional(), ACTIVITY, 3.0)
    np.testing.assert_allclose(rates, [0.25, 0.25, 0.5, 1.0, 1.0], rtol=1e-12)
    assert inclusion_rates(proportional(), [0, 1, 3], 1.0).tolist() == [0, 0.25, 0.75]


class State(NamedTuple):
    """What coins are made of."""

    key: Any
    step: Any


@jax.jit
def _kept(coins, key, step, places):
    return coins.kept(State(key, step), places)


def thin(draw, rates, most, seed):
    """The draw as a step leaves it: -1 for clients that do not stay."""
    coins = Coins(*map(jnp.asarray, Coins.of_rates(rates, most, len(rates))))
    key, places = key_from_seed(seed), np.maximum(draw.indices, 0)
    kept = np.asarray(_kept(coins, key, jnp.int32(draw.step), places))
    return Draw(draw.step, draw.indices, np.where(kept, draw.group, -1).astype(np.int32))


def draws(rates, most, steps, thinner):
    """How often each client stays over `steps` steps of a plan, thinned by `thinner`."""
    sampler = plan(most, len(rates), steps=steps).sampler(seed=5)
    found = np.zeros(len(rates))
    for step in range(steps):
        kept = thinner(sampler.draw(step))
        found[kept.indices[kept.group == 0]] += 1
    return found


def consistent(found, rates, steps):
    """Whether every count passes a binomial test, at one in a thousand for all together."""
    tests = [
        binomtest(int(count), steps, rate).pvalue for count, rate in zip(found, rates, strict=True)
    ]
    return min(tests) > 1e-3 / len(rates)


RATES = inclusion_rates(proportional(), np.array([1, 2, 3, 6, 8, 20]), 1.5)


def test_thinned_draws_are_poisson_at_each_clients_own_rate():
    found = draws(RATES, RATES.max(), 4000, lambda draw: thin(draw, RATES, RATES.max(), seed=7))
    assert consistent(found, RATES, 4000)


def test_a_thinning_that_depends_on_who_else_was_drawn_is_caught():
    """Coins by the place in the draw, and only as many stay as are expected: a planted bug."""

    def by_batch(draw):
        kept = thin(draw, RATES, RATES.max(), seed=7)
        late = np.cumsum(kept.group == 0) > 1
        return Draw(draw.step, draw.indices, np.where(late, -1, kept.group).astype(np.int32))

    assert not consistent(draws(RATES, RATES.max(), 4000, by_batch), RATES, 4000)


def test_a_coin_depends_on_seed_step_and_client_alone():
    rates, clients = np.full(200, 0.3), np.arange(200, dtype=np.int32)
    whole = thin(Draw(4, clients, np.zeros(200, np.int32)), rates, 0.6, seed=3)
    stays = dict(zip(clients.tolist(), whole.group.tolist(), strict=True))
    rng = np.random.default_rng(0)
    for size in (1, 7, 150):
        some = rng.permutation(clients)[:size]
        thinned = thin(Draw(4, some, np.zeros(size, np.int32)), rates, 0.6, seed=3)
        assert thinned.group.tolist() == [stays[client] for client in some.tolist()]
    others = [
        thin(Draw(step, clients, np.zeros(200, np.int32)), rates, 0.6, seed=seed).group
        for step, seed in ((5, 3), (4, 8))
    ]
    assert all((other != whole.group).any() for other in others)


def test_two_steps_and_two_clients_are_independent():
    """Pairs of coins, as a table of two by two: rates of one half give quarters."""
    rates, clients = np.full(2, 0.5), np.arange(2, dtype=np.int32)
    groups = [
        thin(Draw(k, clients, np.zeros(2, np.int32)), rates, 1.0, 1).group for k in range(4000)
    ]
    stays = np.array(groups) == 0
    pairs = [(stays[:, 0] & stays[:, 1]).mean(), (stays[1:, 0] & stays[:-1, 0]).mean()]
    np.testing.assert_allclose(pairs, 0.25, atol=5 * math.sqrt(3 / 16 / 4000))


def test_padding_stays_padding_and_everyone_at_the_largest_rate_stays():
    chosen = plan(0.5, 40)
    draw = next(chosen.batches(seed=1))
    kept = thin(draw, np.full(40, 0.5), 0.5, seed=2)
    np.testing.assert_array_equal(kept.group, draw.group)  # everyone at the largest rate stays
    assert (thin(draw, np.zeros(40), 0.5, seed=2).group == -1).all()


def test_a_price_is_what_the_accountant_says_of_each_rate():
    rates = np.array([0.0, 0.05, 0.05, 0.2])
    found = price(plan(0.2, 4), rates, delta=1e-3)
    assert found.rates.tolist() == [0.0, 0.05, 0.2]
    assert found.clients.tolist() == [1, 2, 1]
    assert found.own[0] == 0.0
    alone = plan(0.05, 4, expected_batch=0.2).epsilon(1e-3)
    assert found.own[1] == pytest.approx(alone, rel=1e-6)
    assert found.own[2] == found.claimed == plan(0.2, 4).epsilon(1e-3)
    even = plan(0.075, 4, expected_batch=0.3).epsilon(1e-3)
    assert found.uniform == pytest.approx(even, rel=1e-6)


def test_many_rates_are_rounded_up_to_levels():
    rates = np.linspace(0.01, 0.2, 500)
    found = price(plan(0.2, 500), rates, delta=1e-3)
    assert len(found.rates) == 16
    assert found.clients.sum() == 500
    level = found.rates[np.searchsorted(found.rates, rates)]
    assert (level >= rates).all()
    np.testing.assert_array_equal(
        found.clients, np.bincount(np.searchsorted(found.rates, rates), minlength=16)
    )
    assert (np.diff(found.own) > 0).all()


@pytest.mark.skipif("TRUSTML_DATA" not in os.environ, reason="needs TRUSTML_DATA: real roles")
def test_the_price_on_shakespeares_roles_is_that_of_the_reference():
    """Multiplier 1, 100 rounds, delta 1e-3, 20 of 727 roles, by RDP; activity in characters.

    The reference measured 1.46, 2.14, 7.1 and 24.6 on its own cut of each role's text.
    """
    from trustml.data import load

    splits = load("shakespeare_roles")
    activity = []
    for part in (splits.train, splits.valid, splits.test):
        owner = np.unique(np.array(part.owners), return_inverse=True)[1]
        activity.append(np.bincount(owner, weights=[len(row.text) for row in part.rows]))
    activity = np.concatenate(activity)
    assert len(activity) == 727
    measured = {uniform(): 1.46, log(): 2.14, power(0.5): 7.1, proportional(): 24.6}
    for selection, epsilon in measured.items():
        rates = inclusion_rates(selection, activity, 20)
        # At epsilon 24.6 an overflowing draw costs e^24.6 times its probability in delta.
        largest = plan(rates.max(), 727, overflow_probability=1e-18)
        found = price(largest, rates[[rates.argmax()]], delta=1e-3)
        assert found.claimed == pytest.approx(epsilon, rel=0.04)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: inclusion_rates(top(2), ACTIVITY, 1), "`selection` must give .* got top:2: who"),
        (lambda: inclusion_rates(log(), ACTIVITY, 6), "`expected` must be at most the 5 clients"),
        (lambda: inclusion_rates(log(), [0, 2], 2), "at most the 1 clients that log can draw"),
        (lambda: inclusion_rates(log(), ACTIVITY, 0), "`expected` must be finite and above 0"),
        (
            lambda: price(plan(0.2, 5), np.array([0.3]), 1e-3),
            r"0 to `plan.sample_rate` \(0.2\), got 0.3",
        ),
        (lambda: price(plan(0.2, 5), np.array([math.nan]), 1e-3), "got nan for client 0"),
        (lambda: price(plan(0.2, 5), np.array([]), 1e-3), "`rates` must be a vector"),
        (
            lambda: price(
                plan(0.2, 5, sampling="cyclic_poisson", cycle_length=2), np.array([0.1]), 1e-3
            ),
            "`plan` must have `sampling`='poisson'.* got 'cyclic_poisson'",
        ),
    ],
)
def test_messages_name_the_argument_and_the_value(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def draw_of(client):
    return Draw(0, np.array([client], np.int32), np.zeros(1, np.int32))
