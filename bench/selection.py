"""Does choosing active devices help: per round, per example and per byte, and whom?

    python bench/selection.py                  # five seeds; some ten minutes on two cores
    python bench/selection.py --cases static --seeds 2
    python bench/selection.py --quick          # two rounds: does it run?

hwu64's utterances lie on 300 devices whose activity follows Zipf's law: the most active holds a
thousand rows, half of them hold five or fewer. A linear model on hashed words is trained by FedAvg,
20 devices a round without replacement, one local epoch, batches of 10. `static`: all rows are there
from the start; accuracy of the test part after 30, 60 and 120 rounds, and when 50,000 examples were
processed. `continual`: four periods of ten rounds, each device holds the rows of its period and the
newest 20 of earlier ones; accuracy of the next period's rows, mean over the periods. Percent, mean
over seeds with Student's 95 % interval. All devices send as much, so accuracy per byte is that per
round. What this does not show: devices here differ in activity alone, not in what is said, and
their activity and periods are made up; what activity costs under a plan is in `trustml plan`.

Expected: bench/README.md holds the tables last measured, with device and versions.
"""

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import optax
from _federated import (
    Corpus,
    Devices,
    Scores,
    corpus,
    devices,
    loss,
    percent,
    right,
    scores_of,
    start,
    zipf_sizes,
)
from _timing import print_markdown, print_rows, row, say, where

from trustml.federated import Clients, FederatedStep, Schedule, fedavg
from trustml.federated.periods import Periods, split_periods
from trustml.federated.selection import Selection, parse_selection
from trustml.stats import mean_estimate

BENCH = "selection"
SELECTIONS = ("uniform", "log", "power:0.5", "proportional")
_DEVICES, _PER_ROUND, _RATE = 300, 20, 3.0
_ROUNDS, _EXAMPLES = (30, 60, 120), 50_000
_PERIODS, _OF_A_PERIOD, _BUFFER = 5, 10, 20  # the last period is only judged


class Line(NamedTuple):
    """What a run shows, by the name of the column."""

    scores: dict[str, float]
    examples: dict[str, int]


def train(held: Devices, params: Any, selection: Selection, rounds: int, seed: int) -> Any:
    """Yields the round, the parameters and the examples processed so far."""
    clients = held.clients
    number = min(_PER_ROUND, int(np.count_nonzero(selection.weights(clients.counts))))
    schedule = Schedule(
        steps=rounds, clients_per_round=number, activity=clients.counts, selection=selection
    )
    step = FederatedStep(
        fedavg(loss, optax.sgd(_RATE)), schedule, clients, clients_at_once=1, seed=seed
    )
    state, examples = step.init(params, key=seed), 0
    for draw in schedule.batches(seed=seed):
        state, _ = step.update(state, draw, clients)
        examples += int(clients.counts[draw.indices[draw.group >= 0]].sum())
        yield draw.step + 1, state.params, examples


def static(found: Corpus, selection: Selection, seed: int, quick: bool) -> Line:
    """All rows are there from the start."""
    owner = zipf_sizes(len(found.rows["label"]), _DEVICES, seed)
    held = devices(found.rows, owner, seed)
    scored = scores_of(held, found.test)
    marks = (1, 2) if quick else _ROUNDS
    most = 200 if quick else _EXAMPLES
    line, longest = Line({}, {}), marks[-1] if quick else 4 * marks[-1]
    for round, params, examples in train(held, start(found.classes), selection, longest, seed):
        if round in marks:
            _note(line, f"round {round}", scored(params), examples)
        if examples >= most and "by examples" not in line.examples:
            _note(line, "by examples", scored(params), examples)
        if round >= marks[-1] and "by examples" in line.examples:
            break
    return line


def _note(line: Line, name: str, scores: Scores, examples: int) -> None:
    line.examples[name] = examples
    line.scores[name] = scores.accuracy
    if name in ("round 60", "by examples"):
        for part in ("mean", "lowest", "light"):
            line.scores[f"{name}, {part}"] = getattr(scores, part)


def continual(found: Corpus, selection: Selection, seed: int, quick: bool) -> Line:
    """Rows come and go by periods; each stage goes on from the one before."""
    owner = zipf_sizes(len(found.rows["label"]), _DEVICES, seed)
    order = np.random.default_rng(seed).permutation(len(owner))  # within a device
    period = np.empty(len(owner), int)
    period[order] = split_periods(owner[order], _PERIODS)
    periods = Periods(
        setting="continual", period_of_row=period, client_of_row=owner, buffer=_BUFFER
    )
    params, total, scores = start(found.classes), 0, []
    for stage in range(periods.stages):
        rows, test = periods.train(stage), periods.test(stage)
        of = lambda which: {name: leaf[which] for name, leaf in found.rows.items()}  # noqa: E731
        held = Devices(Clients.from_arrays(of(rows), owner[rows]), of(test), np.zeros(0, int))
        rounds = 1 if quick else _OF_A_PERIOD
        *_, (_, params, examples) = train(held, params, selection, rounds, seed + 1000 * stage)
        total += examples
        scores.append(_accuracy(params, of(test)))
    line = Line({"next period": float(np.mean(scores))}, {"next period": total})
    line.scores["last period"] = scores[-1]
    return line


def _accuracy(params: Any, rows: dict[str, np.ndarray]) -> float:
    return float(np.asarray(right(params, rows)).mean())


def summary(case: str, selection: str, lines: list[Line]) -> dict[str, Any]:
    """The JSON row of a selection."""
    scores = {
        name: mean_estimate([line.scores[name] for line in lines])._asdict()
        for name in lines[0].scores
    }
    examples = {
        name: int(np.mean([line.examples[name] for line in lines])) for name in lines[0].examples
    }
    return row(
        BENCH, case, selection, scores=scores, examples=examples, seeds=len(lines), **where()
    )


def print_tables(rows: list[dict[str, Any]]) -> None:
    """Accuracy, with the examples of a column in brackets; then how devices fare."""
    names = list(rows[0]["scores"])
    for chosen in ([n for n in names if "," not in n], [n for n in names if "," in n]):
        if chosen:
            print_markdown(
                [rows[0]["case"], *chosen],
                [[one["rival"], *(_cell(one, name) for name in chosen)] for one in rows],
            )


def _cell(one: dict[str, Any], name: str) -> str:
    examples = f" ({one['examples'][name]:,})" if name in one["examples"] else ""
    return percent(one["scores"][name]) + examples


CASES = {"static": static, "continual": continual}


def main(arguments: Any = None) -> int:
    """Prints the tables, then JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args(arguments)
    chosen = given.cases.split(",")
    for case in chosen:
        if case not in CASES:
            parser.error(f"--cases must name {' or '.join(CASES)}, got {case!r}")
    found, rows = corpus(), []
    for case in chosen:
        lines = []
        for name in SELECTIONS:
            say(f"{case}: {name}")
            seeds = range(2 if given.quick else max(2, given.seeds))
            runs = [CASES[case](found, parse_selection(name), s, given.quick) for s in seeds]
            lines.append(summary(case, name, runs))
        print_tables(lines)
        rows += lines
    print_rows(rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
