"""`trustml audit study`: the grid, going on, rank correlations, what the page says, refusals."""

import itertools
import json

import pytest
from scipy import stats

from trustml.cli import main
from trustml.recipes.study import findings
from trustml.recipes.study.folder import SETTINGS
from trustml.recipes.train import run as training_run
from trustml.recipes.train.config import TrainConfig
from trustml.recipes.train.run import TrainResult
from trustml.report import from_json
from trustml.training.runs.folder import RunFolder

TINY = ["--steps", "2", "--batch", "64", "--max-length", "6", "--evaluate-every", "2"]
TINY += ["--no-pretrain", "--audit-rows", "40", "--audit-canaries", "40"]


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """A real study of two cells."""
    out = tmp_path_factory.mktemp("studies") / "real"
    cells = ["--epsilons", "1,8", "--mechanisms", "exact", "--no-baseline"]
    assert study(out, *TINY, *cells) == 0
    return out


def report_like(real, config, audited=None):
    """A report of the schema with figures that follow from the settings."""
    report = json.loads(json.dumps(real))
    report["results"].pop("baseline")
    report["attack"]["arms"].pop("baseline")
    epsilon = config.epsilon
    report["privacy"]["epsilon"] = epsilon - 1e-4
    side = report["attack"]["arms"]["private"]
    side["auc"] |= {"value": 0.5 + epsilon / 100, "low": 0.5, "high": 0.6}
    side["tpr_at_fpr"] = [
        {"rate": 0.01, "tpr": {**side["auc"], "value": 0.01 * epsilon}, "note": ""}
    ]
    bound = 0.1 * epsilon if audited is None else audited
    side["epsilon_lower_bound"]["value"] = bound
    private = report["results"]["private"]
    for estimate in private["metrics"].values():
        estimate["value"] = 0.9 - (0.2 if config.num_microbatches else 0.0) - 0.1 / epsilon
    if config.baseline:
        report["results"]["baseline"] = {**private, "epsilon": None}
        report["attack"]["arms"]["baseline"] = side
    return report


@pytest.fixture
def trained(finished, monkeypatch):
    """Stands for training: which cells were started and resumed, and what each may be told."""
    real = json.loads((finished / "report.json").read_text())
    seen = {"started": {}, "resumed": {}, "audited": {}, "stop_at": None, "refuse": ()}

    def start(config, folder, **_):
        if folder.name in seen["refuse"]:
            raise ValueError("no noise meets the budget")
        folder.mkdir()
        RunFolder(folder).resolved.write_text("whole: true\n")
        seen["started"][folder.name] = config
        if folder.name == seen["stop_at"]:
            raise KeyboardInterrupt("go on with: trustml train --resume")
        report = report_like(real, config, seen["audited"].get(folder.name))
        (folder / "report.json").write_text(json.dumps(report))
        return TrainResult(from_json(report), folder)

    def resume(folder, changes, **_):
        seen["resumed"][folder.name] = changes
        report = report_like(real, seen["started"][folder.name])
        (folder / "report.json").write_text(json.dumps(report))
        return TrainResult(from_json(report), folder)

    monkeypatch.setattr(training_run, "run", start)
    monkeypatch.setattr(training_run, "resume", resume)
    monkeypatch.setattr("trustml.recipes.train.resolve.check", lambda config: None)
    monkeypatch.setattr(findings, "_keys", lambda folder: {folder.name})
    return seen


def study(out, *arguments):
    return main(["audit", "study", "--out", str(out), "--quiet", *arguments])


def document(out):
    return json.loads((out / "study.json").read_text())


def refused(capsys, out, *arguments):
    assert study(out, *arguments) == 2
    return capsys.readouterr().err


@pytest.mark.slow
def test_two_real_cells_are_trained_audited_and_added_up(studied, capsys):
    found = document(studied)
    assert [row["budget_epsilon"] for row in found["rows"]] == [1.0, 8.0]
    for row in found["rows"]:
        report = json.loads((studied / row["cell"] / "report.json").read_text())
        side = report["attack"]["arms"]["private"]
        assert row["epsilon"] == report["privacy"]["epsilon"] <= row["budget_epsilon"]
        assert row["attack_auc"] == side["auc"]
        assert row["audited"] == side["epsilon_lower_bound"]
        assert [one["canaries"] for one in row["audits"]] == [
            "rows",
            "mislabelled rows",
            "gradients",
        ]
        assert row["metrics"] == report["results"]["private"]["metrics"]
        assert not row["contradicted"]
    assert found["baselines"] == []
    claims = [row["epsilon"] for row in found["rows"]]
    assert (
        max(claims) < found["together"]["epsilon"] <= 1.2 * sum(claims)
    )  # at one delta, not at their sum
    # All have ended: nothing is trained, and the answer is the same.
    before = {path: path.stat().st_mtime_ns for path in studied.glob("*/report.json")}
    assert study(studied, "--json") == 0
    assert json.loads(capsys.readouterr().out) == found
    assert before == {path: path.stat().st_mtime_ns for path in studied.glob("*/report.json")}


