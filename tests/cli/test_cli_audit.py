"""`trustml audit scores`: figures are the library's, bad files are one line, claims are judged."""

import csv
import json

import numpy as np
import pytest

from trustml.audit import attack_result, bayesian_epsilon, epsilon_from_scores, one_run_audit
from trustml.audit.attacks import by_slice, informia, lira, rmia
from trustml.audit.bounds.scores import Split
from trustml.cli import main

UNITS, SHADOWS, OTHERS = 400, 12, 150


@pytest.fixture(scope="module")
def held():
    """Arrays of an attack on a model that gives members away."""
    rng = np.random.default_rng(7)
    member = rng.random(UNITS) < 0.5
    hard = rng.normal(size=UNITS)
    half = np.arange(SHADOWS)[:, None] % 2 == 0
    trained = rng.permuted(np.tile(half, UNITS), axis=0)  # every unit in half of them
    return {
        "score": 2.0 * member + rng.normal(size=UNITS),
        "member": member,
        "group": rng.integers(0, 3, UNITS),
        "target_scores": hard + 2.0 * member + rng.normal(size=UNITS),
        "shadow_scores": hard + 2.0 * trained + rng.normal(size=(SHADOWS, UNITS)),
        "shadow_members": trained,
        "population_scores": rng.normal(size=OTHERS),
        "population_shadow_scores": rng.normal(size=(SHADOWS, OTHERS)),
    }


def plain(held, **changes):
    """The arrays of one model, some of them changed."""
    return {name: held[name] for name in ("score", "member", "group")} | changes


def write_csv(path, columns):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(
            zip(*(np.asarray(cells).tolist() for cells in columns.values()), strict=True)
        )
    return path


def write_npz(path, columns):
    np.savez(path, **columns)
    return path


WRITERS = {"a.csv": write_csv, "a.npz": write_npz}


def shown_json(capsys, *arguments):
    assert main(["audit", "scores", *map(str, arguments), "--json"]) == 0

    def refuse(text):
        raise AssertionError(f"{text} is no JSON")

    return json.loads(capsys.readouterr().out, parse_constant=refuse)


def sides(held, scores=None):
    scores = held["score"] if scores is None else scores
    return scores[held["member"]], scores[~held["member"]]


# --- Figures ---


@pytest.mark.parametrize("name", WRITERS)
def test_figures_of_independent_trials_are_those_of_the_library(name, held, tmp_path, capsys):
    found = shown_json(capsys, WRITERS[name](tmp_path / name, plain(held)), "--delta", "1e-6")
    attack = found["attacks"]["score"]
    expected = attack_result(*sides(held))
    assert attack["auc"] == expected.auc._asdict()
    assert attack["tpr_at_fpr"][0]["tpr"] == expected.tpr_at_fpr[0].tpr._asdict()
    assert attack["advantage"] == expected.advantage._asdict()
    asked = {"delta": 1e-6, "confidence": 0.95}
    split = epsilon_from_scores(*sides(held), threshold=Split(np.random.default_rng(0)), **asked)
    bounds = [
        epsilon_from_scores(*sides(held), **asked),
        split,
        epsilon_from_scores(*sides(held), method="gdp", **asked),
        bayesian_epsilon(split.counts, **asked),
    ]
    assert [bound["epsilon"] for bound in attack["bounds"]] == [bound.epsilon for bound in bounds]
    assert attack["bounds"][3]["upper"] == bounds[3].upper
    assert [bound["compared"] for bound in attack["bounds"]] == [True, False, False, False]
    assert bounds[0].epsilon > 0.5
    assert found["trials"] == "independent"
    assert "training run of its own" in found["assumed"]
    assert found["refuted"] is None


def test_figures_of_one_run_are_those_of_the_library(held, tmp_path, capsys):
    path = write_csv(tmp_path / "a.csv", plain(held))
    found = shown_json(capsys, path, "--one-run", "--confidence", "0.9")
    asked = {"delta": 1e-5, "confidence": 0.9}
    bounds = [
        one_run_audit(*sides(held), promise=each, **asked) for each in ("epsilon-delta", "gaussian")
    ]
    shown = found["attacks"]["score"]["bounds"]
    assert [bound["epsilon"] for bound in shown] == [bound.epsilon for bound in bounds]
    assert [bound["correct"] for bound in shown] == [bound.correct for bound in bounds]
    assert found["trials"] == "one run"
    assert "coin" in found["assumed"]


