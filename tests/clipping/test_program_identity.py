"""Tracing gives every process the same program.

A resumed run and XLA's cache of compiled programs know a program by its text. Objects hash by
their address, so an order that comes from a set of them changes from one process to the next.
"""

import json
import os
import subprocess
import sys

import pytest

from trustml.verify import architectures

# Without the networks of other libraries, which take half of the time.
NAMES = [name for name in architectures.names() if not name.startswith(("flax", "equinox"))]
STRATEGIES = ("bookkeeping", "ghost")

LOWER = """
import hashlib, json, sys
import jax
from trustml.clipping import clipped_grad
from trustml.verify.architectures import ARCHITECTURES

names, strategies, objects = json.loads(sys.argv[1])
held = [object() for _ in range(objects)]  # moves the addresses, should the system repeat them
found = {}
for name in names:
    case = ARCHITECTURES[name]()
    for strategy in strategies:
        grad = clipped_grad(case.loss, clip_norm=1.0, strategy=strategy, **case.options)
        run = jax.jit(lambda params, units, key: grad(params, units, None, key))
        text = run.lower(case.params, case.units, case.key).as_text()
        found[name + " " + strategy] = hashlib.sha256(text.encode()).hexdigest()
print(json.dumps(found))
"""


def start(seed):
    arguments = json.dumps([NAMES, STRATEGIES, 12_345 * seed])
    return subprocess.Popen(
        [sys.executable, "-c", LOWER, arguments],
        env={**os.environ, "PYTHONHASHSEED": str(seed), "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def programs():
    """The hash of every program, from two fresh processes that run side by side."""
    processes = [start(seed) for seed in (0, 1)]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    return [json.loads(output) for output in outputs]


@pytest.mark.slow
def test_processes_lower_the_same_program(programs):
    one, two = programs
    assert len(one) == len(NAMES) * len(STRATEGIES)
    assert [name for name in one if one[name] != two[name]] == []


@pytest.mark.slow
def test_different_programs_have_different_hashes(programs):
    """What is compared can differ: equal hashes all along would compare nothing."""
    one, _ = programs
    assert len(set(one.values())) > 0.9 * len(one)
