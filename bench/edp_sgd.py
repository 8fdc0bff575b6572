"""Clipping means of micro-batches (eDP-SGD) or every example: which learns more at one epsilon?

    python bench/edp_sgd.py --out edp_sgd.jsonl    # about 25 minutes on two cores; may be stopped
    python bench/edp_sgd.py --epsilons 8 --rivals "per example,8 means"
    python bench/edp_sgd.py --quick                # tiny sizes: does it run?

eDP-SGD (Dupuy et al., ICASSP 2022) clips the mean gradient of each micro-batch, layer by layer, so
that no gradient of a single example is needed, and lets the noise decay from epoch to epoch. What
it promises is of sensitivity 2C, since one example can turn a mean anywhere within its bound. The
exact way clips every example, on the fast path. Both here have the same data, start, optimizer,
batch and (up to whole epochs) steps, and noise calibrated to the same epsilon at delta 1e-5.

eDP-SGD gets the better of two learning rates, its own and a tenth of it, on the part that is
evaluated on; the exact way has the one that was chosen for it before. `over exact` is the median
over rounds of the ratio of two steps in a round, all rivals in turn.

SNIPS is read from the folder in TRUSTML_DATA. Expected: bench/README.md holds the table last
measured, with device and versions.
"""

import argparse
import dataclasses
import math
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import jax
from _tasks import DELTA, MICROBATCH, TASKS, Task, make_task, plan_of
from _timing import print_markdown, print_rows, row, say, say_if_busy, shown, where
from utility import Results

import trustml
from trustml.plan import PrivacyPlan, edp_sgd

BENCH = "edp_sgd"
EXACT = "per example"
RIVALS = {EXACT: 0, "8 means": 8, "64 means": 64, "512 means": 512}
RATES = (1.0, 0.1)  # of eDP-SGD, times the learning rate of the exact way
DECAY = 0.95


def plan_for(task: Task, means: int, epsilon: float) -> PrivacyPlan:
    """The plan of a rival."""
    training, units = task.private, len(jax.tree.leaves(task.train)[0])
    if not means:
        return plan_of(task, training, epsilon)
    batch = min(training.expected_batch, units)
    return edp_sgd(
        task.start(0),
        epsilon=epsilon,
        delta=DELTA,
        num_units=units,
        expected_batch=batch,
        epochs=math.ceil(training.steps / math.ceil(units / batch)),
        clip_norm=training.clip_norm,
        num_microbatches=min(means, batch),
        noise_decay=DECAY,
    )


def step_for(task: Task, plan: PrivacyPlan, rate: float):
    """The step of a rival, at a multiple of the learning rate."""
    training = dataclasses.replace(
        task.private, learning_rate=rate * task.private.learning_rate, steps=plan.steps
    )
    size = None if plan.num_microbatches else MICROBATCH
    return trustml.private_step(task.loss, training.optimizer(), plan, physical_batch_size=size)


def train(task: Task, rival: str, epsilon: float, rate: float, seed: int) -> dict:
    """Trains once and evaluates: one line of the file."""
    plan = plan_for(task, RIVALS[rival], epsilon)
    begin = time.perf_counter()
    step = step_for(task, plan, rate)
    result = trustml.fit(step, task.start(seed), task.train, seed=seed, progress=False)
    return {
        **_key(task, rival, epsilon, rate, seed),
        "scores": task.scores(result.params),
        "epsilon": plan.epsilon(DELTA),
        "noise": plan.stddev / plan.divisor,
        "steps": plan.steps,
        "seconds": round(time.perf_counter() - begin, 1),
        **where(),
    }


def _key(task, rival, epsilon, rate, seed) -> dict:
    settings = f"{task.what}; {task.private}; epsilon {epsilon:g}; rate {rate:g}; decay {DECAY}"
    return {"case": task.name, "rival": rival, "seed": seed, "settings": settings}


