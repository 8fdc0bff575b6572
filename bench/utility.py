"""What does privacy cost in accuracy? Baseline against epsilon 1, 3 and 8.

    python bench/utility.py --out utility.jsonl    # about 30 minutes on two cores; may be stopped
    python bench/utility.py --cases mnist-cnn --seeds 3
    python bench/utility.py --quick                # tiny sizes: does it run?

SNIPS by the settings of `trustml train` (pretrained on generated rows, as they say), evaluated on
its test part, and MNIST's test part by a small network (8,000 images to train on, 2,000 to evaluate
on): mean over seeds with Student's 95 % interval, at delta 1e-5. The settings were chosen at
epsilon 3 on training and validation parts, which no guarantee covers; those of MNIST on the images
evaluated on. Data are read from the folder in TRUSTML_DATA.

Every finished training is a line of --out; lines already there are not repeated.

Expected: bench/README.md holds the table last measured, with device and versions.
"""

import argparse
import functools
import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from _tasks import DELTA, TASKS, make_task, plan_of, step_of
from _timing import print_markdown, print_rows, row, say, where

import trustml
from trustml.stats import mean_estimate

BENCH = "utility"
DEFAULT = "snips,mnist-cnn"
TRAININGS = {"baseline": None, "epsilon 1": 1.0, "epsilon 3": 3.0, "epsilon 8": 8.0}
QUICK = ("baseline", "epsilon 3")
_KEY = ("case", "rival", "seed", "settings")


def make_step(task, rival: str):
    """The step of a training; all seeds share it, and its program."""
    epsilon = TRAININGS[rival]
    training = task.baseline if epsilon is None else task.private
    plan = plan_of(task, training, epsilon)
    return step_of(task, training, plan, None if epsilon is None else "auto")


def train(task, rival: str, step, seed: int) -> dict:
    """Trains once and evaluates: one line of the file."""
    start = task.start(seed)
    begin = time.perf_counter()
    result = trustml.fit(step, start, task.train, seed=seed, progress=False)
    return {
        "case": task.name,
        "rival": rival,
        "seed": seed,
        "settings": settings_of(task, rival),
        "scores": task.scores(result.params),
        "epsilon": step.plan.epsilon(DELTA) if step.private else None,
        "seconds": round(time.perf_counter() - begin, 1),
        **where(),
    }


def settings_of(task, rival: str) -> str:
    """The settings that a line is valid for: others are another training."""
    training = task.baseline if TRAININGS[rival] is None else task.private
    return f"{task.what}; {training}"


class Results:
    """Finished trainings, in a file if one is named."""

    def __init__(self, path: Path | None):
        self.path = path
        self.lines = _read(path) if path and path.exists() else []

    def find(self, **key) -> dict | None:
        """The line of a training, if it is done."""
        same = (line for line in self.lines if all(line[name] == key[name] for name in _KEY))
        return next(same, None)

    def add(self, line: dict) -> dict:
        """Keeps a line, in the file at once."""
        self.lines.append(line)
        if self.path:
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")
        return line


def _read(path: Path) -> list[dict]:
    """The lines of an earlier call; one that was cut off when it was stopped is removed, aloud."""
    text = path.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    lines = [_checked(line, number, path) for number, line in enumerate(whole.splitlines(), 1)]
    if whole != text:
        say(f"{path}: the last line was cut off; its training is repeated")
        os.truncate(path, len(whole))
    return lines


def _checked(line: bytes, number: int, path: Path) -> dict:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    known = found if isinstance(found, dict) else {}
    missing = [name for name in (*_KEY, "scores") if name not in known]
    if missing:
        raise ValueError(
            f"`--out` must hold lines of this bench, got line {number} of {path} without "
            f"`{missing[0]}`; name another file."
        )
    return known


def measure(name: str, chosen, results: Results) -> list[dict]:
    """The rows of one task: a training over all seeds each."""
    task = make_task(name, quick=chosen.quick)
    step_for = functools.cache(functools.partial(make_step, task))
    names = QUICK if chosen.quick else TRAININGS
    runs: dict[str, list[dict]] = {rival: [] for rival in names}
    for seed in range(chosen.seeds):
        for rival in names:
            key = {"case": name, "rival": rival, "seed": seed}
            found = results.find(**key, settings=settings_of(task, rival))
            say(f"{name}: {rival}, seed {seed + 1} of {chosen.seeds}{' is done' if found else ''}")
            if found is None:
                found = results.add(train(task, rival, step_for(rival), seed))
            runs[rival].append(found)
    return [_summary(name, rival, lines) for rival, lines in runs.items()]


def _summary(name: str, rival: str, lines: list[dict]) -> dict:
    scores = {}
    for metric in lines[0]["scores"]:
        values = [line["scores"][metric] for line in lines]
        alone = {"value": values[0], "low": None, "high": None, "interval": "none: one run"}
        scores[metric] = mean_estimate(values)._asdict() if len(values) > 1 else alone
    return row(
        BENCH,
        name,
        rival,
        scores=scores,
        epsilon=lines[0]["epsilon"],
        delta=DELTA,
        seeds=len(lines),
        device=lines[0]["device"],
        jax=lines[0]["jax"],
    )


def print_table(rows: list[dict]) -> None:
    """The rows for eyes, as Markdown."""
    lines = []
    for one in rows:
        accuracy, f1 = (one["scores"].get(metric) for metric in ("accuracy", "slot_f1"))
        cells = [shown(accuracy, 100, 1), shown(f1, 1, 3) if f1 else ""]
        lines.append([one["case"], one["rival"], *cells, str(one["seeds"])])
    print_markdown(("case", "training", "accuracy, %", "slot F1", "seeds"), lines)


def shown(estimate: dict, scale: float, digits: int) -> str:
    value, *ends = (
        "" if estimate[end] is None else f"{scale * estimate[end]:.{digits}f}"
        for end in ("value", "low", "high")
    )
    return f"{value} [{', '.join(ends)}]" if all(ends) else value


def parsed(arguments):
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", help=f"of {', '.join(TASKS)}; by default {DEFAULT}")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="file of JSON lines, one a training")
    parser.add_argument("--quick", action="store_true", help="four steps, two seeds, two trainings")
    chosen = parser.parse_args(arguments)
    chosen.names = (chosen.cases or ("mnist-mlp" if chosen.quick else DEFAULT)).split(",")
    chosen.seeds = min(chosen.seeds, 2) if chosen.quick else chosen.seeds
    unknown = [name for name in chosen.names if name not in TASKS]
    if unknown:
        parser.error(f"--cases must be of {', '.join(TASKS)}, got {unknown[0]!r}")
    if chosen.seeds < 1:
        parser.error(f"--seeds must be at least 1, got {chosen.seeds}")
    return chosen


def main(arguments=None) -> int:
    """Runs the bench."""
    chosen = parsed(arguments)
    results = Results(chosen.out)
    rows = [one for name in chosen.names for one in measure(name, chosen, results)]
    print_table(rows)
    print_rows(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
