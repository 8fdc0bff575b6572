"""What the commands do, called as a library: the same documents, typed."""

import json

import numpy as np
import pytest

from trustml.cli import main
from trustml.recipes import (
    AuditConfig,
    PlanConfig,
    StudyConfig,
    TrainConfig,
    audit_scores,
    check_data,
    list_data,
    plan,
    resume,
    run,
)


def printed(capsys, *arguments):
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_plan_is_that_of_the_command(capsys):
    numbers = {"num_units": 1000, "batch": 100, "steps": 50}
    planned = plan(PlanConfig(**numbers, epsilon=2.0, accountant="rdp"))
    assert planned.epsilon <= 2.0
    flags = [part for name, n in numbers.items() for part in (f"--{name}".replace("_", "-"), n)]
    arguments = map(str, ["plan", *flags, "--epsilon", 2, "--accountant", "rdp"])
    assert printed(capsys, *arguments) == planned.to_dict()


def test_an_audit_is_that_of_the_command(tmp_path, capsys):
    rng = np.random.default_rng(0)
    member = rng.random(300) < 0.5
    path = tmp_path / "scores.npz"
    np.savez(path, score=member + rng.normal(size=300), member=member)
    audit = audit_scores(AuditConfig(file=path, claimed_epsilon=0.1, fpr=(0.1,)))
    assert audit.claim.refuted
    assert audit.claim.largest_bound == audit.attacks["score"].whole.bounds[0].bound.epsilon
    found = printed(
        capsys, "audit", "scores", str(path), "--claimed-epsilon", "0.1", "--fpr", "0.1"
    )
    assert found["claim"] == audit.claim._asdict()
    assert found["attacks"]["score"]["auc"] == audit.attacks["score"].whole.result.auc._asdict()


def test_a_false_positive_rate_counts_once():
    assert AuditConfig(file="a.csv", fpr=(0.1, 0.01, 0.1)).rates == (0.1, 0.01)


def test_a_run_checks_its_settings_and_keeps_them(tmp_path):
    with pytest.raises(ValueError, match="`repeats` must be at least 1, got 0, in `config`"):
        run(TrainConfig(repeats=0), tmp_path / "run")
    with pytest.raises(ValueError, match="`physical_batch_size` must be a positive integer or"):
        run(TrainConfig(physical_batch_size="1.5"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="`--epsilon` cannot go with `--resume`"):
        resume(tmp_path, {"epsilon": 8.0})


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (lambda: AuditConfig(file="a.csv", delta=float("nan")), "delta"),
        (lambda: StudyConfig(epsilons=(1.0, float("inf"))), "epsilons"),
        (lambda: StudyConfig(mechanisms=("magic",)), "mechanisms"),
        (lambda: StudyConfig(shared={"noise": "tree"}), "noise"),
    ],
)
def test_settings_are_checked_where_they_are_made(config, named):
    with pytest.raises(ValueError, match=f"`(--)?{named}`"):
        config()


def test_files_that_differ_from_the_published_ones_are_named(tmp_path):
    entry = next(entry for entry in list_data() if entry.task == "nlu")
    (tmp_path / entry.folder).mkdir()
    wrong = entry.files[0].name
    (tmp_path / entry.folder / wrong).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / entry.folder / wrong).write_text("no row")
    check = check_data(tmp_path, entry.name)
    assert not check.holds
    verdicts = {file.file: file.verdict for file in check.files}
    assert verdicts.pop(wrong) != "published"
    assert set(verdicts.values()) == {"missing"}
