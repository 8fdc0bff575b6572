"""Partitions: FedNLP's own numbers, what each method promises, and files."""

import csv
import gzip
import hashlib
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from trustml.federated.partition import (
    METHODS,
    Partition,
    data_fingerprint,
    load_partition,
    parse_partition,
    partition,
    save_partition,
)
from trustml.federated.partition.label import label_rows

LABELS = np.random.default_rng(0).integers(5, size=400)
needs_data = pytest.mark.skipif(
    "TRUSTML_DATA" not in os.environ, reason="needs TRUSTML_DATA: published rows"
)


def digest(held):
    """As the reference made it from the lists of FedNLP's function."""
    return hashlib.sha256(json.dumps([rows.tolist() for rows in held]).encode()).hexdigest()[:16]


def skew(label, held):
    """Labels of each client, and the mean total variation distance to everyone's."""
    counts = np.array([np.bincount(label[rows], minlength=label.max() + 1) for rows in held])
    everyone = counts.sum(0) / counts.sum()
    return counts, np.abs(counts / counts.sum(1, keepdims=True) - everyone).sum(1).mean() / 2


def read(*names):
    return gzip.open(Path(os.environ["TRUSTML_DATA"]).joinpath(*names), "rt", encoding="utf-8")


def test_the_label_partition_is_fednlps_on_a_toy():
    label = np.repeat([0, 1, 2], [6, 3, 3])
    held = label_rows(label, 3, alpha=1.0, seed=0)
    assert skew(label, held)[0].tolist() == [[0, 2, 2], [2, 1, 1], [4, 0, 0]]
    assert held[0].tolist() == [8, 6, 11, 10]


@needs_data
@pytest.mark.parametrize(
    ("alpha", "first", "distance", "hashed"),
    [
        (0.1, [0, 0, 0, 76], 0.713684, "d7c4f1cc7cd540c0"),
        (1.0, [20, 0, 16, 40], 0.514474, "2ffd46c376c67d5f"),
        (10.0, [27, 15, 17, 17], 0.208158, "dc060af3e760e26b"),
    ],
)
def test_the_label_partition_is_fednlps_on_ag_news(alpha, first, distance, hashed):
    with read("ag_news", "test.csv.gz") as file:
        label = np.unique([row[0] for row in csv.reader(file)], return_inverse=True)[1]
    held = label_rows(label, 100, alpha=alpha, seed=42)
    counts, found = skew(label, held)
    assert counts[0].tolist() == first
    assert set(counts.sum(1).tolist()) == {76}
    assert found == pytest.approx(distance, abs=1e-6)
    assert digest(held) == hashed


@needs_data
def test_the_label_partition_is_fednlps_on_hwu64_by_scenario():
    with read("hwu64", "train.tsv.gz") as file:
        scenario = [line.split("_")[0] for line in file]
    label = np.unique(scenario, return_inverse=True)[1]
    held = label_rows(label, 30, alpha=1.0, seed=42)
    assert skew(label, held)[1] == pytest.approx(0.646914, abs=1e-6)
    assert digest(held) == "5e35ffc9520fa8b6"


