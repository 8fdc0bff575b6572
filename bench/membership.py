"""Which attack finds most members, of models that overfit and of models with epsilon 3?

    python bench/membership.py                  # about 3 minutes on two cores
    python bench/membership.py --cases digits --models 16
    python bench/membership.py --quick          # tiny sizes: does it run?

Models of one case train at once, each on its own random half of the units (`train_shadows`): the
plain ones far too long, the private ones with the noise of epsilon 3 at delta 1e-5. Each model in
turn is attacked by the others, and one curve is drawn over all pairs of a model and a unit, so that
a false positive rate of 0.1 % is that of some ten thousand others. Pairs share units and models:
intervals are of the bootstrap over both (`pooled_result`). RMIA's population are rows that no model
trained on; accuracy is on them, too.

`digits` are the 1,797 images of scikit-learn, by a network of one hidden layer; `snips` the first
rows of SNIPS' training part, their intents, by the mean of embeddings of hashed words. SNIPS is
read from the folder in TRUSTML_DATA.

Expected: bench/README.md holds the table last measured, with device and versions.
"""

import argparse
import functools
import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _cases.base import cross_entropy
from _timing import print_markdown, print_rows, row, say, where

import trustml
from trustml import data
from trustml.audit import attacks
from trustml.data import synthetic

BENCH = "membership"
EPSILON, DELTA = 3.0, 1e-5


class Case(NamedTuple):
    """Rows, and how a network is trained on them: too long, or with privacy."""

    units: dict[str, np.ndarray]  # with the class of each as "label"
    population: dict[str, np.ndarray]  # rows that no model is trained on
    init: Callable
    logits: Callable
    plain: tuple[float, int, int]  # learning rate of Adam, steps, batch
    private: tuple[float, int, int]

    def loss(self, params, unit):
        """Cross-entropy of one unit."""
        return cross_entropy(self.logits(params, unit), unit["label"])


# --- What is trained ---


def digits(quick: bool) -> Case:
    """Images of 8 by 8 in 16 shades."""
    if quick:
        rng = np.random.default_rng(0)
        label = np.arange(120) % 10
        image = rng.normal(size=(10, 64))[label] + 2 * rng.normal(size=(120, 64))
        rows = {"x": image.astype(np.float32), "label": label.astype(np.int32)}
        return _with_hidden(rows, 80, (3e-3, 60, 16), (1e-2, 10, 20))
    if importlib.util.find_spec("sklearn") is None:
        raise ModuleNotFoundError("needs scikit-learn: pip install scikit-learn")
    from sklearn.datasets import load_digits

    found = load_digits()
    rows = {
        "x": (found.data / 16).astype(np.float32),
        "label": found.target.astype(np.int32),
    }
    return _with_hidden(rows, 1_400, (3e-3, 1_500, 64), (1e-2, 150, 128))


def _with_hidden(rows, units, plain, private) -> Case:
    def init(key):
        values = jax.random.normal(key, (64, 64 + 10)) / 8
        return {
            "in": values[:, :64],
            "shift": jnp.zeros(64),
            "out": values[:, 64:],
            "bias": jnp.zeros(10),
        }

    def logits(p, unit):
        return jnp.tanh(unit["x"] @ p["in"] + p["shift"]) @ p["out"] + p["bias"]

    return Case(*_parted(rows, units), init, logits, plain, private)


