"""Tasks of the benches: MNIST's test part, and the utterances that `trustml train` knows."""

import dataclasses
import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from _cases.base import Draw, cross_entropy

from trustml import PrivacyPlan, baseline_step, private_step
from trustml.recipes.train.config import TrainConfig
from trustml.recipes.train.evaluation import utility
from trustml.recipes.train.presets import Training
from trustml.recipes.train.resolve import resolve
from trustml.training import TrainStep

VARIABLE = "TRUSTML_DATA"
DELTA = 1e-5
MICROBATCH = 256  # as the command has it
_TRAIN = 8_000  # of the 10,000 images; the rest is evaluated on


class Task(NamedTuple):
    """Data, a network and settings for it."""

    name: str
    loss: Callable
    start: Callable[[int], Any]  # seed to weights
    train: dict[str, np.ndarray]
    scores: Callable[[Any], dict[str, float]]  # of weights, on the part that is evaluated on
    private: Training
    baseline: Training
    what: str


def plan_of(task: Task, training: Training, epsilon: float | None) -> PrivacyPlan:
    """The draws of a training, and the noise that keeps within `epsilon`, if any."""
    units = len(jax.tree.leaves(task.train)[0])
    batch = min(training.expected_batch, units)
    fields = {"clip_norm": training.clip_norm, "num_units": units, "steps": training.steps}
    if epsilon is None:
        return PrivacyPlan(
            noise_multiplier=0.0, sample_rate=batch / units, expected_batch=batch, **fields
        )
    return PrivacyPlan.calibrate(epsilon=epsilon, delta=DELTA, expected_batch=batch, **fields)


def step_of(
    task: Task, training: Training, plan: PrivacyPlan, strategy: str | None = "auto"
) -> TrainStep:
    """A step on the draws of `plan`: private by `strategy`, or plain where that is None."""
    build = baseline_step if strategy is None else private_step
    return build(
        task.loss,
        training.optimizer(),
        plan,
        strategy=strategy or "auto",
        physical_batch_size=MICROBATCH,
    )


def utterances(name: str, *, quick: bool) -> Task:
    """SNIPS or the generated corpus, with the settings of the command's preset."""
    small = {"batch": 64, "steps": 4, "baseline_steps": 4, "pretrain": False} if quick else {}
    data = name.removesuffix("-scratch")
    experiment = resolve(TrainConfig(data=data, preset=name, audit_rows=0, **small))
    train, evaluated = experiment.training_units, experiment.evaluated
    if quick:
        train = {key: leaf[:500] for key, leaf in train.items()}
        evaluated = dataclasses.replace(
            evaluated, rows=evaluated.rows[:50], owners=None, owner_kind=None, group_of=None
        )
    starts: dict[int, Any] = {}

    def start(seed):
        if seed not in starts:  # pretraining takes a minute; all trainings of a seed share it
            starts.clear()
            starts[seed] = experiment.task.start(seed)
        return starts[seed]

    def scores(params):
        found = utility(experiment, params, evaluated)
        return {"accuracy": found["intent_accuracy"], "slot_f1": found["slot_f1"]}

    return Task(
        name,
        experiment.loss,
        start,
        train,
        scores,
        experiment.private,
        experiment.baseline,
        f"{name}: {len(evaluated)} rows of the test part are evaluated on",
    )


