"""Every bench runs its smallest case, so that none rots; what it computes beside times is right."""

import importlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import trustml

BENCH = Path(__file__).parents[2] / "bench"
FIELDS = {"bench", "case", "rival", "median_ms", "ratio", "temp_bytes", "device", "jax"}
# What each bench is called with, and the rivals that its rows must name.
QUICK = {
    "step_time": (
        ["--cases", "mlp"],
        {"plain", "null", "trustml", "private step", "vmap", "jax_privacy", "opacus ghost"},
    ),
    "step_time whole": (
        ["--cases", "mlp", "--whole"],
        {"plain step", "null step", "private step"},
    ),
    "step_time pretrained": (
        ["--cases", "hf-gpt2", "--lean"],
        {"plain", "null", "trustml", "trustml ghost", "plain step", "private step"},
    ),
    "growth": (["--cases", "sequence"], {"plain", "null", "trustml"}),
    "regret": (["--cases", "mlp"], {"bookkeeping", "gram", "materialise", "ghost"}),
    "time_to_accuracy": ([], {"baseline", "epsilon 3", "epsilon 3, vmap"}),
    "accuracy": ([], {"trustml, no privacy", "trustml, epsilon 8"}),
    "utility": (["--seeds", "1"], {"baseline", "epsilon 3"}),
    "correlated_noise": (
        [],
        {"independent", "null", "tree", "toeplitz", "banded 7", "banded 31", "blt 2", "blt 4"},
    ),
    "edp_sgd": ([], {"per example", "8 means"}),
    "extraction": ([], {"none", "all"}),
    "features": (["--cases", "snips"], {"trustml", "sentence-transformers", "torch"}),
    "finetune": (
        ["--cases", "lora", "--more"],
        {
            *("trustml", "trustml, whole rows"),
            *("opacus ghost", "opacus ghost by length", "opacus hooks"),
        },
    ),
    "federated": ([], {"trustml", "pfl"}),
    "algorithms": (["--cases", "scaffold"], {"trustml"}),
    "selection": ([], {"uniform", "log", "power:0.5", "proportional"}),
    "tabular": ([], {"epsilon 1", "epsilon 3", "baseline", "scikit-learn, standardised"}),
    "grid_noise": ([], {"float", "null", "grid 1", "grid 2", "grid 3", "none", "grid"}),
}
TAKING_CASES = [
    "accuracy",
    "algorithms",
    "correlated_noise",
    "edp_sgd",
    "features",
    "federated",
    "finetune",
    "growth",
    "regret",
    "selection",
    "step_time",
    "time_to_accuracy",
    "utility",
]
# tests/training/test_mesh.py, tests/models/test_generation.py, tests/audit/test_attacks.py
ELSEWHERE = {"weak_scaling", "generation", "shadows", "membership"}
# Values of the published checkpoints without their heads; RoBERTa's pooler is no part of ours.
PUBLISHED = {
    "hf-bert-base": 109_482_240,
    "hf-distilbert": 66_362_880,
    "hf-roberta-base": 124_645_632 - 768 * 769,
    "hf-gpt2": 124_439_808,
    "hf-distilgpt2": 81_912_576,
    "hf-bart-base": 139_420_416,
}
OF_TORCH = ["mlp", "cnn", "resnet", "bilstm", "bert", "gpt", "gpt-untied", "lora"]


@pytest.fixture
def bench(monkeypatch):
    """Imports a file of the folder by name."""
    monkeypatch.syspath_prepend(str(BENCH))
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield importlib.import_module


def rows_of(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines() if line[:1] == "{"]


def test_every_bench_has_a_quick_form_that_is_tested():
    scripts = {path.stem for path in BENCH.glob("[!_]*.py")}
    assert scripts - ELSEWHERE == {name.split()[0] for name in QUICK}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:optax.global_norm:DeprecationWarning")  # jax_privacy's call
