"""Kinds of task: encoding, judging, several rows as one unit."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import trustml
from trustml.data.buckets import shortener
from trustml.data.examples import Examples
from trustml.data.rows import Document, Labelled, Rated, Record, Tagged, Text
from trustml.data.synthetic import generate
from trustml.data.tables import CategoryColumn, NumberColumn, TableSchema
from trustml.models.tasks import (
    Encoded,
    group_examples,
    hashed_words_task,
    table_task,
    unit_loss,
)
from trustml.models.tasks.units import PRESENT

SIZES = {"features": 8, "layers": 1, "embedding": 8}


def examples(task, rows, **fields):
    return Examples(name="demo", split="train", task=task, rows=tuple(rows), unit="row", **fields)


TEXTS = examples(
    "classify",
    [Text("Buy shares now!", "money"), Text("A goal", "sport")],
    labels=("money", "sport"),
)
TAGGED = examples(
    "tag",
    [Tagged(("to", "New", "York"), ("O", "B-city", "I-city")), Tagged(("hm",), ("O",))],
    labels=("city",),
)
LABELLED = examples(
    "multilabel",
    [Labelled("Buy this goal!", ("money", "sport")), Labelled("hm", ())],
    labels=("money", "sport"),
)
RATED = examples(
    "regression", [Rated("superb film", 5.0), Rated("poor film", 0.0)], value_range=(0, 5)
)
TABLE = TableSchema(
    columns=(
        NumberColumn(name="age", low=0, high=100),
        CategoryColumn(name="job", values=("smith", "baker")),
        NumberColumn(name="pay", low=0, high=1e5, scale="log"),
    ),
    label="income",
    labels=("low", "high"),
)
RECORDS = examples(
    "tabular",
    [
        Record((20.0, "smith", 10.0), "low"),
        Record((70.0, "baker", None), "high"),
        Record((None, None, 5e4), "high"),
        Record((65.0, "king", 0.0), "low"),
    ],
    table=TABLE,
)


def problem(schema, **options):
    return hashed_words_task(schema, sizes=SIZES, buckets=32, max_length=4, **options)


@pytest.mark.slow
@pytest.mark.parametrize("schema", [TEXTS, LABELLED, TAGGED], ids=lambda schema: schema.task)
def test_words_are_learnt_by_heart(schema):
    net = problem(schema)
    counts = net.counts(trained(net, schema), schema)
    assert max(net.scoring.scores(counts).values()) == 1.0


@pytest.mark.slow
def test_numbers_are_learnt_by_heart_and_stay_in_their_range():
    net = problem(RATED)
    params = trained(net, RATED, rate=0.03)
    assert net.scoring.scores(net.counts(params, RATED))["r2"] > 0.99
    far = jax.tree.map(lambda leaf: 100 * leaf, params)
    found = net.predict(far, RATED, False)
    assert 0 <= found.min() <= found.max() <= 5
    lost = jax.tree.map(lambda leaf: jnp.nan * leaf, params)
    assert net.predict(lost, RATED, False).tolist() == [2.5, 2.5]


@pytest.mark.parametrize("network", ["linear", "mlp"])
def test_a_table_is_learnt_by_heart(network):
    net = table_task(RECORDS, network=network, features=16)
    params = trained(net, RECORDS, rate=1.0)
    assert net.scoring.scores(net.counts(params, RECORDS))["accuracy"] == 1.0
    _, probabilities = net.predict(params, RECORDS, False)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize("network", ["linear", "mlp"])
def test_gradients_of_a_table_are_clipped_as_the_oracle_says(network):
    net = table_task(RECORDS, network=network, features=5)
    units = net.encode(RECORDS).arrays
    units["label"][1] = -1  # a class that the schema does not list
    params = jax.tree.map(lambda leaf: leaf + 0.1, net.start(0))
    found, info = trustml.clipped_grad(net.network.loss, clip_norm=0.5)(params, units)
    oracle, _ = trustml.clipped_grad(net.network.loss, clip_norm=0.5, strategy="vmap")(
        params, units
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, oracle)
    assert info.norm[1] < 1e-12


def test_a_table_with_an_open_schema_is_refused():
    opened = TableSchema(columns=(NumberColumn(name="age"),), label="income")
    rows = examples("tabular", [Record((1.0,), "low")], table=opened)
    with pytest.raises(ValueError, match="every part is known, got age, income open"):
        table_task(rows)


def trained(net, schema, rate=0.3):
    units = net.encode(schema).arrays
    grad = jax.jit(jax.grad(lambda p: jax.vmap(net.network.loss, (None, 0))(p, units).mean()))
    params = net.start(0)
    for _ in range(150):
        params = jax.tree.map(lambda leaf, step: leaf - rate * step, params, grad(params))
    return params


def test_words_beyond_the_length_are_outside():
    net = problem(TAGGED, evaluation_length=2)
    tags = net.predict(net.start(0), TAGGED, False)
    assert [len(row) for row in tags] == [3, 1]
    assert tags[0][2] == "O"


def test_a_task_that_words_cannot_do_is_refused():
    with pytest.raises(ValueError, match="`schema` must be of a task for hashed words"):
        problem(examples("lm", [Document("to be")]))


ENCODED = Encoded({"x": np.arange(6, dtype=np.float32)}, np.array([0, 0, 1, 2, 2, 2]))


def test_pieces_of_rows_are_grouped_into_units():
    found = group_examples(ENCODED, [(0, 2), (1,)], 3)
    np.testing.assert_array_equal(found["x"], [[0, 1, 3], [2, 0, 0]])
    np.testing.assert_array_equal(found[PRESENT], [[True, True, True], [True, False, False]])
    single = group_examples(ENCODED, [(0,), (1,), (2,)], 1)
    np.testing.assert_array_equal(single["x"], [0, 2, 3])
    assert PRESENT not in single


def test_a_unit_reads_no_row_of_another_even_where_it_has_none():
    broken = Encoded({"x": np.array([np.nan, 1.0, 2.0], np.float32)}, np.array([0, 1, 2]))
    units = group_examples(broken, [(0,), (1, 2)], 3)
    np.testing.assert_array_equal(units["x"][1], [1, 2, 0])
    loss = unit_loss(lambda w, piece: (w * piece["x"]) ** 2)
    grad = trustml.clipped_grad(loss, clip_norm=10.0)
    sums, info = grad(jnp.float32(1.0), units)
    assert float(sums) == pytest.approx((2 * 1 + 2 * 4) / 2, rel=1e-5)
    assert info.clip_factor.tolist()[0] == 0.0


@pytest.mark.parametrize(
    ("units", "most", "text"), [([(0,)], 0, "`most`"), ([(0,), ()], 2, "`units` must each have")]
)
def test_bad_units_are_refused(units, most, text):
    with pytest.raises(ValueError, match=text):
        group_examples(ENCODED, units, most)


def test_a_units_loss_is_the_mean_over_the_pieces_that_are_there():
    def loss(w, piece):
        return (w * piece["x"] - 1.0) ** 2

    units = group_examples(ENCODED, [(0, 2), (1,)], 4)
    whole = unit_loss(loss)
    first, second = ({name: leaf[place] for name, leaf in units.items()} for place in (0, 1))
    assert whole(0.5, first) == pytest.approx(np.mean([(0.5 * x - 1) ** 2 for x in (0, 1, 3, 4)]))
    assert whole(0.5, second) == pytest.approx(0.0)


def test_one_unit_moves_the_sum_by_at_most_the_bound_whatever_it_holds():
    """However many rows are one person's, they count as one."""
    part = generate(train=12, valid=1, test=1).train
    net = problem(part)
    units = group_examples(net.encode(part), [(0, 1, 2, 3), (4,), (5, 6)], 4)
    grad = trustml.clipped_grad(unit_loss(net.network.loss), clip_norm=0.01)
    oracle = trustml.clipped_grad(unit_loss(net.network.loss), clip_norm=0.01, strategy="vmap")
    params = net.start(0)
    sums, info = grad(params, units)
    wanted, _ = oracle(params, units)
    scale = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(wanted))
    for one, other in zip(jax.tree.leaves(sums), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * scale)
    assert float(info.norm.min()) > 0.01
    without, _ = grad(params, units, jnp.array([-1, 0, 0]))
    moved = [
        jnp.sum((a - b) ** 2) for a, b in zip(*map(jax.tree.leaves, (sums, without)), strict=True)
    ]
    assert math.sqrt(sum(map(float, moved))) <= 0.01 * (1 + 1e-5)