def test_losses_are_turned_round(held, tmp_path, capsys):
    path = write_csv(tmp_path / "a.csv", plain(held, score=-held["score"]))
    found = shown_json(capsys, path, "--lower-is-member")
    assert found["attacks"]["score"]["auc"] == attack_result(*sides(held)).auc._asdict()
    wrong = shown_json(capsys, path)
    assert wrong["attacks"]["score"]["auc"]["value"] < 0.5


def test_slices_are_judged_apart_and_paid_for(held, tmp_path, capsys):
    path = write_npz(tmp_path / "a.npz", plain(held))
    attack = shown_json(capsys, path, "--by", "group")["attacks"]["score"]
    expected = by_slice(held["score"], held["member"], held["group"])
    assert set(attack["slices"]) == {"0", "1", "2"}
    for name, one in expected.slices.items():
        assert attack["slices"][name]["auc"] == one.auc._asdict()
    assert attack["worst_slice"]["slice"] == expected.worst
    assert attack["worst_slice"]["auc"] == expected.worst_result.auc._asdict()
    # Four bounds hold together.
    here = held["group"] == 1
    rows = {name: held[name][here] for name in ("score", "member")}
    bound = epsilon_from_scores(*sides(rows), delta=1e-5, confidence=1 - 0.05 / 4)
    assert attack["slices"]["1"]["bounds"][0]["epsilon"] == bound.epsilon
    assert attack["bounds"][0]["confidence"] == pytest.approx(1 - 0.05 / 4)
    whole = epsilon_from_scores(*sides(held), delta=1e-5, confidence=1 - 0.05 / 4)
    assert attack["bounds"][0]["epsilon"] == whole.epsilon


@pytest.mark.parametrize("population", [True, False])
def test_shadow_attacks_are_those_of_the_library(population, held, tmp_path, capsys):
    kept = {k: v for k, v in held.items() if population or not k.startswith("population")}
    attacks = shown_json(capsys, write_npz(tmp_path / "a.npz", kept))["attacks"]
    signals = (held["target_scores"], held["shadow_scores"])
    chances = tuple(1 / (1 + np.exp(-each)) for each in signals)
    more, name, ratio = {}, "RMIA without population", informia
    if population:
        pair = (held["population_scores"], held["population_shadow_scores"])
        names = ("population", "population_shadows")
        more = {k: 1 / (1 + np.exp(-each)) for k, each in zip(names, pair, strict=True)}
        name, ratio = "RMIA", rmia
    assert len(attacks) == 5
    for variant in ("online", "offline"):
        trained = held["shadow_members"]
        expected = {
            f"LiRA, {variant}": lira(*signals, trained, variant=variant, variance="global"),
            f"{name}, {variant}": ratio(*chances, trained, variant=variant, **more),
        }
        for label, scores in expected.items():
            area = attack_result(*sides(held, scores)).auc.value
            assert attacks[label]["auc"]["value"] == pytest.approx(area, abs=1e-9)
            assert area > 0.65
            assert attacks[label]["bounds"][0]["confidence"] == pytest.approx(0.99)


def test_with_64_shadows_each_unit_has_its_variance(tmp_path, capsys):
    rng = np.random.default_rng(0)
    member, trained = rng.random(40) < 0.5, rng.random((64, 40)) < 0.5
    arrays = {
        "score": rng.normal(size=40),
        "member": member,
        "target_scores": rng.normal(size=40),
        "shadow_scores": rng.normal(size=(64, 40)) * rng.exponential(size=40),
        "shadow_members": trained,
    }
    found = shown_json(capsys, write_npz(tmp_path / "a.npz", arrays))["attacks"]["LiRA, online"]
    scores = lira(arrays["target_scores"], arrays["shadow_scores"], trained)
    assert found["auc"]["value"] == attack_result(*sides(arrays, scores)).auc.value


def test_missing_shadow_attacks_are_named(held, tmp_path, capsys):
    kept = {k: v for k, v in held.items() if not k.startswith("population")}
    kept["shadow_members"] = np.zeros((SHADOWS, UNITS), bool)
    path = write_npz(tmp_path / "a.npz", kept)
    found = shown_json(capsys, path)
    assert set(found["attacks"]) == {"score", "LiRA, offline", "RMIA without population, offline"}
    assert "population_scores" in found["missing"]["RMIA"]
    assert "trained with each unit, got 0" in found["missing"]["LiRA, online"]
    assert main(["audit", "scores", str(path)]) == 0
    assert "Not made: LiRA, online: `shadow_scores` must hold" in capsys.readouterr().out


# --- Claims ---


