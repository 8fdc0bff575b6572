"""Names of our networks' tensors in Hugging Face's transformers."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from trustml.models.pretrained.tensor_tables import (
    ANSWER,
    BODIES,
    CLASSES,
    FAMILIES,
    HEADS,
    LANGUAGE,
    OLD,
    OUTPUTS,
    PARTS,
    QA_ROOTS,
    UNREAD,
)
from trustml.models.transformers.architectures import ROTARY
from trustml.models.transformers.config import ModelConfig


class StoredLeaf(NamedTuple):
    """A leaf in a file of transformers."""

    name: str
    transposed: bool = False  # a dense layer's weight is stored as [out, in]
    row: bool = False  # a vector is stored as [1, size]


def class_name(config: ModelConfig, head: str) -> str:
    """The class of transformers for such a model."""
    rotary = config.model_type in ROTARY and head == "lm"
    return FAMILIES[config.model_type] + ("ForCausalLM" if rotary else CLASSES[head])


def _prefixes(config: ModelConfig) -> tuple[str, ...]:
    """Prefixes of the body's tensors in files of models with a head; the usual one first."""
    kind = config.model_type
    roots = (BODIES[kind][0], QA_ROOTS.get(kind, BODIES[kind][0]))
    return tuple(f"{root}." for root in dict.fromkeys(roots))


def stored_leaves(config: ModelConfig, head: str, leaves) -> dict[str, StoredLeaf]:
    """The stored form of each leaf; leaves that transformers lacks are left out.

    Args:
      config: Configuration of the model.
      head: Name of the head.
      leaves: Names of unstacked leaves, such as `encoder/layer_0/up/kernel`.
    """
    kind = config.model_type
    root, body = BODIES[kind]
    table = body | HEADS.get((kind, head), {})
    if head == "tag" and (kind, head) not in HEADS:
        table = table | {"head/classifier": "classifier"}
    if head == "qa":
        table, root = table | ANSWER, QA_ROOTS.get(kind, root)
    if head in LANGUAGE:
        table = table | {"head/decoder": OUTPUTS[kind]}
    stored = {}
    for leaf in leaves:
        module, _, part = leaf.rpartition("/")
        if (kind, leaf) == ("bart", "head/bias"):
            stored[leaf] = StoredLeaf("final_logits_bias", row=True)
            continue
        general, number = _without_number(module)
        if general not in table or part not in PARTS:
            continue
        name = table[general].format(m=root, i=number)
        # GPT-2 alone stores its body's weights as [in, out] (Conv1D in transformers).
        linear = part == "kernel" and not (kind == "gpt2" and not leaf.startswith("head/"))
        stored[leaf] = StoredLeaf(f"{name}.{PARTS[part]}", linear)
    return stored


def copies(config: ModelConfig, leaf: str, name: str) -> list[str]:
    """All names of a leaf in transformers: `name` and those of its copies.

    In a tied model they are one tensor; files may store one copy or several.
    """
    names, output = [name], OUTPUTS[config.model_type]
    if leaf == "word/embedding" and config.model_type == "bart":
        root = _prefixes(config)[0]
        names += [f"{root}{side}.embed_tokens.weight" for side in ("encoder", "decoder")]
    if leaf.endswith("word/embedding") and config.tied:
        names.append(f"{output}.weight")
    if leaf == "head/bias" and config.model_type in ("bert", "roberta"):
        names.append(f"{output}.bias")
    return names


def spellings(config: ModelConfig, name: str) -> list[str]:
    """Variants of a name in files: with or without prefix, in new or old spelling."""
    prefixes = _prefixes(config)
    root = next((one for one in prefixes if name.startswith(one)), "")
    inner = name.removeprefix(root)
    names = [name, inner, *(one + inner for one in prefixes if root)]
    names = list(dict.fromkeys(names))
    for end, before in OLD.items():
        names += [one.removesuffix(end) + before for one in names if one.endswith(end)]
    return names


def in_body(config: ModelConfig, name: str) -> bool:
    """Whether a stored tensor is a weight of the architecture's body."""
    table = BODIES[config.model_type][1]
    tops = {theirs.split(".")[1] for theirs in table.values()}
    root = next((one for one in _prefixes(config) if name.startswith(one)), "")
    inner = name.removeprefix(root)
    if UNREAD.search(inner):
        return False
    return inner != name or inner.split(".")[0] in tops


def _without_number(module: str) -> tuple[str, str]:
    """The path and number of a layer, such as ("encoder/layer_{i}/up", "3")."""
    parts = module.split("/")
    number = ""
    for index, part in enumerate(parts):
        if part.startswith("layer_") and part[6:].isdigit():
            number = part[6:]
            parts[index] = "layer_{i}"
    return "/".join(parts), number


def unstacked(params: dict[str, Any]) -> dict[str, Any]:
    """Leaves by name, with stacked layers one by one: `layers/up` becomes `layer_0/up`, ...

    >>> sorted(unstacked({"encoder": {"layers": {"up": np.zeros((2, 3))}}}))
    ['encoder/layer_0/up', 'encoder/layer_1/up']
    """
    leaves: dict[str, Any] = {}
    for name, leaf in flatten_dict(params, sep="/").items():
        parts = _layers(name, leaf)
        leaves |= {name: leaf} if parts is None else {one: leaf[i] for i, one in enumerate(parts)}
    return leaves


def restacked(read: Callable[[str], Any], like: Any) -> dict[str, Any]:
    """The inverse of `unstacked`: a tree with the names of `like`, from one leaf after another.

    It needs little more memory than the tree: the largest arrays come first, when there is room
    for the copies of them.

    >>> tree = {"encoder": {"layers": {"up": jax.numpy.ones((2, 3))}}}
    >>> restacked(unstacked(tree).get, tree)["encoder"]["layers"]["up"].shape
    (2, 3)

    Args:
      read: Maps the name of an unstacked leaf to its array.
      like: A tree of arrays or shapes.
    """
    shapes = flatten_dict(like, sep="/")
    leaves = {}
    for name in sorted(shapes, key=lambda name: -shapes[name].size):
        array = _aligned(shapes[name].shape, shapes[name].dtype)
        parts = _layers(name, array)
        if parts is None:
            array[...] = read(name)
        else:
            for index, part in enumerate(parts):
                array[index] = read(part)
        leaves[name] = jax.device_put(array)
    return unflatten_dict({name: leaves[name] for name in shapes}, sep="/")


def _aligned(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array that JAX takes over on a CPU as it is; NumPy's own would be copied twice."""
    most = 64  # the alignment that XLA asks for, bytes
    size = math.prod(shape) * np.dtype(dtype).itemsize
    buffer = np.empty(size + most, np.uint8)
    start = -buffer.ctypes.data % most
    return buffer[start : start + size].view(dtype).reshape(shape)


def _layers(name: str, leaf: Any) -> list[str] | None:
    """The names of a stacked leaf's layers; None if the leaf is not stacked."""
    if "/layers/" not in f"/{name}":
        return None
    return [f"/{name}".replace("/layers/", f"/layer_{i}/")[1:] for i in range(leaf.shape[0])]
