"""Writes models in the format of Hugging Face's transformers."""

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
OWN = "trustml."  # prefix of tensors that transformers lacks


class Pretrained(NamedTuple):
    """A network with weights."""

    network: Network
    params: Any
    config: ModelConfig  # with the labels and tags of the head
    tokenizer: TextTokenizer | None
    fresh: tuple[str, ...]  # leaves that the files lack: random weights
    head: str
    options: Options
    unread: tuple[str, ...] = ()  # tensors of the files that the network lacks


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
    merged, and stacked layers are written one by one. Heads that transformers lacks ("nlu", a CRF)
    get names of their own, which it skips and `from_pretrained` reads.

    >>> import jax
    >>> from trustml.models import build_language_model, from_pretrained
    >>> sizes = {"vocab_size": 8, "hidden_size": 4, "intermediate_size": 4, "max_positions": 8}
    >>> config = ModelConfig(model_type="gpt2", num_layers=1, num_heads=1, **sizes)
    >>> network = build_language_model(config, "lm")
    >>> shapes = jax.eval_shape(network.init, jax.random.key(0))
    >>> params = jax.tree.map(jax.numpy.zeros_like, shapes)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_pretrained(folder, (network, config, params))
    ...     from_pretrained(folder, head="lm").params["word"]["embedding"].shape
    (8, 4)

    Args:
      folder: A new or empty folder.
      pretrained: The result of `from_pretrained`, or `(network, config, params)`.
      tokenizer: The tokenizer; by default that of `pretrained`.
      head: The head of `(network, config, params)`; optional for a language model.
      options: The options of `(network, config, params)`.

    Raises:
      ValueError: A folder that is not empty, an unknown head, or adapters without their
        options.
    """
    whole = _whole(pretrained, tokenizer, head, options or Options())
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"`folder` must be new or empty, got {str(folder)!r}, which is not.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Renamed when it is complete: neither a reader nor a crash meets half a model.
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        _write(partial, whole)
        os.chmod(partial, 0o755)  # mkdtemp shuts all other users out
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
    if config.decoder_only and set(leaves) <= {"decoder"}:
        return "lm"
    if "norm" in leaves:
        return "mlm"
    raise ValueError("`head` must name the head of `params`, such as 'classify', got None.")


def _write(folder: Path, pretrained: Pretrained) -> None:
    from safetensors.numpy import save

    tensors = to_hf_tensors(
        pretrained.params, pretrained.config, pretrained.head, pretrained.options
    )
    # transformers 4 refuses files without a format.
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
    stored_leaves = names.stored_leaves(config, head, leaves)
    tensors: dict[str, np.ndarray] = {}
    for leaf, array in leaves.items():
        stored = stored_leaves.get(leaf) or names.StoredLeaf(OWN + leaf.replace("/", "."))
        value = np.asarray(array, np.float32)
        value = value.T if stored.transposed else value
        value = np.ascontiguousarray(value[None] if stored.row else value)
        # transformers copies tied tensors itself; of an untied model it reads each copy.
        copies = [stored.name] if config.tied else names.copies(config, leaf, stored.name)
        tensors |= dict.fromkeys(copies, value)
    return tensors


def _to_hf_fields(config: ModelConfig, head: str) -> dict[str, Any]:
    """The fields of config.json, with the class for transformers.

    Raises:
      ValueError: The labels or tags of the head are not in `config`.
    """
    needed = {"classify": ("labels",), "tag": ("tags",), "nlu": ("labels", "tags")}
    for name in needed.get(head, ()):
        if not getattr(config, name):
            raise ValueError(f"`config` must hold the `{name}` of the head {head!r}, got none.")
    if head == "tag":
        config = dataclasses.replace(config, labels=config.tags, tags=())
    if head == "classify" and config.decoder_only and config.pad_id is None:
        # transformers classifies by the last token before padding, and needs its id for that.
        config = dataclasses.replace(config, pad_id=config.eos_id)
    return config.to_hf() | {"architectures": [names.class_name(config, head)]}