@pytest.mark.parametrize("alpha", [0.05, 1.0, 100.0])
@pytest.mark.parametrize("clients", [1, 3, 7, 399, 400])
def test_every_row_has_one_client_and_label_clients_are_of_one_size(clients, alpha):
    held = label_rows(LABELS, clients, alpha=alpha, seed=1)
    assert sorted(np.concatenate(held).tolist()) == list(range(400))
    assert {len(rows) for rows in held[:-1]} <= {400 // clients}
    assert len(held[-1]) >= 400 // clients


def test_a_smaller_alpha_makes_labels_more_unequal():
    distances = [skew(LABELS, label_rows(LABELS, 20, a, seed=0))[1] for a in (0.1, 1, 10, 1000)]
    assert (np.diff(distances) < -0.05).all()


def test_ten_thousand_label_clients_take_seconds_at_most():
    label = np.random.default_rng(0).integers(64, size=50_000)
    start = time.process_time()
    held = label_rows(label, 10_000, alpha=0.1, seed=0)
    assert time.process_time() - start < 5
    assert len(held) == 10_000


FEATURES = np.vstack([np.eye(3)[np.arange(60) % 3] * 9, np.zeros((1, 3))])
FEATURES[:60] += np.random.default_rng(1).normal(size=(60, 3)) * 0.1
WAYS = {
    "iid": {"rows": 61},
    "shards:per_client=3": {"labels": np.arange(61) % 4},
    "label:alpha=0.2": {"labels": np.arange(61) % 4},
    "quantity:beta=0.5": {"rows": 61},
    "cluster:clusters=3,alpha=0.5": {"features": FEATURES},
}


@pytest.mark.parametrize("word", WAYS)
def test_each_partition_is_whole_and_a_function_of_its_seed(word):
    if word.startswith("cluster"):
        pytest.importorskip("sklearn", reason="needs scikit-learn, of the extra cluster")
    drawn = partition(word, 6, 3, **WAYS[word])
    assert drawn.clients.tolist() == list(range(6))
    assert drawn.sizes.sum() == 61
    assert str(parse_partition(str(drawn.method))) == str(drawn.method)
    again, other = (partition(word, 6, seed, **WAYS[word]) for seed in (3, 4))
    np.testing.assert_array_equal(drawn.client_of_row, again.client_of_row)
    assert (drawn.client_of_row != other.client_of_row).any()


def test_iid_clients_are_of_one_size_and_hold_everyones_labels():
    drawn = partition("iid", 4, 0, rows=400)
    assert drawn.sizes.tolist() == [100] * 4
    held = [np.flatnonzero(drawn.client_of_row == client) for client in range(4)]
    assert skew(LABELS, held)[1] < 0.1


def test_shards_show_a_client_few_labels():
    label = np.repeat(np.arange(10), 40)
    drawn = partition("shards:per_client=2", 20, 0, labels=label)
    assert drawn.sizes.tolist() == [20] * 20
    seen = [len(np.unique(label[drawn.client_of_row == client])) for client in range(20)]
    assert max(seen) <= 2
    assert min(seen) == 1  # two shards of one label happen
    assert np.mean(seen) > 1.5


def test_quantity_is_dirichlet_and_ends_where_redrawing_would_not():
    drawn = partition("quantity:beta=5", 10_000, 0, rows=20_000)
    assert drawn.sizes.min() == 1
    assert len(drawn.sizes) == 10_000
    sizes = np.concatenate(
        [partition("quantity:beta=2", 10, seed, rows=100_010).sizes for seed in range(60)]
    )
    # A share of Dirichlet(2, ..., 2) has mean 1/10 and variance (1/10)(9/10) / 21.
    shares = (sizes - 1) / 100_000
    assert shares.mean() == pytest.approx(0.1, abs=1e-6)
    assert shares.var() == pytest.approx(0.09 / 21, rel=0.25)


def test_natural_clients_are_the_owners_and_nobodys_rows_stay_out():
    drawn = partition("natural", owner=np.array([7, 7, -1, 5]))
    assert drawn.client_of_row.tolist() == [7, 7, -1, 5]
    assert (drawn.clients.tolist(), drawn.sizes.tolist()) == ([5, 7], [1, 2])
    assert partition("natural", 2, owner=["b", "a", "b"]).client_of_row.tolist() == [1, 0, 1]


def test_clusters_part_what_is_far_apart():
    pytest.importorskip("sklearn", reason="needs scikit-learn, of the extra cluster")
    drawn = partition("cluster:clusters=3,alpha=0.01", 3, 0, features=FEATURES[:60])
    held = [np.flatnonzero(drawn.client_of_row == client) for client in range(3)]
    # With so small an alpha a client sees one cluster, refills apart; clusters are rows mod 3.
    assert skew(np.arange(60) % 3, held)[1] > 0.4


def test_a_file_holds_the_partition_and_says_what_of(tmp_path):
    drawn = partition("label:alpha=0.3000000001", 8, 5, labels=LABELS)
    save_partition(drawn, tmp_path / "clients.json")
    document = json.loads((tmp_path / "clients.json").read_text())
    assert document["version"] == 1
    assert document["client_of_row"] == drawn.client_of_row.tolist()
    again = load_partition(tmp_path / "clients.json", data=data_fingerprint([LABELS]))
    np.testing.assert_array_equal(again.client_of_row, drawn.client_of_row)
    assert (again.method, again.seed, again.data) == (drawn.method, 5, drawn.data)


def test_a_fingerprint_is_of_values_in_their_order():
    print_of = data_fingerprint([LABELS])
    assert print_of == data_fingerprint([LABELS.astype(np.int32)])
    others = [LABELS[::-1], LABELS[:-1], LABELS.astype(float), LABELS.astype(str)]
    others += [LABELS.reshape(20, 20)]
    assert print_of not in [data_fingerprint([other]) for other in others]
    assert data_fingerprint([["ab", "c"]]) != data_fingerprint([["a", "bc"]])


def changed(**changes):
    drawn = partition("iid", 2, 0, rows=4)

    def write(path):
        save_partition(drawn, path)
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return write


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "must name a file that is there, got"),
        (lambda path: path.mkdir(), "must be a partition in JSON, got: "),
        (lambda path: path.write_text("{"), "must be a partition in JSON, got: "),
        (lambda path: path.write_bytes(b"\xff\xfe"), "must be a partition in JSON, got: "),
        (lambda path: path.write_text("[]"), "must be a trustml partition, got another document"),
        (changed(version=2), "must be of version 1, got 2"),
        (changed(method=3), "must hold `method`, got 3"),
        (changed(method="rich"), "`partition` must be one of natural.* got 'rich'"),
        (changed(rows=5), "must hold 5 whole numbers in `client_of_row`"),
        (changed(client_of_row=[0, 1, 0, -2]), "must hold 4 whole numbers"),
        (changed(client_of_row=[0, 1, 0.5, 1]), "must hold 4 whole numbers"),
        (changed(client_of_row=[[0], [1, 2], [0], [1]]), "must hold 4 whole numbers"),
        (changed(data="0" * 64), "must be a partition of this data.*make it again, or use the"),
    ],
)
def test_what_is_no_partition_of_this_data_is_refused(write, message, tmp_path):
    path = tmp_path / "clients.json"
    write(path)
    with pytest.raises(ValueError, match=message) as error:
        load_partition(path, data=data_fingerprint([np.array(4)]))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("word", METHODS)
