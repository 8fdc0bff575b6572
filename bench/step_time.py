"""What does privacy cost per step? Clipped gradients, and whole steps, against the plain ones.

    python bench/step_time.py                 # about 30 minutes on two cores
    python bench/step_time.py --cases bert-base,gpt2-small --processes 1
    python bench/step_time.py --cases hf-bert-base,hf-gpt2 --processes 1 --lean
    python bench/step_time.py --whole         # steps of large logical batches: about 40 minutes
    python bench/step_time.py --quick         # tiny sizes: does it run?

Each process interleaves its rivals in rounds; a rival's figure is the median over processes of its
median ratio to the plain gradient in the same round. The row `null` is the plain gradient against
itself: what a ratio of one looks like here. `over_null` is ratio / null. `private step` stands
against `plain step`, both with Adam on the same draws; it includes noise and optimizer.

PyTorch and Opacus run in processes of their own, on as many threads as JAX has cores, against
`torch plain` and `torch null`; `over_trustml` compares milliseconds across frameworks. `error` is
the distance of their clipped sum from ours. Flops are XLA's count, which takes a loop's body once.
The cases hf-* are the architectures of `trustml.models`; they and gpt-remat have no rivals in
PyTorch.

With `--whole` a step takes a logical batch of 1,024 (MLP and CNN: 8,192) in micro-batches, the same
on both sides.

Expected: bench/README.md holds the tables last measured, with device and versions.
"""

import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from _cases import CASES, PRETRAINED
from _merging import merged, print_table
from _rivals import (
    clipped,
    jax_privacy_gradient,
    plain_gradient,
    repeated,
    rows,
    whole_step,
    write_arrays,
)
from _timing import (
    compiled,
    cores,
    interleaved,
    print_rows,
    row,
    rows_of_process,
    say,
    say_if_busy,
    timed_row,
    where,
)

import trustml

BENCH = "step_time"
DEFAULT = ("mlp", "cnn", "resnet", "bilstm", "bert", "gpt", "gpt-remat", "lora")
# Examples of a logical batch, and of them at a time. Convolutions all at once: in a loop XLA's CPU
# code takes more than ten times as long for the plain gradient, which would flatter ours.
LOGICAL = {
    "mlp": (8192, 8192),
    "cnn": (8192, 8192),
    "resnet": (512, 512),
    "bilstm": (1024, 128),
    "bert": (1024, 32),
    "gpt": (1024, 32),
    "gpt-untied": (1024, 32),
    "gpt-remat": (1024, 32),
    "lora": (1024, 32),
}
DEFAULT_WHOLE = ("mlp", "cnn", "bert", "gpt")
TORCH_RIVALS = ("torch plain", "opacus ghost", "opacus hooks")
MISSING = "not installed: pip install -e '.[bench]'"
UNWRITTEN = "no PyTorch module of this case"
JAX_ALONE = {"gpt-remat", *PRETRAINED}
STEPS = {
    "plain step": trustml.baseline_step,
    "null step": trustml.baseline_step,
    "private step": trustml.private_step,
}


