"""Sizes of a pretrained language model, read from and written to Hugging Face's config.json."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from trustml.models.json_files import read_json
from trustml.models.transformers.activations import ACTIVATIONS
from trustml.models.transformers.architectures import (
    DECODERS,
    FIXED,
    FLAGS,
    ONLY,
    OPTIONAL,
    REQUIRED,
    ROTARY,
    SAME,
)
from trustml.models.transformers.problem_types import PROBLEM_TYPES
from trustml.models.transformers.rope import Rope
from trustml.strict_json import dumps

_QUANTIZED = ("quantization_config", "compression_config")
_TAGS = "trustml_tags"  # transformers has one list of labels; a joint head has two
_NOT_KEPT = ("architectures", "id2label", "label2id", "num_labels", "dtype", "torch_dtype", _TAGS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The sizes and options that determine a network's shapes and arithmetic.

    `labels` are the classes of a head, `tags` its tags. `rest` holds, as JSON, the fields of a
    config.json that the network does not depend on.

    >>> sizes = {"vocab_size": 8, "n_embd": 4, "n_layer": 1, "n_head": 1, "n_positions": 8}
    >>> ModelConfig.from_hf({"model_type": "gpt2", **sizes}).intermediate_size
    16
    """

    model_type: str  # a key of `REQUIRED`, such as "bert" or "llama"
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    max_positions: int
    type_vocab_size: int = 0
    activation: str = "gelu"
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.02
    pad_id: int | None = None
    bos_id: int | None = None
    eos_id: int | None = None
    tied: bool = True
    decoder_layers: int = 0
    decoder_heads: int = 0
    decoder_intermediate_size: int = 0
    decoder_start_id: int = 2
    scale_embedding: bool = False
    scale_attn_weights: bool = True  # GPT-2: scores are divided by the root of a head's width
    scale_attn_by_inverse_layer_idx: bool = False  # GPT-2: and by the layer's number, from 1
    logits_bias: bool = False  # BART: whether the checkpoint's final_logits_bias is not zero
    # Fields of Llama and its relatives.
    num_kv_heads: int = 0  # heads of keys and values; 0 for `num_heads`
    head_width: int = 0  # features of a head; 0 for `hidden_size / num_heads`
    attention_bias: bool = False
    mlp_bias: bool = False
    sliding_window: int | None = None  # positions that one attends to, itself included; None: all
    rope: Rope = dataclasses.field(default_factory=Rope)
    problem_type: str | None = None  # one of `PROBLEM_TYPES`; by default it follows from the labels
    labels: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    written_for: str = dataclasses.field(default="", compare=False)  # transformers' class
    rest: str = dataclasses.field(default="{}", compare=False, repr=False)

    def __post_init__(self):
        if self.model_type not in REQUIRED:
            supported = ", ".join(REQUIRED)
            raise ValueError(f"`model_type` must be one of {supported}, got {self.model_type!r}.")
        for name in REQUIRED[self.model_type] | {"intermediate_size": ""}:
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"`{name}` must be a positive integer, got {value!r}.")
        for name in ("num_heads", "decoder_heads"):
            heads = getattr(self, name)
            if heads and not self.head_width and self.hidden_size % heads:
                raise ValueError(
                    f"`hidden_size` must be a multiple of `{name}`, got {self.hidden_size} "
                    f"and {heads}."
                )
        if self.model_type in ROTARY:
            self._complete_rotary()
        choices = {"activation": tuple(ACTIVATIONS), "problem_type": (None, *PROBLEM_TYPES)}
        for name, able in choices.items():
            if (value := getattr(self, name)) not in able:
                raise ValueError(
                    f"`{name}` must be one of {', '.join(map(str, able))}, got {value!r}."
                )

    def _complete_rotary(self) -> None:
        filled = {
            "num_kv_heads": self.num_kv_heads or self.num_heads,
            "head_width": self.head_width or self.hidden_size // self.num_heads,
        }
        for name, value in filled.items():
            if type(value) is not int or value < 1:
                raise ValueError(f"`{name}` must be a positive integer, got {value!r}.")
            object.__setattr__(self, name, value)
        if self.head_width % 2:
            raise ValueError(f"`head_width` must be even, got {self.head_width!r}.")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"`num_heads` must be a multiple of `num_kv_heads`, got {self.num_heads} and "
                f"{self.num_kv_heads!r}."
            )
        window = self.sliding_window
        if window is not None and (type(window) is not int or window < 1):
            raise ValueError(f"`sliding_window` must be a positive integer, got {window!r}.")

    @property
    def decoder_only(self) -> bool:
        """Whether it reads a text from left to right, without an encoder."""
        return self.model_type in DECODERS

    @classmethod
    def from_hf(cls, fields: dict[str, Any]) -> "ModelConfig":
        """The configuration from the fields of a config.json.

        Raises:
          ValueError: An unknown architecture, a missing field, or an option that changes the
            arithmetic and is not supported.
        """
        kind = fields.get("model_type")
        if kind not in REQUIRED:
            supported = ", ".join(REQUIRED)
            raise ValueError(f"`model_type` must be one of {supported}, got {kind!r}.")
        _check_arithmetic(kind, fields)
        values: dict[str, Any] = {"model_type": kind}
        for ours, theirs in REQUIRED[kind].items():
            if theirs not in fields:
                raise ValueError(f"`{theirs}` of config.json is missing, which {kind} needs.")
            values[ours] = fields[theirs]
        for ours, (theirs, default) in OPTIONAL[kind].items():
            values[ours] = fields.get(theirs, default)
        values |= FIXED.get(kind, {})
        if kind == "gemma" and values["activation"] == "gelu":
            values["activation"] = "gelu_pytorch_tanh"  # what Gemma's authors meant
        values |= {
            name: values[name] or 0 for name in ("num_kv_heads", "head_width") if name in values
        }
        if values["intermediate_size"] is None:
            values["intermediate_size"] = 4 * values["hidden_size"]
        if isinstance(values["eos_id"], list):
            values["eos_id"] = values["eos_id"][0]
        values |= {name: bool(values[name]) for name in FLAGS if name in values}
        _check_sizes(kind, fields, values)
        read = _read_names(kind)
        if kind in ROTARY:
            values["rope"] = Rope.from_hf(fields)
            read |= set(values["rope"].to_hf())
        rest = {k: v for k, v in fields.items() if k not in read and k not in _NOT_KEPT}
        values |= {"labels": _labels(fields), "tags": tuple(fields.get(_TAGS) or ())}
        values["written_for"] = str(next(iter(fields.get("architectures") or ()), ""))
        return cls(**values, rest=dumps(rest, sort_keys=True))

    @classmethod
    def from_file(cls, path: Path) -> "ModelConfig":
        """The configuration from a config.json.

        Raises:
          ValueError: As `from_hf`, or a file that cannot be read or is not JSON.
        """
        fields = read_json(path)
        try:
            return cls.from_hf(fields)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def to_hf(self) -> dict[str, Any]:
        """The fields of a config.json that transformers reads."""
        fields = json.loads(self.rest) | {"model_type": self.model_type}
        for ours, theirs in REQUIRED[self.model_type].items():
            fields[theirs] = getattr(self, ours)
        for ours, (theirs, _) in OPTIONAL[self.model_type].items():
            fields[theirs] = getattr(self, ours)
        if self.model_type in ROTARY:
            fields |= self.rope.to_hf()
        if self.labels:
            fields["id2label"] = {str(index): name for index, name in enumerate(self.labels)}
            fields["label2id"] = {name: index for index, name in enumerate(self.labels)}
        if self.tags:
            fields[_TAGS] = list(self.tags)
        return fields