def test_words_name_partitions_and_fill_in_what_is_left_out(word):
    method = parse_partition(word)
    assert set(method.settings) == set(METHODS[word])
    assert parse_partition(str(method)) == method


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: parse_partition("rich"), "one of natural, iid, shards.* got 'rich'"),
        (lambda: parse_partition("label:beta=1"), "`partition` label takes alpha, got 'beta'"),
        (lambda: parse_partition("iid:alpha=1"), "`partition` iid takes no settings, got 'alpha'"),
        (lambda: parse_partition("label:0.1"), "NAME=NUMBER, got '0.1' in 'label:0.1'"),
        (lambda: parse_partition("label:alpha=x"), "`alpha` must be a number, got 'x'"),
        (lambda: parse_partition("label:alpha=0"), "`alpha` must be finite and above 0, got 0.0"),
        (lambda: parse_partition("label:alpha=nan"), "`alpha` must be finite and above 0, got nan"),
        (lambda: parse_partition("shards:per_client=1.5"), "`per_client` must be a whole number"),
        (lambda: parse_partition("shards:per_client=0"), "`per_client` must be at least 1, got 0"),
        (lambda: partition("iid", 5, 0, rows=4), "`clients` must be at most the 4 rows, got 5"),
        (lambda: partition("iid", 0, 0, rows=4), "`clients` must be at least 1, got 0"),
        (lambda: partition("iid", None, 0, rows=4), "`clients` must say how many.*iid"),
        (lambda: partition("iid", 2, 0), "`rows` must say how many rows"),
        (lambda: partition("iid", 2, -1, rows=4), "`seed` must be at least 0, got -1"),
        (lambda: partition("iid", 2, 2**32, rows=4), r"`seed` must be below 2\*\*32"),
        (lambda: partition("label", 2, 0, rows=4), "`partition` label needs `labels`, got none"),
        (lambda: partition("label", 2, 0, labels=[[1]]), "`labels` must have one entry per row"),
        (lambda: partition("label", 2, 0, labels=[1, 2], rows=3), "`labels` must have 3 rows"),
        (
            lambda: partition("label:alpha=1e-6", 2, 0, labels=LABELS),
            "`alpha` must be larger, got 1e-06: with 5 labels",
        ),
        (
            lambda: partition("shards:per_client=3", 2, 0, labels=[1, 2, 3]),
            "at most the 3 rows, got 3 times 2",
        ),
        (
            lambda: partition("quantity:beta=1e-9", 2, 0, rows=5),
            "`beta` must be larger for 2 clients, got 1e-09",
        ),
        (lambda: partition("natural", owner=[-1, -1]), "`owner` must name somebody"),
        (lambda: partition("natural", owner=[0, -3]), "`owner` must be at least -1, got -3 in row"),
        (lambda: partition("natural", 3, owner=[0, 1]), "which has 2, got 3"),
        (lambda: partition("natural", owner=[0.5, 1.0]), "whole numbers or names, got float64"),
        (lambda: partition("natural", rows=3), "natural needs `owner`, got none"),
        (
            lambda: partition("cluster", 2, 0, features=np.full((4, 2), np.nan)),
            "`features` must be a matrix of finite numbers",
        ),
        (lambda: partition("cluster", 2, 0, features=np.ones((4, 2))), "the 1 different rows"),
    ],
)
def test_messages_name_the_argument_and_the_value(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def test_a_client_of_one_row_and_one_client_of_all_are_fine():
    one = partition("label", 4, 0, labels=[0, 0, 1, 1])
    assert one.sizes.tolist() == [1, 1, 1, 1]
    assert isinstance(one, Partition)
    assert partition("quantity", 1, 0, rows=3).sizes.tolist() == [3]