@pytest.mark.usefixtures("relaxed_promotion")  # optax's Adam promotes its step count
@pytest.mark.slow
@pytest.mark.parametrize("build", [trustml.private_step, trustml.baseline_step])
@pytest.mark.parametrize("most", [1, 3])
def test_shorter_batches_change_nothing_but_their_shape(build, most):
    part = generate(train=30, valid=1, test=1).train
    net = hashed_words_task(part, sizes=SIZES, buckets=32, max_length=32)
    groups = [tuple(range(at, at + most)) for at in range(0, 30, most)]
    units = group_examples(net.encode(part), groups, most)
    loss = net.network.loss if most == 1 else unit_loss(net.network.loss)
    plan = trustml.PrivacyPlan(
        clip_norm=0.1,
        noise_multiplier=0.0 if build is trustml.baseline_step else 1.0,
        sample_rate=0.4,
        steps=4,
        expected_batch=0.4 * len(groups),
        num_units=len(groups),
    )
    shapes, found = [], []
    cut = shortener(units)

    def shorten(rows, taken):
        rows = cut(rows, taken)
        shapes.append(rows["tokens"].shape[-2])
        return rows

    for options in ({}, {"shorten": shorten}, {"shorten": cut}):
        step = build(loss, optax.sgd(0.1), plan, physical_batch_size=4, **options)
        state = step.init(net.start(0), key=0)
        for draw in plan.batches(seed=0):
            state, _ = step.update(state, draw, units)
        found.append(state.params)
    assert len(shapes) == 4
    assert set(shapes) == {16, 32}
    for one, other, third in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
        np.testing.assert_allclose(one, third, atol=1e-6)


def test_batches_of_a_mesh_are_not_shortened():
    plan = trustml.PrivacyPlan(
        clip_norm=1.0, noise_multiplier=1.0, sample_rate=0.5, steps=1, expected_batch=1
    )
    with pytest.raises(ValueError, match="`shorten` must be None"):
        trustml.private_step(
            lambda p, u: 0.0,
            optax.sgd(0.1),
            plan,
            mesh=jax.make_mesh((1,), ("data",)),
            shorten=lambda r, t: r,
        )
