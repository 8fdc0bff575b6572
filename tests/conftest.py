"""Strict numerics, a cache of compiled programs, and slow tests left out unless asked for."""

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

import jax
import pytest

# All workers, later sessions and the processes that tests start share the compiled programs.
# JAX does not write one whole at once; whoever reads half of one compiles it again (the ignored
# warning in pyproject.toml).
HOME = Path.home() / ".cache" / "trustml" / "compiled-for-tests"
CACHE = os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(HOME))
jax.config.update("jax_compilation_cache_dir", CACHE)
SECONDS = os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
jax.config.update("jax_persistent_cache_min_compile_time_secs", float(SECONDS))

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

LEFT_OUT = pytest.StashKey[int]()


@pytest.hookimpl(trylast=True)  # after -k and -m
def pytest_collection_modifyitems(config, items):
    """Leaves the slow tests out, unless -m chose by marks or an argument names a test."""
    if config.option.markexpr or any("::" in argument for argument in config.args):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    items[:] = [item for item in items if not item.get_closest_marker("slow")]
    config.hook.pytest_deselected(items=slow)
    config.stash[LEFT_OUT] = len(slow)
    if hasattr(config, "workeroutput"):  # of a worker of xdist, each of which collects every test
        config.workeroutput["left_out"] = len(slow)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Takes the number from a worker that has ended."""
    if left_out := getattr(node, "workeroutput", {}).get("left_out"):  # one that crashed has none
        node.config.stash[LEFT_OUT] = left_out


def pytest_terminal_summary(terminalreporter, config):
    """Says what was left out, and how to run it."""
    if left_out := config.stash.get(LEFT_OUT, 0):
        terminalreporter.write_line(f"{left_out} slow tests left out: run them with -m slow")


# Rooms whose networks run for milliseconds and would compile for minutes. The core's tests meet the
# programs that users run.
UNOPTIMISED = {"audit", "cli", "fairness", "federated", "models", "recipes"}


@contextlib.contextmanager
def _unoptimised(wanted=True):
    name = "jax_disable_most_optimizations"
    before = jax.config.values[name]
    jax.config.update(name, before or wanted)
    try:
        yield
    finally:
        jax.config.update(name, before)


@pytest.fixture(scope="session")
def unoptimised():
    """For fixtures of a session: what is compiled within is not optimised."""
    return _unoptimised


@pytest.fixture(autouse=True, scope="module")
def _compilation(request):
    with _unoptimised(request.path.parent.name in UNOPTIMISED):
        yield


@pytest.fixture
def relaxed_promotion():
    """For tests that run other libraries' networks, which promote dtypes and ranks on their own."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture
def browse(tmp_path):
    """Opens a page in headless Chromium; the test is skipped where there is none."""
    at = Path("/usr/bin/chromium")
    program = str(at) if at.exists() else shutil.which("chromium")
    if program is None:
        pytest.skip("needs chromium, which is not installed here")
    names = (
        "headless",
        "disable-gpu",
        "disable-quic",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "hide-scrollbars",
        "no-sandbox",
    )
    flags = [*(f"--{name}" for name in names), f"--user-data-dir={tmp_path / 'profile'}"]

    def open_page(page, *options):
        command = [program, *flags, *options, page.resolve().as_uri()]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)

    return open_page
