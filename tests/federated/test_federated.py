import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import trustml
from trustml.federated import (
    Clients,
    LocalTraining,
    drop_out,
    federated_step,
    private_federated_step,
    split_by_user,
)

USERS, DIM, BATCH = 5, 3, 4


def loss(params, row):
    return 0.5 * (jnp.dot(row["x"], params["w"]) + params["b"] - row["y"]) ** 2


def params():
    return {"w": jnp.array([0.3, -0.1, 0.2]), "b": jnp.zeros(())}


def arrays(seed=0):
    """Users 0 to 4 with 1 to 9 rows, shuffled among each other."""
    rng = np.random.default_rng(seed)
    user = rng.permutation(np.repeat(np.arange(USERS), [9, 1, 4, 6, 3]))
    x = rng.normal(size=(len(user), DIM)).astype(np.float32)
    y = (x @ np.array([1.0, -2.0, 0.5], np.float32) + user * 0.1).astype(np.float32)
    return {"x": x, "y": y, "user": user.astype(np.int32)}


def trained(w, x, y, *, rate, epochs):
    """One client's momentum SGD in plain float64: w holds the bias last."""
    w, speed = w.copy(), np.zeros_like(w)
    x = np.hstack([x, np.ones((len(x), 1))]).astype(np.float64)
    for _ in range(epochs):
        for start in range(0, len(x), BATCH):
            rows, targets = x[start : start + BATCH], y[start : start + BATCH]
            gradient = rows.T @ (rows @ w - targets) / len(rows)
            speed = 0.9 * speed + gradient
            w -= rate * speed
    return w


def oracle_deltas(found, epochs):
    start = np.append(np.asarray(params()["w"], np.float64), 0.0)
    rows = [(found["x"][found["user"] == k], found["y"][found["user"] == k]) for k in range(USERS)]
    return [trained(start, x, y, rate=0.05, epochs=epochs) - start for x, y in rows]


def flat(tree):
    return np.append(np.asarray(tree["w"], np.float64), float(tree["b"]))


CLIENT = optax.sgd(0.05, momentum=0.9)
LOCAL = LocalTraining(loss, CLIENT, batch_size=BATCH)


def test_a_round_is_a_plain_loop_over_clients():
    clients = split_by_user(arrays(), max_rows=11)  # 11 is no multiple of the batch
    local = LocalTraining(loss, CLIENT, batch_size=BATCH, epochs=2)
    step = federated_step(local, optax.sgd(0.5), expected_clients=4.0)
    group = np.array([0, 0, -1, 0, 0])
    state, metrics = step.update(step.init(params()), clients, group)
    deltas = oracle_deltas(arrays(), epochs=2)
    mean = sum(delta for k, delta in enumerate(deltas) if k != 2) / 4.0
    np.testing.assert_allclose(flat(state.params), flat(params()) + 0.5 * mean, atol=1e-6)
    assert (int(state.round), int(metrics.clients), int(metrics.dropped)) == (1, 4, 0)
    norms = [np.linalg.norm(delta) for k, delta in enumerate(deltas) if k != 2]
    assert float(metrics.norm) == pytest.approx(np.mean(norms), rel=1e-5)
    assert float(metrics.clipped) == 0.0


def test_weights_by_rows_are_those_of_fedavg():
    clients = split_by_user(arrays())
    f = LocalTraining(loss, CLIENT, batch_size=BATCH, rows_at_full_weight=9)
    sums, _ = trustml.bounded_sum(f, clip_norm=math.inf)(params(), clients)
    sizes = clients.mask.sum(1)
    expected = sum(
        size / 9 * delta for size, delta in zip(sizes, oracle_deltas(arrays(), 1), strict=True)
    )
    np.testing.assert_allclose(flat(sums), expected, atol=1e-6)


@pytest.fixture(scope="module")
def bounded():
    return trustml.bounded_sum(LOCAL, clip_norm=0.2)


