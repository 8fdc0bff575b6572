"""Rounds against plain loops in NumPy, and against exact values of two quadratics."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import trustml
from trustml.federated import (
    Asynchronous,
    Clients,
    FederatedStep,
    Schedule,
    Selection,
    fedadagrad,
    fedadam,
    fedavg,
    fedbuff,
    fedper,
    fedyogi,
    krum,
    median,
    mimelite,
    parse_selection,
    qfedavg,
    robust,
    rounds,
    scaffold,
    trimmed_mean,
)
from trustml.federated.availability import Availability
from trustml.federated.cohort import Rounding, gather_cohort

USERS, DIM, BATCH = 5, 3, 4


def loss(params, row):
    return 0.5 * (jnp.dot(row["x"], params["w"]) + params["b"] - row["y"]) ** 2


def params():
    return {"w": jnp.array([0.3, -0.1, 0.2]), "b": jnp.zeros(())}


def arrays(seed=0):
    """Rows of users 0 to 4, 1 to 9 each, shuffled among each other; and whose they are."""
    rng = np.random.default_rng(seed)
    user = rng.permutation(np.repeat(np.arange(USERS), [9, 1, 4, 6, 3]))
    x = rng.normal(size=(len(user), DIM)).astype(np.float32)
    y = (x @ np.array([1.0, -2.0, 0.5], np.float32) + user * 0.1).astype(np.float32)
    return {"x": x, "y": y}, user


CLIENTS = Clients.from_arrays(*arrays())
CLIENT = optax.sgd(0.05, momentum=0.9)


def flat(tree):
    return np.append(np.asarray(tree["w"], np.float64), float(tree["b"]))


def batches_of(client, *, round=0, epochs=1, seed=0):
    """The batches that a client goes through in a round, as row numbers of its own."""
    alone = CLIENTS.take(np.array([client]))
    cohort = gather_cohort(
        alone,
        np.array([0]),
        np.ones(1),
        np.zeros(1, np.int32),
        round=round,
        rounding=Rounding(BATCH, epochs, seed),
    )
    steps = int(cohort.work.steps[0, 0])
    return [batch[batch >= 0] for batch in cohort.order[0, :steps]]


def trained(client, start, *, rate=0.05, epochs=1, **how):
    """One client's momentum SGD in plain float64: the last entry is the bias."""
    rows = CLIENTS.of(client)
    x = np.hstack([rows["x"], np.ones((len(rows["x"]), 1))]).astype(np.float64)
    w, speed = start.copy(), np.zeros_like(start)
    for batch in batches_of(client, epochs=epochs, **how):
        gradient = x[batch].T @ (x[batch] @ w - rows["y"][batch]) / len(batch)
        speed = 0.9 * speed + gradient
        w -= rate * speed
    return w


def one_round(algorithm, *, clients=CLIENTS, start=None, **options):
    options = {"clients_at_once": 1, **options}
    number = len(clients)
    start = params() if start is None else start
    return next(rounds(algorithm, clients, start, number=1, clients_per_round=number, **options))


def averaging(**how):
    return fedavg(loss, CLIENT, **{"batch_size": BATCH, **how})


@pytest.mark.parametrize("weights", ["rows", "clients"])
def test_a_round_is_a_plain_loop_over_clients(weights):
    found = one_round(averaging(epochs=2, weights=weights, server=optax.sgd(0.5)))
    start = flat(params())
    share = CLIENTS.counts if weights == "rows" else np.ones(USERS)
    deltas = np.stack([trained(k, start, epochs=2) - start for k in range(USERS)])
    expected = start + 0.5 * share @ deltas / share.sum()
    np.testing.assert_allclose(flat(found.params), expected, atol=1e-6)
    norms = np.linalg.norm(deltas, axis=1)
    assert int(found.metrics.batch_size) == USERS
    assert float(found.metrics.norm) == pytest.approx(norms.mean(), rel=1e-5)