def snips(quick: bool) -> Case:
    """The intents of utterances in hashed words."""
    units, others = (80, 40) if quick else (2_000, 1_000)
    if quick:
        corpus = synthetic.generate(train=units + others, valid=1, test=1).train
    else:
        corpus = data.load("snips").train
    buckets, width = (64, 8) if quick else (2048, 32)
    tokenizer = data.hash_tokenizer(buckets, hashes=1, affixes=0)
    read = data.encode(corpus, tokenizer, 12)
    rows = {"x": read["tokens"][..., 0], "label": read["intent"]}
    rows = {name: leaf[: units + others] for name, leaf in rows.items()}
    classes = len(corpus.labels)

    def init(key):
        values = jax.random.normal(key, (buckets + 1 + classes, width)) / 8
        return {
            "table": 2 * values[classes:],
            "out": values[:classes].T,
            "bias": jnp.zeros(classes),
        }

    def logits(p, unit):
        keep = (unit["x"] > 0).astype(jnp.float32)[:, None]
        words = (p["table"][unit["x"]] * keep).sum(0) / jnp.maximum(keep.sum(), 1.0)
        return words @ p["out"] + p["bias"]

    plain, private = ((1e-2, 60, 16), (1e-2, 10, 20))
    if not quick:
        plain, private = ((1e-2, 600, 64), (1e-2, 150, 128))
    return Case(*_parted(rows, units), init, logits, plain, private)


def _parted(rows, units):
    """Units and population, in a fixed order of chance."""
    order = np.random.default_rng(0).permutation(len(rows["label"]))
    return tuple(
        {name: leaf[part] for name, leaf in rows.items()} for part in np.split(order, [units])
    )


CASES = {"digits": digits, "snips": snips}
TRAININGS = ("overfitted", "private")


def trained(case: Case, training: str, models: int) -> attacks.Shadows:
    """Models of one recipe, each on its half."""
    members = round(len(case.units["label"]) / 2)
    rate, steps, batch = case.private if training == "private" else case.plain
    how: dict[str, Any] = {"steps": steps, "batch": batch}
    if training == "private":
        plan = trustml.PrivacyPlan.calibrate(
            epsilon=EPSILON,
            delta=DELTA,
            num_units=members,
            expected_batch=batch,
            steps=steps,
            clip_norm=0.5,
        )
        how = {"private_plan": plan}
    return attacks.train_shadows(
        case.loss, optax.adam(rate), case.init, case.units, models=models, key=jax.random.key(0),
        **how,
    )  # fmt: skip


# --- What is attacked ---


class Signals(NamedTuple):
    """Logits of every model, [model, unit ...], and the classes."""

    logits: np.ndarray
    label: np.ndarray
    population: np.ndarray  # probabilities, [model, z]
    membership: np.ndarray


def _lira(found: Signals, **options):
    confidence = attacks.logit_confidence(found.logits, found.label)
    attack = functools.partial(attacks.lira, **options)
    return attacks.leave_one_out(attack, confidence, found.membership)


def _rmia(found: Signals, variant: str, *, continuous: bool = False):
    chances = attacks.true_class_probability(found.logits, found.label)

    def attack(target, shadows, membership):
        a = attacks.tune_a(shadows["x"], membership) if variant == "offline" else 0.3
        options = {"variant": variant, "a": a}
        if continuous:
            return attacks.informia(target["x"], shadows["x"], membership, **options)
        return attacks.rmia(
            target["x"],
            shadows["x"],
            membership,
            population=target["z"],
            population_shadows=shadows["z"],
            **options,
        )

    signals = {"x": chances, "z": found.population}
    return attacks.leave_one_out(attack, signals, found.membership)


def _calibrated(found: Signals):
    losses = attacks.class_loss(found.logits, found.label)
    return attacks.leave_one_out(attacks.calibrated_loss, losses, found.membership)


def _learned(found: Signals):
    attack = functools.partial(
        attacks.learned_attack, labels=found.label, key=jax.random.key(1), steps=600
    )
    return attacks.leave_one_out(attack, found.logits, found.membership)


ATTACKS: dict[str, Callable] = {
    "loss threshold": lambda found: -attacks.class_loss(found.logits, found.label),
    "calibrated loss": _calibrated,
    "Shokri": _learned,
    "LiRA online": _lira,
    "LiRA online, global variance": functools.partial(_lira, variance="global"),
    "LiRA offline": functools.partial(_lira, variant="offline"),
    "LiRA offline, global variance": functools.partial(_lira, variant="offline", variance="global"),
    "RMIA online": functools.partial(_rmia, variant="online"),
    "RMIA offline": functools.partial(_rmia, variant="offline"),
    "RMIA continuous, online": functools.partial(_rmia, variant="online", continuous=True),
    "RMIA continuous, offline": functools.partial(_rmia, variant="offline", continuous=True),
}


