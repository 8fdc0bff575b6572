"""Strict numerics for every test: no silent promotion, no silent broadcasting of ranks."""

import os
import shutil
import subprocess
from pathlib import Path

import jax
import pytest

# Programs are not written whole at once: no worker may read what another is writing.
if "PYTEST_XDIST_WORKER" in os.environ and "JAX_COMPILATION_CACHE_DIR" in os.environ:
    own = Path(os.environ["JAX_COMPILATION_CACHE_DIR"]) / os.environ["PYTEST_XDIST_WORKER"]
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(own)  # of the processes that tests start, too
    jax.config.update("jax_compilation_cache_dir", str(own))

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


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
