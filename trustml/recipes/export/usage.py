"""Lines of Python for a model card, which use the model in `{folder}`."""

from trustml.models.tasks.task import HASHED_WORDS, LANGUAGE_MODEL, TABLE
from trustml.recipes.export.names import CONFIG, HEAD, HEAD_FACTS, JAX, ONNX, WEIGHTS
from trustml.recipes.finished import FinishedRun

_TEXT = "where is my order?"
_PIPELINES = {
    "classify": "text-classification",
    "multilabel": "text-classification",
    "regression": "text-classification",
    "tag": "token-classification",
    "qa": "question-answering",
    "lm": "text-generation",
}
_PIPELINE = """\
from transformers import pipeline

model = pipeline("PIPELINE", "{folder}")"""
_OWN = """\
from trustml.models import from_pretrained

model = from_pretrained("{folder}", head="HEAD")"""
_WEIGHTS = f"""\
from safetensors.numpy import load_file

weights = load_file("{{folder}}/{WEIGHTS}")  # {CONFIG} describes the network"""
_JAX = f"""\
from pathlib import Path

import jax
import numpy as np

exported = jax.export.deserialize(bytearray(Path("{{folder}}/{JAX}").read_bytes()))
model = lambda **inputs: exported.call(*inputs.values())  # in the order of {CONFIG}
"""
_ONNX = f"""\
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("{{folder}}/{ONNX}")
model = lambda **inputs: session.run(None, inputs)  # by the names of {CONFIG}
"""
_ON_TOKENS = """
from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file("{folder}/tokenizer.json")
tokenizer.enable_truncation(LENGTH)
tokenizer.enable_padding(length=LENGTH)
read = tokenizer.encode("TEXT")
inputs = {"ids": np.array([read.ids], np.int32), "mask": np.array([read.attention_mask], bool)}
TYPES
outputs = model(**inputs)"""
_TYPES = 'inputs["types"] = np.array([read.type_ids], np.int32)'

_ON_WORDS = """
from trustml.data.tokens import hash_tokenizer, token_arrays
from trustml.models.tasks.words import words

outputs = model(**token_arrays([words("TEXT")], hash_tokenizer(BUCKETS), LENGTH))"""
_ON_TABLE = """
# `trustml.data.tables.encode_table` gives the inputs of rows."""


_ENCODER = f"""\
import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

encoder = SentenceTransformer("{{folder}}", device="cpu")
head = load_file("{{folder}}/{HEAD}")
facts = json.loads(Path("{{folder}}/{HEAD_FACTS}").read_text())
"""
_ON_ENCODER = """\
cut = {"truncation": True, "max_length": LENGTH, "padding": True, "return_tensors": "pt"}
tokens = encoder.tokenizer(["TEXT"], **cut)
with torch.no_grad():
    states = encoder[0].auto_model(**tokens, output_hidden_states=True).hidden_states
mask = tokens["attention_mask"][..., None]
means = [(states[layer] * mask).sum(1) / mask.sum(1) for layer in facts["layers"]]
joined = torch.cat([torch.nn.functional.normalize(mean, dim=-1) for mean in means], dim=-1)
outputs = joined * facts["scale"] @ head["kernel"] + head["bias"]  # of facts["labels"]"""


def of_weights(run: FinishedRun) -> str:
    """How to read safetensors."""
    del run
    return _WEIGHTS


def of_transformers(run: FinishedRun) -> str:
    """A pipeline of transformers; the library's own for heads that it lacks."""
    task = run.network["task"]
    if task in _PIPELINES:
        return _PIPELINE.replace("PIPELINE", _PIPELINES[task])
    return _OWN.replace("HEAD", task)


def of_jax(run: FinishedRun) -> str:
    """A function that JAX alone runs."""
    return _JAX + _on_inputs(run)


def of_onnx(run: FinishedRun) -> str:
    """A session of onnxruntime."""
    return _ONNX + _on_inputs(run)


def _on_inputs(run: FinishedRun) -> str:
    network = run.network
    if run.architecture == TABLE:
        return _ON_TABLE
    lines = _ON_WORDS if run.architecture == HASHED_WORDS else _ON_TOKENS
    lines = lines.replace("TYPES\n", f"{_TYPES}\n" if run.architecture == LANGUAGE_MODEL else "")
    buckets = str(network.get("tokenizer", {}).get("buckets"))
    lines = lines.replace("LENGTH", str(network["max_length"])).replace("BUCKETS", buckets)
    return lines.replace("TEXT", _TEXT)


def of_sentence_transformers(run: FinishedRun) -> str:
    """The encoder by sentence-transformers, and the head on it."""
    lines = _ENCODER + _ON_ENCODER
    return lines.replace("LENGTH", str(run.network["max_length"])).replace("TEXT", _TEXT)
