"""Static and continual settings."""

import time

import numpy as np
import pytest

from trustml.federated.periods import Periods, split_periods

RNG = np.random.default_rng(0)
CLIENT = RNG.integers(-1, 6, size=300)
PERIOD = RNG.integers(0, 5, size=300)


def periods(setting="continual", **changes):
    fields = {"period_of_row": PERIOD, "client_of_row": CLIENT, "buffer": 3}
    return Periods(setting=setting, **{**fields, **changes})


def simulated(buffer):
    """Every stage's rows by devices that delete their oldest rows, one after another."""
    stages, kept = [], {client: [] for client in range(6)}
    for stage in range(4):
        held = []
        for client in range(6):
            new = [row for row in range(300) if CLIENT[row] == client and PERIOD[row] == stage]
            held += kept[client] + new
            kept[client] = (kept[client] + new)[-buffer:] if buffer else []
        stages.append(sorted(held))
    return stages


@pytest.mark.parametrize("buffer", [0, 1, 3, 1000])
def test_devices_hold_their_periods_rows_and_the_newest_older_ones(buffer):
    made = periods(buffer=buffer)
    assert [made.train(stage).tolist() for stage in range(made.stages)] == simulated(buffer)


def test_what_a_buffer_does_not_hold_is_deleted_for_good():
    made = periods(buffer=2)
    for stage in range(1, made.stages):
        gone = made.deleted(stage)
        assert set(gone) == set(made.train(stage - 1)) - set(made.train(stage))
        assert len(gone) > 0
        for later in range(stage, made.stages):
            assert not set(gone) & set(made.train(later))
    assert made.deleted(0).tolist() == []
    assert periods(buffer=1000).deleted(2).tolist() == []


def test_a_stage_is_judged_on_the_next_period_alone():
    made = periods()
    assert made.stages == 4
    for stage in range(4):
        assert (PERIOD[made.test(stage)] == stage + 1).all()
        assert not set(made.test(stage)) & set(made.train(stage))


def test_static_pools_all_periods_but_the_one_it_is_judged_on():
    made = periods("static")
    assert made.stages == 1
    assert made.train(0).tolist() == np.flatnonzero((CLIENT >= 0) & (PERIOD < 4)).tolist()
    assert (PERIOD[made.test(0)] == 4).all()


def test_rows_without_time_are_cut_into_equal_parts_in_their_order():
    found = split_periods(CLIENT, 4)
    for client in range(-1, 6):
        mine = found[client == CLIENT]
        assert (np.diff(mine) >= 0).all()
        sizes = np.bincount(mine, minlength=4)
        assert sizes.max() - sizes.min() <= 1
    assert split_periods([3, 3], 4).tolist() == [0, 2]  # fewer rows than periods
    assert split_periods([3], 4).tolist() == [0]


def test_a_million_rows_of_ten_thousand_clients_take_a_second_at_most():
    client = np.random.default_rng(0).integers(10_000, size=1_000_000)
    start = time.process_time()
    made = periods(client_of_row=client, period_of_row=split_periods(client, 5), buffer=10)
    assert len(made.train(3)) == pytest.approx(200_000 + 100_000, rel=0.01)
    assert time.process_time() - start < 2.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: periods("daily"), "`setting` must be one of static, continual, got 'daily'"),
        (lambda: periods(buffer=-1), "`buffer` must be at least 0, got -1"),
        (
            lambda: periods(client_of_row=CLIENT[:9]),
            "must have 9 rows .* got 300",
        ),
        pytest.param(
            lambda: periods(period_of_row=PERIOD * 0.5),
            "`period_of_row` must hold one whole number",
            marks=pytest.mark.kinds,
        ),
        (lambda: periods(period_of_row=PERIOD * 0), "two or more: one to train on"),
        (lambda: periods(period_of_row=PERIOD - 1), "`period_of_row` must hold periods from 0 on"),
        (lambda: periods().train(4), "`stage` must be below 4, got 4"),
        (lambda: periods().test(-1), "`stage` must be at least 0, got -1"),
        (lambda: split_periods(CLIENT, 0), "`periods` must be at least 1, got 0"),
    ],
)
def test_messages_name_the_argument_and_the_value(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
