"""What does privacy cost on a table? Epsilon 1 and 3 beside logistic regression without privacy.

    python bench/tabular.py            # about two minutes on two cores
    python bench/tabular.py --quick    # two steps: does it run?

The census table "Adult" by its public schema, adult.toml, with the defaults of `trustml train
--task tabular`, on the publisher's parts: accuracy and area under the ROC curve on the test part,
mean over seeds, at delta 1e-5. Beside it scikit-learn's logistic regression on the same encoding,
and on the usual one, standardised by the rows themselves. Data are read from the folder in
TRUSTML_DATA.

Expected on two cores with JAX 0.10.2: bench/README.md holds the table last measured.
"""

import argparse
import csv
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from _timing import print_markdown, print_rows, row, say, where

import trustml
from trustml.data import load_items
from trustml.data.tables import read_schema
from trustml.data.tables.encoding import category_sizes
from trustml.recipes.train.config import TrainConfig
from trustml.recipes.train.resolve import resolve

BENCH, CASE = "tabular", "adult"
SCHEMA = Path(__file__).parent / "adult.toml"
EPSILONS = {"epsilon 1": 1.0, "epsilon 3": 3.0}
DELTA = 1e-5


def write_csv(folder: Path) -> tuple[Path, Path]:
    """The publisher's parts as files that anybody may have."""
    arrays = load_items("adult").arrays
    names = [name for name in arrays if name != "part"]
    paths = []
    for part, name in ((0, "adult.csv"), (2, "adult_test.csv")):
        rows = np.flatnonzero(arrays["part"] == part)
        paths.append(folder / name)
        with paths[-1].open("w", newline="") as file:
            columns = [arrays[each][rows].tolist() for each in names]
            csv.writer(file).writerows([names, *zip(*columns, strict=True)])
    return paths[0], paths[1]


def experiment(files: tuple[Path, Path], epsilon: float, quick: bool):
    """The experiment of the command, without rows that only an attack needs."""
    steps = {"steps": 2, "baseline_steps": 2} if quick else {}
    config = TrainConfig(
        task="tabular",
        data=str(files[0]),
        eval_split=str(files[1]),
        schema=str(SCHEMA),
        epsilon=epsilon,
        delta=DELTA,
        audit_rows=0,
        **steps,
    )
    return resolve(config, quiet=True)


def trained(made, arm: str, seeds: int) -> dict:
    """Mean scores of an arm over seeds."""
    step, test = made.steps[arm], made.parts.test
    objective = made.objective(step)
    found, begin = [], time.perf_counter()
    for seed in range(seeds):
        start = objective.params(made.task.start(seed))
        result = trustml.fit(step, start, objective.units, seed=seed, progress=False)
        _, scores = made.task.predict(objective.model(result.params), test, False)
        found.append(_scores(scores[:, 1], test))
    means = {name: float(np.mean([one[name] for one in found])) for name in found[0]}
    return {**means, "seconds": round((time.perf_counter() - begin) / seeds, 1)}


def regressions(made) -> dict[str, dict]:
    """scikit-learn's logistic regression on our encoding and on the usual one."""
    train, test = (_columns(made, part) for part in (made.parts.train, made.parts.test))
    numbers = train["numbers"].shape[1]
    whole = {name: _stacked(part) for name, part in (("train", train), ("test", test))}
    mean, spread = (getattr(whole["train"][:, :numbers], each)(0) for each in ("mean", "std"))
    usual = {name: part.copy() for name, part in whole.items()}
    for part in usual.values():
        part[:, :numbers] = (part[:, :numbers] - mean) / np.where(spread > 0, spread, 1)
    inputs = {"scikit-learn, same encoding": whole, "scikit-learn, standardised": usual}
    return {name: _fitted(each, train["label"], made.parts.test) for name, each in inputs.items()}


def _columns(made, part):
    return made.task.encode(part).arrays


def _stacked(arrays) -> np.ndarray:
    sizes = category_sizes(read_schema(SCHEMA))
    one_hot = [np.eye(size)[arrays["categories"][:, at]] for at, size in enumerate(sizes)]
    return np.concatenate([arrays["numbers"], arrays["missing"], *one_hot], 1).astype(np.float64)


def _fitted(inputs, labels, test) -> dict:
    from sklearn.linear_model import LogisticRegression

    begin = time.perf_counter()
    model = LogisticRegression(max_iter=2_000).fit(inputs["train"], labels)
    scores = _scores(model.predict_proba(inputs["test"])[:, 1], test)
    return {**scores, "seconds": round(time.perf_counter() - begin, 1)}


def _scores(probability: np.ndarray, test) -> dict:
    from sklearn.metrics import roc_auc_score

    truth = test.rows.label_indices(test.labels)
    accuracy = float(((probability > 0.5) == truth).mean())
    return {"accuracy": accuracy, "auc": float(roc_auc_score(truth, probability))}


def measure(chosen) -> list[dict]:
    """A row for each rival."""
    with tempfile.TemporaryDirectory() as name:
        files = write_csv(Path(name))
        found = {}
        for rival, epsilon in EPSILONS.items():
            say(f"{CASE}: {rival}")
            made = experiment(files, epsilon, chosen.quick)
            found[rival] = trained(made, "private", chosen.seeds)
            found[rival] |= {"epsilon": made.plan.epsilon(DELTA), "delta": DELTA}
        say(f"{CASE}: baseline and scikit-learn")
        found["baseline"] = trained(made, "baseline", chosen.seeds)
        found |= regressions(made)
    return [
        row(BENCH, CASE, rival, seeds=chosen.seeds, **scores, **where())
        for rival, scores in found.items()
    ]


def print_table(rows: list[dict]) -> None:
    """The rows for eyes, as Markdown."""
    lines = [
        [one["rival"], f"{100 * one['accuracy']:.1f}", f"{one['auc']:.3f}", f"{one['seconds']}"]
        for one in rows
    ]
    print_markdown(("training", "accuracy, %", "AUC", "seconds"), lines)


def main(arguments=None) -> int:
    """Runs the bench."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="two steps, one seed")
    chosen = parser.parse_args(arguments)
    chosen.seeds = 1 if chosen.quick else chosen.seeds
    rows = measure(chosen)
    print_table(rows)
    print_rows(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
