"""Pretrained weights: read from safetensors files in the names of Hugging Face's transformers."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from trustml.models import names
from trustml.models.config import ModelConfig
from trustml.models.hub import find_model
from trustml.models.language import build_language_model
from trustml.models.layers import Options
from trustml.models.network import Network
from trustml.models.saving import CONFIG, OWN, WEIGHTS
from trustml.models.saving import Pretrained as Pretrained
from trustml.models.saving import save_pretrained as save_pretrained
from trustml.models.text_tokenizer import TextTokenizer

INDEX = "model.safetensors.index.json"
_VOCABULARY_TOPS = ("lm_head.weight", "cls.predictions.decoder.weight", "vocab_projector.weight")


def from_pretrained(
    folder_or_name: str | Path,
    *,
    head: str,
    labels: Sequence[str] = (),
    tags: Sequence[str] = (),
    crf: bool = False,
    options: Options | None = None,
    key: Array | None = None,
    download: bool = False,
    endpoint: str | None = None,
) -> Pretrained:
    """Reads a pretrained model and puts a head on it.

    The head's own weights are read where the files hold them for the same labels; otherwise they
    start anew, and `fresh` names them.

    Args:
      folder_or_name: A folder with config.json and model.safetensors, or a name in the user's
        Hugging Face cache.
      head: As in `build_language_model`.
      labels: The classes; by default those of the checkpoint.
      tags: The tags; by default those of the checkpoint.
      crf: As in `build_language_model`.
      options: As in `build_language_model`.
      key: For weights that start anew; `jax.random.key(0)` by default.
      download: Fetch a name that the cache lacks.
      endpoint: Address to download from.

    Raises:
      ValueError: A file that is missing or broken, or a tensor that is missing or of a wrong shape;
        the line names it.
    """
    options = options or Options()
    folder = find_model(folder_or_name, download=download, endpoint=endpoint)
    source = _Tensors(folder)
    stored = ModelConfig.from_file(folder / CONFIG)
    stored = dataclasses.replace(stored, logits_bias=_has_logits_bias(stored, source))
    config = _with_labels(stored, head, tuple(labels), tuple(tags))
    network = build_language_model(
        config,
        head,
        labels=config.labels if head != "tag" else (),
        tags=config.tags,
        crf=crf,
        options=options,
    )
    tokenizer = _tokenizer(folder, config)
    _check_tied(config, head, source)
    params, fresh = _fill(network, config, head, source, key, _changed(stored, config, head))
    return Pretrained(network, params, config, tokenizer, fresh, head, options)


def _with_labels(config: ModelConfig, head: str, labels, tags) -> ModelConfig:
    if head == "tag":
        return dataclasses.replace(config, labels=(), tags=tags or config.tags or config.labels)
    if head == "classify":
        return dataclasses.replace(config, labels=labels or config.labels, tags=tags)
    if head == "nlu":
        return dataclasses.replace(config, labels=labels or config.labels, tags=tags or config.tags)
    return dataclasses.replace(config, labels=labels, tags=tags)


def _changed(stored: ModelConfig, config: ModelConfig, head: str) -> bool:
    """Whether the head's classes are others than the checkpoint's: then its weights say nothing."""
    if head == "tag":
        return (stored.tags or stored.labels) != config.tags
    return head in ("classify", "nlu") and (
        stored.labels,
        stored.tags if head == "nlu" else (),
    ) != (
        config.labels,
        config.tags,
    )


class _Tensors:
    """Tensors of a folder's safetensors files by name, read when asked for."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.files = {name: path for path in _weight_files(folder) for name in _names(path)}

    def get(self, name: str) -> np.ndarray:
        """One tensor as float32."""
        from safetensors import safe_open

        with safe_open(self.files[name], framework="flax") as file:
            found = file.get_tensor(name)
        return np.asarray(found.astype(jnp.float32))


def _weight_files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS).exists():
        return [folder / WEIGHTS]
    if (folder / INDEX).exists():
        try:
            shards = json.loads((folder / INDEX).read_text())["weight_map"].values()
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise ValueError(f"{folder / INDEX} must be a readable index: {error!r}.") from None
        return [folder / name for name in sorted(set(shards))]
    for path in sorted(folder.glob("*.bin")):
        raise ValueError(
            f"{folder} must hold {WEIGHTS}, got {path.name} alone, a pickle, which may run any "
            "code; convert it with transformers' save_pretrained, or take a checkpoint that has "
            "safetensors."
        )
    raise ValueError(f"{folder} must hold {WEIGHTS} or {INDEX}, got neither.")