def test_rows_are_shuffled_and_each_is_met_once_an_epoch():
    first, second = batches_of(0, epochs=2)[:3], batches_of(0, epochs=2)[3:]
    for epoch in (first, second):
        assert [len(batch) for batch in epoch] == [4, 4, 1]
        assert sorted(np.concatenate(epoch)) == list(range(9))
    orders = [np.concatenate(epoch).tolist() for epoch in (first, second)]
    other_round = np.concatenate(batches_of(0, round=1)).tolist()
    other_seed = np.concatenate(batches_of(0, seed=1)).tolist()
    assert len({tuple(order) for order in (*orders, other_round, other_seed, range(9))}) == 5


def test_padding_is_less_than_a_tenth_where_clients_differ_by_orders_of_magnitude():
    counts = np.random.default_rng(0).zipf(1.5, 300).clip(5, 3000)
    clients = Clients.from_arrays(np.zeros(counts.sum()), np.repeat(np.arange(300), counts))
    cohort = gather_cohort(
        clients,
        np.arange(300),
        np.ones(300),
        np.zeros(300, np.int32),
        round=0,
        rounding=Rounding(BATCH, 1, 0),
    )
    computed = int(cohort.work.steps.sum()) * BATCH
    assert computed / counts.sum() < 1.1
    assert 300 * counts.max() / counts.sum() > 10  # of padding each client to the largest


# Two quadratics f = a (w - c)^2 / 2 with (a, c, rows) = (1, 0, 1) and (4, 1, 3), from w = 2, two
# local steps of rate 0.1: exact values, worked out apart from this code.
QUADRATICS = Clients.from_arrays(
    {"a": np.float32([1, 4, 4, 4]), "c": np.float32([0, 1, 1, 1])}, np.array([0, 1, 1, 1])
)


def quadratic(w, row):
    return 0.5 * row["a"] * (w - row["c"]) ** 2


TWO_STEPS = {"batch_size": 3, "epochs": 2}
SGD = optax.sgd(0.1)
ORACLES = {
    "fedavg by rows": (
        lambda: fedavg(quadratic, SGD, **TWO_STEPS),
        (1.425, 1.1533125, 1.0249401563),
        0.9099526066,
    ),
    "fedavg": (
        lambda: fedavg(quadratic, SGD, weights="clients", **TWO_STEPS),
        (1.49, 1.19165, 1.01711525),
        0.7710843373,
    ),
    "fedavg of models": (
        lambda: fedavg(quadratic, SGD, weights="clients", server=None, **TWO_STEPS),
        (1.49, 1.19165, 1.01711525),
        0.7710843373,
    ),
    "fedprox": (
        lambda: fedavg(quadratic, SGD, weights="clients", proximal=1.0, **TWO_STEPS),
        (1.52, 1.2272, 1.048592),
        0.7692307692,
    ),
    "scaffold": (
        lambda: scaffold(quadratic, 0.1, **TWO_STEPS),
        (1.49, 1.1819, 1.009049),
        0.8,  # the optimum
    ),
    "mimelite": (
        lambda: mimelite(quadratic, 0.1, **TWO_STEPS),
        (1.9409, 1.831379765, 1.6818762058),
        0.7997568512,
    ),
    "qfedavg": (
        lambda: qfedavg(quadratic, SGD, fairness=1.0, lipschitz=10.0, **TWO_STEPS),
        (1.786163522, 1.6075942893, 1.4552573719),
        None,
    ),
    "qfedavg, q = 0": (
        lambda: qfedavg(quadratic, SGD, fairness=0.0, lipschitz=10.0, **TWO_STEPS),
        (1.49, 1.19165, 1.01711525),
        0.7710843373,
    ),
    # One step from a second moment of 0, in closed form: rate d / (|d| sqrt(1 - b2) + tau).
    "fedyogi": (
        lambda: fedavg(
            quadratic, SGD, weights="clients", server=fedyogi(0.1, b1=0.0, start=0.0), **TWO_STEPS
        ),
        (2 - 0.1 * 0.51 / (0.51 * 0.1 + 1e-3),),
        None,
    ),
    "fedadagrad": (
        lambda: fedavg(
            quadratic, SGD, weights="clients", server=fedadagrad(0.1, start=0.0), **TWO_STEPS
        ),
        (2 - 0.1 * 0.51 / (0.51 + 1e-3),),
        None,
    ),
    "fedadam": (
        lambda: fedavg(
            quadratic, SGD, weights="clients", server=fedadam(0.1, start=0.0), **TWO_STEPS
        ),
        (1.9019230769, 1.7695335902, 1.6157853075),
        None,
    ),
}


