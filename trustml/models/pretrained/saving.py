"""Writes models as Hugging Face's transformers reads them."""

import dataclasses
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from trustml.models.network import Network
from trustml.models.pretrained import tensor_names as names
from trustml.models.pretrained.checkpoints import WEIGHTS
from trustml.models.tokenizers.text_tokenizer import TextTokenizer
from trustml.models.transformers.config import ModelConfig
from trustml.models.transformers.layers import Options
from trustml.models.transformers.lora import merge_lora
from trustml.strict_json import dumps

CONFIG = "config.json"
OWN = "trustml."  # before names of tensors that transformers does not know


class Pretrained(NamedTuple):
    """A network with weights."""

    network: Network
    params: Any
    config: ModelConfig  # with the labels and tags of the head
    tokenizer: TextTokenizer | None
    fresh: tuple[str, ...]  # names of leaves that the files did not hold: newly started
    head: str
    options: Options
    unread: tuple[str, ...] = ()  # names of tensors in the files that the network has no use for


def save_pretrained(
    folder: str | Path,
    pretrained: Pretrained | tuple[Network, ModelConfig, Any],
    tokenizer: TextTokenizer | None = None,
    *,
    head: str | None = None,
    options: Options | None = None,
) -> None:
    """Writes config.json, model.safetensors and the tokenizer; all or nothing.

    After training: `save_pretrained(folder, pretrained._replace(params=params))`. Adapters are
    merged, stacked layers written one by one. Heads that transformers lacks ("nlu", a CRF) are
    written under names of their own, which it skips and `from_pretrained` reads.

    Args:
      folder: A folder that does not exist, or is empty.
      pretrained: What to write: as `from_pretrained` gives it, or `(network, config, params)`.
      tokenizer: Its tokenizer; by default that of `pretrained`.
      head: Of `(network, config, params)`; may be left out for a language model.
      options: Of `(network, config, params)`.

    Raises:
      ValueError: A folder that is not empty, a head that is not known, or adapters without
        the options that they were built with.
    """
    whole = _whole(pretrained, tokenizer, head, options or Options())
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"`folder` must be new or empty, got {str(folder)!r}, which is not.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        _write(partial, whole)
        os.chmod(partial, 0o755)
        os.replace(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _whole(pretrained, tokenizer, head, options) -> Pretrained:
    if isinstance(pretrained, Pretrained):
        return pretrained._replace(tokenizer=tokenizer or pretrained.tokenizer)
    network, config, params = pretrained
    if head is None:
        head = _language_head(config, params.get("head", {}))
    return Pretrained(network, params, config, tokenizer, (), head, options)


def _language_head(config: ModelConfig, leaves) -> str:
    if config.model_type == "bart":
        return "seq2seq"
    if config.model_type == "gpt2" and set(leaves) <= {"decoder"}:
        return "lm"
    if "norm" in leaves:
        return "mlm"
    raise ValueError("`head` must name the head of `params`, such as 'classify', got None.")


def _write(folder: Path, pretrained: Pretrained) -> None:
    from safetensors.numpy import save

    tensors = to_hf_tensors(
        pretrained.params, pretrained.config, pretrained.head, pretrained.options
    )
    _put(folder / WEIGHTS, save(tensors, metadata={"format": "pt"}))
    fields = _to_hf_fields(pretrained.config, pretrained.head)
    _put(folder / CONFIG, (dumps(fields, indent=2, sort_keys=True) + "\n").encode())
    if pretrained.tokenizer is not None:
        pretrained.tokenizer.save(folder)


def _put(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def to_hf_tensors(
    params: Any, config: ModelConfig, head: str, options: Options
) -> dict[str, np.ndarray]:
    """Parameters in the names and layouts of transformers, float32, adapters merged."""
    if options.lora is not None:
        params = merge_lora(params, options.lora)
    leaves = names.unstacked(params)
    if adapters := [leaf for leaf in leaves if leaf.endswith("/lora_a")]:
        raise ValueError(f"`options` must hold the `lora` of `{adapters[0]}`, got None.")
    places = names.places(config, head, leaves)
    found: dict[str, np.ndarray] = {}
    for leaf, array in leaves.items():
        place = places.get(leaf) or names.Place(OWN + leaf.replace("/", "."))
        value = np.asarray(array, np.float32)
        value = value.T if place.transposed else value
        value = np.ascontiguousarray(value[None] if place.row else value)
        # Of a model that is not tied transformers reads each copy by itself.
        copies = [place.name] if config.tied else names.copies(config, leaf, place.name)
        found |= dict.fromkeys(copies, value)
    return found


def _to_hf_fields(config: ModelConfig, head: str) -> dict[str, Any]:
    """The fields of config.json, the class that transformers needs among them.

    Raises:
      ValueError: The labels or tags of the head are not in `config`.
    """
    needed = {"classify": ("labels",), "tag": ("tags",), "nlu": ("labels", "tags")}
    for name in needed.get(head, ()):
        if not getattr(config, name):
            raise ValueError(f"`config` must hold the `{name}` of the head {head!r}, got none.")
    if head == "tag":
        config = dataclasses.replace(config, labels=config.tags, tags=())
    if head == "classify" and config.model_type == "gpt2" and config.pad_id is None:
        # transformers finds the last token by the padding behind it.
        config = dataclasses.replace(config, pad_id=config.eos_id)
    return config.to_hf() | {"architectures": [names.class_name(config, head)]}
