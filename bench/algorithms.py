"""Which federated algorithm serves devices that differ, by how much, and what does it send?

    python bench/algorithms.py              # five seeds; some ten minutes on two cores
    python bench/algorithms.py --cases fedavg,scaffold --seeds 2
    python bench/algorithms.py --quick      # two rounds: does it run?

hwu64's utterances lie on 100 devices whose intents differ (FedNLP's label partition, alpha 0.1); a
linear model on hashed words is trained in 60 rounds of 20 devices drawn uniformly, one local epoch,
batches of 10. Accuracy of the test part, its mean over devices and the mean of the lowest tenth of
devices (on rows that devices hold back), percent, mean over seeds with Student's 95 % interval;
examples processed, megabytes sent both ways. Each algorithm's rates are those of a small grid that
did best on rows held back in a partition of its own seed. What this does not show: other models,
data and partitions, where the order may be another, and what a wider search would give.

Expected: bench/README.md holds the table last measured, with device and versions.
"""

import argparse
import functools
import itertools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))

import jax
import optax
from _federated import Scores, corpus, devices, loss, percent, scores_of, start
from _timing import print_markdown, print_rows, row, say, where

from trustml.federated import (
    Asynchronous,
    FederatedStep,
    Schedule,
    fedadagrad,
    fedadam,
    fedavg,
    fedbuff,
    fedyogi,
    median,
    mimelite,
    qfedavg,
    robust,
    scaffold,
    trimmed_mean,
)
from trustml.federated.partition import partition
from trustml.stats import mean_estimate

BENCH = "algorithms"
_DEVICES, _PER_ROUND, _ALPHA = 100, 20, 0.1
_TUNED_ON = 1000  # the seed of the partition that rates are chosen on
_LOCAL, _SERVER = (3.0, 10.0, 30.0, 100.0), (0.1, 0.3, 1.0)


class Trained(NamedTuple):
    """The end of a run."""

    scores: Scores
    examples: int
    megabytes: float
    seconds: float


class Case(NamedTuple):
    """An algorithm, from a local rate and, where it has one, a server's."""

    make: Callable[..., Any]
    server: bool = False

    def grid(self) -> list[tuple[float, ...]]:
        """The rates that are tried."""
        return list(itertools.product(_LOCAL, _SERVER) if self.server else ((r,) for r in _LOCAL))


def _averaging(rate: float, **how: Any) -> Any:
    return fedavg(loss, optax.sgd(rate), **how)


def _adaptive(make: Callable) -> Case:
    return Case(lambda rate, server: _averaging(rate, server=make(server)), server=True)


CASES = {
    "fedavg": Case(_averaging),
    "fedavg, devices alike": Case(lambda rate: _averaging(rate, weights="clients")),
    "fedprox, mu 0.001": Case(lambda rate: _averaging(rate, proximal=0.001)),
    "momentum, 0.9": _adaptive(lambda rate: optax.sgd(rate, momentum=0.9)),
    "fedadam": _adaptive(fedadam),
    "fedyogi": _adaptive(fedyogi),
    "fedadagrad": _adaptive(fedadagrad),
    "scaffold": Case(lambda rate: scaffold(loss, rate)),
    "mimelite": Case(lambda rate: mimelite(loss, rate)),
    "qfedavg, q 0.1": Case(
        lambda rate: qfedavg(loss, optax.sgd(rate), fairness=0.1, lipschitz=1 / rate)
    ),
    "median": Case(lambda rate: robust(_averaging(rate), median())),
    "trimmed mean, 0.1": Case(lambda rate: robust(_averaging(rate), trimmed_mean(0.1))),
    "fedbuff, 40 at work": Case(lambda rate: fedbuff(_averaging(rate))),
}
# Trained copies of the model that an algorithm sends up beside the parameters' change.
_ALSO_SENT = {"scaffold": 1, "mimelite": 1}


def train(case: str, rates: tuple[float, ...], found: Any, seed: int, rounds: int) -> Trained:
    """One run of a case on a corpus."""
    labels = found.rows["label"]
    drawn = partition(f"label:alpha={_ALPHA}", _DEVICES, seed, labels=labels)
    held = devices(found.rows, drawn.client_of_row, seed)
    kind: Any = Schedule
    if case.startswith("fedbuff"):
        kind = functools.partial(Asynchronous, concurrency=2 * _PER_ROUND)
    clients = held.clients
    schedule = kind(steps=rounds, clients_per_round=_PER_ROUND, activity=clients.counts)
    step = FederatedStep(CASES[case].make(*rates), schedule, clients, clients_at_once=1, seed=seed)
    state, examples, answers = step.init(start(found.classes), key=seed), 0, 0
    began = time.perf_counter()
    for draw in schedule.batches(seed=seed):
        state, _ = step.update(state, draw, clients)
        there = draw.indices[draw.group >= 0]
        examples, answers = examples + int(clients.counts[there].sum()), answers + len(there)
    scores = scores_of(held, found.test)(state.params)
    seconds = time.perf_counter() - began
    size = 4e-6 * sum(leaf.size for leaf in jax.tree.leaves(state.params))
    ways = 2 + 2 * _ALSO_SENT.get(case, 0)  # down and up
    return Trained(scores, examples, answers * size * ways, seconds)


def tuned(case: str, found: Any, rounds: int) -> tuple[float, ...]:
    """The rates of the grid that serve devices best."""

    def mean(rates: tuple[float, ...]) -> float:
        return train(case, rates, found, _TUNED_ON, rounds).scores.mean

    return max(CASES[case].grid(), key=mean)


def summary(case: str, rates: Any, runs: list[Trained], rounds: int) -> dict[str, Any]:
    """The JSON row of a case."""
    means = {
        name: mean_estimate([getattr(run.scores, name) for run in runs])._asdict()
        for name in Scores._fields
    }
    last = runs[-1]
    return row(
        BENCH,
        case,
        "trustml",
        **means,
        seeds=len(runs),
        rates=rates,
        rounds=rounds,
        examples=last.examples,
        megabytes=round(last.megabytes, 1),
        seconds=round(sum(run.seconds for run in runs) / len(runs), 1),
        **where(),
    )


def main(arguments: Any = None) -> int:
    """Prints the table, then JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default=",".join(name.split(",")[0] for name in CASES))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args(arguments)
    known = {name.partition(",")[0]: name for name in reversed(CASES)}
    for name in given.cases.split(","):
        if name not in known:
            parser.error(f"--cases must be of {', '.join(sorted(known))}, got {name!r}")
    chosen = [name for name in CASES if name.partition(",")[0] in given.cases.split(",")]
    rounds, seeds = (2, 2) if given.quick else (60, max(2, given.seeds))
    found, rows = corpus(), []
    for case in chosen:
        rates = CASES[case].grid()[0] if given.quick else tuned(case, found, rounds)
        say(f"{case}: rates {rates}")
        runs = [train(case, rates, found, seed, rounds) for seed in range(seeds)]
        rows.append(summary(case, rates, runs, rounds))
    print_markdown(
        [
            "algorithm",
            "rates",
            "test part",
            "mean over devices",
            "lowest tenth",
            "examples",
            "MB",
            "s",
        ],
        [
            [
                one["case"],
                ", ".join(f"{rate:g}" for rate in one["rates"]),
                *(percent(one[name]) for name in ("accuracy", "mean", "lowest")),
                f"{one['examples']:,}",
                f"{one['megabytes']:g}",
                f"{one['seconds']:g}",
            ]
            for one in rows
        ],
    )
    print_rows(rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
