"""The formats that a model is written in: each says which models it holds and how it is read."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from trustml.models.features import NORM
from trustml.models.pretrained.hub import FILES, find_model
from trustml.models.tasks.task import LANGUAGE_MODEL
from trustml.recipes.export import usage
from trustml.recipes.export.function import has_features, write_jax
from trustml.recipes.export.names import CONFIG
from trustml.recipes.export.onnx import write_onnx
from trustml.recipes.finished import FinishedRun
from trustml.recipes.predict.model import model_of_run
from trustml.recipes.train.canaries import VECTOR, without_canaries
from trustml.recipes.train.feature_models import rebuilt_features
from trustml.report import write_json

_WEIGHTS, _HEAD, _FACTS = "model.safetensors", "head.safetensors", "head.json"
_NETWORK = {CONFIG: "network, sizes, labels and tokenizer, as a run of trustml keeps them"}


class Target(NamedTuple):
    """A format.

    Attributes:
      fits: Whether it can hold the model of a run.
      write: Writes the files into a folder; maps their names to what they are.
      library: What reads them, as Hugging Face's `library_name`.
      usage: Lines of Python that use the model in `{folder}`.
    """

    fits: Callable[[FinishedRun], bool]
    write: Callable[[Path, FinishedRun], Mapping[str, str]]
    library: str
    usage: Callable[[FinishedRun], str]


def default_target(run: FinishedRun) -> str:
    """The format that a run's model is in by default."""
    if has_features(run) and not _reads_words(run):
        return "sentence-transformers"
    return "transformers" if _is_language_model(run) else "safetensors"


def _is_language_model(run: FinishedRun) -> bool:
    return run.architecture == LANGUAGE_MODEL


def _generates(run: FinishedRun) -> bool:
    return run.network["task"] == "seq2seq"


def _reads_words(run: FinishedRun) -> bool:
    """Whether the input are vectors of words, which only this package cuts out of an encoder."""
    return has_features(run) and run.network["task"] in ("tag", "nlu")


def _is_function(run: FinishedRun) -> bool:
    return not (_generates(run) or _reads_words(run))


def _write_safetensors(folder: Path, run: FinishedRun) -> dict[str, str]:
    from safetensors.numpy import load, save

    weights = run.training.weights.read_bytes()
    tensors = load(weights)
    if VECTOR in tensors:  # of the audit, beside the model
        weights = save(without_canaries(tensors))
    (folder / _WEIGHTS).write_bytes(weights)
    write_json(folder / CONFIG, run.published_network)
    return {_WEIGHTS: "the weights, float32, one tensor a parameter", **_NETWORK}


def _write_transformers(folder: Path, run: FinishedRun) -> dict[str, str]:
    """Adapters are merged, and the tokenizer goes along."""
    from trustml.models.pretrained.saving import save_pretrained
    from trustml.recipes.train.text_models import rebuilt

    model = rebuilt(run.network, run.folder.tokenizer)
    like = jax.eval_shape(model.network.init, jax.random.key(0))
    save_pretrained(folder, model._replace(params=run.weights(like)))
    return {
        _WEIGHTS: "the weights, float32, in the names of transformers",
        CONFIG: "sizes and labels, as transformers and trustml.models.from_pretrained read",
    }


def _write_sentence_transformers(folder: Path, run: FinishedRun) -> dict[str, str]:
    """The encoder's own folder, unchanged, with the head beside it."""
    from safetensors.numpy import save_file

    network, model = run.network, model_of_run(run)
    features = rebuilt_features(network)  # refuses another encoder than that of the run
    source = find_model(network["encoder"])
    for path in sorted({path for pattern in FILES for path in source.glob(pattern)}):
        place = folder / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    head = {name: np.asarray(leaf, np.float32) for name, leaf in model.params["head"].items()}
    save_file(head, folder / _HEAD)
    scale = NORM / len(features.layers) ** 0.5
    facts = {"layers": list(features.layers), "scale": scale, "max_length": features.max_length}
    write_json(folder / _FACTS, {**facts, "labels": list(model.labels), "task": network["task"]})
    return {
        _HEAD: "the private weights: `kernel` [feature, score] and `bias`",
        _FACTS: "layers whose means are joined, their scale, and the labels",
        _WEIGHTS: "the encoder, public and unchanged",
    }


TARGETS = {
    "safetensors": Target(lambda run: True, _write_safetensors, "trustml", usage.of_weights),
    "transformers": Target(
        _is_language_model, _write_transformers, "transformers", usage.of_transformers
    ),
    "sentence-transformers": Target(
        lambda run: (
            has_features(run) and not run.network["random_weights"] and not _reads_words(run)
        ),
        _write_sentence_transformers,
        "sentence-transformers",
        usage.of_sentence_transformers,
    ),
    "jax": Target(_is_function, write_jax, "jax", usage.of_jax),
    "onnx": Target(_is_function, write_onnx, "onnx", usage.of_onnx),
}
