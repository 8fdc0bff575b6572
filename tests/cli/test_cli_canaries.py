"""`trustml train --audit`: canaries go in by coins, are told apart at the end, and leave again."""

import json

import jax
import jsonschema
import numpy as np
import pytest

from trustml.cli import main
from trustml.recipes.train import arms, canaries
from trustml.recipes.train.config import TrainConfig
from trustml.recipes.train.resolve import check, resolve
from trustml.report import load_schema
from trustml.training import privatizer
from trustml.training.runs.folder import RunFolder

RUN = ["--baseline-steps", "2", "--quiet", "--no-pretrain", "--audit", "--audit-canaries", "300"]
TINY = ["--steps", "2", "--batch", "64", *RUN]


def config(**changes):
    return TrainConfig(audit=True, **changes)


@pytest.fixture
def units():
    labels = np.arange(400, dtype=np.int32) % 4
    return {"tokens": np.zeros((400, 3), np.int32), "intent": labels}


def report_of(folder):
    return json.loads((folder / "report.json").read_text())


def test_coins_part_the_rows_and_half_of_them_get_a_wrong_label(units):
    found = canaries.sample_canaries(config(audit_rows=200, seed=0, audit_canaries=50), units, 4)
    parts = [*found[:4]]
    assert sorted(np.concatenate(parts)) == sorted(set(np.concatenate(parts)))
    assert found.rows == 200
    wrong = np.concatenate(parts[2:])
    assert len(wrong) == 100
    assert all(20 < len(part) < 80 for part in parts)  # 6 sigma of fair coins
    assert 4 < found.gradients.sum() < 46
    changed = canaries.flip_labels(units, found)["intent"]
    assert np.all(changed[wrong] != units["intent"][wrong])
    assert set(changed[wrong]) <= set(range(4))
    rest = np.delete(np.arange(400), wrong)
    np.testing.assert_array_equal(changed[rest], units["intent"][rest])


@pytest.mark.parametrize("change", ["no audit", "no target", "one class"])
def test_without_targets_or_an_audit_no_row_is_mislabelled(change, units):
    if change == "no target":
        del units["intent"]
    chosen = config(audit_rows=100, seed=0) if change != "no audit" else TrainConfig(audit_rows=100)
    found = canaries.sample_canaries(chosen, units, 1 if change == "one class" else 4)
    assert found.rows == len(found.members) + len(found.nonmembers) == 100
    assert canaries.flip_labels(units, found) is units
    assert len(found.gradients) == (0 if change == "no audit" else canaries.GRADIENTS)


def test_coins_survive_the_file(units, tmp_path):
    found = canaries.sample_canaries(config(audit_rows=100), units, 4)
    (RunFolder(tmp_path).canaries).write_text(json.dumps(found.to_dict()))
    for one, other in zip(found, canaries.read_canaries(tmp_path), strict=True):
        np.testing.assert_array_equal(one, other)


def test_both_epsilons_of_one_run_stand_in_the_report(finished):
    report = report_of(finished)
    jsonschema.validate(report, load_schema())
    coins = json.loads((RunFolder(finished).canaries).read_text())
    inside = sum(coins["gradients"])
    assert report["plan"]["num_units"] == report["data"]["train"] + inside
    left_out = len(coins["nonmembers"]) + len(coins["wrong_nonmembers"])
    assert report["data"]["held_out"] == left_out
    assert report["data"]["train"] == 16_000 - left_out
    sides = report["attack"]["arms"]
    kinds = {name: [one["canaries"] for one in side["audits"]] for name, side in sides.items()}
    assert kinds["private"] == ["rows", "mislabelled rows", "gradients"]
    assert kinds["baseline"] == ["rows", "mislabelled rows"]
    for side in sides.values():
        bounds = [one["value"] for one in side["audits"]]
        assert side["epsilon_lower_bound"]["value"] == max(bounds) <= 3.0
        together = sum(1 - one["confidence"] for one in side["audits"])
        assert together == pytest.approx(0.05)
    gradients = sides["private"]["audits"][-1]
    assert (gradients["members"], gradients["nonmembers"]) == (inside, 300 - inside)
    page = (finished / "report.html").read_text()
    assert "Claimed and audited epsilon" in page
    assert "Mislabelled rows</text>" in page
    assert any("gradient canaries" in note for note in report["notes"])


