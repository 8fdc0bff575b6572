"""Rows that are read when they are drawn: the same training as on arrays, whatever the source."""

import itertools
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import trustml
from trustml.training import RowSource, read_ledger, summarize
from trustml.training.batches import Prefetcher
from trustml.training.runs.environment import data_fingerprint

UNITS, STEPS = 60, 6
RNG = np.random.default_rng(0)
ARRAYS = {
    "x": RNG.normal(size=(UNITS, 3)).astype(np.float32),
    "y": RNG.integers(0, 2, UNITS).astype(np.int32),
}


def loss(w, unit):
    return jnp.square(jnp.dot(w, unit["x"]) - unit["y"].astype(jnp.float32))


def step(steps=STEPS, **options):
    plan = trustml.PrivacyPlan(
        clip_norm=1.0, noise_multiplier=1.0, sample_rate=0.2, steps=steps, expected_batch=12
    )
    return trustml.private_step(loss, optax.sgd(0.1), plan, **options)


def fit(train, made=None, **options):
    made = made or step()
    return trustml.fit(made, jnp.zeros(3), train, seed=0, progress=False, **options)


class Records:
    """One record at a time, and who was asked for."""

    def __init__(self, arrays=ARRAYS, broken=()):
        self.arrays, self.broken, self.asked, self.threads = arrays, broken, [], set()

    def __len__(self):
        return len(self.arrays["y"])

    def __getitem__(self, row):
        assert type(row) is int
        self.asked.append(row)
        self.threads.add(threading.current_thread())
        if row in self.broken:
            raise OSError("disk gone")
        return {name: leaf[row] for name, leaf in self.arrays.items()}


class Several(Records):
    """Several records at a time, as data sets of PyTorch and Hugging Face have them."""

    def __getitems__(self, rows):
        return [self[row] for row in rows]


class Columns(Records):
    """The columns of an array of numbers."""

    def __getitem__(self, rows):
        assert isinstance(rows, np.ndarray)
        return {name: leaf[rows] for name, leaf in self.arrays.items()}


def _file(tmp_path, name):
    np.save(tmp_path / f"{name}.npy", ARRAYS[name])
    return np.load(tmp_path / f"{name}.npy", mmap_mode="r")


def _hugging_face(_):
    datasets = pytest.importorskip("datasets", reason="needs Hugging Face's datasets")
    table = {name: leaf.tolist() for name, leaf in ARRAYS.items()}
    kinds = {"x": datasets.Sequence(datasets.Value("float32")), "y": datasets.Value("int32")}
    made = datasets.Dataset.from_dict(table, features=datasets.Features(kinds))
    narrow = lambda columns: {**columns, "y": columns["y"].astype(np.int32)}  # noqa: E731  # from int64
    return RowSource(made.with_format("numpy"), narrow, batched=True)


SOURCES = {
    "one record": lambda _: RowSource(Records()),
    "several records": lambda _: RowSource(Several()),
    "columns": lambda _: RowSource(Columns(), batched=True),
    "bytes": lambda _: RowSource(
        [ARRAYS["x"][row].tobytes() + ARRAYS["y"][row].tobytes() for row in range(UNITS)],
        lambda record: {
            "x": np.frombuffer(record[:12], np.float32),
            "y": np.frombuffer(record[12:], np.int32)[0],
        },
    ),
    "memory map": lambda folder: {name: _file(folder, name) for name in ARRAYS},
    "hugging face": _hugging_face,
}


@pytest.fixture(scope="module")
def expected():
    return np.asarray(fit(ARRAYS).params)


@pytest.mark.parametrize("kind", SOURCES)
def test_a_source_trains_as_arrays_do(kind, tmp_path, expected):
    source = SOURCES[kind](tmp_path)
    np.testing.assert_array_equal(fit(source).params, expected)
    assert data_fingerprint(source) == data_fingerprint(ARRAYS)


def test_only_drawn_rows_are_read_and_each_once():
    rows = Records()
    source, made = RowSource(rows), step()
    assert source.shapes["x"].shape == (UNITS, 3)
    for draw in made.plan.batches(seed=0):
        rows.asked.clear()
        batch = made.gather(draw, source)
        drawn = draw.indices[draw.indices >= 0]
        assert rows.asked == sorted(set(drawn.tolist()))
        np.testing.assert_array_equal(batch.rows["x"][: len(drawn)], ARRAYS["x"][drawn])


def test_a_fingerprint_follows_the_data_and_may_be_given():
    other = {**ARRAYS, "y": ARRAYS["y"].astype(np.int64)}
    turned = {name: leaf[::-1] for name, leaf in ARRAYS.items()}
    renamed = {"x": ARRAYS["x"], "z": ARRAYS["y"]}

    class Renamed(Columns):
        def __len__(self):
            return UNITS

    found = [data_fingerprint(RowSource(Records(arrays))) for arrays in (ARRAYS, other, turned)]
    found.append(data_fingerprint(RowSource(Renamed(renamed), batched=True)))
    assert len(set(found)) == 4
    rows = Records()
    assert data_fingerprint(RowSource(rows, fingerprint="mine")) == "mine"
    assert rows.asked == []


def test_large_sources_are_read_in_parts(monkeypatch):
    monkeypatch.setattr("trustml.training.sources._AT_A_TIME", 7)
    assert data_fingerprint(RowSource(Records())) == data_fingerprint(ARRAYS)


# --- A run in a folder ---