def step_times(task: Task, rivals, epsilon: float, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of a step of each rival, in rounds, the first left out."""
    plans = {rival: plan_for(task, RIVALS[rival], epsilon) for rival in rivals}
    steps = {rival: step_for(task, plan, 1.0) for rival, plan in plans.items()}
    states = {rival: step.init(task.start(0), key=0) for rival, step in steps.items()}
    draws = {rival: plan.batches(seed=0) for rival, plan in plans.items()}
    found: dict[str, list[float]] = {rival: [] for rival in rivals}
    for _ in range(min(rounds + 1, *(plan.steps for plan in plans.values()))):
        for rival, step in steps.items():
            draw = next(draws[rival])
            batch = step.gather(draw, task.train)
            jax.block_until_ready(batch.rows)
            begin = time.perf_counter()
            states[rival], metrics = step.update(states[rival], draw, batch)
            jax.block_until_ready((states[rival].params, metrics.loss))
            found[rival].append(1e3 * (time.perf_counter() - begin))
    return {rival: times[1:] for rival, times in found.items()}


def measure(name: str, chosen, results: Results) -> list[dict]:
    """A row for each rival and epsilon."""
    task = make_task(name, quick=chosen.quick)
    times = step_times(task, chosen.rivals, chosen.epsilons[0], 2 if chosen.quick else 9)
    rows = []
    for epsilon in chosen.epsilons:
        for rival in chosen.rivals:
            runs = {
                rate: [_run(task, rival, epsilon, rate, seed, results) for seed in chosen.seeds]
                for rate in (RATES if RIVALS[rival] else RATES[:1])
            }
            rows.append(_summary(f"{name}, epsilon {epsilon:g}", rival, runs, times, chosen))
    return rows


def _run(task, rival, epsilon, rate, seed, results: Results) -> dict:
    key = _key(task, rival, epsilon, rate, seed)
    found = results.find(**key)
    done = " is done" if found else ""
    say(f"{task.name}, epsilon {epsilon:g}: {rival}, rate {rate:g}, seed {seed}{done}")
    return found or results.add(train(task, rival, epsilon, rate, seed))


def _summary(case, rival, runs, times, chosen) -> dict:
    def mean(lines, metric):
        return statistics.fmean(line["scores"][metric] for line in lines)

    rate = max(runs, key=lambda rate: mean(runs[rate], "accuracy"))
    lines = runs[rate]
    ratio = None
    if EXACT in times:
        pairs = zip(times[rival], times[EXACT], strict=True)
        ratio = statistics.median(mine / exact for mine, exact in pairs)
    return row(
        BENCH,
        case,
        rival,
        median_ms=statistics.median(times[rival]),
        ratio=ratio,
        scores={metric: mean(lines, metric) for metric in lines[0]["scores"]},
        rate=rate,
        noise=lines[0]["noise"],
        steps=lines[0]["steps"],
        epsilon=lines[0]["epsilon"],
        seeds=len(chosen.seeds),
        device=lines[0]["device"],
        jax=lines[0]["jax"],
    )


def print_table(rows: list[dict]) -> None:
    """The rows for eyes, as Markdown."""
    head = ("case", "clipped", "accuracy, %", "slot F1", "noise", "rate", "ms", "over exact")
    lines = [
        [
            one["case"],
            one["rival"],
            shown(100 * one["scores"]["accuracy"], ".1f"),
            shown(one["scores"].get("slot_f1"), ".3f"),
            f"{one['noise']:.2g}",
            f"{one['rate']:g}",
            shown(one["median_ms"], ".0f"),
            shown(one["ratio"], ".2f"),
        ]
        for one in rows
    ]
    print_markdown(head, lines)


def parsed(arguments):
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", help=f"of {', '.join(TASKS)}; by default snips")
    parser.add_argument("--rivals", default=",".join(RIVALS), help="default: %(default)s")
    parser.add_argument("--epsilons", default="3,8", help="default: %(default)s")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, help="file of JSON lines, one a training")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one epsilon")
    chosen = parser.parse_args(arguments)
    chosen.names = (chosen.cases or ("mnist-mlp" if chosen.quick else "snips")).split(",")
    chosen.rivals = [EXACT, "8 means"] if chosen.quick else chosen.rivals.split(",")
    epsilons = [float(text) for text in chosen.epsilons.split(",")]
    chosen.epsilons = epsilons[:1] if chosen.quick else epsilons
    chosen.seeds = range(chosen.seeds)
    for flag, given, known in (
        ("--cases", chosen.names, TASKS),
        ("--rivals", chosen.rivals, RIVALS),
    ):
        unknown = [name for name in given if name not in known]
        if unknown:
            parser.error(f"{flag} must be of {', '.join(known)}, got {unknown[0]!r}")
    return chosen


def main(arguments=None) -> int:
    """Runs the bench."""
    chosen = parsed(arguments)
    say_if_busy()
    results = Results(chosen.out)
    rows = [one for name in chosen.names for one in measure(name, chosen, results)]
    print_table(rows)
    print_rows(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
