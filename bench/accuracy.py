"""What accuracy does private training reach by default, and what are pretrained weights worth?

    python bench/accuracy.py --out accuracy.jsonl  # two hours on two cores; may be stopped
    python bench/accuracy.py --cases hwu64,snips --seeds 1
    python bench/accuracy.py --quick               # two steps on hashed words: does it run?

Each case is trained as `trustml train --data CASE --task TASK --epsilon E` trains it by default,
without privacy and at epsilon 8, 3 and 1 (delta 1e-5), and evaluated on its test part: mean over
seeds with Student's 95 % interval. Beside it, with the first seed alone, the same network on an
encoder of random weights. Seconds are those of a training; features are computed before, once a
case. Data are read from the folder in TRUSTML_DATA; the encoder comes with the extra `encoder`.

Every finished training is a line of --out; lines already there are not repeated.

Expected: bench/README.md holds the table last measured, with device and versions.
"""

import argparse
import functools
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from _timing import print_markdown, print_rows, row, say, where
from utility import Results, shown

import trustml
from trustml.recipes import TrainConfig
from trustml.recipes.train.resolve import resolve
from trustml.stats import mean_estimate

BENCH = "accuracy"
# The intents alone of sets that have slots too.
CASES = {
    "ag_news": "classify",
    "clinc150": "classify",
    "snips": "classify",
    "hwu64": "classify",
    "wnut17": "tag",
    "xquad_en": "qa",
}
EPSILONS = {"no privacy": None, "epsilon 8": 8.0, "epsilon 3": 3.0, "epsilon 1": 1.0}
RANDOM = "random weights"
DELTA = 1e-5
_SCORES = {"classify": "accuracy", "tag": "entity_f1", "qa": "token_f1"}


@functools.lru_cache(maxsize=1)
def experiment_of(name: str, epsilon: float | None, pretrained: bool, quick: bool) -> Any:
    """What `trustml train` would run for a case."""
    fewer: dict[str, Any] = {"model": "conv", "steps": 2, "baseline_steps": 2} if quick else {}
    if not pretrained:
        fewer["pretrain"] = False
    config = TrainConfig(
        data="synthetic" if quick else name,
        task=CASES[name],
        epsilon=epsilon,
        delta=DELTA,
        audit_rows=0,
        **fewer,
    )
    return resolve(config, quiet=True)


def train(name: str, rival: str, seed: int, *, quick: bool) -> dict[str, Any]:
    """Trains once and evaluates."""
    weights, _, budget = rival.partition(", ")
    epsilon = EPSILONS[budget]
    experiment = experiment_of(name, epsilon, weights != RANDOM, quick)
    step = experiment.steps["baseline" if epsilon is None else "private"]
    start = experiment.task.start(seed)
    begin = time.perf_counter()
    result = trustml.fit(step, start, experiment.training_units, seed=seed, progress=False)
    return {
        "scores": experiment.task.scoring.scores(
            experiment.task.counts(result.params, experiment.evaluated)
        ),
        "network": experiment.model.describe(),
        "epsilon": step.plan.epsilon(DELTA) if step.private else None,
        "seconds": round(time.perf_counter() - begin, 1),
    }


def rivals(seed: int, *, quick: bool) -> list[str]:
    """The trainings of a case with one seed."""
    ours = [f"trustml, {budget}" for budget in EPSILONS]
    if quick:
        return ours[:2]
    return ours if seed else ours + [f"{RANDOM}, {ours[at].partition(', ')[2]}" for at in (0, 2)]


def measure(name: str, chosen, results: Results) -> list[dict]:
    """The rows of one case: a training over all seeds each."""
    runs: dict[str, list[dict]] = {}
    cells = [(r, seed) for seed in range(chosen.seeds) for r in rivals(seed, quick=chosen.quick)]
    # One experiment after the other: each keeps the training part in memory.
    for rival, seed in sorted(cells, key=lambda cell: rivals(0, quick=False).index(cell[0])):
        key = {"case": name, "rival": rival, "seed": seed, "settings": "defaults"}
        found = results.find(**key)
        say(f"{name}: {rival}, seed {seed + 1} of {chosen.seeds}{' is done' if found else ''}")
        if found is None:
            found = results.add({**key, **train(name, rival, seed, quick=chosen.quick), **where()})
        runs.setdefault(rival, []).append(found)
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
        network=lines[0]["network"],
        epsilon=lines[0]["epsilon"],
        delta=DELTA,
        seeds=len(lines),
        seconds=round(sum(line["seconds"] for line in lines) / len(lines), 1),
        device=lines[0]["device"],
        jax=lines[0]["jax"],
    )


def print_table(rows: list[dict]) -> None:
    """The rows for eyes, as Markdown."""
    lines = []
    for one in rows:
        score = one["scores"][_SCORES[CASES[one["case"]]]]
        cells = [one["case"], one["rival"], shown(score, 100, 1), str(one["seeds"])]
        lines.append([*cells, f"{one['seconds']:.0f}"])
    print_markdown(("case", "training", "accuracy or F1, %", "seeds", "seconds"), lines)


def parsed(arguments):
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", help=f"of {', '.join(CASES)}; by default all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="file of JSON lines, one a training")
    parser.add_argument("--quick", action="store_true", help="two steps, one seed, two trainings")
    chosen = parser.parse_args(arguments)
    chosen.names = (chosen.cases or ("clinc150" if chosen.quick else ",".join(CASES))).split(",")
    chosen.seeds = 1 if chosen.quick else chosen.seeds
    unknown = [name for name in chosen.names if name not in CASES]
    if unknown:
        parser.error(f"--cases must be of {', '.join(CASES)}, got {unknown[0]!r}")
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