@pytest.mark.parametrize("kind", ["one record", "columns"])
def test_a_run_on_a_source_goes_on_and_ends_the_same(kind, tmp_path, expected):
    def stop(event):
        if event.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(SOURCES[kind](tmp_path), out=tmp_path / "run", checkpoint_every=0, callbacks=[stop])
    # On arrays, too: what is drawn, read and charged is the same.
    for train in (SOURCES[kind](tmp_path), ARRAYS):
        result = fit(train, out=tmp_path / "run", resume=True)
        np.testing.assert_array_equal(result.params, expected)
        assert result.charged == STEPS
    assert summarize(read_ledger(tmp_path / "run")).run["data"] == data_fingerprint(ARRAYS)


def test_other_rows_are_refused(tmp_path):
    def stop(event):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(RowSource(Records()), out=tmp_path, callbacks=[stop])
    other = {**ARRAYS, "y": 1 - ARRAYS["y"]}
    with pytest.raises(ValueError, match="`train` must be the data of the run"):
        fit(RowSource(Records(other)), out=tmp_path, resume=True)


def test_a_row_that_cannot_be_read_ends_the_run_and_charges_what_was_done(tmp_path, expected):
    made = step()
    draws = list(made.plan.sampler(0).draw(number).indices for number in range(STEPS))
    seen = set(itertools.chain(*draws[:3]))
    bad = next(row for row in draws[3].tolist() if row not in seen)
    rows = Records(broken={bad})
    source = RowSource(rows, fingerprint=data_fingerprint(ARRAYS))
    with pytest.raises(OSError, match="disk gone") as caught:
        fit(source, made, out=tmp_path, checkpoint_every=0)
    assert caught.value.__notes__ == [f"while row {bad} of `units` was read"]
    rows.broken = ()
    result = fit(source, out=tmp_path, resume=True)
    np.testing.assert_array_equal(result.params, expected)
    assert result.charged == STEPS


# --- Reading ahead ---


def test_what_is_read_ahead_is_bounded_and_ends_with_the_loop():
    read, running = [], threading.active_count()
    with Prefetcher(lambda number: number, lambda number: read.append(number) or number) as ahead:
        for number in ahead.batches(2, 100):
            time.sleep(0.02)
            assert len(read) <= number - 2 + 3
            if number == 5:
                break
    assert number == 5
    assert max(read) <= 5 + 2
    assert read == sorted(read)
    assert threading.active_count() == running


def test_steps_come_in_order_and_none_is_left_out():
    for steps in (range(0), range(1), range(3, 5), range(7)):
        with Prefetcher(lambda number: number, lambda number: number) as ahead:
            assert list(ahead.batches(steps.start, steps.stop)) == list(steps)


def test_ctrl_c_stops_the_reading():
    rows = Records()

    def stop(event):
        if event.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(RowSource(rows), step(steps=500), callbacks=[stop])
    count = len(rows.asked)
    time.sleep(0.05)
    assert len(rows.asked) == count
    (thread,) = rows.threads - {threading.main_thread()}
    assert not thread.is_alive()


def test_reading_costs_no_time_beside_a_longer_step():
    """30 ms to read, 60 ms a step: one after the other would take 90."""

    class Slow(Columns):
        def __getitem__(self, numbers):
            time.sleep(0.03)
            return super().__getitem__(numbers)

    ends = []

    def work(event):
        time.sleep(0.06)
        ends.append(time.perf_counter())

    fit(RowSource(Slow(), batched=True), step(steps=12), callbacks=[work])
    each = np.median(np.diff(ends))
    assert 0.06 <= each < 0.08


# --- What is refused ---


def _with(change, **options):
    """A source with a column made of y."""
    rows = Columns() if options else Records()
    return RowSource(rows, lambda record: {**record, "z": change(record["y"])}, **options)


@pytest.mark.parametrize(
    ("source", "error", "text"),
    [
        (lambda: Records(), TypeError, "`units` must hold arrays, got Records. Wrap what has rows"),
        (lambda: _with(lambda y: "text"), TypeError, "must hold numbers, got str"),
        (lambda: _with(lambda y: np.zeros(2 + y)), ValueError, "rows of one shape"),
        (
            lambda: _with(lambda y: y.astype(("i4", "i8")[len(y) > 1]), batched=True),
            ValueError,
            r"must have rows like row 0.*z': 'int32.*got .*z': 'int64",
        ),
        (lambda: _with(lambda y: y[0], batched=True), ValueError, r"like row 0.*z': 'int32\[\]"),
        (lambda: RowSource([]), ValueError, "must hold a row"),
        (lambda: RowSource(Records({"y": np.zeros(5)})), ValueError, "60 units as the plan says"),
    ],
)
def test_bad_sources_are_refused_before_a_step(source, error, text, tmp_path):
    made = step()
    with pytest.raises(error, match=text):
        fit(source(), made, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_source_may_have_its_lengths_shortened():
    shorten = lambda rows, taken: {**rows, "x": rows["x"][:, :3]}  # noqa: E731
    found = fit(RowSource(Records()), step(shorten=shorten, physical_batch_size="auto"))
    np.testing.assert_array_equal(found.params, fit(ARRAYS).params)


def test_a_mesh_takes_rows_of_a_source():
    mesh = jax.make_mesh((1,), ("data",))
    found = fit(RowSource(Records()), step(mesh=mesh))
    np.testing.assert_allclose(found.params, fit(ARRAYS).params, rtol=1e-5, atol=1e-6)
