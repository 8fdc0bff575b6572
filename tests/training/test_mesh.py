"""Steps on eight simulated devices and on two processes, against the same steps on one device."""

import contextlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import pytest

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
SCRIPT = HERE / "_mesh_checks.py"
BENCH = HERE.parents[1] / "bench"
ROUNDING = 1e-5  # relative to what training did to the weights

COMPARED = [
    f"{case}: {kind}"
    for case in (
        "data parallel",
        "fully sharded",
        "by layers, in micro-batches",
        "dropout and aux, in micro-batches",
    )
    for kind in ("private", "baseline")
]
COMPARED += ["fully sharded, ghost, in micro-batches: private", "automatic micro-batch: private"]


def started(arguments, devices):
    """A process that sees so many simulated devices."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(processes, seconds):
    """What each printed last; none of them outlives this call."""
    with contextlib.ExitStack() as stack:
        for process in processes:
            stack.enter_context(process)
            stack.callback(process.kill)
        # All at once: a process whose pipe is full does not come to where the others wait for it.
        with ThreadPoolExecutor() as pool:
            ended = list(pool.map(lambda process: process.communicate(timeout=seconds), processes))
    errors = "\n".join(error[-3000:] for _, error in ended)
    assert [process.returncode for process in processes] == [0] * len(processes), errors
    return [json.loads(output.splitlines()[-1]) for output, _ in ended]


@pytest.fixture(scope="module")
def eight():
    return finished([started(["eight"], 8)], 600)[0]


@pytest.fixture(scope="module")
def two():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    return finished([started(["process", number, port], 2) for number in (0, 1)], 300)


@pytest.mark.parametrize("name", COMPARED)
def test_a_mesh_trains_as_one_device_does(name, eight):
    found = eight["compared"][name]
    assert found["weights"] < ROUNDING
    assert found["metrics"] < ROUNDING
    assert not found["drifted"]


def test_every_comparison_is_looked_at(eight):
    assert sorted(eight["compared"]) == sorted(COMPARED)


def test_padding_rows_are_there_to_be_left_out(eight):
    """Draws of fewer units than rows, and a capacity that eight devices do not divide."""
    assert eight["padding"]["capacity"] % 8
    assert max(eight["padding"]["drawn"]) < eight["padding"]["capacity"]


@pytest.mark.parametrize("name", COMPARED)
def test_no_row_is_sent_to_another_device(name, eight):
    assert eight["compared"][name]["moved rows"] == []


def test_rows_that_are_sent_are_noticed(eight):
    """Of a step whose split weights are not gathered first, the compiler gathers the rows."""
    assert eight["planted"]["moved rows"] != []


def test_weights_and_what_the_optimizer_keeps_lie_as_asked(eight):
    split = {name.split(":")[0]: found["split"] for name, found in eight["compared"].items()}
    assert split["data parallel"] == 0
    assert split["fully sharded"] == 8  # four weights and four momenta
    assert split["by layers, in micro-batches"] == 6  # all but the biases
    placed = eight["placed"]
    assert placed["specs"]["up"] == "P('data', None)"
    assert placed["key"] == "P()"
    assert placed["on one device"] == 0


def test_device_and_host_data_give_the_same_rows(eight):
    assert eight["placed"]["host and device rows"] == 0


def test_an_automatic_micro_batch_is_shared_evenly(eight):
    found = eight["compared"]["automatic micro-batch: private"]["physical_batch_size"]
    assert found is None or found % 3 == 0


def test_a_run_goes_on_with_other_devices(eight):
    found = eight["resumed"]
    assert (found["paused"], found["stopped"], found["steps"]) == (2, "complete", 6)
    assert found["charged"] == 6
    assert len(found["keys"]) == 1  # nothing was repeated, so the noise is that of one device
    assert found["weights"] < ROUNDING
    assert "nothing is repeated" in found["notes"][-1]
    assert found["devices"] == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("axis", 'ValueError: `mesh` must have an axis "data"'),
        ("kind", "TypeError: `mesh` must be a jax.sharding.Mesh, got int"),
        ("physical_batch_size", "ValueError: `physical_batch_size` must be a multiple of 8"),
        ("other mesh", "ValueError: `params` must lie on `mesh`"),
        ("other device", "ValueError: `params` must lie on `mesh`"),
        ("other step", "ValueError: `units` must be gathered by this step"),
        ("backend", "ValueError: `units` must be NumPy arrays or lie on the mesh's backend (tpu)"),
    ],
)
def test_what_a_mesh_cannot_do_is_refused(name, message, eight):
    found = eight["refused"][name]
    assert found.startswith(message)
    assert "\n" not in found


# --- Two processes ---


@pytest.mark.parametrize("kind", ["private", "baseline"])
def test_two_processes_train_as_one_device_does(kind, two, eight):
    for found in two:
        assert found["devices"] == [4, 2]
        for name, expected in eight["one device"][kind].items():
            np.testing.assert_allclose(found[kind][name], expected, rtol=1e-6, atol=1e-6)


def test_two_processes_see_the_same_and_share_a_fresh_key(two):
    first, second = two
    assert first["losses"] == second["losses"]
    assert len(first["losses"]) == 3
    assert first["key"] == second["key"]


def test_what_two_processes_cannot_do_is_refused(two):
    for found in two:
        assert found["draws"].startswith("ValueError: `draw` must be the same on every process")
        assert found["out"].startswith("ValueError: `out` must be None where 2 processes train")
        assert not found["left"]


# --- Weak scaling ---


@pytest.fixture(scope="module")
def weak_scaling():
    sys.path.insert(0, str(BENCH))
    try:
        spec = importlib.util.spec_from_file_location("weak_scaling", BENCH / "weak_scaling.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCH))
    return module


def test_the_quick_form_of_weak_scaling_runs(weak_scaling, capsys):
    assert weak_scaling.main(["--quick"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line[:1] == "{"]
    assert [row["rival"] for row in rows] == ["plain step", "private step"]
    plain, private = rows
    weights = plain["argument_bytes"] / 3 * 2  # weights and two moments, split over two devices
    assert plain["all_gather"] == pytest.approx(weights, rel=0.05)  # and some rows for the lookup
    assert plain["collective_bytes"] >= plain["all_gather"] + plain["all_reduce"]
    ratio = private["collective_bytes"] / plain["collective_bytes"]
    assert private["ratio"] == pytest.approx(ratio, abs=1e-4)
    assert ratio < 1.02


PROGRAM = """HloModule step

