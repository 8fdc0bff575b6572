"""`trustml federate` as a library: clients, costs, reports, and runs that were cut off."""

import dataclasses
import functools
import json

import jax
import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trustml.metrics import SCORINGS
from trustml.recipes import FederateConfig, federate, resume_federation
from trustml.recipes.federate import run as federate_run
from trustml.recipes.federate.algorithms import ALGORITHMS
from trustml.recipes.federate.clients import hold_out
from trustml.recipes.federate.resolve import resolve
from trustml.recipes.federate.rounds_log import RoundsLog
from trustml.report import load_schema
from trustml.training.runs.metrics_log import read_lines

USERS, EACH = 12, 10
TINY = {
    "task": "classify",
    "text": "text",
    "label": "label",
    "model": "conv",
    "rounds": 4,
    "clients_per_round": 4,
    "evaluate_every": 2,
    "clients_at_once": 1,
    "seed": 0,
    "checkpoint_every": 0.0,
}


def own_rows(users=USERS):
    """Users who write of one of two things, more or less often."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(users):
        for number in range(EACH + user):
            label = "play" if rng.random() < (user % 3) / 2 else "stop"
            rows.append({"text": f"{label} it {number} {user}", "label": label, "user": f"u{user}"})
    return rows


def config_of(**changes):
    return FederateConfig(**{**TINY, "unit": "user", **changes})


@pytest.fixture(scope="module")
def finished(tmp_path_factory, unoptimised):
    """A run that nothing cut off."""
    folder = tmp_path_factory.mktemp("federated") / "run"
    with unoptimised():
        return federate(config_of(), folder, data=own_rows(), quiet=True)


@settings(derandomize=True, deadline=None)
@given(st.lists(st.integers(-1, 5), min_size=1, max_size=60), st.sampled_from([0.0, 0.1, 0.3, 0.9]))
def test_each_client_of_two_rows_keeps_one_and_trains_on_one(whose, share):
    whose = np.array(whose)
    kept = hold_out(whose, share)
    assert not kept[whose < 0].any()
    for client in set(whose[whose >= 0].tolist()):
        mine = kept[whose == client]
        if share and len(mine) > 1:
            assert mine.sum() == max(1, int(share * len(mine)))
            assert not mine.all()
        else:
            assert not mine.any()
        # The choice depends on the client alone: a plan's promise for whole clients needs it.
        np.testing.assert_array_equal(mine, hold_out(np.zeros(len(mine), int), share))


def test_costs_are_those_of_the_rounds(finished):
    report, folder = finished
    federated = report.federated
    rounds = read_lines(folder / "rounds.jsonl")
    assert [one["round"] for one in rounds] == [1, 2, 3, 4]
    assert all(one["answers"] == 4 and one["private"] is True for one in rounds)
    costs = federated.costs
    assert costs.examples == sum(one["examples"] for one in rounds)
    assert costs.bytes_up == costs.bytes_down == 4 * federated.trained_values * 16
    weights = federate_weights(folder)
    assert federated.trained_values == sum(leaf.size for leaf in weights.values())
    assert federated.curve.rounds == (2, 4)
    assert federated.curve.examples[-1] == costs.examples
    assert federated.curve.bytes[-1] == costs.bytes_up + costs.bytes_down


def federate_weights(folder):
    from safetensors.numpy import load_file

    return load_file(folder / "weights.safetensors")


def test_central_training_reads_about_as_many_rows(finished):
    central = finished.report.federated.central
    assert central is not None
    expected = json.loads((finished.folder / "report.json").read_text())["training"]["baseline"]
    batch = min(expected["expected_batch"], sum(finished.report.federated.sizes))
    assert abs(central.examples - finished.report.federated.costs.examples) <= 3 * batch


def test_clients_are_measured_by_the_rows_that_they_kept(finished):
    federation = resolve(config_of(), rows=own_rows(), quiet=True)
    population = federation.population
    params = federation.task.network.init(jax.random.key(0))
    weights = federate_weights(finished.folder)
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    assert len(weights) == len(leaves)
    trained = [row.text for row in federation.parts.train.rows]
    aside = [row.text for row in population.held_out.rows]
    assert len(aside) + sum(population.clients.counts) == len(trained)
    clients = finished.report.federated.model.clients
    assert len(clients.values) == len(population.clients)
    assert list(clients.values) == sorted(clients.values)
    assert clients.mean.value == pytest.approx(np.mean(clients.values))
    assert clients.worst_tenth == pytest.approx(clients.values[0])


def test_the_report_is_a_document_and_a_page(finished):
    document = json.loads((finished.folder / "report.json").read_text())
    jsonschema.validate(document, load_schema())
    assert document["plan"] is None
    assert document["privacy"]["epsilon"] is None
    assert document["data"]["privacy_unit"] == "user"
    page = (finished.folder / "report.html").read_text()
    for text in ("Across clients", "What these figures do not show", "Nothing is promised"):
        assert text in page
    assert "Utility against the baseline" not in page


@pytest.mark.slow
def test_a_run_that_was_cut_off_ends_as_if_it_had_not_been(finished, tmp_path, monkeypatch):
    folder, whole = tmp_path / "run", RoundsLog.__call__
    for stop in (1, 3):

        def cut(self, event, stop=stop):
            whole(self, event)
            if event.step == stop:
                raise KeyboardInterrupt

        monkeypatch.setattr(RoundsLog, "__call__", cut)
        start = resume_federation if folder.exists() else functools.partial(federate, config_of())
        with pytest.raises(KeyboardInterrupt, match="trustml federate --resume"):
            start(folder, data=own_rows(), quiet=True)
    monkeypatch.undo()
    again = resume_federation(folder, data=own_rows(), quiet=True)
    for name in ("weights.safetensors", "rounds.jsonl"):
        assert (folder / name).read_bytes() == (finished.folder / name).read_bytes()
    assert again.report.federated.curve == finished.report.federated.curve
    assert resume_federation(folder, quiet=True).report == again.report


def test_a_resumed_run_refuses_other_data(tmp_path, monkeypatch):
    def cut(self, event):
        raise KeyboardInterrupt

    monkeypatch.setattr(RoundsLog, "__call__", cut)
    with pytest.raises(KeyboardInterrupt):
        federate(config_of(), tmp_path / "run", data=own_rows(), quiet=True)
    with pytest.raises(ValueError, match="`--data` must be the data of the run"):
        resume_federation(tmp_path / "run", data=own_rows(USERS - 1), quiet=True)


def test_a_private_run_states_its_promise_for_whole_clients(tmp_path):
    config = config_of(epsilon=8.0, delta=1e-3, baseline=False, rounds=2)
    result = federate(config, tmp_path / "run", data=own_rows(), quiet=True)
    report = result.report
    assert report.plan.unit == "user"
    assert report.plan.num_units == len(report.federated.sizes)
    assert report.privacy.epsilon <= 8.0
    assert report.privacy.steps_charged == 2
    assert "one user" in report.privacy.statement
    assert report.federated.central is None
    assert report.clipping is not None
    assert not (tmp_path / "run" / "secret").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_moves_the_model(name):
    wrong = {"wrong": 1} if name == "krum" else {}
    config = config_of(algorithm=name, clients_per_round=6, **wrong)
    federation = resolve(config, rows=own_rows(), quiet=True)
    step, clients = federation.step(federation.stages[0]), federation.population.clients
    start = federation.task.start(0)
    state, metrics = step.update(
        step.init(start, key=0), federation.plan.sampler(0).draw(0), clients
    )
    moved = jax.tree.map(lambda new, old: float(np.abs(new - old).max()), state.params, start)
    assert max(jax.tree.leaves(moved)) > 0
    assert np.isfinite(float(metrics.loss))


@pytest.mark.slow
def test_artificial_clients_are_those_of_the_partition_file(tmp_path):
    config = config_of(unit=None, partition="label:alpha=0.5", clients=6, baseline=False, rounds=1)
    first = federate(config, tmp_path / "a", data=own_rows(), quiet=True)
    file = str(tmp_path / "a" / "partition.json")
    again = dataclasses.replace(config, partition=file, clients=None)
    second = federate(again, tmp_path / "b", data=own_rows(), quiet=True)
    assert first.report.federated.sizes == second.report.federated.sizes
    with pytest.raises(ValueError, match="partition of this data"):
        federate(again, tmp_path / "c", data=own_rows(USERS - 1), quiet=True)


@pytest.mark.slow
def test_selection_by_activity_is_claimed_at_the_most_active(tmp_path):
    shared = {"epsilon": 8.0, "delta": 1e-3, "baseline": False, "rounds": 2}
    config = config_of(**shared, selection="proportional", public_activity=True)
    report = federate(config, tmp_path / "run", data=own_rows(), quiet=True).report
    sizes = np.array(report.federated.sizes)
    assert report.plan.sample_rate == pytest.approx(4 * sizes.max() / sizes.sum())
    uniform = resolve(config_of(**shared), rows=own_rows(), quiet=True).plan
    assert uniform.sample_rate == pytest.approx(4 / len(sizes))
    assert report.plan.noise_multiplier > uniform.noise_multiplier
    assert "by which they are drawn" in report.privacy.statement
    assert any("drawn most often" in note for note in report.notes)


def test_rows_of_groups_stay_in_theirs():
    config = config_of(data="synthetic", task="nlu", text=None, label=None, unit=None)
    federation = resolve(config, quiet=True)
    assert federation.population.kind == "user"
    held_out = federation.population.held_out
    assert len(held_out.group_of or ()) in (0, len(held_out))
    assert held_out.groups == federation.parts.train.groups


REFUSED = {
    "`--partition` must be given": {"unit": None},
    "`--clients` must be given": {"unit": None, "partition": "iid"},
    "`--algorithm` must be one of": {"algorithm": "fedsgd"},
    "`--algorithm` must be one whose clients": {"algorithm": "scaffold", "epsilon": 1.0},
    "`--selection` must be uniform": {"selection": "log", "epsilon": 1.0},
    "`--clients-per-round` must be at most": {"clients_per_round": 100},
    "`--deadline` cannot go with `--epsilon`": {"deadline": 1.0, "epsilon": 1.0},
    "`--over-select` cannot go": {"over_select": 1.5, "algorithm": "fedbuff"},
    "`--held-out` must be": {"held_out": 1.0},
    "`--delta` needs `--epsilon`": {"delta": 1e-5},
    "`--client-rate` must be positive": {"client_rate": 0.0},
    "`--momentum` needs `--algorithm` mimelite": {"momentum": 0.5},
    "`--unbiased` must go with": {"algorithm": "median", "unbiased": True},
    "`--dropout` cannot go with `--unbiased`": {"dropout": 0.5, "unbiased": True},
    "must be at least 103 where `--wrong` is 50": {"algorithm": "krum", "wrong": 50},
    "`part` must be at least 0 and below 0.5": {"algorithm": "trimmed_mean", "trim": 0.9},
    "`--unit` must be a column": {
        "unit": None,
        "data": "synthetic",
        "text": None,
        "label": None,
        "partition": "iid",
        "clients": 5,
        "task": "nlu",
    },
}


@pytest.mark.parametrize("message", REFUSED)
def test_bad_input_is_refused_before_anything_is_written(message, tmp_path):
    changes = REFUSED[message]
    rows = None if changes.get("data") else own_rows()
    if rows is None:
        changes = {**changes, "unit": "nobody"}
    with pytest.raises(ValueError, match=message):
        federate(config_of(**changes), tmp_path / "run", data=rows, quiet=True)
    assert not (tmp_path / "run").exists()


def test_the_headline_of_every_task_is_quick_to_compute():
    # What `evaluation.headline` takes: texts of seq2seq take long to write.
    shares = {kind: [one.name for one in each.metrics] for kind, each in SCORINGS.items()}
    assert shares["seq2seq"][-1] == "perplexity"
    assert federate_run.FEDERATE == "trustml federate"


@pytest.mark.slow
def test_devices_that_are_late_or_away_are_counted(tmp_path):
    config = config_of(
        offline=0.2, dropout=0.3, speed=1.0, deadline=1.0, over_select=1.5, baseline=False
    )
    result = federate(config, tmp_path / "run", data=own_rows(), quiet=True)
    costs = result.report.federated.costs
    rounds = read_lines(tmp_path / "run" / "rounds.jsonl")
    assert costs.lost == sum(one["lost"] for one in rounds) > 0
    assert costs.virtual_seconds == pytest.approx(sum(one["seconds"] for one in rounds))
    message = 4 * result.report.federated.trained_values
    assert costs.bytes_up == message * costs.answers
    assert costs.bytes_down == message * (costs.answers + costs.lost)


@pytest.mark.slow
def test_each_period_is_judged_on_the_next(tmp_path):
    config = config_of(setting="continual", periods=3, buffer=1, rounds=4, baseline=False)
    result = federate(config, tmp_path / "run", data=own_rows(), quiet=True)
    federated = result.report.federated
    first, second = federated.periods
    assert first.deleted == 0
    # Each device keeps one row of the first period's and deletes the others, aside ones too.
    assert second.deleted > 0
    assert first.next is not None
    assert second.next is not None
    assert federated.curve.rounds == (2, 4)
    assert federated.costs.rounds == 4
    assert sum(federated.sizes) >= first.held
    assert (tmp_path / "run" / "period-2" / "ledger.jsonl").exists()
    assert (tmp_path / "run" / "weights.safetensors").exists()
    again = resume_federation(tmp_path / "run", quiet=True)
    assert again.report == result.report
