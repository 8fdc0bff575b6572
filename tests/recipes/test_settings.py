"""One declaration of a setting gives its flag, help, YAML key, check and docstring."""

import dataclasses
from pathlib import Path

import pytest

from trustml.cli import flags
from trustml.recipes import TrainConfig
from trustml.recipes.settings import (
    Settings,
    fields_of,
    knob,
    names_of,
    settings,
)
from trustml.recipes.yaml_files import read_yaml, to_yaml


@settings
class Tiny(Settings):
    """A table of one setting of each kind."""

    budget: float | None = knob(None, "privacy budget", "privacy", shown="the preset's")
    steps: int = knob(10, "private steps", "training", least=1, on_resume=True)
    size: int | str = knob(256, "units at a time, or auto", "training", least=1)
    audit: bool = knob(False, "audit the claim", "audit")
    baseline: bool = knob(True, "train without privacy too", "training")
    out: Path | None = knob(None, "new folder", "run", metavar="FOLDER")
    runs: tuple[Path, ...] = knob((), "folders", "run", positional=True, metavar="RUN")


def given(*arguments):
    (values,) = flags.parse([Tiny], arguments, prog="trustml tiny", about="Does little.")
    return values


def test_flags_give_values_of_their_kind_and_leave_no_trace_of_others():
    assert given() == {}
    found = given("--budget", "3", "--steps", "1e3", "--size=13_084", "--audit", "--no-baseline")
    assert found == {
        "budget": 3.0,
        "steps": 1000,
        "size": 13_084,
        "audit": True,
        "baseline": False,
    }
    assert given("--size", "auto", "a", "b", "--out", "x") == {
        "size": "auto",
        "runs": (Path("a"), Path("b")),
        "out": Path("x"),
    }
    assert given("--baseline") == {"baseline": True}  # given, though it is the default


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--budget", "x"], "`--budget` must be a number, got 'x'."),
        (["--steps", "2.5"], "`--steps` must be a whole number, got '2.5'."),
        (["--step", "2"], "`--step` is no flag of `trustml tiny`. Did you mean `--steps`?"),
        (["--zzzz"], "`--zzzz` is no flag of `trustml tiny`. `trustml tiny --help` names them."),
        (["--budget"], "Missing value for argument '--budget'. Expected 1 values. For full"),
    ],
)
def test_bad_flags_are_one_line(arguments, message):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as caught:
        given(*arguments)
    assert str(caught.value).startswith(message)


def test_help_names_every_setting_with_its_group_and_default(capsys):
    with pytest.raises(SystemExit) as stop:
        given("--help")
    assert stop.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for field in fields_of(Tiny):
        assert field.knob.help in shown
    for text in ("privacy options", "default: the preset's", "--audit, --no-audit", "RUN"):
        assert text in shown


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stepps": 1}, "`stepps` is no setting, in a.yaml. Did you mean `steps`?"),
        ({"steps": "many"}, "`steps` must be a whole number, got 'many', in a.yaml."),
        ({"steps": True}, "`steps` must be a whole number, got True, in a.yaml."),
        ({"steps": 0}, "`steps` must be at least 1, got 0, in a.yaml."),
        ({"steps": None}, "`steps` must be a whole number, got None, in a.yaml."),
        ({"size": 0}, "`size` must be at least 1, got 0, in a.yaml."),
        ({"budget": 10**400}, f"`budget` must be a number, got {10**400}, in a.yaml."),
        ({"audit": 1}, "`audit` must be true or false, got 1, in a.yaml."),
        ({"runs": [3]}, "`runs` must be text, got [3], in a.yaml."),
    ],
)
def test_bad_values_of_a_file_are_one_line(values, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        Tiny.from_dict(values, "a.yaml")
    assert str(caught.value) == message


def test_yaml_keys_are_the_settings(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("budget: 1e-5\nsteps: 3e0\nout: runs/a\n")
    made = Tiny.from_dict(read_yaml(path), str(path))
    assert (made.budget, made.steps, made.out) == (1e-5, 3, Path("runs/a"))
    path.write_text(to_yaml(made.to_dict(), "As resolved"))
    assert Tiny.from_dict(read_yaml(path), str(path)) == made


def test_the_docstring_lists_every_setting_of_training():
    for field in dataclasses.fields(TrainConfig):
        assert f"\n  {field.name}: " in TrainConfig.__doc__
    assert "clip_norm: Largest l2 norm of one unit's gradient." in TrainConfig.__doc__


def test_a_resumed_run_may_change_only_where_and_how_a_step_is_computed():
    assert set(names_of(TrainConfig, on_resume=True)) == {
        "data_dir",
        "download",
        "model",
        "strategy",
        "physical_batch_size",
        "checkpoint_every",
        "feature_cache",
    }
