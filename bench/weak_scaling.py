"""What does a step cost per device as devices are added? From compiled programs: no hardware.

    python bench/weak_scaling.py                  # about 15 minutes on two cores
    python bench/weak_scaling.py --cases 7b --devices 8,256
    python bench/weak_scaling.py --quick          # tiny sizes: does it run?

Every device takes the same number of units, and weights and optimizer state are split over all of
them. The whole training step with Adam is compiled for simulated CPU devices, private and plain,
and read: `flops` of matrix products, `collective_bytes` of the results of collective operations,
and memory; all per device and step. Loops count as often as they turn; those whose length depends
on the data, as once, and `unknown_loops_bytes` says how much of the bytes is theirs. `ratio` is
the private step's collective bytes over the plain one's. XLA for CPU leaves an all-reduce where
those for accelerators write a reduce-scatter, in both steps alike.

Expected: README.md holds the table last measured, with JAX version and command.
"""

import argparse
import json
import math
import os
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent))

import jax
import jax.numpy as jnp
import optax
from _timing import print_rows, where

import trustml
from trustml.training import fully_sharded


class Shape(NamedTuple):
    """A GPT-style decoder with tied embeddings, its layers under scan and remat."""

    layers: int
    width: int
    heads: int
    time: int = 1024
    vocabulary: int = 50_432  # GPT-2's, rounded up so that 256 devices can share it
    units: int = 4  # per device and step


CASES = {
    "gpt2-small": Shape(12, 768, 12),
    "1.3b": Shape(24, 2048, 16),
    "7b": Shape(32, 4096, 32, units=2),
}
TINY = {"tiny": Shape(2, 128, 2, time=16, vocabulary=256, units=2)}
DEVICES = (1, 8, 64, 256)
MAKERS = {"plain step": trustml.baseline_step, "private step": trustml.private_step}


# --- What is compiled ---


def abstract_params(shape: Shape):
    """Shapes of the weights; nothing is allocated."""
    layers, width = shape.layers, shape.width

    def leaf(*sizes):
        return jax.ShapeDtypeStruct(sizes, jnp.float32)

    block = {name: leaf(layers, width, width) for name in "qkvo"}
    block |= {"up": leaf(layers, width, 4 * width), "down": leaf(layers, 4 * width, width)}
    block |= {"bup": leaf(layers, 4 * width), "bdown": leaf(layers, width)}
    block |= {name: leaf(layers, width) for name in ("scale1", "scale2")}
    return {
        "embedding": leaf(shape.vocabulary, width),
        "position": leaf(shape.time, width),
        "scale": leaf(width),
        "block": block,
    }


def loss_of(shape: Shape):
    """Next-token loss of one unit, [time] integers."""
    heads, size = shape.heads, shape.width // shape.heads
    causal = jnp.tril(jnp.ones((shape.time, shape.time), bool))

    def normalised(x, scale):
        return x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-5) * scale

    def block(x, p):
        y = normalised(x, p["scale1"])
        q, k, v = ((y @ p[name]).reshape(shape.time, heads, size) for name in "qkv")
        scores = jnp.einsum("thd,shd->hts", q, k) / math.sqrt(size)
        weights = jax.nn.softmax(jnp.where(causal, scores, -1e9))
        x = x + jnp.einsum("hts,shd->thd", weights, v).reshape(shape.time, -1) @ p["o"]
        y = normalised(x, p["scale2"])
        return x + jax.nn.gelu(y @ p["up"] + p["bup"]) @ p["down"] + p["bdown"], None

    def loss(p, tokens):
        x = p["embedding"][tokens] + p["position"]
        x, _ = jax.lax.scan(jax.checkpoint(block), x, p["block"])
        logits = normalised(x, p["scale"]) @ p["embedding"].T
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits)[:-1], tokens[1:, None], axis=-1)
        return -jnp.mean(chosen)

    return loss