@pytest.mark.parametrize("name", ORACLES)
def test_algorithms_reach_the_exact_values_of_two_quadratics(name):
    make, expected, limit = ORACLES[name]
    number = 3 if limit is None else 400
    found = [
        float(one.params)
        for one in rounds(
            make(),
            QUADRATICS,
            jnp.float32(2.0),
            number=number,
            clients_per_round=2,
            clients_at_once=1,
        )
    ]
    np.testing.assert_allclose(found[: len(expected)], expected, rtol=3e-7)  # float32
    if limit is not None:
        assert found[-1] == pytest.approx(limit, rel=1e-6)


def test_buffered_rounds_follow_the_list_of_events():
    algorithm = fedbuff(fedavg(quadratic, SGD, weights="clients", **TWO_STEPS))
    schedule = Asynchronous(
        steps=3,
        clients_per_round=2,
        activity=QUADRATICS.counts,
        events=[(0, 0), (1, 0), (1, 0), (0, 1), (1, 1), (0, 0)],
    )
    step = FederatedStep(algorithm, schedule, QUADRATICS, clients_at_once=1)
    state, found = step.init(jnp.float32(2.0), key=0), []
    for draw in schedule.batches(seed=0):
        state, _ = step.update(state, draw, QUADRATICS)
        found.append(float(state.params))
    np.testing.assert_allclose(found, [1.49, 1.12217583, 0.9016049356], rtol=3e-7)


def test_virtual_time_is_repeatable_and_late_answers_are_late():
    schedule = Asynchronous(
        steps=30,
        clients_per_round=4,
        concurrency=12,
        activity=np.arange(1, 21),
        availability=Availability(dropout=0.2, speed=0.5),
    )
    draws = list(schedule.batches(seed=3))
    again = list(schedule.batches(seed=3))
    for one, other in zip(draws, again, strict=True):
        np.testing.assert_array_equal(one.indices, other.indices)
        np.testing.assert_array_equal(one.versions, other.versions)
    seconds = [draw.seconds for draw in draws]
    assert seconds == sorted(seconds)
    late = np.concatenate([draw.versions for draw in draws])
    assert late.min() == 0
    assert 1 <= late.max() <= schedule.most_late
    assert sum(draw.lost for draw in draws) > 5  # a fifth drops out


def test_asynchronous_devices_are_chosen_by_their_activity():
    activity = np.repeat([1, 100], 30)
    schedule = Asynchronous(
        steps=100,
        clients_per_round=5,
        concurrency=5,
        activity=activity,
        local_steps=np.ones(60, int),
        selection=parse_selection("proportional"),
    )
    found = np.concatenate([draw.indices for draw in schedule.batches(seed=0)])
    assert (activity[found] == 100).mean() > 0.95