@pytest.mark.parametrize("trials", [[], ["--one-run"]])
def test_a_false_claim_is_refuted(trials, held, tmp_path, capsys):
    path = write_csv(tmp_path / "a.csv", plain(held))
    arguments = [path, *trials, "--claimed-epsilon", "0.1"]
    assert shown_json(capsys, *arguments)["refuted"] is True
    assert main(["audit", "scores", *map(str, arguments)]) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if "REFUTED" in line]
    assert (
        "epsilon 0.1 at delta 1e-05 under adding or removing one row does not hold, with 95%"
        in line
    )
    assert any(line.startswith("Assumed: ") for line in lines)


@pytest.mark.parametrize("trials", [[], ["--one-run"]])
def test_scores_that_know_nothing_refute_nothing(trials, held, tmp_path, capsys):
    rng = np.random.default_rng(5)
    path = write_csv(tmp_path / "a.csv", plain(held, score=rng.normal(size=UNITS)))
    arguments = [path, *trials, "--claimed-epsilon", "0.1"]
    assert shown_json(capsys, *arguments)["refuted"] is False
    assert main(["audit", "scores", *map(str, arguments)]) == 0
    shown = capsys.readouterr().out
    assert "REFUTED" not in shown
    assert "Not refuted" in shown


def test_slices_together_seldom_refute_what_holds(tmp_path, capsys):
    """At 80 % confidence; each of the 13 bounds at 80 % by itself refutes 37 of these 40."""
    refuted = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        columns = {
            "score": rng.normal(size=120),
            "member": rng.random(120) < 0.5,
            "group": np.arange(120) % 12,
        }
        path = write_npz(tmp_path / "a.npz", columns)
        asked = ["--one-run", "--by", "group", "--confidence", "0.8", "--claimed-epsilon", "0"]
        refuted += shown_json(capsys, path, *asked)["refuted"]
    assert refuted <= 16  # 8 expected at most, and three standard deviations


def test_a_claim_that_no_attack_could_refute_is_said(tmp_path, capsys):
    columns = {"score": np.arange(8.0), "member": np.arange(8) > 3}
    path = write_csv(tmp_path / "a.csv", columns)
    found = shown_json(capsys, path, "--claimed-epsilon", "8", "--fpr", "0.5")
    assert found["refuted"] is False
    assert "could not refute the claim" in found["notes"][0]
    assert found["attacks"]["score"]["bounds"][0]["note"].startswith("Too few canaries")


def test_the_smallest_rate_is_named(held, tmp_path, capsys):
    path = write_csv(tmp_path / "a.csv", plain(held))
    others = int((~held["member"]).sum())
    found = shown_json(capsys, path, "--fpr", "0.1,1e-4")
    assert f"smallest that can is {1 / others:.3g}" in found["notes"][0]
    assert found["attacks"]["score"]["tpr_at_fpr"][1]["tpr"] is None


def test_halves_that_were_arranged_are_noted(tmp_path, capsys):
    columns = {"score": np.arange(100.0), "member": np.arange(100) > 49}
    found = shown_json(capsys, write_csv(tmp_path / "a.csv", columns), "--one-run")
    assert "as many members as others" in " ".join(found["notes"])


# --- Output ---


