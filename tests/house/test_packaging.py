"""What is declared is what is there, and no name but ours is taken."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import trustml

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def folders():
    """Every package under the library, by the files; the link is followed by name alone."""
    found = {"trustml", "trustml.kernels"}
    for init in (ROOT / "trustml").glob("**/__init__.py"):
        found.add(".".join(init.parent.relative_to(ROOT).parts))
    for init in (ROOT / "kernels").glob("**/__init__.py"):
        found.add(".".join(("trustml", *init.parent.relative_to(ROOT).parts)))
    return found


def test_declared_packages_are_the_folders():
    declared = PYPROJECT["tool"]["setuptools"]["packages"]
    assert declared == sorted(declared)
    assert set(declared) == folders()


def test_every_file_of_code_is_in_a_package():
    for file in (ROOT / "trustml").glob("**/*.py"):
        assert (file.parent / "__init__.py").exists(), file


def test_kernels_take_no_name_of_their_own(tmp_path):
    code = "import importlib.util, sys; sys.exit(importlib.util.find_spec('kernels') is not None)"
    subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, check=True)


def test_kernels_are_found_as_a_part_of_trustml():
    spec = importlib.util.find_spec("trustml.kernels")
    assert Path(spec.origin).resolve().name == "__init__.py"


def test_the_link_resolves_to_kernels():
    link = ROOT / "trustml" / "kernels"
    if not link.is_symlink():
        pytest.skip("this checkout holds no links; installing works without")
    assert not link.readlink().is_absolute()
    assert link.resolve() == (ROOT / "kernels").resolve()


def test_the_version_is_read_without_importing():
    text = (ROOT / "trustml" / "__init__.py").read_text()
    assert re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)[1] == trustml.__version__


def test_the_top_level_holds_what_is_agreed():
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if tracked.returncode:
        pytest.skip("not a checkout")
    top = {line.split("/")[0] for line in tracked.stdout.splitlines()}
    visible = {name for name in top if not name.startswith(".")}
    folders = {"kernels", "trustml", "tests", "bench", "examples"}
    assert visible <= folders | {"LICENSE", "README.md", "pyproject.toml"}
