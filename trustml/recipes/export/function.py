"""A trained network as one function of arrays, and as the bytes that `jax.export` writes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from trustml.data.examples import Examples
from trustml.data.unlabelled import unlabelled
from trustml.recipes.finished import FinishedRun
from trustml.recipes.predict.model import model_of_run
from trustml.report import write_json

CONFIG, _FUNCTION = "config.json", "model.jax"
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
    """

    function: Callable[..., tuple[jax.Array, ...]]
    inputs: dict[str, np.ndarray]
    outputs: tuple[str, ...]
    config: dict[str, Any]

    def specs(self) -> list[jax.ShapeDtypeStruct]:
        """Shape and type of each input, for any number of rows."""
        (rows,) = jax.export.symbolic_shape(ROWS)
        return [
            jax.ShapeDtypeStruct((rows, *leaf.shape[1:]), leaf.dtype)
            for leaf in self.inputs.values()
        ]


def inference(run: FinishedRun) -> Inference:
    """The private model of a run as one function of arrays; its tokenizer stays outside."""
    model = model_of_run(run)
    task, params, schema = model.task, model.params, model.schema
    encoded = task.encode(unlabelled(schema, _samples(schema))).arrays
    inputs = {name: encoded[name] for name in _INPUTS if name in encoded}

    def one(*arrays):
        return _outputs(task.network.logits(params, dict(zip(inputs, arrays, strict=True))), schema)

    outputs = tuple(jax.eval_shape(one, *(leaf[0] for leaf in inputs.values())))
    described = {
        "inputs": {name: [ROWS, *leaf.shape[1:], str(leaf.dtype)] for name, leaf in inputs.items()},
        "outputs": list(outputs),
    }
    function = jax.vmap(lambda *arrays: tuple(one(*arrays).values()))
    return Inference(function, inputs, outputs, {**run.network, "function": described})


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
        low, high = schema.value_range
        return {"value": low + (jnp.clip(first.reshape(()), -1.0, 1.0) + 1.0) / 2.0 * (high - low)}
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
    (folder / _FUNCTION).write_bytes(exported.serialize())
    return {
        _FUNCTION: "network and weights, for jax.export.deserialize",
        **write_rest(folder, run, made),
    }


def write_rest(folder: Path, run: FinishedRun, made: Inference) -> Mapping[str, str]:
    """What a function goes with: names of its inputs and outputs, labels, and the tokenizer."""
    write_json(folder / CONFIG, made.config)
    if run.folder.tokenizer.is_dir():
        for path in sorted(run.folder.tokenizer.iterdir()):
            (folder / path.name).write_bytes(path.read_bytes())
    return {CONFIG: "labels, tokenizer, and the function's inputs and outputs"}