%body (arg: (s32[], f32[4,8])) -> (s32[], f32[4,8]) {
  %arg = (s32[], f32[4,8]{1,0}) parameter(0)
  %x = f32[4,8]{1,0} get-tuple-element(%arg), index=1
  %dot.1 = f32[4,4]{1,0} dot(%x, %x), lhs_contracting_dims={1}, rhs_contracting_dims={1}
  %sum = f32[4,4]{1,0} all-reduce(%dot.1), channel_id=1, to_apply=%add
  ROOT %out = (s32[], f32[4,8]{1,0}) tuple(%i, %x)
}

%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %c = f32[] add(%a, %b)
}

ENTRY %main (p: f32[4,8]) -> f32[4,8] {
  %p = f32[4,8]{1,0} parameter(0)
  %loop = (s32[], f32[4,8]{1,0}) while(%t), condition=%c, body=%body, BACKEND
  %open = (s32[], f32[4,8]{1,0}) while(%loop), condition=%c, body=%body
  %all = (bf16[8,8]{1,0}, pred[16]{0}) all-gather(%p, %q), channel_id=2, dimensions={0}
  ROOT %r = f32[4,8]{1,0} get-tuple-element(%loop), index=1
}
""".replace("BACKEND", 'backend_config={"known_trip_count":{"n":"5"}}')


def test_the_plan_of_weak_scaling_serves_its_largest_network(weak_scaling):
    for make in weak_scaling.MAKERS.values():
        _, state, units = weak_scaling.step_of(make, weak_scaling.CASES["7b"], 1)
        assert sum(leaf.size for leaf in jax.tree.leaves(state.params)) > 6e9
        assert units.shape == (2, 1024)


def test_programs_are_read_with_their_loops(weak_scaling):
    found = weak_scaling.read(PROGRAM)
    assert found["flops"] == 6 * 2 * 4 * 4 * 8  # five turns, and one of the loop that is open
    assert found["all-reduce"] == 6 * 4 * 4 * 4
    assert found["all-gather"] == 8 * 8 * 2 + 16
    assert found["unknown"] == 4 * 4 * 4
    assert weak_scaling.moved(found) == found["all-reduce"] + found["all-gather"]