def central(start, epochs, rounds):
    """Plain SGD over all rows in one compiled loop: no client, no delta."""
    rows = CLIENTS.rows
    everyone = Clients(rows, np.array([0, len(rows["y"])]), np.array([0]))

    @jax.jit
    def run(w, order, held):
        def step(w, batch):
            which, held = batch

            def mean(w):
                losses = jax.vmap(lambda row: loss(w, row))(
                    jax.tree.map(lambda leaf: jnp.asarray(leaf)[which], rows)
                )
                return jnp.where(held, losses, 0.0).sum() / held.sum(dtype=jnp.float32)

            grads = jax.grad(mean)(w)
            return jax.tree.map(lambda leaf, grad: leaf - 0.05 * grad, w, grads), None

        return jax.lax.scan(step, w, (order, held))[0]

    for round in range(rounds):
        cohort = gather_cohort(
            everyone,
            np.array([0]),
            np.ones(1),
            np.zeros(1, np.int32),
            round=round,
            rounding=Rounding(BATCH, epochs, 0),
        )
        order = cohort.order[0, : int(cohort.work.steps[0, 0])]
        start = run(start, np.where(order < 0, order[:, :1], order), order >= 0)
    return start, everyone


def test_one_client_with_all_rows_is_central_training_bit_for_bit():
    expected, everyone = central(params(), 2, 3)
    algorithm = fedavg(loss, optax.sgd(0.05), server=None, batch_size=BATCH, epochs=2)
    *_, last = rounds(
        algorithm, everyone, params(), number=3, clients_per_round=1, clients_at_once=1
    )
    np.testing.assert_array_equal(flat(last.params), flat(expected))


def answers(clients, places, **options):
    """The change of the parameters that each of `places` alone brings about."""
    found = {}
    for place in places:
        algorithm = averaging(weights="clients")
        step = FederatedStep(
            algorithm,
            Schedule(steps=1, clients_per_round=USERS, activity=clients.counts),
            clients,
            **{"clients_at_once": 1, **options},
        )
        draw = step.plan.drawn(b"0" * 32, 0)
        group = np.where(np.isin(draw.indices, place), 0, -1).astype(np.int32)
        alone = trustml.sampling.Draw(0, draw.indices, group)
        alone.plan = draw.plan
        state, _ = step.update(step.init(params(), key=0), alone, clients)
        found[place] = flat(state.params)
    return found


def test_what_a_client_answers_does_not_depend_on_who_else_is_there():
    alone = answers(CLIENTS, [3])[3]
    more = {name: np.concatenate([leaf] * 40) for name, leaf in arrays()[0].items()}
    owner = np.concatenate([arrays()[1] + 100 * copy for copy in range(40)])
    crowd = Clients.from_arrays(more, owner)  # other shapes, other places
    chosen = int(np.flatnonzero(crowd.ids == 3)[0])
    step = FederatedStep(
        averaging(weights="clients"),
        Schedule(steps=1, clients_per_round=200, activity=crowd.counts),
        crowd,
        clients_at_once=1,
    )
    draw = step.plan.drawn(b"0" * 32, 0)
    one = trustml.sampling.Draw(
        0, draw.indices, np.where(draw.indices == chosen, 0, -1).astype(np.int32)
    )
    one.plan = draw.plan
    state, _ = step.update(step.init(params(), key=0), one, crowd)
    np.testing.assert_array_equal(flat(state.params), alone)


def test_side_by_side_is_one_after_another_up_to_rounding():
    slow = one_round(averaging(epochs=2))
    quick = one_round(averaging(epochs=2), clients_at_once=3)
    np.testing.assert_allclose(flat(quick.params), flat(slow.params), rtol=1e-6)
    np.testing.assert_allclose(quick.metrics.loss, slow.metrics.loss, rtol=1e-6)