def measure(name: str, training: str, chosen) -> list[dict]:
    """The rows of one case and training: one for each attack."""
    case = CASES[name](chosen.quick)
    begin = time.perf_counter()
    shadows = trained(case, training, chosen.models)
    logits, others = (
        attacks.model_values(case.logits, shadows.params, rows)
        for rows in (case.units, case.population)
    )
    seconds = time.perf_counter() - begin
    right = others.argmax(-1) == case.population["label"]
    own = logits.argmax(-1) == case.units["label"]
    found = Signals(
        logits,
        case.units["label"],
        attacks.true_class_probability(others, case.population["label"]),
        shadows.membership,
    )
    shared = {
        "training": training,
        "epsilon": EPSILON if training == "private" else None,
        "models": chosen.models,
        "units": len(case.units["label"]),
        "accuracy": round(float(right.mean()), 4),
        "member_accuracy": round(float(own[shadows.membership].mean()), 4),
        "train_s": round(seconds, 1),
    }
    say(f"{name}, {training}: {shared}")
    return [_attacked(name, attack, found, chosen) | shared for attack in ATTACKS]


def _attacked(name: str, attack: str, found: Signals, chosen) -> dict:
    begin = time.perf_counter()
    scores = ATTACKS[attack](found)
    seconds = time.perf_counter() - begin
    result = attacks.pooled_result(
        scores,
        found.membership,
        rng=np.random.default_rng(0),
        resamples=20 if chosen.quick else 400,
    )
    rates = {
        f"tpr_at_{low.rate:g}": None if low.tpr is None else [round(v, 5) for v in low.tpr[:3]]
        for low in result.tpr_at_fpr
    }
    return row(
        BENCH,
        name,
        attack,
        auc=[round(value, 4) for value in result.auc[:3]],
        advantage=[round(value, 4) for value in result.advantage[:3]],
        **rates,
        attack_s=round(seconds, 2),
        **where(),
    )


def print_table(rows: list[dict]) -> None:
    """A line for each attack; rates in percent."""
    head = ["case", "training", "attack", "AUC", "TPR at 1 % FPR, %", "TPR at 0.1 % FPR, %"]
    lines = []
    for one in rows:
        rates = [_percent(one[f"tpr_at_{rate}"]) for rate in ("0.01", "0.001")]
        area = "{:.3f} [{:.3f}, {:.3f}]".format(*one["auc"])
        lines.append([one["case"], one["training"], one["rival"], area, *rates])
    print_markdown(head, lines)


def _percent(values) -> str:
    if values is None:
        return "too few"
    value, low, high = (100 * number for number in values)
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def parsed(arguments):
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default=",".join(CASES), help=f"of {', '.join(CASES)}")
    parser.add_argument(
        "--trainings", default=",".join(TRAININGS), help=f"of {', '.join(TRAININGS)}"
    )
    parser.add_argument("--models", type=int, help="trained at once, each attacked; 32")
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    chosen = parser.parse_args(arguments)
    chosen.models = chosen.models or (20 if chosen.quick else 32)
    chosen.names, chosen.trainings = chosen.cases.split(","), chosen.trainings.split(",")
    for option, names, known in (
        ("cases", chosen.names, CASES),
        ("trainings", chosen.trainings, TRAININGS),
    ):
        for name in names:
            if name not in known:
                parser.error(f"--{option} must be of {', '.join(known)}, got {name!r}")
    return chosen


def main(arguments=None) -> int:
    """Runs the bench."""
    chosen = parsed(arguments)
    found: list[dict] = []
    for name in chosen.names:
        for training in chosen.trainings:
            found += measure(name, training, chosen)
    print_table(found)
    print_rows(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