def _names(path: Path) -> list[str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="flax") as file:
            return list(file.keys())
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} must be a whole safetensors file: {error}.") from None


def _tokenizer(folder: Path, config: ModelConfig) -> TextTokenizer | None:
    if not any((folder / name).exists() for name in ("tokenizer.json", "vocab.txt", "vocab.json")):
        return None
    tokenizer = TextTokenizer.from_folder(folder)
    if tokenizer.vocab_size > config.vocab_size:
        raise ValueError(
            f"{folder}: the tokenizer has {tokenizer.vocab_size} tokens, the word embedding "
            f"`vocab_size` {config.vocab_size} rows; the two must be of one model."
        )
    return tokenizer


def _candidates(config: ModelConfig, name: str) -> list[str]:
    """Names under which files hold a tensor: with or without prefix, old names of BERT's."""
    root = names.prefix(config)
    found = [name, name.removeprefix(root)]
    if config.model_type == "bart" and name == "model.shared.weight":
        found += ["model.encoder.embed_tokens.weight", "encoder.embed_tokens.weight"]
        found += ["lm_head.weight"]
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    for end, before in old.items():
        found += [one.removesuffix(end) + before for one in found if one.endswith(end)]
    return found


def _has_logits_bias(config: ModelConfig, source: _Tensors) -> bool:
    held = config.model_type == "bart" and "final_logits_bias" in source.files
    return held and bool(source.get("final_logits_bias").any())


def _check_tied(config: ModelConfig, head: str, source: _Tensors) -> None:
    """A file may hold the output matrix too; it must then be the word embedding."""
    if head not in ("lm", "mlm", "seq2seq"):
        return
    word = names.places(config, head, ["word/embedding", "embeddings/word/embedding"])
    (place,) = word.values()
    there = [one for one in _candidates(config, place.name) if one in source.files]
    for name in _VOCABULARY_TOPS:
        if name not in source.files or not there or there[0] == name:
            continue
        if not np.array_equal(source.get(name), source.get(there[0])):
            raise ValueError(
                f"{source.files[name]}: `{name}` must equal `{there[0]}`, as models do whose "
                "output is tied to their word embedding; an output of its own is not supported."
            )


def _fill(network, config, head, source: _Tensors, key, changed: bool):
    """Parameters from the files, and the names of those that start anew."""
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    wanted = jax.eval_shape(names.unstacked, shapes)
    places = names.places(config, head, wanted)
    found, fresh = {}, []
    for leaf, like in wanted.items():
        place = places.get(leaf) or names.Place(OWN + leaf.replace("/", "."))
        held = [one for one in _candidates(config, place.name) if one in source.files]
        in_head = leaf.startswith(("head/", "pooler/"))
        adapter = leaf.endswith(("/lora_a", "/lora_b"))
        if not held and not (in_head or adapter):
            raise ValueError(
                f"{source.folder} must hold the tensor `{place.name}`, which is missing; the "
                f"files are not those of a whole {config.model_type}."
            )
        if not held or (changed and leaf.startswith("head/") and _by_label(leaf)):
            fresh.append(leaf)
            continue
        array = source.get(held[0])
        array = array[0] if place.row and array.ndim == 2 else array
        array = array.T if place.transposed else array
        if array.shape != like.shape:
            raise ValueError(
                f"{source.files[held[0]]} must hold `{held[0]}` in the shape "
                f"{list(like.shape[::-1] if place.transposed else like.shape)} that config.json "
                f"gives, got {list(array.shape[::-1] if place.transposed else array.shape)}."
            )
        found[leaf] = array
    if fresh:
        started = _started(network, fresh, jax.random.key(0) if key is None else key)
        found |= started
    return names.restacked(found, shapes), tuple(fresh)


def _by_label(leaf: str) -> bool:
    """Whether a leaf of a head has an entry per class or tag."""
    return "/dense/" not in leaf


def _started(network: Network, wanted: list[str], key) -> dict[str, Array]:
    # Under one jit, what is not wanted is never computed.
    @jax.jit
    def start(key):
        named = names.unstacked(network.init(key))
        return {name: named[name] for name in wanted}

    return start(key)