def test_the_grid_and_its_settings(trained, tmp_path):
    out = tmp_path / "study"
    arguments = ["--epsilons", "1,3", "--models", "conv,bilstm", "--mechanisms", "exact,edp-sgd"]
    assert study(out, *arguments, "--seeds", "2", "--steps", "7", "--delta", "1e-6") == 0
    configs = trained["started"]
    expected = itertools.product(["conv", "bilstm"], ["exact", "edp-sgd"], [1.0, 3.0], [1, 2])
    assert list(configs) == [
        f"{model}_{mechanism}_{epsilon:g}_{seed}" for model, mechanism, epsilon, seed in expected
    ]
    assert all(config.audit and config.steps == 7 for config in configs.values())
    assert all(config.delta == 1e-6 and config.seed is None for config in configs.values())
    edp = configs["bilstm_edp-sgd_3_2"]
    assert (edp.bounds, edp.num_microbatches, edp.noise_decay) == ("layer", 8, 0.95)
    assert edp.model == "bilstm"
    exact, plain = configs["conv_exact_1_1"], TrainConfig()
    for name in ("bounds", "num_microbatches", "noise_decay", "clipping", "sampling", "noise"):
        assert getattr(exact, name) == getattr(plain, name)
    bare = [name for name, config in configs.items() if config.baseline]
    assert bare == ["conv_exact_1_1", "bilstm_exact_1_1"]
    found = document(out)
    assert [row["model"] for row in found["baselines"]] == ["conv", "bilstm"]
    assert len({row["cell"] for row in found["rows"]}) == 16


def test_a_seed_gives_every_cell_one_of_its_own(trained, tmp_path, capsys):
    arguments = ["--epsilons", "1,3", "--seeds", "2", "--seed", "5"]
    found = []
    for out in (tmp_path / "a", tmp_path / "b"):
        trained["started"].clear()
        assert study(out, *arguments) == 0
        found.append({name: config.seed for name, config in trained["started"].items()})
        assert len(set(found[-1].values())) == 8
    assert found[0] == found[1]
    assert any("seed given by hand" in text for text in document(out)["dangers"])


def test_an_interrupted_study_goes_on(trained, tmp_path, capsys):
    out, trained["stop_at"] = tmp_path / "a study", "conv_exact_3_1"
    arguments = ["--epsilons", "1,3,8", "--mechanisms", "exact", "--data-dir", "here"]
    assert study(out, *arguments) == 130
    assert f"go on with: trustml audit study --out '{out}'" in capsys.readouterr().err
    assert not (out / "study.json").exists()
    trained["stop_at"] = None
    assert study(out, "--data-dir", "there") == 0  # the rest is known
    assert list(trained["started"]) == [f"conv_exact_{epsilon}_1" for epsilon in (1, 3, 8)]
    assert trained["resumed"] == {"conv_exact_3_1": {"data_dir": "there"}}
    assert trained["started"]["conv_exact_8_1"].data_dir == "there"
    assert [config.baseline for config in trained["started"].values()] == [True, False, False]
    # Adding cells trains those alone, and keeps the one training without privacy.
    trained["started"].clear()
    assert study(out, "--epsilons", "0.5,8", "--mechanisms", "edp-sgd") == 0
    assert sorted(trained["started"]) == sorted(
        ["conv_exact_0.5_1", *(f"conv_edp-sgd_{epsilon}_1" for epsilon in (1, 3, 8, 0.5))]
    )
    assert not any(config.baseline for config in trained["started"].values())
    assert len(document(out)["rows"]) == 8


def test_a_shared_setting_may_not_change(trained, tmp_path, capsys):
    out = tmp_path / "study"
    assert study(out, "--epsilons", "1", "--steps", "5", "--no-baseline") == 0
    capsys.readouterr()
    for arguments, said in (
        (["--steps", "6"], f"`--steps` must be that of the study in {out}, 5, got 6"),
        (["--batch", "64"], "`--batch` must be that of the study"),
        (["--baseline"], "`--baseline` must be that of the study"),
    ):
        assert said in refused(capsys, out, *arguments, "--epsilons", "3")
    assert len(list(out.glob("*/report.json"))) == 2
    assert study(out, "--steps", "5", "--checkpoint-every", "9") == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--epsilons", "1,0"], "`--epsilons` must be positive numbers"),
        (["--epsilons", "1,nan"], "got nan"),
        (["--epsilons", "inf"], "got inf"),
        (["--epsilons", "1,x"], "got 'x'"),
        (["--epsilons", "1,,3"], "`--epsilons` must be a list with commas between, got '1,,3'"),
        (["--mechanisms", "exact,magic"], "`--mechanisms` must be of exact, edp-sgd"),
        (["--models", "a/bert,b/bert"], "`--models` must differ in the last part"),
        (["--audit-rows", "0"], "`--audit-rows` must be at least 1, got 0"),
        (
            ["--data", "nothing"],
            "`--data` must be a file of rows, synthetic or a set of the catalogue",
        ),
        (["--preset", "nothing"], "`--preset` must be one of"),
    ],
)
def test_a_bad_grid_is_refused_before_anything_is_written(arguments, said, tmp_path, capsys):
    assert said in refused(capsys, tmp_path / "study", *arguments)
    assert not (tmp_path / "study").exists()


