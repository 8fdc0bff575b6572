"""One trained run, which the tests of the commands read and none changes."""

import os

import pytest
from filelock import FileLock

from trustml.cli import main

SETTINGS = ["--steps", "2", "--batch", "64", "--baseline-steps", "2", "--quiet", "--no-pretrain"]
SETTINGS += ["--audit", "--audit-canaries", "300", "--seed", "3"]


@pytest.fixture(scope="session")
def finished(tmp_path_factory, unoptimised):
    """The folder of a tiny audited run of the default; the first worker trains it for all."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "finished"
    with FileLock(f"{folder}.lock"):
        if not (folder / "report.json").exists():  # the last file of a run
            with unoptimised():  # as all that is compared with it
                assert main(["train", *SETTINGS, "--out", str(folder)]) == 0
    return folder