def _read_names(kind: str) -> set[str]:
    """Fields of config.json that an architecture reads."""
    return {*REQUIRED[kind].values(), *(name for name, _ in OPTIONAL[kind].values())}


def _check_arithmetic(kind: str, fields: dict[str, Any]) -> None:
    for name in _QUANTIZED:
        if fields.get(name):
            raise ValueError(
                f"`{name}` of config.json must be absent, got that of a quantized checkpoint, "
                "whose numbers mean nothing without it; take the checkpoint that was quantized, "
                "or one that transformers saved after `model.dequantize()`."
            )
    for name, only in ONLY.items():
        if (value := fields.get(name)) not in (None, only):
            raise ValueError(
                f"`{name}` of config.json must be {only!r}, the only value that is supported "
                f"for {kind}, got {value!r}."
            )
    kinds = fields.get("layer_types") or ()
    if other := [one for one in kinds if one != "full_attention"]:
        raise ValueError(
            f"`layer_types` of config.json must be full_attention for {kind}, got {other[0]!r}."
        )


def _check_sizes(kind: str, fields: dict[str, Any], values: dict[str, Any]) -> None:
    sizes = {name: (values[ours], ours) for ours, names in SAME.items() for name in names}
    heads, width = values["num_heads"], values["hidden_size"]
    if type(heads) is type(width) is int and heads > 0:
        sizes |= dict.fromkeys(("head_dim", "attention_head_size"), (width // heads, "num_heads"))
    for name, (size, ours) in sizes.items():
        if name in _read_names(kind):
            continue
        if (value := fields.get(name)) not in (None, size):
            raise ValueError(
                f"`{name}` of config.json must be {size}, as `{ours}` makes it in {kind}, "
                f"got {value!r}."
            )


def _labels(fields: dict[str, Any]) -> tuple[str, ...]:
    named = fields.get("id2label") or {}
    try:
        by_index = {int(index): str(label) for index, label in named.items()}
        return tuple(by_index[index] for index in range(len(named)))
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ValueError(
            f"`id2label` of config.json must map the numbers from 0 on, got {named!r}."
        ) from None
