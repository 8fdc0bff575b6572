"""Reads pretrained weights from safetensors files with the names of Hugging Face's transformers."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from trustml.models.pretrained import tensor_names as names
from trustml.models.pretrained.checkpoints import Tensors
from trustml.models.pretrained.gguf_files import GgufFile, GgufTensors, gguf_in
from trustml.models.pretrained.hub import find_model
from trustml.models.pretrained.label_rows import Rows, rows_of, stored_head, taken
from trustml.models.pretrained.saving import CONFIG, OWN
from trustml.models.pretrained.saving import Pretrained as Pretrained
from trustml.models.pretrained.saving import save_pretrained as save_pretrained
from trustml.models.tokenizers.text_tokenizer import TextTokenizer
from trustml.models.transformers.bert import Bert
from trustml.models.transformers.config import ModelConfig
from trustml.models.transformers.language import build_language_model
from trustml.models.transformers.layers import Options

ENCODERS = ("bert", "distilbert", "roberta")


class Body(NamedTuple):
    """An encoder without a head: its states are `module.apply({"params": params}, unit)[0]`."""

    config: ModelConfig
    module: Bert
    params: Any
    tokenizer: TextTokenizer


def read_body(folder: Path) -> Body:
    """The encoder of a folder, without a head.

    Raises:
      ValueError: The folder holds another architecture or no tokenizer, or as `from_pretrained`.
    """
    config = ModelConfig.from_file(folder / CONFIG)
    if config.model_type not in ENCODERS:
        raise ValueError(
            f"{folder} must hold an encoder ({', '.join(ENCODERS)}), got {config.model_type}."
        )
    tokenizer = _tokenizer(folder, config)
    if tokenizer is None:
        raise ValueError(f"{folder} must hold its tokenizer (tokenizer.json), got none.")
    source, module = Tensors(folder), Bert(config, Options())
    ids = jnp.zeros(1, jnp.int32)
    unit = {"ids": ids, "mask": jnp.ones(1, bool)}
    params, _ = _fill(
        lambda key: module.init(key, unit)["params"], config, "body", source, None, {}
    )
    _check_whole(config, source)
    return Body(config, module, params, tokenizer)


def from_pretrained(
    folder_or_name: str | Path,
    *,
    head: str,
    labels: Sequence[str] = (),
    tags: Sequence[str] = (),
    crf: bool = False,
    problem_type: str | None = None,
    options: Options | None = None,
    key: Array | None = None,
    download: bool = False,
    endpoint: str | None = None,
) -> Pretrained:
    """A pretrained model with a head for a task.

    A stored head is read if it has the requested labels, in any order and case, or the same number
    of unnamed ones (LABEL_0, ...). Any other head starts from random weights, and `fresh` names its
    leaves. `unread` names the tensors of stored heads that were not requested.

    >>> from_pretrained("./no-such-folder", head="classify")
    Traceback (most recent call last):
        ...
    ValueError: `folder_or_name` must be a folder that exists, got './no-such-folder'.

    Args:
      folder_or_name: A folder with config.json and model.safetensors, a GGUF file or a folder with
        one, or a name in the user's Hugging Face cache.
      head: See `build_language_model`.
      labels: The classes; by default those of the checkpoint.
      tags: The tags; by default those of the checkpoint.
      crf: See `build_language_model`.
      problem_type: Of "classify", one of `problem_types.PROBLEM_TYPES`; by default that of the
        checkpoint.
      options: See `build_language_model`.
      key: Key of random weights; `jax.random.key(0)` by default.
      download: Whether to download a name that the cache lacks.
      endpoint: Address to download from.

    Raises:
      ValueError: A file or a tensor is missing or broken, is quantized, contradicts config.json,
        or has copies that differ. The message names it.
    """
    options = options or Options()
    folder = find_model(folder_or_name, download=download, endpoint=endpoint)
    stored, source, read_tokenizer = _opened(folder)
    stored = dataclasses.replace(stored, logits_bias=_has_logits_bias(stored, source))
    had = stored_head(stored, head, source)
    base = dataclasses.replace(stored, labels=(), tags=()) if had is None else had
    config = _with_labels(base, head, tuple(labels), tuple(tags))
    if problem_type is not None:
        config = dataclasses.replace(config, problem_type=problem_type)
    network = build_language_model(
        config,
        head,
        labels=config.labels if head != "tag" else (),
        tags=config.tags,
        crf=crf,
        options=options,
    )
    tokenizer = read_tokenizer()
    rows = rows_of(had, config, head)
    params, fresh = _fill(network.init, config, head, source, key, rows)
    _check_unread(config, source, fresh)
    return Pretrained(network, params, config, tokenizer, fresh, head, options, source.unread)


def _opened(found: Path) -> tuple[ModelConfig, Tensors, Callable[[], TextTokenizer | None]]:
    """The configuration, the tensors and the way to the tokenizer of a folder or GGUF file."""
    path = gguf_in(found)
    if path is None:
        source, config = Tensors(found), ModelConfig.from_file(found / CONFIG)
        return config, source, lambda: _tokenizer(found, config)
    file = GgufFile.read(path)
    config = file.config()
    return config, GgufTensors(file), lambda: _fitting(path, file.tokenizer(), config)


def _with_labels(config: ModelConfig, head: str, labels, tags) -> ModelConfig:
    if head == "tag":
        return dataclasses.replace(config, labels=(), tags=tags or config.tags or config.labels)
    if head == "classify":
        if labels and config.labels and len(labels) != len(config.labels):
            config = dataclasses.replace(config, problem_type=None)  # that of the stored head
        return dataclasses.replace(config, labels=labels or config.labels, tags=tags)
    if head == "nlu":
        return dataclasses.replace(config, labels=labels or config.labels, tags=tags or config.tags)
    return dataclasses.replace(config, labels=labels, tags=tags)


def _tokenizer(folder: Path, config: ModelConfig) -> TextTokenizer | None:
    if not any((folder / name).exists() for name in ("tokenizer.json", "vocab.txt", "vocab.json")):
        return None
    return _fitting(folder, TextTokenizer.from_folder(folder), config)


def _fitting(source: Path, tokenizer, config: ModelConfig) -> TextTokenizer | None:
    if tokenizer is not None and tokenizer.vocab_size > config.vocab_size:
        raise ValueError(
            f"{source}: the tokenizer has {tokenizer.vocab_size} tokens, the word embedding "
            f"`vocab_size` {config.vocab_size} rows; the two must be of one model."
        )
    return tokenizer


def _has_logits_bias(config: ModelConfig, source: Tensors) -> bool:
    """Whether there is a nonzero bias; `_fill` refuses one of another shape."""
    bias = source.read(["final_logits_bias"]) if config.model_type == "bart" else None
    return bias is not None and (bool(bias[1].any()) or bias[1].shape != (1, config.vocab_size))


def _fill(init: Callable, config, head, source: Tensors, key, rows: dict[str, Rows | None]):
    """Parameters from the files, and the names of those that start from random weights."""
    shapes = jax.eval_shape(init, jax.random.key(0))
    wanted = jax.eval_shape(names.unstacked, shapes)
    stored = names.stored_leaves(config, head, wanted)
    origins = {
        leaf: _located(config, head, source, leaf, stored.get(leaf), taken(rows, leaf))
        for leaf in wanted
    }
    fresh = [leaf for leaf, origin in origins.items() if origin is None]
    started = _started(init, fresh, jax.random.key(0) if key is None else key) if fresh else {}

    def read(leaf: str):
        origin = origins[leaf]
        return started[leaf] if origin is None else _read(source, leaf, origin, wanted[leaf].shape)

    return names.restacked(read, shapes), tuple(fresh)


class _Origin(NamedTuple):
    """Where the files store a leaf."""

    names: Sequence[str]  # of its copies
    stored: names.StoredLeaf
    rows: Rows


def _located(config, head, source: Tensors, leaf: str, stored, rows: Rows | None) -> _Origin | None:
    """Where the files store a leaf; None if it starts from random weights."""
    if rows is None:
        return None
    stored = stored or names.StoredLeaf(OWN + leaf.replace("/", "."))
    groups = [names.spellings(config, name) for name in names.copies(config, leaf, stored.name)]
    if head in names.LANGUAGE:
        # The word embedding and its copies are one tensor here, so the copies must agree. Other
        # heads have no output layer, and ignore a stored one.
        groups = [[name for group in groups for name in group]]
    for group in groups:
        if found := [name for name in group if name in source.files]:
            return _Origin(found, stored, rows)
    if leaf.startswith(("head/", "pooler/")) or leaf.endswith(("/lora_a", "/lora_b")):
        return None
    raise ValueError(
        f"{source.folder} must hold the tensor `{stored.name}`, which is missing; the "
        f"files are not those of a whole {config.model_type}."
    )


def _read(source: Tensors, leaf: str, origin: _Origin, shape: tuple[int, ...]):
    """A leaf from the files, in our layout."""
    array, stored = source.tensor(origin.names), origin.stored
    if stored.row and array.shape[:1] == (1,):
        array = array[0]
    array = origin.rows.of(leaf, array.T if stored.transposed else array)
    if array.shape != shape:
        raise ValueError(
            f"{source.folder} must hold `{stored.name}` in the shape {_shape(shape, stored)} that "
            f"config.json gives, got {_shape(array.shape, stored)}."
        )
    return array


def _shape(shape: tuple[int, ...], stored: names.StoredLeaf) -> list[int]:
    return list(shape[::-1] if stored.transposed else shape)


def _check_unread(config: ModelConfig, source: Tensors, fresh: Sequence[str]) -> None:
    """Refuses unread tensors of our own head, and of the body: the network would be incomplete."""
    own = [name for name in source.unread if name.startswith(OWN)]
    if own and not any(leaf.startswith("head/") for leaf in fresh):
        raise ValueError(
            f"{source.files[own[0]]}: `{own[0]}` must be read with its head, of which it is a "
            "part; pass crf=True for a head with scores of neighbouring tags."
        )
    _check_whole(config, source)


def _check_whole(config: ModelConfig, source: Tensors) -> None:
    lost = [name for name in source.unread if names.in_body(config, name)]
    if lost:
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise ValueError(
            f"{source.files[lost[0]]} must hold no tensor of a {config.model_type} that "
            f"config.json does not describe, got `{lost[0]}`{more}; correct config.json, such as "
            "its number of layers, or take files of one plain model."
        )


def _started(init: Callable, wanted: list[str], key) -> dict[str, Array]:
    # XLA removes what the result does not need, so only `wanted` leaves are computed.
    @jax.jit
    def start(key):
        named = names.unstacked(init(key))
        return {name: named[name] for name in wanted}

    return start(key)
