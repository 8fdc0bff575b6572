"""Sizes of a pretrained language model, read from and written to Hugging Face's config.json."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from trustml.models.transformers.activations import ACTIVATIONS
from trustml.models.transformers.problem_types import PROBLEM_TYPES
from trustml.strict_json import dumps

# Our name of a field to that of config.json, by architecture; each one is required.
_BERT = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "max_positions": "max_position_embeddings",
    "type_vocab_size": "type_vocab_size",
}
_REQUIRED: dict[str, dict[str, str]] = {
    "bert": _BERT,
    "roberta": _BERT,
    "distilbert": {
        "vocab_size": "vocab_size",
        "hidden_size": "dim",
        "num_layers": "n_layers",
        "num_heads": "n_heads",
        "intermediate_size": "hidden_dim",
        "max_positions": "max_position_embeddings",
    },
    "gpt2": {
        "vocab_size": "vocab_size",
        "hidden_size": "n_embd",
        "num_layers": "n_layer",
        "num_heads": "n_head",
        "max_positions": "n_positions",
    },
    "bart": {
        "vocab_size": "vocab_size",
        "hidden_size": "d_model",
        "num_layers": "encoder_layers",
        "num_heads": "encoder_attention_heads",
        "intermediate_size": "encoder_ffn_dim",
        "max_positions": "max_position_embeddings",
        "decoder_layers": "decoder_layers",
        "decoder_heads": "decoder_attention_heads",
        "decoder_intermediate_size": "decoder_ffn_dim",
    },
}
# Defaults of fields that config.json may omit.
_IDS = {
    "bert": (0, None, None),
    "roberta": (1, 0, 2),
    "distilbert": (0, None, None),
    "gpt2": (None, 50256, 50256),
    "bart": (1, 0, 2),
}
_OPTIONAL: dict[str, dict[str, tuple[str, Any]]] = {
    name: {
        "pad_id": ("pad_token_id", pad),
        "bos_id": ("bos_token_id", bos),
        "eos_id": ("eos_token_id", eos),
        "initializer_range": ("initializer_range", 0.02),
        "tied": ("tie_word_embeddings", True),
        "problem_type": ("problem_type", None),
    }
    for name, (pad, bos, eos) in _IDS.items()
}
for _name in ("bert", "roberta"):
    _OPTIONAL[_name] |= {
        "activation": ("hidden_act", "gelu"),
        "layer_norm_eps": ("layer_norm_eps", 1e-12),
    }
_OPTIONAL["distilbert"] |= {"activation": ("activation", "gelu")}
_OPTIONAL["gpt2"] |= {
    "activation": ("activation_function", "gelu_new"),
    "layer_norm_eps": ("layer_norm_epsilon", 1e-5),
    "intermediate_size": ("n_inner", None),
    "scale_attn_weights": ("scale_attn_weights", True),
    "scale_attn_by_inverse_layer_idx": ("scale_attn_by_inverse_layer_idx", False),
}
_OPTIONAL["bart"] |= {
    "activation": ("activation_function", "gelu"),
    "initializer_range": ("init_std", 0.02),
    "scale_embedding": ("scale_embedding", False),
    "decoder_start_id": ("decoder_start_token_id", 2),
}
_FIXED_EPS = {"distilbert": 1e-12, "bart": 1e-5}  # these architectures have no such field

_FLAGS = ("tied", "scale_embedding", "scale_attn_weights", "scale_attn_by_inverse_layer_idx")

# Options of the architectures and their variants that change the arithmetic, with the only value
# that is supported. A file may omit them.
_ONLY: dict[str, Any] = {
    "position_embedding_type": "absolute",
    **dict.fromkeys(
        (
            *("add_cross_attention", "is_decoder", "sinusoidal_pos_embds", "tie_encoder_decoder"),
            *("normalize_before", "add_final_layer_norm", "static_position_embeddings"),
            *("norm_first", "pre_norm", "prenorm", "apply_residual_connection_post_layernorm"),
            *("alibi", "rotary_value", "relative_attention", "use_task_id", "quant_mode"),
            *("trigram_input", "use_bottleneck"),
        ),
        False,
    ),
    **dict.fromkeys(("normalize_embedding", "layernorm_embedding", "qkv_bias"), True),
    "normalization_type": "layer_norm",
    "pruned_heads": {},
    **dict.fromkeys(("inner_group_num", "num_feedforward_networks"), 1),
}
# Sizes that variants separate; here each must equal the size that it is listed under.
_SAME: dict[str, tuple[str, ...]] = {
    "hidden_size": ("embedding_size", "true_hidden_size", "intra_bottleneck_size"),
    "num_heads": ("num_attention_heads", "num_key_value_heads"),
    "num_layers": ("num_hidden_groups",),
}
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

    model_type: str  # "bert", "distilbert", "roberta", "gpt2" or "bart"
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
    problem_type: str | None = None  # one of `PROBLEM_TYPES`; by default it follows from the labels
    labels: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    written_for: str = dataclasses.field(default="", compare=False)  # transformers' class
    rest: str = dataclasses.field(default="{}", compare=False, repr=False)

    def __post_init__(self):
        if self.model_type not in _REQUIRED:
            supported = ", ".join(_REQUIRED)
            raise ValueError(f"`model_type` must be one of {supported}, got {self.model_type!r}.")
        for name in _REQUIRED[self.model_type] | {"intermediate_size": ""}:
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"`{name}` must be a positive integer, got {value!r}.")
        for name in ("num_heads", "decoder_heads"):
            heads = getattr(self, name)
            if heads and self.hidden_size % heads:
                raise ValueError(
                    f"`hidden_size` must be a multiple of `{name}`, got {self.hidden_size} "
                    f"and {heads}."
                )
        choices = {"activation": tuple(ACTIVATIONS), "problem_type": (None, *PROBLEM_TYPES)}
        for name, able in choices.items():
            if (value := getattr(self, name)) not in able:
                raise ValueError(
                    f"`{name}` must be one of {', '.join(map(str, able))}, got {value!r}."
                )

    @classmethod
    def from_hf(cls, fields: dict[str, Any]) -> "ModelConfig":
        """The configuration from the fields of a config.json.

        Raises:
          ValueError: An unknown architecture, a missing field, or an option that changes the
            arithmetic and is not supported.
        """
        kind = fields.get("model_type")
        if kind not in _REQUIRED:
            supported = ", ".join(_REQUIRED)
            raise ValueError(f"`model_type` must be one of {supported}, got {kind!r}.")
        _check_arithmetic(kind, fields)
        values: dict[str, Any] = {"model_type": kind}
        for ours, theirs in _REQUIRED[kind].items():
            if theirs not in fields:
                raise ValueError(f"`{theirs}` of config.json is missing, which {kind} needs.")
            values[ours] = fields[theirs]
        for ours, (theirs, default) in _OPTIONAL[kind].items():
            values[ours] = fields.get(theirs, default)
        if kind in _FIXED_EPS:
            values["layer_norm_eps"] = _FIXED_EPS[kind]
        if values["intermediate_size"] is None:
            values["intermediate_size"] = 4 * values["hidden_size"]
        if isinstance(values["eos_id"], list):
            values["eos_id"] = values["eos_id"][0]
        values |= {name: bool(values[name]) for name in _FLAGS if name in values}
        _check_sizes(kind, fields, values)
        read = {*_REQUIRED[kind].values(), *(n for n, _ in _OPTIONAL[kind].values())}
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
        try:
            fields = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise ValueError(f"{path} must be a readable JSON file: {error}.") from None
        if not isinstance(fields, dict):
            raise ValueError(f"{path} must hold a JSON object, got {type(fields).__name__}.")
        try:
            return cls.from_hf(fields)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def to_hf(self) -> dict[str, Any]:
        """The fields of a config.json that transformers reads."""
        fields = json.loads(self.rest) | {"model_type": self.model_type}
        for ours, theirs in _REQUIRED[self.model_type].items():
            fields[theirs] = getattr(self, ours)
        for ours, (theirs, _) in _OPTIONAL[self.model_type].items():
            fields[theirs] = getattr(self, ours)
        if self.labels:
            fields["id2label"] = {str(index): name for index, name in enumerate(self.labels)}
            fields["label2id"] = {name: index for index, name in enumerate(self.labels)}
        if self.tags:
            fields[_TAGS] = list(self.tags)
        return fields


def _check_arithmetic(kind: str, fields: dict[str, Any]) -> None:
    for name in _QUANTIZED:
        if fields.get(name):
            raise ValueError(
                f"`{name}` of config.json must be absent, got that of a quantized checkpoint, "
                "whose numbers mean nothing without it; take the checkpoint that was quantized, "
                "or one that transformers saved after `model.dequantize()`."
            )
    for name, only in _ONLY.items():
        if (value := fields.get(name)) not in (None, only):
            raise ValueError(
                f"`{name}` of config.json must be {only!r}, the only value that is supported "
                f"for {kind}, got {value!r}."
            )


def _check_sizes(kind: str, fields: dict[str, Any], values: dict[str, Any]) -> None:
    sizes = {name: (values[ours], ours) for ours, names in _SAME.items() for name in names}
    heads, width = values["num_heads"], values["hidden_size"]
    if type(heads) is type(width) is int and heads > 0:
        sizes |= dict.fromkeys(("head_dim", "attention_head_size"), (width // heads, "num_heads"))
    for name, (size, ours) in sizes.items():
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
