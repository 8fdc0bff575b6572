"""A classifier on features as the folder of its encoder, with the head beside it."""

import shutil
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from trustml.models.features import NORM
from trustml.models.finetuning import HEAD
from trustml.models.pretrained.hub import FILES, find_model
from trustml.models.pretrained.saving import to_hf_tensors
from trustml.models.pretrained.tensor_names import spellings
from trustml.models.transformers.config import ModelConfig
from trustml.models.transformers.layers import Options
from trustml.recipes.export import names
from trustml.recipes.export.function import has_features
from trustml.recipes.finished import FinishedRun
from trustml.recipes.predict.model import model_of_run
from trustml.recipes.train.feature_models import rebuilt_features
from trustml.recipes.train.trainable import adapters_of
from trustml.report import write_json


def write_sentence_transformers(folder: Path, run: FinishedRun) -> dict[str, str]:
    """The encoder's own folder with the head beside it, and what each file is.

    An encoder that was trained too has its weights replaced, adapters merged.
    """
    from safetensors.numpy import save_file

    network, model = run.network, model_of_run(run)
    features = rebuilt_features(network)  # refuses another encoder than that of the run
    source = find_model(network["encoder"])
    for path in sorted({path for pattern in FILES for path in source.glob(pattern)}):
        place = folder / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    if not has_features(run):
        _replace_weights(folder, network, features.encoder.config, model.params)
    head = {name: np.asarray(leaf, np.float32) for name, leaf in model.params[HEAD].items()}
    save_file(head, folder / names.HEAD)
    scale = NORM / len(features.layers) ** 0.5
    facts: dict[str, Any] = {
        "layers": list(features.layers),
        "scale": scale,
        "max_length": features.max_length,
    }
    facts |= {"labels": list(model.labels), "task": network["task"]}
    write_json(folder / names.HEAD_FACTS, facts)
    ours = "public and unchanged" if has_features(run) else "private weights too"
    return {
        names.HEAD: "the private weights: `kernel` [feature, score] and `bias`",
        names.HEAD_FACTS: "layers whose means are joined, their scale, and the labels",
        names.WEIGHTS: f"the encoder, {ours}",
    }


def _replace_weights(folder: Path, network: dict[str, Any], config: ModelConfig, params) -> None:
    """Puts trained weights in the place of the encoder's, under the names of its files."""
    from safetensors import safe_open
    from safetensors.numpy import save_file

    options = Options(lora=adapters_of(network["train"], network["lora_rank"]))
    body = {name: leaf for name, leaf in params.items() if name != HEAD}
    trained = to_hf_tensors(body, config, "body", options)
    named = {one: leaf for name, leaf in trained.items() for one in spellings(config, name)}
    for path in folder.rglob("*.safetensors"):
        with safe_open(path, "flax") as file:  # NumPy lacks bfloat16
            metadata = file.metadata()
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        whole = {name: _plain(named.get(name, leaf)) for name, leaf in stored.items()}
        save_file(whole, path, metadata)


def _plain(leaf: Any) -> np.ndarray:
    kind = np.float32 if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf.dtype
    return np.asarray(leaf).astype(kind, copy=False)