@pytest.mark.parametrize("width", [20, 60, 80, 200])
def test_any_terminal_shows_every_figure(width, held, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    path = write_npz(tmp_path / "a.npz", held)
    assert main(["audit", "scores", str(path), "--by", "group", "--claimed-epsilon", "3"]) == 0
    shown = "".join(capsys.readouterr().out.split())
    for name in ("score", "LiRA,online", "RMIA,offline", "Mostexposed", "Privatequantities"):
        assert name.lower() in shown.lower()
    assert main(["audit", "scores", str(path), "--one-run"]) == 0


def test_the_folder_holds_the_whole_curve(held, tmp_path, capsys):
    path, out = write_csv(tmp_path / "a.csv", plain(held)), tmp_path / "new" / "audit"
    shown = shown_json(capsys, path, "--out", out)
    kept = json.loads((out / "audit.json").read_text())
    roc = kept["attacks"]["score"].pop("roc")
    assert kept == shown
    assert roc["tpr"][-1] == roc["fpr"][-1] == 1.0
    assert sorted(each.name for each in out.iterdir()) == ["audit.html", "audit.json"]
    assert "ruled out by the claim" not in (out / "audit.html").read_text()
    assert (out / "audit.json").stat().st_mode & 0o077 == 0


def test_without_a_sub_command_help_goes_to_the_error_stream(capsys):
    assert main(["audit"]) == 2
    shown = capsys.readouterr()
    assert "usage: trustml audit" in shown.err
    assert "scores" in shown.err
    assert shown.out == ""


def test_a_spreadsheet_of_another_program_is_read(tmp_path, capsys):
    text = "\ufeffscore, member\r\n1.5,True\r\n\r\n0.5,False\r\n2,TRUE\r\n1e-1,0\r\n"
    (tmp_path / "A.CSV").write_bytes(text.encode())
    found = shown_json(capsys, tmp_path / "A.CSV")
    assert (found["members"], found["nonmembers"]) == (2, 2)
    assert found["attacks"]["score"]["auc"]["value"] == 1.0


# --- Refusals ---


def changed(name, place, value):
    def change(columns):
        cells = np.asarray(columns[name]).astype(object)
        cells[place] = value
        return columns | {name: cells}

    return change


def refused(path, capsys, *arguments):
    """The one line of a refusal, after which there is nothing new."""
    before = sorted(path.parent.rglob("*"))
    assert main(["audit", "scores", str(path), *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert sorted(path.parent.rglob("*")) == before
    return shown.err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed("score", 3, "nan"), "`score` must be finite, got nan at {}:5. Leave the unit out"),
        (changed("score", 0, "-inf"), "`score` must be finite, got -inf at {}:2"),
        (changed("score", 3, "high"), "`score` must be a number in every row, got 'high' at {}:5"),
        (changed("member", 1, 2), "`member` must be 0, 1, true or false, got '2' at {}:3"),
        (changed("member", slice(None), 1), "two others at least, got 400 and 0"),
        (changed("member", slice(None), "false"), "two others at least, got 0 and 400"),
        (
            lambda held: {"score": held["score"], "label": held["group"]},
            "which holds score, label.",
        ),
        (lambda held: {"member": held["member"]}, "got no `score` in {}, which holds member."),
        (changed("group", 7, ""), "`group` must name a slice in every row, got none at {}:9"),
        (lambda held: held | {"group": np.arange(UNITS)}, "got 400 slices that have not"),
    ],
)
def test_a_bad_column_is_named(change, message, held, tmp_path, capsys):
    path = write_csv(tmp_path / "a.csv", change(plain(held)))
    arguments = ["--by", "group"] if "slice" in message else []
    assert message.format(path) in refused(path, capsys, *arguments, "--out", str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"score": np.array([np.nan] * UNITS)}, "`score` must be finite, got nan at row 0"),
        ({"score": np.zeros((UNITS, 1))}, "`score` must be a vector in {}, got shape (400, 1)"),
        ({"score": np.array(["a"] * UNITS)}, "`score` must hold numbers, got <U1"),
        ({"member": np.full(UNITS, 0.5)}, "`member` must be 0, 1, true or false, got 0.5 at row 0"),
        ({"member": np.ones(UNITS - 1)}, "`member` must be as long as `score`, (400,), got (399,)"),
        ({"score": np.array([None] * UNITS)}, "`FILE` must be of plain arrays, got {}: Object"),
        ({"target_scores": np.zeros(3)}, "`target_scores` must be of shape (400,), not empty, in"),
        ({"shadow_scores": np.zeros((12, 9))}, "`shadow_scores` must be of shape (12, 400)"),
        ({"shadow_scores": np.zeros((0, UNITS))}, "`shadow_scores` must be of shape (0, 400), not"),
        ({"shadow_members": np.ones((3, UNITS))}, "`shadow_members` must be of shape (12, 400)"),
        ({"shadow_members": np.full((12, UNITS), 2)}, "got 2 at (0, 0) of {}"),
        (
            {"shadow_scores": np.full((12, UNITS), np.inf)},
            "must be finite, got inf at (0, 0) of {}",
        ),
        ({"population_scores": np.zeros((2, 2))}, "`population_scores` must be of shape (4,)"),
        ({"shadow_members": np.ones((12, UNITS), bool)}, "trained without each unit, got 0"),
        ({"target_scores": None}, "shadow_members together, got no `target_scores` in {}"),
        ({"population_shadow_scores": None}, "got no `population_shadow_scores` in {}"),
    ],
)
def test_a_bad_array_is_named(changes, message, held, tmp_path, capsys):
    arrays = {k: v for k, v in (held | changes).items() if v is not None}
    path = write_npz(tmp_path / "a.npz", arrays)
    assert message.format(path) in refused(path, capsys)


def test_one_shadow_is_enough_for_one_attack_and_none_for_no_attack(held, tmp_path, capsys):
    one = held | {
        name: held[name][:1] for name in held if name.startswith("shadow") or "_shadow_" in name
    }
    one["shadow_members"] = np.zeros((1, UNITS), bool)
    found = shown_json(capsys, write_npz(tmp_path / "a.npz", one))
    assert set(found["attacks"]) >= {"score", "RMIA, offline"}
    one["shadow_members"] = np.arange(UNITS)[None] == 5
    error = refused(write_npz(tmp_path / "a.npz", one), capsys)
    assert "`shadow_scores` must be enough for one attack" in error
    assert "for unit 5" in error