def test_one_client_moves_the_sum_by_at_most_the_clip_norm(bounded):
    clients = split_by_user(arrays())
    everyone, info = bounded(params(), clients, np.zeros(USERS, np.int32))
    assert (np.asarray(info.clip_factor) < 1).any()
    for out in range(USERS):
        group = np.where(np.arange(USERS) == out, -1, 0)
        moved = flat(everyone) - flat(bounded(params(), clients, group)[0])
        assert np.linalg.norm(moved) <= 0.2 * (1 + 1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_a_client_that_is_not_finite_contributes_zero(bounded, bad):
    clients = split_by_user(arrays())
    poisoned = clients._replace(rows={**clients.rows, "x": clients.rows["x"].copy()})
    poisoned.rows["x"][3, 1, 0] = bad
    found, info = bounded(params(), poisoned)
    without, _ = bounded(params(), clients, np.array([0, 0, 0, -1, 0]))
    np.testing.assert_array_equal(flat(found), flat(without))
    assert float(info.clip_factor[3]) == 0.0


def test_padding_is_never_read_and_a_client_without_rows_stays_where_it_is(bounded):
    clients = split_by_user(arrays())
    spoilt = np.where(clients.mask[..., None], clients.rows["x"], np.nan)
    _, info = bounded(params(), clients)
    sums, again = bounded(params(), clients._replace(rows={**clients.rows, "x": spoilt}))
    np.testing.assert_array_equal(info.norm, again.norm)
    assert np.isfinite(flat(sums)).all()
    mask = clients.mask & (np.arange(USERS) != 1)[:, None]
    _, empty = bounded(params(), clients._replace(mask=mask))
    assert float(empty.norm[1]) == 0.0


def plan(**changes):
    fields = {"clip_norm": 0.2, "noise_multiplier": 0.5, "sample_rate": 0.8, "steps": 3}
    return trustml.PrivacyPlan(**{**fields, "expected_batch": 4, "unit": "user", **changes})


def test_private_rounds_are_the_bounded_sum_plus_the_noise_of_the_plan(bounded):
    clients = split_by_user(arrays())
    chosen = plan()
    step = private_federated_step(LOCAL, optax.sgd(1.0), chosen)
    draw = next(chosen.batches(seed=3))
    lost = np.arange(chosen.capacity) == 0
    state, metrics = step.update(step.init(params(), key=5), drop_out(draw, lost), clients)
    taken = drop_out(draw, lost)
    answered = np.full(USERS, -1)
    answered[taken.indices[taken.group == 0]] = 0
    sums, _ = bounded(params(), clients, answered)
    noise = trustml.noise.gaussian_like(
        jax.tree.map(jnp.zeros_like, params()), trustml.noise.key_from_seed(5), jnp.int32(0)
    )
    expected = flat(params()) + (flat(sums) - 0.5 * 0.2 * flat(noise)) / 4
    np.testing.assert_allclose(flat(state.params), expected, atol=1e-6)
    assert int(metrics.batch_size) == int((taken.group == 0).sum()) < int((draw.group == 0).sum())
    assert "user" in chosen.statement(delta=1e-5)


def test_rounds_lower_the_loss_and_fit_runs_private_ones():
    clients = split_by_user(arrays())
    traces = []

    def counted(params, row):
        traces.append(1)
        return loss(params, row)

    local = LocalTraining(counted, CLIENT, batch_size=BATCH)
    step = federated_step(local, optax.adam(0.3), expected_clients=USERS)
    state = step.init({"w": params()["w"], "b": 0.0})  # a Python number: weakly typed
    losses, traced = [], []
    for _ in range(25):
        state, metrics = step.update(state, clients)
        losses.append(float(metrics.loss))
        traced.append(len(traces))
    assert traced[0] == traced[-1]  # one program serves all rounds
    by_hand = [
        np.mean([float(loss(params(), {"x": x, "y": y})) for x, y in zip(*rows, strict=True)])
        for rows in (
            (arrays()["x"][arrays()["user"] == k], arrays()["y"][arrays()["user"] == k])
            for k in range(USERS)
        )
    ]
    assert losses[0] == pytest.approx(np.mean(by_hand), rel=1e-5)
    assert losses[-1] < 0.2 * losses[0]
    private = private_federated_step(LOCAL, optax.sgd(1.0), plan())
    result = trustml.fit(private, params(), clients, seed=0, progress=False)
    assert int(result.state.step) == 3


def test_frozen_leaves_stay_and_are_not_in_the_sum():
    clients = split_by_user(arrays())
    local = LocalTraining(loss, CLIENT, batch_size=BATCH, trainable=lambda name: name == "w")
    step = federated_step(local, optax.sgd(1.0), expected_clients=USERS, physical_batch_size=2)
    state, _ = step.update(step.init(params()), clients)
    assert float(state.params["b"]) == 0.0
    assert (np.asarray(state.params["w"]) != np.asarray(params()["w"])).all()


def test_every_row_of_a_user_is_in_its_unit_in_order():
    found = arrays()
    clients = split_by_user(found)
    assert clients.user.tolist() == list(range(USERS))
    assert clients.mask.shape == (USERS, 9)
    for place, user in enumerate(clients.user):
        held = clients.rows["x"][place][clients.mask[place]]
        np.testing.assert_array_equal(held, found["x"][found["user"] == user])
    assert split_by_user(found, max_rows=2).mask.sum(1).tolist() == [2, 1, 2, 2, 2]


def new(**changes):
    return federated_step(LOCAL, optax.sgd(1.0), **{"expected_clients": 2.0, **changes})


LABELLED = {"x": np.zeros(2), "user": np.array([0, -1])}
TWO = Clients({"x": np.zeros((2, 3, DIM))}, np.ones((2, 4), bool), np.arange(2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: new(expected_clients=math.nan), "`expected_clients` must be positive .* nan"),
        (
            lambda: LocalTraining(loss, CLIENT, batch_size=0),
            "`batch_size` must be a positive integer, got 0",
        ),
        (
            lambda: LocalTraining(loss, CLIENT, batch_size=2, epochs=1.5),
            "`epochs` must be a positive integer, got 1.5",
        ),
        (lambda: new(clip_norm=-1.0), "`clip_norm` must be positive, got -1.0"),
        (lambda: split_by_user(LABELLED), "name a user for every row, got -1 in row 1"),
        (lambda: split_by_user({"x": np.zeros(2)}), "`key` must be one of x, got 'user'"),
        (lambda: split_by_user({**arrays(), "y": np.zeros(2)}), "must have 23 rows like 'user'"),
        (lambda: split_by_user(arrays(), max_rows=0), "`max_rows` must be a positive integer"),
        (lambda: new().update(new().init(params()), {"x": 1}), "`clients` must be `Clients`"),
        (lambda: new().update(new().init(params()), TWO), r"`clients.rows` must have the leading"),
        (lambda: drop_out(next(plan().batches(seed=0)), np.zeros(2)), "`lost` must be a boolean"),
    ],
)
def test_messages_name_the_argument_and_the_value(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
