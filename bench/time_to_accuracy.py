"""How long until a model is good enough, with and without privacy?

    python bench/time_to_accuracy.py                  # about 4 minutes on two cores
    python bench/time_to_accuracy.py --cases snips-scratch --target 0.8
    python bench/time_to_accuracy.py --quick          # tiny sizes: does it run?

Wall time of training to a given accuracy on rows held out: the baseline, epsilon 3 and 8, and
epsilon 3 by per-example gradients under vmap, which is what DP-SGD usually costs. All with the same
batch, optimizer, schedule and start; the private runs' noise is that of the whole plan, and every
run stops at the target. The clock runs during steps only: compilation and the evaluations after
every few steps are outside. Figures are medians over seeds (vmap: the first seed alone); `ratio` is
over the baseline's time.

The data are MNIST's test part where TRUSTML_DATA holds it (8,000 images to train on, 2,000 to
evaluate on), else the utterances that the package generates.

Expected: bench/README.md holds the table last measured, with device and versions.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import jax
from _tasks import TASKS, has_mnist, make_task, plan_of, step_of
from _timing import print_markdown, print_rows, row, say, say_if_busy, shown, where

BENCH = "time_to_accuracy"
# Epsilon of the plan, and the strategy of the step; none is the baseline.
RIVALS = {
    "baseline": (8.0, None),
    "epsilon 8": (8.0, "auto"),
    "epsilon 3": (3.0, "auto"),
    "epsilon 3, vmap": (3.0, "vmap"),
}
QUICK = {name: RIVALS[name] for name in ("baseline", "epsilon 3", "epsilon 3, vmap")}
# Low enough for epsilon 3 to reach.
TARGETS = {"mnist-mlp": 0.85, "snips-scratch": 0.9, "snips": 0.94}


def train_to(task, epsilon, strategy, seed: int, target: float, every: int) -> dict:
    """Trains until the target is reached or the plan ends.

    Args:
      task: Data and network.
      epsilon: Of the plan.
      strategy: Of the private step, or None for the baseline.
      seed: Of weights, draws and noise.
      target: Accuracy at which to stop.
      every: Steps between evaluations.

    Returns:
      `seconds` and `steps` to the target (None where it was not reached), the `best` accuracy,
      milliseconds of a `step`, and seconds that the first call took beyond one.
    """
    plan = plan_of(task, task.private, epsilon)
    step = step_of(task, task.private, plan, strategy)
    start = task.start(seed)
    compile_s = _first_call(step, plan, start, task.train)
    state, times, best = step.init(start, key=seed), [], 0.0
    for draw in plan.batches(seed=seed):
        batch = step.gather(draw, task.train)
        jax.block_until_ready(batch.rows)
        begin = time.perf_counter()
        state, metrics = step.update(state, draw, batch)
        jax.block_until_ready((state.params, metrics.loss))
        times.append(time.perf_counter() - begin)
        if len(times) % every == 0 or len(times) == plan.steps:
            best = max(best, task.scores(state.params)["accuracy"])
            if best >= target:
                break
    reached = best >= target
    return {
        "seconds": sum(times) if reached else None,
        "steps": len(times) if reached else None,
        "best": best,
        "step_ms": 1e3 * statistics.median(times),
        "compile_s": compile_s - statistics.median(times),
    }


def _first_call(step, plan, start, train) -> float:
    """Seconds of a step that compiles; its state is thrown away."""
    draw = next(plan.batches(seed=0))
    batch = step.gather(draw, train)
    jax.block_until_ready(batch.rows)
    state = step.init(start, key=0)
    begin = time.perf_counter()
    jax.block_until_ready(step.update(state, draw, batch)[0].params)
    return time.perf_counter() - begin


def measure(name: str, chosen) -> list[dict]:
    """Rows of one task."""
    task = make_task(name, quick=chosen.quick)
    target = chosen.target or TARGETS.get(name, 0.9)
    rows: list[dict] = []
    for rival, (epsilon, strategy) in (QUICK if chosen.quick else RIVALS).items():
        seeds = 1 if strategy == "vmap" else chosen.seeds
        runs = []
        for seed in range(seeds):
            say(f"{name}: {rival}, seed {seed + 1} of {seeds}")
            runs.append(train_to(task, epsilon, strategy, seed, target, chosen.every))
        rows.append(_summary(name, rival, runs, rows[0] if rows else None, target))
    return rows


def _summary(name, rival, runs, baseline, target) -> dict:
    reached = [run for run in runs if run["seconds"] is not None]
    all_reached = len(reached) == len(runs)  # a median over the lucky ones would flatter
    seconds = statistics.median(run["seconds"] for run in runs) if all_reached else None
    base = baseline["seconds"] if baseline else seconds
    note = None
    if not all_reached:
        best = max(run["best"] for run in runs)
        note = f"reached by {len(reached)} of {len(runs)} runs; best {100 * best:.1f} %"
    return row(
        BENCH,
        name,
        rival,
        median_ms=round(statistics.median(run["step_ms"] for run in runs), 3),
        ratio=round(seconds / base, 3) if seconds and base else None,
        compile_s=round(statistics.median(run["compile_s"] for run in runs), 2),
        seconds=None if seconds is None else round(seconds, 3),
        steps=statistics.median(run["steps"] for run in runs) if all_reached else None,
        target=target,
        runs=len(runs),
        note=note,
        **where(),
    )


def print_table(rows: list[dict]) -> None:
    """The rows for eyes, as Markdown."""
    head = ("case", "training", "target", "steps", "ms a step", "seconds", "x baseline")
    lines = [
        [
            one["case"],
            one["rival"],
            f"{100 * one['target']:g} %",
            shown(one["steps"], ".0f"),
            shown(one["median_ms"], ".1f"),
            shown(one["seconds"], ".2f"),
            shown(one["ratio"], ".2f"),
            shown(one["compile_s"], ".1f"),
            one["note"] or "",
        ]
        for one in rows
    ]
    print_markdown((*head, "compile s", "note"), lines)


def parsed(arguments):
    """The options."""
    default = "mnist-mlp,mnist-cnn" if has_mnist() else "synthetic"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", help=f"of {', '.join(TASKS)}; here {default}")
    parser.add_argument("--target", type=float, help="accuracy to reach; 0.9 or the task's")
    parser.add_argument("--every", type=int, default=2, help="steps between evaluations")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="four steps of one seed")
    chosen = parser.parse_args(arguments)
    chosen.names = (chosen.cases or ("mnist-mlp" if chosen.quick else default)).split(",")
    if chosen.quick:
        chosen.seeds, chosen.target = 1, chosen.target or 0.2
    elif not chosen.cases and default == "synthetic":
        say("TRUSTML_DATA holds no mnist/: the generated utterances are trained on")
    unknown = [name for name in chosen.names if name not in TASKS]
    if unknown:
        parser.error(f"--cases must be of {', '.join(TASKS)}, got {unknown[0]!r}")
    if chosen.target is not None and not 0 < chosen.target <= 1:
        parser.error(f"--target must be in (0, 1], got {chosen.target}")
    return chosen


def main(arguments=None) -> int:
    """Runs the bench."""
    chosen = parsed(arguments)
    say_if_busy()
    rows = [one for name in chosen.names for one in measure(name, chosen)]
    print_table(rows)
    print_rows(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