def test_widths_are_measured():
    step = FederatedStep(
        averaging(), Schedule(steps=2, clients_per_round=5, activity=CLIENTS.counts), CLIENTS
    )
    state = step.init(params(), key=0)
    for draw in step.plan.batches(seed=0):
        state, _ = step.update(state, draw, CLIENTS)
    assert step.physical_batch_size in (1, 4, 5)  # of five clients
    assert int(state.step) == 2


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
@pytest.mark.parametrize("width", [1, 5])
def test_a_client_that_is_not_finite_counts_for_nothing(bad, width):
    rows = {**CLIENTS.rows, "x": CLIENTS.rows["x"].copy()}
    rows["x"][CLIENTS.offsets[3] + 1, 0] = bad
    poisoned = Clients(rows, CLIENTS.offsets, CLIENTS.ids)
    found = one_round(averaging(), clients=poisoned, clients_at_once=width)
    without = one_round(averaging(), clients=CLIENTS.take(np.array([0, 1, 2, 4])))
    np.testing.assert_allclose(flat(found.params), flat(without.params), atol=1e-6)
    assert int(found.metrics.dropped) == 1


def test_a_round_in_which_nobody_answers_changes_nothing():
    algorithm = averaging(server=optax.sgd(1.0, momentum=0.9))
    schedule = Schedule(steps=2, clients_per_round=2, activity=CLIENTS.counts)
    step = FederatedStep(algorithm, schedule, CLIENTS, clients_at_once=1)
    first, second = schedule.batches(seed=0)
    state, _ = step.update(step.init(params(), key=0), first, CLIENTS)
    before = jax.tree.map(np.asarray, (state.params, state.opt_state))
    nobody = trustml.sampling.Draw(1, second.indices, np.full(2, -1, np.int32))
    nobody.plan = second.plan
    state, metrics = step.update(state, nobody, CLIENTS)
    after = jax.tree.map(np.asarray, (state.params, state.opt_state))
    jax.tree.map(np.testing.assert_array_equal, before, after)
    assert (int(metrics.batch_size), int(state.step)) == (0, 2)


def test_dropout_keys_differ_by_client_round_and_row():
    def noisy(w, row, key):
        return w * jax.random.normal(key) + 0.0 * row

    clients = Clients.from_arrays(np.zeros(8, np.float32), np.repeat(np.arange(4), 2))
    algorithm = fedavg(noisy, optax.sgd(1.0), batch_size=1, weights="clients")
    found = []
    for width in (1, 4):
        moved = [
            float(one.params)
            for one in rounds(
                algorithm,
                clients,
                jnp.float32(0.0),
                number=2,
                clients_per_round=4,
                clients_at_once=width,
                seed=1,
            )
        ]
        found.append(moved)
    np.testing.assert_allclose(*found, rtol=1e-6)
    assert abs(moved[0] - (moved[1] - moved[0])) > 1e-3


def test_own_leaves_stay_at_the_client():
    def own_loss(params, row):
        return 0.5 * (params["shared"] * row["x"] + params["own"] - row["y"]) ** 2

    rows = {"x": np.float32([1, 1, 2, 2]), "y": np.float32([1, 1, 5, 5])}
    clients = Clients.from_arrays(rows, np.array([0, 0, 1, 1]))
    algorithm = fedper(
        own_loss,
        optax.sgd(0.1),
        shared=lambda name: name == "shared",
        batch_size=2,
        weights="clients",
    )
    start = {"shared": jnp.float32(0.0), "own": jnp.float32(0.0)}
    shared, own = 0.0, [0.0, 0.0]
    for found in rounds(algorithm, clients, start, number=4, clients_per_round=2):
        deltas = []
        for k, (x, y) in enumerate([(1.0, 1.0), (2.0, 5.0)]):
            gap = shared * x + own[k] - y
            deltas.append(-0.1 * gap * x)
            own[k] -= 0.1 * gap
        shared += sum(deltas) / 2
        assert float(found.params["shared"]) == pytest.approx(shared, rel=1e-6)
        assert float(found.params["own"]) == 0.0
        np.testing.assert_allclose(found.state.opt_state.own["own"], own, rtol=1e-6)


