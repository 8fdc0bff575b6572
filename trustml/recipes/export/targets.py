"""The formats that a model is written in: each says which models it holds and how it is read."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax

from trustml.models.tasks.task import LANGUAGE_MODEL
from trustml.recipes.export import usage
from trustml.recipes.export.function import has_features, write_jax
from trustml.recipes.export.names import CONFIG, WEIGHTS
from trustml.recipes.export.onnx import write_onnx
from trustml.recipes.export.sentence_transformers import write_sentence_transformers
from trustml.recipes.finished import FinishedRun
from trustml.recipes.train.canaries import VECTOR, without_canaries
from trustml.report import write_json

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
    if _has_encoder(run):
        return "sentence-transformers"
    return "transformers" if _is_language_model(run) else "safetensors"


def _has_encoder(run: FinishedRun) -> bool:
    """Whether whole texts are read by an encoder with a head on its features."""
    return "encoder" in run.network and not _reads_words(run)


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
    (folder / WEIGHTS).write_bytes(weights)
    write_json(folder / CONFIG, run.published_network)
    return {WEIGHTS: "the weights, float32, one tensor a parameter", **_NETWORK}


def _write_transformers(folder: Path, run: FinishedRun) -> dict[str, str]:
    """Adapters are merged, and the tokenizer goes along."""
    from trustml.models.pretrained.saving import save_pretrained
    from trustml.recipes.train.text_models import rebuilt

    model = rebuilt(run.network, run.folder.tokenizer)
    like = jax.eval_shape(model.network.init, jax.random.key(0))
    save_pretrained(folder, model._replace(params=run.weights(like)))
    return {
        WEIGHTS: "the weights, float32, in the names of transformers",
        CONFIG: "sizes and labels, as transformers and trustml.models.from_pretrained read",
    }


TARGETS = {
    "safetensors": Target(lambda run: True, _write_safetensors, "trustml", usage.of_weights),
    "transformers": Target(
        _is_language_model, _write_transformers, "transformers", usage.of_transformers
    ),
    "sentence-transformers": Target(
        lambda run: _has_encoder(run) and not run.network["random_weights"],
        write_sentence_transformers,
        "sentence-transformers",
        usage.of_sentence_transformers,
    ),
    "jax": Target(_is_function, write_jax, "jax", usage.of_jax),
    "onnx": Target(_is_function, write_onnx, "onnx", usage.of_onnx),
}
