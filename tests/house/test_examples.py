"""Every example runs, small: what a newcomer copies first must not rot."""

import importlib.util
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples"
SMALL = {
    "federated_round": {"rows": 120, "users": 40, "rounds": 2},
    "prediction_sensitivity": {"rows": 300, "steps": 3},
    "membership_attack": {"rows": 60, "steps": 3, "others": 120},
}


def main_of(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_script_is_run_here():
    assert {path.stem for path in FOLDER.glob("*.py")} == set(SMALL)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_the_example_runs_and_prints_lines_like_those_it_promises(name, capsys):
    module = main_of(name)
    assert module.main(**SMALL[name])
    printed = capsys.readouterr().out.splitlines()
    promised = [line.strip() for line in module.__doc__.splitlines() if line.startswith("    ")][1:]
    assert [line.split()[0].strip("0123456789") for line in printed] == [
        line.split()[0].strip("0123456789") for line in promised
    ]


@pytest.mark.parametrize("name", SMALL)
def test_the_example_says_how_to_run_it(name):
    assert f"    python examples/{name}.py\n" in main_of(name).__doc__
