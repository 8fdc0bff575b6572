"""The slow tests are left out unless asked for, and the last line says so, from workers too."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"
TESTS = """
import pytest

@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2])
def test_slow(number):
    pass

def test_quick():
    pass
"""
LEFT_OUT = "2 slow tests left out: run them with -m slow"


@pytest.mark.parametrize(
    ("arguments", "passed", "left_out"),
    [
        (["-n", "1"], 1, True),
        pytest.param(["-m", "slow"], 2, False, marks=pytest.mark.slow),
        pytest.param(["test_it.py::test_slow"], 2, False, marks=pytest.mark.slow),
    ],
)
def test_slow_tests_are_left_out_and_counted(arguments, passed, left_out, tmp_path):
    shutil.copy(CONFTEST, tmp_path)
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert f"{passed} passed" in shown
    assert (LEFT_OUT in shown) == left_out