def measure(name: str, *, quick: bool, heavy: bool, rounds: int, folder: Path | None) -> list[dict]:
    """Rows of one case in this process; weights and sums are left in `folder` for others."""
    case = CASES[name](quick)
    make = lambda function: compiled(function, case.params, case.units)  # noqa: E731
    plain = plain_gradient(case)
    light = {
        "plain": make(plain),
        "null": make(plain),
        "trustml": make(clipped(case, "auto")),
        "trustml ghost": make(clipped(case, "ghost")),
        "plain step": whole_step(case, trustml.baseline_step),
        "private step": whole_step(case, trustml.private_step),
    }
    found = _rows(name, light, interleaved(light, rounds))
    if heavy:  # apart: what they allocate slows their neighbours
        slow = {"plain": light["plain"], "vmap": make(clipped(case, "vmap"))}
        slow["trustml microbatched"] = make(clipped(case, micro=True))
        missing = []
        for rival, micro in (("jax_privacy", False), ("jax_privacy microbatched", True)):
            gradient = jax_privacy_gradient(case, micro=micro)
            if gradient is None:
                missing.append(row(BENCH, name, rival, note=MISSING, **where()))
            else:
                slow[rival] = make(gradient)
        found += _rows(name, slow, interleaved(slow, max(2, rounds // 4)))[1:] + missing
    if folder:
        write_arrays(case, folder / f"{name}.npz")
    return found


def measure_whole(name: str, *, quick: bool, rounds: int) -> list[dict]:
    """Rows of whole steps of a large logical batch."""
    case = CASES[name](quick)
    logical, micro = (2 * rows(case.units), rows(case.units)) if quick else LOGICAL[name]
    case = repeated(case, logical)
    programs = {rival: whole_step(case, build, micro) for rival, build in STEPS.items()}
    found = _rows(name, programs, interleaved(programs, rounds))
    return [{**one, "logical_batch": logical, "physical_batch_size": micro} for one in found]


def _rows(name, programs, times):
    first = next(iter(programs))
    base = {"private step": "plain step"}
    found = []
    for rival, program in programs.items():
        against = times[base.get(rival, first)]
        found.append(timed_row(BENCH, name, rival, program, times[rival], against) | where())
    return found


def in_processes(name: str, chosen, folder: Path) -> list[list[dict]]:
    """One list of rows for each process that measured the case."""
    runs = []
    for turn in range(chosen.processes):
        say(f"{name}: process {turn + 1} of {chosen.processes}")
        options = ["--cases", name, "--rounds", chosen.rounds]
        options += ["--whole"] if chosen.whole else []
        options += ["--heavy"] if turn == 0 and not chosen.lean else []
        options += ["--lean"] if chosen.lean else []
        options += ["--one", folder]
        runs.append(rows_of_process(__file__, *options))
    return runs


def torch_rows(name: str, chosen, folder: Path) -> list[list[dict]]:
    """The same for PyTorch and Opacus; rows that say so where they cannot run."""
    absent = any(importlib.util.find_spec(module) is None for module in ("torch", "opacus"))
    if absent or name in JAX_ALONE:
        note = UNWRITTEN if name in JAX_ALONE else MISSING
        missing = {"device": "", "jax": None, "note": note}
        return [[row(BENCH, name, rival, **missing) for rival in TORCH_RIVALS]]
    runs = []
    for turn in range(chosen.processes):
        say(f"{name}: PyTorch, process {turn + 1} of {chosen.processes}")
        options = [folder, "--cases", name, "--rounds", chosen.rounds, "--threads"]
        options += [1 if chosen.quick else cores()]  # tiny products gain nothing by threads
        options += ["--heavy"] if turn == 0 else []
        runs.append(rows_of_process(str(Path(__file__).with_name("_torch_rivals.py")), *options))
    return runs


def _read_by_torch(name: str, chosen) -> bool:
    """Whether weights and sums are written: those of base sizes take a gigabyte."""
    return not chosen.lean and name not in PRETRAINED


def measure_case(name: str, chosen) -> list[dict]:
    """All rows of one case."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        if not chosen.quick:
            runs = in_processes(name, chosen, folder)
        elif chosen.whole:
            runs = [measure_whole(name, quick=True, rounds=chosen.rounds)]
        else:
            options = {"quick": True, "heavy": not chosen.lean, "rounds": chosen.rounds}
            kept = folder if _read_by_torch(name, chosen) else None
            runs = [measure(name, folder=kept, **options)]
        if not chosen.whole and not chosen.lean:
            runs += torch_rows(name, chosen, folder)
        return merged(runs)


def parsed(arguments):
    """The options, each with the default that goes with the others."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", help=f"of {', '.join(CASES)}")
    parser.add_argument("--whole", action="store_true", help="whole steps of large logical batches")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one process")
    parser.add_argument("--lean", action="store_true", help="without the rivals from elsewhere")
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--rounds", type=int, help="15; with --whole 4, with --quick 2")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--heavy", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    chosen.names = chosen.cases.split(",") if chosen.cases else None
    chosen.names = chosen.names or (DEFAULT_WHOLE if chosen.whole else DEFAULT)
    chosen.rounds = chosen.rounds or (2 if chosen.quick else 4 if chosen.whole else 15)
    chosen.processes = 1 if chosen.quick else chosen.processes
    known = LOGICAL if chosen.whole else CASES
    unknown = [name for name in chosen.names if name not in known]
    if unknown:
        parser.error(f"--cases must be of {', '.join(known)}, got {unknown[0]!r}")
    return chosen


def main(arguments=None) -> int:
    """Runs the bench."""
    chosen = parsed(arguments)
    if chosen.one:
        for name in chosen.names:
            if chosen.whole:
                print_rows(measure_whole(name, quick=False, rounds=chosen.rounds))
                continue
            options = {"quick": False, "heavy": chosen.heavy, "rounds": chosen.rounds}
            wanted = _read_by_torch(name, chosen) and not (chosen.one / f"{name}.npz").exists()
            print_rows(measure(name, folder=chosen.one if wanted else None, **options))
        return 0
    say_if_busy()
    found: list[dict] = []
    for name in chosen.names:
        found += measure_case(name, chosen)
    print_table(found)
    print_rows(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