def images(name: str, *, quick: bool) -> Task:
    """MNIST's test part by a small network: "mnist-cnn" or "mnist-mlp"."""
    x, y = _blobs() if quick else read_mnist()
    order = np.random.default_rng(0).permutation(len(x))
    parts = np.split(order, [len(x) * _TRAIN // 10_000])
    train, test = ({"x": x[rows], "y": y[rows]} for rows in parts)
    start, logits, rate = _NETWORKS[name]

    def loss(params, unit):
        return cross_entropy(logits(params, unit["x"]), unit["y"])

    predict = jax.jit(jax.vmap(lambda p, x: jnp.argmax(logits(p, x)), in_axes=(None, 0)))

    def scores(params):
        return {"accuracy": float(np.mean(np.asarray(predict(params, test["x"])) == test["y"]))}

    steps, batch = (4, 32) if quick else (300, 1024)
    return Task(
        name,
        loss,
        start,
        train,
        scores,
        Training(expected_batch=batch, steps=steps, learning_rate=rate, clip_norm=0.1),
        Training(expected_batch=batch // 4, steps=2 * steps, learning_rate=rate / 6),
        f"{name}: {len(order)} images, of which {len(test['y'])} are evaluated on",
    )


def read_mnist() -> tuple[np.ndarray, np.ndarray]:
    """The 10,000 images of MNIST's test part, float32 in [0, 1], and their digits.

    Raises:
      FileNotFoundError: TRUSTML_DATA does not name a folder that holds them.
    """
    folder = Path(os.environ.get(VARIABLE, "")) / "mnist"
    found = []
    for name, head in (("t10k-images-idx3-ubyte.gz", 16), ("t10k-labels-idx1-ubyte.gz", 8)):
        if not (folder / name).exists():
            raise FileNotFoundError(
                f"`{VARIABLE}` must name a folder that holds mnist/{name}, got "
                f"{os.environ.get(VARIABLE)!r}."
            )
        with gzip.open(folder / name) as file:
            found.append(np.frombuffer(file.read(), np.uint8, offset=head))
    pixels = found[0].reshape(-1, 28, 28, 1).astype(np.float32) / 255
    return pixels, found[1].astype(np.int32)


def _blobs(rows: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Noisy copies of ten patterns, for the quick form."""
    rng = np.random.default_rng(0)
    digits = rng.integers(0, 10, rows).astype(np.int32)
    pattern = rng.normal(size=(10, 28, 28, 1))
    return (pattern[digits] + rng.normal(size=(rows, 28, 28, 1))).astype(np.float32), digits


def _start_cnn(seed):
    draw = Draw(seed)
    kernels = {"c1": (8 * 8, 16), "c2": (4 * 4 * 16, 32), "d1": (4 * 4 * 32, 32), "d2": (32, 10)}
    return {name: _layer(draw, *sizes) for name, sizes in kernels.items()}


def _cnn(p, image):
    """Two strided convolutions (28 to 11 to 4) and two dense layers; tanh keeps norms small."""
    x = jnp.tanh(_dense(p["c1"], _windows(image, 8)))
    x = jnp.tanh(_dense(p["c2"], _windows(x, 4)))
    return _dense(p["d2"], jnp.tanh(_dense(p["d1"], x.reshape(-1))))


def _windows(image, size, stride=2):
    """The windows of a convolution without padding, one row of values each: a product is left."""
    ends = [side - size + 1 for side in image.shape[:2]]
    places = [(row, column) for row in range(size) for column in range(size)]
    taken = [image[r : r + ends[0] : stride, c : c + ends[1] : stride] for r, c in places]
    return jnp.concatenate(taken, axis=-1)


def _start_mlp(seed):
    draw = Draw(seed)
    return [_layer(draw, *sizes) for sizes in ((784, 512), (512, 512), (512, 10))]


def _mlp(layers, image):
    x = image.reshape(-1)
    for layer in layers[:-1]:
        x = jnp.tanh(_dense(layer, x))
    return _dense(layers[-1], x)


def _layer(draw, inputs, outputs):
    return {"w": draw.weight(inputs, outputs), "b": jnp.zeros(outputs)}


def _dense(p, x):
    return x @ p["w"] + p["b"]


# Start, scores of the digits, learning rate under noise: the best of a few at epsilon 3.
_NETWORKS = {"mnist-cnn": (_start_cnn, _cnn, 1e-2), "mnist-mlp": (_start_mlp, _mlp, 5e-3)}
TASKS: dict[str, Callable[..., Task]] = {
    "snips": utterances,
    "snips-scratch": utterances,
    "synthetic": utterances,
    "mnist-cnn": images,
    "mnist-mlp": images,
}


def has_mnist() -> bool:
    """Whether TRUSTML_DATA holds MNIST's test part."""
    return (Path(os.environ.get(VARIABLE, "")) / "mnist" / "t10k-images-idx3-ubyte.gz").exists()


def make_task(name: str, *, quick: bool) -> Task:
    """The task of that name."""
    return TASKS[name](name, quick=quick)
