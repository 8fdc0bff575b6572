"""What does privacy cost per step? Clipped gradients, and whole steps, against the plain ones.

    python bench/step_time.py                 # about 15 minutes on two cores
    python bench/step_time.py --cases mlp,bert --processes 1
    python bench/step_time.py --quick         # tiny sizes: does it run?

Each process interleaves its rivals in rounds; a rival's figure is the median over processes of its
median ratio to the plain gradient in the same round. The row `null` is the plain gradient against
itself: what a ratio of one looks like here. `over_null` is ratio / null. `private step` stands
against `plain step`, both with Adam on the same draws; it includes noise and optimizer.

Expected: README.md holds the table last measured, with device and versions.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import jax
import jax.numpy as jnp
import optax
from _cases import CASES
from _timing import Program, compiled, interleaved, median_ratio, print_rows, where

import trustml

DEFAULT = ("mlp", "cnn", "bert", "gpt")
CLIP_NORM = 1.0


def plain_gradient(loss):
    """The non-private gradient of the mean loss."""
    return lambda p, u: jax.grad(lambda p: jnp.mean(jax.vmap(loss, (None, 0))(p, u)))(p)


def clipped(loss, strategy):
    """Sum of clipped per-example gradients, by one of our strategies."""
    grad = trustml.clipped_grad(loss, clip_norm=CLIP_NORM, strategy=strategy)
    return lambda p, u: grad(p, u)[0]


def jax_privacy_gradient(loss):
    """The same by jax_privacy; None where it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import jax_privacy
    except ImportError:
        return None
    return jax_privacy.clipped_grad(
        loss, l2_clip_norm=CLIP_NORM, batch_argnums=1, keep_batch_dim=False
    )


def whole_step(case, build) -> Program:
    """A training step with Adam on fixed-size draws, so that both sides compute as many rows."""
    batch = jax.tree.leaves(case.units)[0].shape[0]
    plan = trustml.PrivacyPlan(
        clip_norm=CLIP_NORM,
        noise_multiplier=1.0,
        sample_rate=1.0,
        steps=10_000,
        expected_batch=batch,
        num_units=batch,
        sampling="fixed",
        adjacency="replace-one",
        accountant="rdp",
    )
    step = build(case.loss, optax.adam(1e-3), plan)
    draws = plan.batches(seed=0)
    held = {"state": step.init(case.params, key=0)}

    def prepare():
        held["draw"] = next(draws)
        held["batch"] = step.gather(held["draw"], case.units)
        return held["batch"].rows

    def call(_):
        held["state"], metrics = step.update(held["state"], held["draw"], held["batch"])
        return held["state"].params, metrics.loss

    start = time.perf_counter()
    prepare()
    jax.block_until_ready(call(None))
    return Program(call, prepare, compile_s=time.perf_counter() - start)


