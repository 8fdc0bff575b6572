"""A trained network as one function of arrays, and as the bytes that `jax.export` writes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from trustml.data.examples import Examples
from trustml.data.tokens import padded
from trustml.data.unlabelled import unlabelled
from trustml.models.tasks import Task
from trustml.models.tasks.labels import unscaled
from trustml.models.tasks.task import FEATURES
from trustml.models.tokenizers.text_tokenizer import TextTokenizer
from trustml.recipes.export.names import CONFIG, JAX
from trustml.recipes.finished import FinishedRun
from trustml.recipes.predict.model import model_of_run
from trustml.recipes.train.feature_models import rebuilt_features
from trustml.report import write_json

ROWS = "rows"  # name of the one dimension of any size
_INPUTS = ("tokens", "ids", "mask", "types", "numbers", "missing", "categories")
_TEXTS = ("where is my order?", "play some jazz by the sea", "a war of words", "yes")
_PLATFORMS = ("cpu", "cuda", "tpu")


class Inference(NamedTuple):
    """A network with its weights.

    Attributes:
      function: Maps arrays [row, ...], in the order of `inputs`, to the arrays of `outputs`.
      inputs: Name and a few rows of each array that it reads.
      outputs: What it returns: probabilities, a value, or scores that a user decodes.
      config: Plain values that say so.
      tokenizer: Of a language model.
    """

    function: Callable[..., tuple[jax.Array, ...]]
    inputs: dict[str, np.ndarray]
    outputs: tuple[str, ...]
    config: dict[str, Any]
    tokenizer: TextTokenizer | None

    def specs(self) -> list[jax.ShapeDtypeStruct]:
        """Shape and type of each input, for any number of rows."""
        (rows,) = jax.export.symbolic_shape(ROWS)
        return [
            jax.ShapeDtypeStruct((rows, *leaf.shape[1:]), leaf.dtype)
            for leaf in self.inputs.values()
        ]


class _Reader(NamedTuple):
    """How a network reads a row: arrays of a few rows, and one row's arrays to scores."""

    inputs: dict[str, np.ndarray]
    scores: Callable[[Any, dict[str, Any]], Any]
    tokenizer: TextTokenizer | None


def inference(run: FinishedRun) -> Inference:
    """The private model of a run as one function of arrays; its tokenizer stays outside."""
    model = model_of_run(run)
    examples = unlabelled(model.schema, _samples(model.schema))
    read = (_on_features if has_features(run) else _on_arrays)(run, model.task, examples)

    def one(*arrays):
        unit = dict(zip(read.inputs, arrays, strict=True))
        return _outputs(read.scores(model.params, unit), model.schema)

    outputs = tuple(jax.eval_shape(one, *(leaf[0] for leaf in read.inputs.values())))
    shapes = {name: [ROWS, *leaf.shape[1:], str(leaf.dtype)] for name, leaf in read.inputs.items()}
    config = {**run.published_network, "function": {"inputs": shapes, "outputs": list(outputs)}}
    function = jax.vmap(lambda *arrays: tuple(one(*arrays).values()))
    return Inference(function, read.inputs, outputs, config, read.tokenizer)


def has_features(run: FinishedRun) -> bool:
    """Whether the network is a head on features of a frozen encoder."""
    return run.architecture == FEATURES


def _on_arrays(run: FinishedRun, task: Task, examples: Examples) -> _Reader:
    del run
    encoded = task.encode(examples).arrays
    inputs = {name: encoded[name] for name in _INPUTS if name in encoded}
    return _Reader(inputs, task.network.logits, task.tokenizer)


def _on_features(run: FinishedRun, task: Task, examples: Examples) -> _Reader:
    """The encoder too, on tokens."""
    features = rebuilt_features(run.network)
    tokenizer, length = features.encoder.tokenizer, features.max_length
    rows = [tokenizer.encode(row.text, max_length=length).ids for row in examples.rows]
    mask = padded([[True] * len(row) for row in rows], length, kind=bool)

    def scores(params, unit):
        return task.network.logits(params, {"features": features.of_tokens(unit)})

    return _Reader({"ids": padded(rows, length), "mask": mask}, scores, tokenizer)


def _samples(schema: Examples) -> list[tuple[Any, ...]]:
    """Public inputs of the task, to see shapes by and to compare results on."""
    if schema.table is not None:
        return [(schema.rows[0].values,)] * 2
    if schema.task in ("tag", "nlu"):
        return [(text.split(),) for text in _TEXTS]
    return [(text, text) if schema.task == "qa" else (text,) for text in _TEXTS]


def _outputs(scores: Any, schema: Examples) -> dict[str, jax.Array]:
    """What one row gives, by name."""
    first, second = scores if isinstance(scores, tuple) else (scores, scores)
    if schema.task == "qa":
        return {"start_scores": first, "end_scores": second}
    if schema.task == "lm":
        return {"token_scores": first}
    if schema.value_range is not None:
        return {"value": unscaled(first.reshape(()), *schema.value_range, array_module=jnp)}
    found = {}
    if schema.task != "tag":
        chance = jax.nn.sigmoid if schema.task == "multilabel" else jax.nn.softmax
        found["probabilities"] = chance(first)
    if schema.task in ("tag", "nlu"):
        found["tag_scores"] = second
    return found


def write_jax(folder: Path, run: FinishedRun) -> Mapping[str, str]:
    """The function with its weights as StableHLO, which JAX alone runs, on CPU, GPU and TPU."""
    made = inference(run)
    exported = jax.export.export(jax.jit(made.function), platforms=_PLATFORMS)(*made.specs())
    (folder / JAX).write_bytes(exported.serialize())
    return {
        JAX: "network and weights, for jax.export.deserialize",
        **write_rest(folder, made),
    }


def write_rest(folder: Path, made: Inference) -> Mapping[str, str]:
    """What a function goes with: names of its inputs and outputs, labels, and the tokenizer."""
    write_json(folder / CONFIG, made.config)
    if made.tokenizer is not None:
        made.tokenizer.save(folder)
    return {CONFIG: "labels, tokenizer, and the function's inputs and outputs"}