@pytest.mark.parametrize("name", WRITERS)
def test_a_unit_in_both_sets_is_named(name, held, tmp_path, capsys):
    ids = np.array([f"person {place}" for place in range(UNITS)])
    member, other = np.flatnonzero(held["member"])[3], np.flatnonzero(~held["member"])[8]
    path = WRITERS[name](tmp_path / name, plain(held, id=ids))
    assert main(["audit", "scores", str(path)]) == 0
    capsys.readouterr()
    shared = ids.copy()
    shared[member] = shared[other]
    error = refused(WRITERS[name](path, plain(held, id=shared)), capsys)
    assert f"got 'person {other}' in both sets" in error
    shared[member] = ids[np.flatnonzero(held["member"])[4]]
    error = refused(WRITERS[name](path, plain(held, id=shared)), capsys)
    assert f"`id` must occur once, got '{shared[member]}'" in error


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"score,member\n", "`FILE` must be named .csv or .npz"),
        ("a.csv", None, "`FILE` must be a file that is there"),
        ("a.csv", b"", "which holds nothing"),
        ("a.csv", b"score,member\n", "at least, got 0 and 0"),
        ("a.csv", b"score,member\n1,0,3\n", "2 cells in every row, as its header has, got 3 in"),
        ("a.csv", b"score,score,member\n1,0,1\n", "must name each column once, got `score` twice"),
        ("a.csv", b'score,member\n"1,0\n', "`FILE` must be CSV in UTF-8"),
        ("a.csv", b"score,member\n\xff\xfe,0\n", "`FILE` must be CSV in UTF-8"),
        ("a.csv", b"score;member\n1;0\n", "which holds score;member"),
        ("a.npz", b"score,member\n", "`FILE` must be an archive of `numpy.savez`"),
        ("a.npz", b"", "`FILE` must be an archive of `numpy.savez`"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(name, content, message, tmp_path, capsys):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    assert message in refused(path, capsys)


def test_a_damaged_archive_is_named(held, tmp_path, capsys):
    path = write_npz(tmp_path / "a.npz", plain(held))
    data = bytearray(path.read_bytes())
    data[200:260] = bytes(60)
    path.write_bytes(data)
    assert "`FILE` must be of plain arrays" in refused(path, capsys)
    path.write_bytes(data[: len(data) // 2])
    assert "`FILE` must be an archive" in refused(path, capsys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--delta", "1"], "`--delta` must be in [0, 1), got 1.0"),
        (["--delta", "nan"], "`--delta` must be in [0, 1), got nan"),
        (["--confidence", "95"], "`--confidence` must be in (0, 1), such as 0.95, got 95.0"),
        (["--fpr", "0.1,x"], "`--fpr` must be a number for each, with commas between, got 'x'"),
        (["--fpr", "1"], "`--fpr` must be rates in (0, 1), commas between, got 1.0"),
        (["--claimed-epsilon", "-1"], "`--claimed-epsilon` must be finite and 0 or more, got -1"),
        (["--claimed-epsilon", "nan"], "`--claimed-epsilon` must be finite and 0 or more, got nan"),
        (
            ["--by", "nothing"],
            "`--by` must be a column of slices in {}, got 'nothing'; it has group.",
        ),
        (["--by", "score"], "got 'score'; it has group."),
        (["--out", "{}"], "`--out` must be a new or empty folder, got {}"),
        (["--out", "{}/.."], "`--out` must be a new or empty folder"),
    ],
)
def test_a_bad_option_is_named(arguments, message, held, tmp_path, capsys):
    path = write_csv(tmp_path / "a.csv", plain(held))
    arguments = [part.format(path.parent if part.endswith("..") else path) for part in arguments]
    arguments = [part.removesuffix("/..") for part in arguments]
    assert message.format(path) in refused(path, capsys, *arguments)


def test_coins_that_cannot_have_been_fair_are_refused(tmp_path, capsys):
    columns = {"score": np.arange(200.0), "member": np.arange(200) > 40}
    path = write_csv(tmp_path / "a.csv", columns)
    assert main(["audit", "scores", str(path)]) == 0
    capsys.readouterr()
    error = refused(path, capsys, "--one-run")
    assert "`--one-run` needs rows that fair coins put in or left out, got 159 members" in error