@pytest.mark.parametrize("name", QUICK)
def test_the_quick_form_prints_one_json_line_per_rival(name, bench, capsys):
    arguments, rivals = QUICK[name]
    assert bench(name.split()[0]).main(["--quick", *arguments]) == 0
    rows = rows_of(capsys)
    assert rivals <= {row["rival"] for row in rows}
    for row in rows:
        assert set(row) >= FIELDS
        assert row["bench"] == name.split()[0]


@pytest.mark.parametrize("name", TAKING_CASES)
def test_an_unknown_case_is_refused_by_name(name, bench, capsys):
    with pytest.raises(SystemExit) as stop:
        bench(name).main(["--cases", "nothing"])
    assert stop.value.code == 2
    assert "got 'nothing'" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet", "bilstm", "lora"])
def test_a_case_has_the_clipped_sum_of_its_definition(name, bench):
    case = bench("_cases").CASES[name](True)
    found = [
        trustml.clipped_grad(case.loss, clip_norm=0.5, strategy=strategy, trainable=case.trainable)(
            case.params, case.units
        )[0]
        for strategy in ("auto", "vmap")
    ]
    ours, oracle = (jnp.concatenate([x.ravel() for x in jax.tree.leaves(one)]) for one in found)
    assert jnp.linalg.norm(ours - oracle) < 1e-5 * jnp.linalg.norm(oracle)
    if name == "lora":
        assert ours.size < 0.2 * sum(leaf.size for leaf in jax.tree.leaves(case.params))


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_pretrained_case_has_its_real_size_and_a_tiny_form(name, bench):
    pretrained = bench("_cases.pretrained")
    _, _, network = pretrained.network(name, False)
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    body = {part: leaves for part, leaves in shapes.items() if part != "head"}
    assert sum(leaf.size for leaf in jax.tree.leaves(body)) == PUBLISHED[name]
    case = pretrained.PRETRAINED[name](True)
    assert sum(leaf.size for leaf in jax.tree.leaves(case.params)) < 60_000
    losses = jax.vmap(case.loss, (None, 0))(case.params, case.units)
    assert losses.shape == (4,)
    # Small random weights tell nothing apart yet.
    chance = jnp.log(100.0 if "gpt2" in name or "bart" in name else 2.0)
    assert jnp.abs(losses - chance).max() < 0.3


def test_a_case_without_a_pytorch_module_has_rows_that_say_so(bench, tmp_path):
    step_time = bench("step_time")
    (rows,) = step_time.torch_rows("hf-gpt2", step_time.parsed(["--quick"]), tmp_path)
    assert {row["rival"] for row in rows} == set(step_time.TORCH_RIVALS)
    assert {row["note"] for row in rows} == {"no PyTorch module of this case"}
    assert {row["median_ms"] for row in rows} == {None}


@pytest.mark.slow
def test_opacus_computes_the_same_clipped_sums_or_refuses(bench, tmp_path):
    for module in ("torch", "opacus"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"needs {module}, which is not installed here")
    cases, rivals = bench("_cases").CASES, bench("_rivals")
    for name in OF_TORCH:
        rivals.write_arrays(cases[name](True), tmp_path / f"{name}.npz")
    command = [sys.executable, str(BENCH / "_torch_rivals.py"), str(tmp_path), "--heavy"]
    command += ["--cases", ",".join(OF_TORCH), "--rounds", "1", "--threads", "1"]
    done = subprocess.run(command, check=True, text=True, capture_output=True, env=dict(os.environ))
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    errors = {(row["case"], row["rival"]): row["error"] for row in rows if "error" in row}
    for name in OF_TORCH:
        for rival in ("opacus hooks", "opacus ghost"):
            if (name, rival) != ("gpt", "opacus ghost"):
                assert errors[name, rival] < 1e-4
    refused = [row for row in rows if row.get("note")]
    assert [(row["case"], row["rival"]) for row in refused] == [("gpt", "opacus ghost")]
    assert "Parameter tying is not supported" in refused[0]["note"]