def measure(name: str, *, quick: bool, heavy: bool, rounds: int) -> list[dict]:
    """Rows of one case in this process."""
    case = CASES[name](quick)
    make = lambda function: compiled(function, case.params, case.units)  # noqa: E731
    plain = plain_gradient(case.loss)
    light = {
        "plain": make(plain),
        "null": make(plain),
        "trustml": make(clipped(case.loss, "auto")),
        "trustml ghost": make(clipped(case.loss, "ghost")),
        "plain step": whole_step(case, trustml.baseline_step),
        "private step": whole_step(case, trustml.private_step),
    }
    rows = _rows(name, light, interleaved(light, rounds))
    if heavy:  # apart: what they allocate slows their neighbours
        slow = {"plain": light["plain"], "vmap": make(clipped(case.loss, "vmap"))}
        rival = jax_privacy_gradient(case.loss)
        if rival is not None:
            slow["jax_privacy"] = make(rival)
        rows += _rows(name, slow, interleaved(slow, max(2, rounds // 4)))[1:]
    return rows


def _rows(name, programs, times):
    base = {"private step": "plain step", "plain step": "plain"}
    return [
        {
            "bench": "step_time",
            "case": name,
            "rival": rival,
            "median_ms": round(statistics.median(times[rival]), 3),
            "ratio": round(median_ratio(times[rival], times[base.get(rival, "plain")]), 4),
            "temp_bytes": program.temp_bytes,
            "compile_s": round(program.compile_s, 2),
            **where(),
        }
        for rival, program in programs.items()
    ]


def merged(runs: list[list[dict]]) -> list[dict]:
    """Medians over processes, and each ratio over the null row's."""
    rows = []
    for same in zip(*runs, strict=True):
        row = dict(same[0])
        for field in ("median_ms", "ratio", "compile_s"):
            row[field] = round(statistics.median(one[field] for one in same), 4)
        rows.append(row)
    null = {row["case"]: row["ratio"] for row in rows if row["rival"] == "null"}
    plain = {row["case"]: row["temp_bytes"] for row in rows if row["rival"] == "plain"}
    for row in rows:
        row["over_null"] = round(row["ratio"] / null[row["case"]], 4)
        row["temp_ratio"] = (
            None if row["temp_bytes"] is None else round(row["temp_bytes"] / plain[row["case"]], 3)
        )
        row["processes"] = len(runs)
    return rows


def in_processes(case: str, chosen) -> list[dict]:
    """Measures one case in processes of its own."""
    runs = []
    for turn in range(chosen.processes):
        print(f"{case}: process {turn + 1} of {chosen.processes}", file=sys.stderr, flush=True)
        command = [sys.executable, __file__, "--cases", case, "--one"]
        command += ["--rounds", str(chosen.rounds)]
        command += ["--heavy"] if turn == 0 and not chosen.lean else []
        done = subprocess.run(
            command, check=True, text=True, stdout=subprocess.PIPE, env=dict(os.environ)
        )
        runs.append([json.loads(line) for line in done.stdout.splitlines() if line[:1] == "{"])
    extra = runs[0][len(runs[-1]) :] if len(runs) > 1 else []
    runs[0] = runs[0][: len(runs[-1])]
    return [*merged(runs), *_alone(extra, merged(runs))]


def _alone(rows, others):
    """The heavy rivals, measured once."""
    plain = next(row for row in others if row["rival"] == "plain")
    null = next(row for row in others if row["rival"] == "null")
    for row in rows:
        row["over_null"] = round(row["ratio"] / null["ratio"], 4)
        row["temp_ratio"] = round(row["temp_bytes"] / plain["temp_bytes"], 3)
        row["processes"] = 1
    return rows


def main(arguments=None) -> int:
    """Runs the bench."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default=",".join(DEFAULT), help=f"of {', '.join(CASES)}")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one process")
    parser.add_argument("--lean", action="store_true", help="without vmap and jax_privacy")
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--heavy", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    names = chosen.cases.split(",")
    unknown = [name for name in names if name not in CASES]
    if unknown:
        parser.error(f"--cases must be of {', '.join(CASES)}, got {unknown[0]!r}")
    if chosen.one:
        for name in names:
            print_rows(measure(name, quick=False, heavy=chosen.heavy, rounds=chosen.rounds))
        return 0
    rows: list[dict] = []
    for name in names:
        if chosen.quick:
            rows += merged([measure(name, quick=True, heavy=True, rounds=2)])
        else:
            rows += in_processes(name, chosen)
    print_table(rows)
    print_rows(rows)
    return 0


def print_table(rows) -> None:
    """The same for eyes, as Markdown."""
    print("| case | rival | ms | over null | memory | compile s |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        memory = "" if row["temp_ratio"] is None else f"{row['temp_ratio']:.2f}"
        print(
            f"| {row['case']} | {row['rival']} | {row['median_ms']:.1f} | {row['over_null']:.2f} | "
            f"{memory} | {row['compile_s']:.1f} |"
        )


if __name__ == "__main__":
    sys.exit(main())