def test_a_setting_that_no_cell_can_use_is_refused_first(tmp_path, capsys):
    out = tmp_path / "study"
    assert "`--audit-rows` must be from 0 to 8000" in refused(capsys, out, "--audit-rows", "9000")
    assert not out.exists()


def test_a_folder_of_something_else_is_refused(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    assert "`--out` must be a new or empty folder, or that of a study" in refused(capsys, tmp_path)
    (tmp_path / SETTINGS).write_text("epsilons: [1]\n")
    assert "must be whole" in refused(capsys, tmp_path)


def test_a_cell_that_cannot_be_planned_is_skipped_and_named(trained, tmp_path, capsys):
    out, trained["refuse"] = tmp_path / "study", ("conv_exact_1_1",)
    assert study(out, "--epsilons", "1,3", "--mechanisms", "exact") == 0
    captured = capsys.readouterr()
    assert "skipped conv_exact_1_1: no noise meets the budget" in captured.err
    assert "no noise meets the budget" in captured.out
    found = document(out)
    assert [row["cell"] for row in found["rows"]] == ["conv_exact_3_1"]
    assert found["skipped"][0]["reason"] == "no noise meets the budget"
    assert trained["started"]["conv_exact_3_1"].baseline  # in place of the one that was skipped
    assert "skipped" in (out / "study.html").read_text()
    trained["refuse"] = ("conv_exact_2_1",)
    error = refused(capsys, tmp_path / "none", "--epsilons", "2", "--mechanisms", "exact")
    assert "no cell can be planned; conv_exact_2_1: no noise meets the budget" in error


def test_a_refuted_claim_cannot_be_overlooked(trained, tmp_path, capsys):
    out, trained["audited"] = tmp_path / "study", {"conv_exact_1_1": 1.5}
    assert study(out, "--epsilons", "1,3") == 0
    printed, page = capsys.readouterr().out, (out / "study.html").read_text()
    found = document(out)
    assert [row["cell"] for row in found["rows"] if row["contradicted"]] == ["conv_exact_1_1"]
    for said in (printed, page):
        assert "conv_exact_1_1: the audit contradicts the claim" in said
        assert "may look refuted by chance" in said
    assert "1.50 ABOVE THE CLAIM" in page
    assert 'class="box danger"' in page
    trained["audited"] = {}
    assert study(tmp_path / "other", "--epsilons", "1,3") == 0
    assert "danger" not in (tmp_path / "other" / "study.html").read_text().split("<body>")[1]


def test_the_page_shows_claim_attack_and_utility(trained, tmp_path):
    out = tmp_path / "study"
    assert study(out, "--epsilons", "0.5,1,3", "--models", "conv,<b>") == 0
    page = (out / "study.html").read_text()
    assert "<b>" not in page
    assert "Model &lt;b&gt;" in page
    assert page.count("<svg") >= 8
    for said in (
        "Claimed and audited epsilon",
        "ruled out: audited above claimed",
        "Attack AUC against claimed epsilon",
        "Intent accuracy against claimed epsilon",
        "All 12 cells were trained on the same data",
        "Handle this page as the data",
        "edp-sgd bounds means by layer",
    ):
        assert said in page
    assert (out / "study.html").stat().st_mode & 0o77 == 0
    total = document(out)["together"]
    assert total["epsilon"] == pytest.approx(4 * 4.5 - 12e-4)  # no ledger: by addition
    assert total["delta"] == pytest.approx(12e-5)


def test_cells_with_one_noise_key_promise_nothing_together(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(findings, "_keys", lambda folder: {"one"})
    assert study(tmp_path / "study", "--epsilons", "1,3") == 0
    total = document(tmp_path / "study")["together"]
    assert total["epsilon"] is None
    assert "epsilon is infinite" in total["statement"]


def test_correlations_are_those_of_the_rows(trained, tmp_path):
    out = tmp_path / "study"
    assert study(out, "--epsilons", "0.5,1,2,3,5,8") == 0
    found = document(out)
    every = {(one["over"], one["of"]): one for one in found["correlations"]}
    assert {over for over, _ in every} == {"all cells", "mechanism exact", "mechanism edp-sgd"}
    auc = every["mechanism exact", "attack AUC"]
    assert auc["spearman"] == pytest.approx(1.0) == auc["kendall"]
    assert auc["p"] == pytest.approx(2 / 720)
    pooled = every["all cells", "Intent accuracy"]
    claims = [row["epsilon"] for row in found["rows"]]
    values = [row["metrics"]["intent_accuracy"]["value"] for row in found["rows"]]
    assert pooled["spearman"] == pytest.approx(stats.spearmanr(claims, values).statistic)
    assert pooled["kendall"] == pytest.approx(stats.kendalltau(claims, values).statistic)
    assert pooled["spearman"] < 0.9  # another mechanism blurs it
    assert every["mechanism exact", "Intent accuracy"]["spearman"] == pytest.approx(1.0)