def test_rows_of_processes_become_medians_over_the_null(bench):
    def row(rival, ratio, ms, **more):
        fields = {"case": "c", "rival": rival, "ratio": ratio, "median_ms": ms, "compile_s": 1.0}
        return {**fields, "temp_bytes": 10, **more}

    runs = [
        [
            row("plain", 1.0, 10.0),
            row("null", null, 10.0),
            row("trustml", 1.2, ours, temp_bytes=15),
        ]
        for null, ours in ((0.9, 11.0), (1.0, 12.0), (1.5, 30.0))
    ]
    refused = row("opacus ghost", None, None, temp_bytes=None, note="refuses")
    torch = [row("torch plain", 1.0, 6.0), row("torch null", 0.5, 6.0), refused]
    found = {one["rival"]: one for one in bench("_merging").merged([*runs, torch])}
    assert found["trustml"]["median_ms"] == 12.0
    assert found["trustml"]["over_null"] == pytest.approx(1.2)
    assert found["trustml"]["temp_ratio"] == pytest.approx(1.5)
    assert found["trustml"]["processes"] == 3
    assert found["torch plain"]["over_null"] == pytest.approx(2.0)
    assert found["torch plain"]["over_trustml"] == pytest.approx(0.5)
    assert found["opacus ghost"]["over_null"] is None
    assert found["opacus ghost"]["note"] == "refuses"


def test_a_program_over_a_cap_is_said_and_not_timed(bench):
    timing, growth = bench("_timing"), bench("growth")
    calls = []
    programs = {
        name: timing.Program(calls.append, temp_bytes=size * 2**30)
        for name, size in (("plain", 1), ("trustml", 3))
    }
    caps = growth.parsed(["--max-gib", "2"])
    assert growth._too_much(programs, caps) == "not run: 3.0 GiB, over the cap of 2"
    assert not calls
    assert "not timed: plain takes" in growth._too_much(
        programs, growth.parsed(["--max-seconds", "-1"])
    )
    assert growth._too_much(programs, growth.parsed([])) is None


@pytest.mark.slow
def test_finished_trainings_are_read_back_and_not_repeated(bench, capsys, tmp_path):
    utility, path = bench("utility"), tmp_path / "runs.jsonl"
    arguments = ["--quick", "--seeds", "1", "--out", str(path)]
    utility.main(arguments)
    first, written = rows_of(capsys), path.read_text()
    assert len(written.splitlines()) == 2
    utility.main(arguments)
    again = capsys.readouterr()
    assert path.read_text() == written
    assert again.err.count("is done") == 2
    assert [json.loads(line) for line in again.out.splitlines() if line[:1] == "{"] == first


def test_a_line_cut_off_is_removed_and_a_foreign_file_refused(bench, capsys, tmp_path):
    utility, path = bench("utility"), tmp_path / "runs.jsonl"
    line = {"case": "a", "rival": "baseline", "seed": 0, "settings": "", "scores": {}}
    path.write_text(json.dumps(line) + '\n{"case": "a", "ri')
    results = utility.Results(path)
    assert results.lines == [line]
    assert "cut off" in capsys.readouterr().err
    assert path.read_text() == json.dumps(line) + "\n"
    for text, word in (("[1]\n", "case"), ('{"case": "a"}\n', "rival"), ("no\nli", "case")):
        path.write_text(text)
        with pytest.raises(ValueError, match=f"line 1 of .* without `{word}`"):
            utility.Results(path)
        assert path.read_text() == text  # not even its last line is touched


def test_mnist_is_read_whole_or_refused(bench, monkeypatch, tmp_path):
    tasks = bench("_tasks")
    if tasks.has_mnist():
        images, digits = tasks.read_mnist()
        assert images.shape == (10_000, 28, 28, 1)
        assert images.min() == 0.0
        assert images.max() == 1.0
        assert np.bincount(digits).tolist() == [
            *(980, 1135, 1032, 1010, 982),
            *(892, 958, 1028, 974, 1009),
        ]
    monkeypatch.setenv("TRUSTML_DATA", str(tmp_path))
    assert not tasks.has_mnist()
    with pytest.raises(FileNotFoundError, match="`TRUSTML_DATA` must name a folder"):
        tasks.read_mnist()