@pytest.mark.parametrize("combine", [median(), trimmed_mean(0.25), krum(1)])
def test_one_wrong_client_does_not_move_a_robust_mean_far(combine):
    rows = {"a": np.ones(5, np.float32), "c": np.float32([1.0, 1.1, 0.9, 1.05, 1e6])}
    clients = Clients.from_arrays(rows, np.arange(5))
    plain = fedavg(quadratic, optax.sgd(0.5), weights="clients")
    found = one_round(robust(plain, combine), clients=clients, start=jnp.float32(0.0))
    assert 0.44 <= float(found.params) <= 0.56
    assert float(one_round(plain, clients=clients, start=jnp.float32(0.0)).params) > 1e4


def test_frozen_leaves_stay_as_they_are():
    found = one_round(averaging(trainable=lambda name: name == "w"))
    assert float(found.params["b"]) == 0.0
    assert (np.asarray(found.params["w"]) != np.asarray(params()["w"])).all()


def test_clients_hold_their_rows_in_order():
    rows, owner = arrays()
    assert CLIENTS.ids.tolist() == list(range(USERS))
    for place in range(USERS):
        np.testing.assert_array_equal(CLIENTS.of(place)["x"], rows["x"][owner == place])
    some = CLIENTS.take(np.array([3, 1]))
    np.testing.assert_array_equal(some.of(0)["y"], rows["y"][owner == 3])
    assert some.counts.tolist() == [6, 1]


def _rounds(**options):
    options = {"number": 1, "clients_per_round": 2, **options}
    return next(rounds(averaging(), CLIENTS, params(), **options))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: averaging(batch_size=0), "`batch_size` must be a positive integer, got 0"),
        (lambda: averaging(epochs=1.5), "`epochs` must be a positive integer, got 1.5"),
        (lambda: averaging(weights="size"), '`weights` must be "rows" or "clients", got'),
        (lambda: averaging(proximal=-1.0), "`proximal` must not be negative, got -1.0"),
        (lambda: _rounds(clients_per_round=6), "`clients_per_round` must be at most the 5 clients"),
        (lambda: _rounds(number=0), "`steps` must be a positive integer, got 0"),
        (lambda: Clients.from_arrays(np.zeros(2), np.array([0, -1])), "got -1 in row 1"),
        (lambda: Clients.from_arrays(np.zeros(2), np.zeros(3, int)), "must have 3 rows"),
        (lambda: Clients.from_arrays(np.zeros(0), np.zeros(0, int)), "must be a vector of int"),
        (
            lambda: next(
                rounds(
                    scaffold(loss, 0.1),
                    CLIENTS,
                    params(),
                    number=1,
                    clients_per_round=2,
                    selection=Selection("proportional", replacement=True),
                )
            ),
            "`selection` must be neither unbiased nor with replacement for an algorithm",
        ),
        (
            lambda: Schedule(
                steps=1,
                clients_per_round=2,
                activity=CLIENTS.counts,
                selection=Selection("uniform", unbiased=True),
                availability=Availability(dropout=0.5),
            ),
            "`selection` must not be unbiased where `availability`",
        ),
        (
            lambda: FederatedStep(
                averaging(),
                Asynchronous(steps=1, clients_per_round=2, concurrency=3, activity=CLIENTS.counts),
                CLIENTS,
            ),
            "`algorithm` must be that of `fedbuff`",
        ),
        (lambda: robust(scaffold(loss, 0.1), median()), "must keep no state at the clients"),
        (lambda: fedbuff(scaffold(loss, 0.1)), "must send changes of the parameters"),
        (lambda: mimelite(loss, 0.1, momentum=2.0), "`momentum` must be at least 0 and below 1"),
        (lambda: scaffold(loss, 0.0), "`rate` must be finite and above 0, got 0.0"),
        (lambda: trimmed_mean(0.5), "`part` must be at least 0 and below 0.5, got 0.5"),
        (lambda: qfedavg(loss, SGD, fairness=-1.0, lipschitz=1.0), "`fairness` must not be neg"),
    ],
)
def test_messages_name_the_argument_and_the_value(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