def test_canaries_stay_beside_the_model_and_out_of_what_is_exported(finished, tmp_path):
    from safetensors.numpy import load_file

    kept = load_file(finished / "weights.safetensors")
    assert kept["canaries"].shape == (300,)
    assert main(["export", str(finished), "--out", str(tmp_path / "model")]) == 0
    exported = load_file(tmp_path / "model" / "model.safetensors")
    assert {f"model.{name}" for name in exported} == set(kept) - {"canaries"}
    for name, leaf in exported.items():
        np.testing.assert_array_equal(leaf, kept[f"model.{name}"])


@pytest.mark.slow
def test_a_run_that_goes_on_has_the_same_canaries(finished, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"

    def stopped(*_):
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(arms, "make_report", stopped)
        assert main(["train", *TINY, "--seed", "3", "--out", str(folder)]) == 2
    assert main(["train", "--resume", str(folder), "--quiet"]) == 0
    capsys.readouterr()
    again, first = report_of(folder), report_of(finished)
    assert again["attack"] == first["attack"]
    assert again["results"]["private"]["metrics"] == first["results"]["private"]["metrics"]


@pytest.mark.slow
def test_a_trainer_that_forgets_the_noise_is_caught(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(privatizer, "add_noise", lambda sums, *_: sums)
    jax.clear_caches()
    arguments = ["--steps", "2", "--batch", "6000", "--epsilon", "1", "--no-baseline", *RUN]
    assert main(["train", *arguments, "--out", str(tmp_path / "run")]) == 0
    found = report_of(tmp_path / "run")
    bound = found["attack"]["arms"]["private"]["epsilon_lower_bound"]
    assert bound["value"] > 1.5 > found["privacy"]["epsilon"]
    assert "gradients" in bound["method"]
    assert "The audit contradicts the claim" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize("bounds", ["layer", pytest.param("block", marks=pytest.mark.slow)])
def test_bounds_by_part_give_the_canaries_one_of_their_own(bounds):
    chosen = config(bounds=bounds, steps=2, batch=64, pretrain=False, seed=0)
    plan = resolve(chosen, quiet=True).plan
    assert plan.clip_norm["canaries"] > 0
    assert set(plan.clip_norm) == {"model", "canaries"}
    parts = jax.tree.leaves(plan.clip_norm)
    assert plan.clip_bound == pytest.approx(np.linalg.norm(parts)) == pytest.approx(0.1)
    assert (len(parts) > 10) == (bounds == "layer")


def test_a_budget_that_no_plan_meets_is_no_bad_setting():
    chosen = config(epsilon=-1.0, pretrain=False)
    check(chosen)  # so a study skips the cell and trains the others
    with pytest.raises(ValueError, match="`epsilon` must"):
        resolve(chosen, quiet=True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--audit", "--adjacency", "replace-one"], "`--audit` needs `--adjacency` add-or-remove"),
        (["--audit-canaries", "5"], "`--audit-canaries` 5 needs `--audit`"),
        (["--audit", "--audit-rows", "0"], "`--audit-rows` must be at least 20 with `--audit`"),
        (["--audit", "--audit-rows", "9000"], "`--audit-rows` must be from 0 to 8000"),
    ],
)
def test_audits_that_say_nothing_are_refused(arguments, said, tmp_path, capsys):
    folder = tmp_path / "run"
    assert main(["train", *arguments, "--out", str(folder)]) == 2
    assert said in capsys.readouterr().err
    assert not folder.exists()
