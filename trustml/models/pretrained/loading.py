"""Pretrained weights: read from safetensors files in the names of Hugging Face's transformers."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax
from jaxtyping import Array

from trustml.models.network import Network
from trustml.models.pretrained import tensor_names as names
from trustml.models.pretrained.checkpoints import Tensors
from trustml.models.pretrained.hub import find_model
from trustml.models.pretrained.label_rows import Rows, rows_of, stored_head, taken
from trustml.models.pretrained.saving import CONFIG, OWN
from trustml.models.pretrained.saving import Pretrained as Pretrained
from trustml.models.pretrained.saving import save_pretrained as save_pretrained
from trustml.models.tokenizers.text_tokenizer import TextTokenizer
from trustml.models.transformers.config import ModelConfig
from trustml.models.transformers.language import build_language_model
from trustml.models.transformers.layers import Options


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

    A stored head is read where it has the labels that are asked for, in any order and in capitals
    or not, or as many without names of their own (LABEL_0, ...). A head for other labels, or for
    another number, or that the files lack, starts anew, and `fresh` names its leaves. `unread`
    names the tensors of heads that were not asked for.

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
      ValueError: A file that is missing or broken; a tensor that is missing, of a wrong shape,
        quantized, or of a body that config.json does not describe; copies that differ. The line
        names it.
    """
    options = options or Options()
    folder = find_model(folder_or_name, download=download, endpoint=endpoint)
    source = Tensors(folder)
    stored = ModelConfig.from_file(folder / CONFIG)
    stored = dataclasses.replace(stored, logits_bias=_has_logits_bias(stored, source))
    had = stored_head(stored, head, source)
    known = dataclasses.replace(stored, labels=(), tags=()) if had is None else had
    config = _with_labels(known, head, tuple(labels), tuple(tags))
    network = build_language_model(
        config,
        head,
        labels=config.labels if head != "tag" else (),
        tags=config.tags,
        crf=crf,
        options=options,
    )
    tokenizer = _tokenizer(folder, config)
    rows = rows_of(had, config, head)
    params, fresh = _fill(network, config, head, source, key, rows)
    _check_unread(config, source, fresh)
    return Pretrained(network, params, config, tokenizer, fresh, head, options, source.unread)


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
    tokenizer = TextTokenizer.from_folder(folder)
    if tokenizer.vocab_size > config.vocab_size:
        raise ValueError(
            f"{folder}: the tokenizer has {tokenizer.vocab_size} tokens, the word embedding "
            f"`vocab_size` {config.vocab_size} rows; the two must be of one model."
        )
    return tokenizer


def _has_logits_bias(config: ModelConfig, source: Tensors) -> bool:
    """Whether there is a bias that is not zero; `_fill` refuses one of another shape."""
    held = source.read(["final_logits_bias"]) if config.model_type == "bart" else None
    return held is not None and (bool(held[1].any()) or held[1].shape != (1, config.vocab_size))


def _fill(network, config, head, source: Tensors, key, rows: dict[str, Rows | None]):
    """Parameters from the files, and the names of those that start anew."""
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    wanted = jax.eval_shape(names.unstacked, shapes)
    places = names.places(config, head, wanted)
    found, fresh = {}, []
    for leaf, like in wanted.items():
        place = places.get(leaf) or names.Place(OWN + leaf.replace("/", "."))
        array = _read(config, head, source, leaf, place, taken(rows, leaf))
        if array is None:
            fresh.append(leaf)
            continue
        if array.shape != like.shape:
            raise ValueError(
                f"{source.folder} must hold `{place.name}` in the shape {_shape(like, place)} that "
                f"config.json gives, got {_shape(array, place)}."
            )
        found[leaf] = array
    if fresh:
        found |= _started(network, fresh, jax.random.key(0) if key is None else key)
    return names.restacked(found, shapes), tuple(fresh)


def _read(config, head, source: Tensors, leaf: str, place: names.Place, rows: Rows | None):
    """A leaf as files hold it, in our layout; None where it starts anew."""
    if rows is None:
        return None
    groups = [names.spellings(config, name) for name in names.copies(config, leaf, place.name)]
    if head in names.LANGUAGE:
        # One tensor of the network. To other heads an output beside the embedding is nothing.
        groups = [[name for group in groups for name in group]]
    held = next((one for group in groups if (one := source.read(group)) is not None), None)
    if held is None:
        if leaf.startswith(("head/", "pooler/")) or leaf.endswith(("/lora_a", "/lora_b")):
            return None
        raise ValueError(
            f"{source.folder} must hold the tensor `{place.name}`, which is missing; the "
            f"files are not those of a whole {config.model_type}."
        )
    array = held[1]
    if place.row and array.shape[:1] == (1,):
        array = array[0]
    return rows.of(leaf, array.T if place.transposed else array)


def _shape(array, place: names.Place) -> list[int]:
    return list(array.shape[::-1] if place.transposed else array.shape)


def _check_unread(config: ModelConfig, source: Tensors, fresh: Sequence[str]) -> None:
    """Refuses what is of the network that the files are for, and is not of ours."""
    own = [name for name in source.unread if name.startswith(OWN)]
    if own and not any(leaf.startswith("head/") for leaf in fresh):
        raise ValueError(
            f"{source.files[own[0]]}: `{own[0]}` must be read with its head, of which it is a "
            "part; pass crf=True for a head with scores of neighbouring tags."
        )
    lost = [name for name in source.unread if names.in_body(config, name)]
    if lost:
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise ValueError(
            f"{source.files[lost[0]]} must hold no tensor of a {config.model_type} that "
            f"config.json does not describe, got `{lost[0]}`{more}; correct config.json, such as "
            "its number of layers, or take files of one plain model."
        )


def _started(network: Network, wanted: list[str], key) -> dict[str, Array]:
    # Under one jit, what is not wanted is never computed.
    @jax.jit
    def start(key):
        named = names.unstacked(network.init(key))
        return {name: named[name] for name in wanted}

    return start(key)