def step_of(make, shape: Shape, devices: int):
    """A step on `devices` devices, and the shapes of its state and its units."""
    batch = shape.units * devices
    params = abstract_params(shape)
    plan = trustml.PrivacyPlan(
        clip_norm=1.0,
        noise_multiplier=1.0,
        sample_rate=1.0,
        steps=1_000,
        expected_batch=batch,
        num_units=batch,
        sampling="fixed",
        adjacency="replace-one",
        accountant="rdp",
        dimension=float(sum(leaf.size for leaf in jax.tree.leaves(params))),
    )
    auto = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((devices,), ("data",), axis_types=auto, devices=jax.devices()[:devices])
    step = make(loss_of(shape), optax.adam(1e-4), plan, mesh=mesh)
    state = step.shapes(fully_sharded(params, mesh))
    return step, state, jax.ShapeDtypeStruct((batch, shape.time), jnp.int32)


def compiled_step(make, shape: Shape, devices: int):
    """A whole step on `devices` devices, compiled, and the seconds that took."""
    step, state, units = step_of(make, shape, devices)
    start = time.perf_counter()
    program = step.lower(state, units).compile()
    return program, time.perf_counter() - start


# --- What is read ---


_KINDS = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")
_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "s64": 8, "f64": 8}
_LINE = re.compile(r"^\s*(?:ROOT )?%?([\w.-]+) = (\(.*?\)|\S+) ([\w-]+)\((.*)$")
_HEAD = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")


class Operation(NamedTuple):
    """One line of a program."""

    result: str
    kind: str
    rest: str  # operands and attributes


def computations(text: str):
    """`(entry, computations)`: each a dictionary from names to operations."""
    found: dict[str, dict[str, Operation]] = {}
    entry, current = "", None
    for line in text.splitlines():
        if head := _HEAD.match(line):
            current = found.setdefault(head[2], {})
            entry = head[2] if head[1] else entry
        elif current is not None and (match := _LINE.match(line)):
            current[match[1]] = Operation(match[2], match[3], match[4])
    return entry, found


def size(result: str) -> int:
    """Bytes of an array or a tuple of arrays."""
    return sum(
        math.prod(map(int, filter(None, dims.split(",")))) * _BYTES.get(kind, 4)
        for kind, dims in _ARRAY.findall(result)
    )


def _products(operation: Operation, names: dict[str, Operation]) -> int:
    """FLOPs of a matrix product."""
    left = _ARRAY.match(operation.rest) or _ARRAY.match(
        names[re.match(r"%?([\w.-]+)", operation.rest)[1]].result
    )
    shape = [int(each) for each in left[2].split(",") if each]
    axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", operation.rest)[1]
    inner = math.prod(shape[int(axis)] for axis in axes.split(",") if axis)
    outer = _ARRAY.match(operation.result)[2]
    return 2 * inner * math.prod(int(each) for each in outer.split(",") if each)


def read(text: str) -> Counter:
    """FLOPs of matrix products and bytes of collectives in one run of a program, per device.

    A loop whose length is not known at compile time counts as one turn, and what it moves in that
    stands under `unknown` too. Of alternatives the dearest counts.
    """
    entry, found = computations(text)
    known: dict[str, Counter] = {}

    def total(name: str) -> Counter:
        if name not in known:
            known[name] = sum((one(each, found[name]) for each in found[name].values()), Counter())
        return known[name]

    def one(operation: Operation, names) -> Counter:
        kind = operation.kind.removesuffix("-start")
        if kind in _KINDS:
            return Counter({kind: size(operation.result)})
        if kind == "dot":
            return Counter({"flops": _products(operation, names)})
        if kind == "while":
            return _turns(operation, total)
        if kind == "conditional":
            branches = re.search(r"branch_computations=\{(.*?)\}", operation.rest)
            listed = (
                branches[1].split(",")
                if branches
                else re.findall(r"(?:true|false)_computation=(\S+?)[,\s]", operation.rest + " ")
            )
            each = [total(branch.strip().lstrip("%")) for branch in listed]
            return max(each, key=lambda counts: (moved(counts), counts["flops"]))
        called = re.search(r"(?:calls|to_apply)=%?([\w.-]+)", operation.rest)
        return total(called[1]) if called and kind in ("fusion", "call") else Counter()

    return total(entry)


def _turns(operation: Operation, total) -> Counter:
    body = total(re.search(r"body=%?([\w.-]+)", operation.rest)[1])
    length = re.search(r'known_trip_count":\{"n":"(\d+)"', operation.rest)
    if length is None:
        return body + Counter({"unknown": moved(body) - body["unknown"]})
    return Counter({kind: int(length[1]) * count for kind, count in body.items()})


def moved(counts: Counter) -> int:
    """Bytes of all collectives."""
    return sum(counts[kind] for kind in _KINDS)


# --- The table ---


def measure(name: str, shape: Shape, devices: int) -> list[dict]:
    """Rows of one case on one number of devices, in this process."""
    rows: list[dict] = []
    for rival, make in MAKERS.items():
        program, seconds = compiled_step(make, shape, devices)
        counts, memory = read(program.as_text()), program.memory_analysis()
        rows.append(
            {
                "bench": "weak_scaling",
                "case": name,
                "rival": rival,
                "devices": devices,
                "median_ms": None,  # nothing is run
                "ratio": None,
                "flops": counts["flops"],
                "collective_bytes": moved(counts),
                **{kind.replace("-", "_"): counts[kind] for kind in _KINDS},
                "unknown_loops_bytes": counts["unknown"],
                "argument_bytes": memory.argument_size_in_bytes,
                "temp_bytes": memory.temp_size_in_bytes,
                "compile_s": round(seconds, 1),
                **where(),
            }
        )
    plain, private = rows
    if plain["collective_bytes"]:
        ratio = private["collective_bytes"] / plain["collective_bytes"]
        plain["ratio"], private["ratio"] = 1.0, round(ratio, 4)
    return rows


def in_process(name: str, devices: int) -> list[dict]:
    """The same in a process of its own, which has so many simulated devices."""
    print(f"{name} on {devices}", file=sys.stderr, flush=True)
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    command = [sys.executable, __file__, "--one", "--cases", name, "--devices", str(devices)]
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, env=environment)
    return [json.loads(line) for line in done.stdout.splitlines() if line[:1] == "{"]


def main(arguments=None) -> int:
    """Runs the bench."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default=None, help=f"of {', '.join(CASES)}; all by default")
    parser.add_argument("--devices", default=",".join(map(str, DEVICES)), help="how many, each")
    parser.add_argument("--quick", action="store_true", help="a tiny network on two devices")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    shapes = CASES | TINY
    names = chosen.cases.split(",") if chosen.cases else list(CASES)
    counts = chosen.devices.split(",")
    if chosen.quick:
        names, counts = list(TINY), ["2"]
    if unknown := [name for name in names if name not in shapes]:
        parser.error(f"--cases must be of {', '.join(CASES)}, got {unknown[0]!r}")
    if wrong := [count for count in counts if not count.isdigit() or int(count) < 1]:
        parser.error(f"--devices must be positive numbers with commas between, got {wrong[0]!r}")
    if chosen.one:
        print_rows(measure(names[0], shapes[names[0]], int(counts[0])))
        return 0
    rows = [row for name in names for count in counts for row in in_process(name, int(count))]
    print_table(rows)
    print_rows(rows)
    return 0


def print_table(rows) -> None:
    """The same for eyes, as Markdown."""
    print("| case | devices | rival | TFLOP | collective GB | ratio | state GB | temporary GB |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.3f}"
        sizes = [row[name] / 1e9 for name in ("collective_bytes", "argument_bytes", "temp_bytes")]
        print(
            f"| {row['case']} | {row['devices']} | {row['rival']} | {row['flops'] / 1e12:.2f} | "
            f"{sizes[0]:.2f} | {ratio} | {sizes[1]:.2f} | {sizes[2]:.2f} |"
        )


if __name__ == "__main__":
    sys.exit(main())
